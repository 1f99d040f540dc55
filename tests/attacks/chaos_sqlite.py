"""The SQLite file that a chaos run attacks.

Owns where it is, and how another program gets in its way: by holding the lock for writers. There is
no server to be killed and no connection to be cut.
"""

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from attacks.chaos_causes import Fault

__all__ = ["SQLiteBroker"]


class SQLiteBroker:
    """A file on the disk, and a program that locks it."""

    can_crash = True
    can_be_full = False
    has_wires = False
    spoils: Sequence[str] = ()

    def __init__(self) -> None:
        self.spoilt: Counter[str] = Counter()
        self.faults: list[Fault] = []

    async def __aenter__(self) -> Self:
        self._folder = TemporaryDirectory()
        self.url = str(Path(self._folder.name, "jobs.db"))
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._folder.cleanup()

    async def url_of(self, place: str) -> str:
        return self.url

    def cut(self, place: str) -> None:
        raise NotImplementedError(place)

    def lose_reply(self, place: str) -> None:
        raise NotImplementedError(place)

    def spoil(self, place: str, kind: str) -> None:
        raise NotImplementedError(kind)

    def mend(self) -> None:
        """Nothing is kept for later."""

    def part(self, place: str) -> None:
        raise NotImplementedError(place)

    async def rejoin(self, place: str) -> None:
        raise NotImplementedError(place)

    async def crash(self, down_seconds: float) -> None:
        """Have another program hold the lock for so long."""
        await asyncio.to_thread(self._lock, down_seconds)

    def _lock(self, seconds: float) -> None:
        with closing(sqlite3.connect(self.url, timeout=60, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            other.execute("ROLLBACK")

    async def be_full(self, seconds: float) -> None:
        raise NotImplementedError(seconds)

    async def ping(self) -> None:
        await asyncio.to_thread(self._ping)

    def _ping(self) -> None:
        with closing(sqlite3.connect(self.url, timeout=60, isolation_level=None)) as other:
            other.execute("SELECT count(*) FROM sqlite_master").fetchall()

    async def left(self) -> Sequence[str]:
        return await asyncio.to_thread(self._left)

    def _left(self) -> Sequence[str]:
        with closing(sqlite3.connect(self.url)) as other:
            rows = other.execute("SELECT id, text FROM deferrable_items").fetchall()
            (checked,) = other.execute("PRAGMA integrity_check").fetchone()
        found = [f"row {row}: {text}" for row, text in rows]
        return found if checked == "ok" else [*found, f"integrity_check: {checked}"]
