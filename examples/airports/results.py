"""What the jobs write down, in a SQLite file of the application's own.

The rule: a second run of a job changes nothing but the number of runs. So every row has the code of
an airport or of a country as its key.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Results"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS airport
    (code TEXT PRIMARY KEY, country TEXT, hub TEXT, producer TEXT, runs INT);
CREATE TABLE IF NOT EXISTS country (code TEXT PRIMARY KEY, airports INT, recounts INT);
CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY);
CREATE INDEX IF NOT EXISTS airport_country ON airport (country);
"""
TABLES = ("airport", "country", "note")
LOCKED_SECONDS = 60


class Results:
    """The results in the file at `path`. Any thread of any process may use them."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(
            path, timeout=LOCKED_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")
        with self._transaction():
            for statement in filter(str.strip, SCHEMA.split(";")):
                self._connection.execute(statement)

    def clear(self) -> None:
        with self._transaction():
            for table in TABLES:
                self._connection.execute(f"DELETE FROM {table}")  # noqa: S608

    # What a job writes.

    def write_hub(self, code: str, country: str, hub: str, producer: str) -> None:
        self._write(
            "INSERT INTO airport VALUES (?, ?, ?, ?, 1)"
            " ON CONFLICT (code) DO UPDATE SET hub = excluded.hub, runs = runs + 1",
            (code, country, hub, producer),
        )

    def count_country(self, country: str) -> None:
        """Write how many airports of a country have a hub by now."""
        self._write(
            "INSERT INTO country SELECT ?, count(*), 1 FROM airport WHERE country = ?"
            " ON CONFLICT (code) DO UPDATE SET airports = excluded.airports,"
            " recounts = recounts + 1",
            (country, country),
        )

    def note(self, name: str) -> bool:
        """Write a name. Whether it was not there."""
        return self._write("INSERT OR IGNORE INTO note VALUES (?)", (name,)) == 1

    # What is read.

    def is_noted(self, name: str) -> bool:
        return bool(self._read("SELECT 1 FROM note WHERE name = ?", (name,)))

    def count_notes(self, start: str) -> int:
        """How many names begin with `start`."""
        ((count,),) = self._read("SELECT count(*) FROM note WHERE name GLOB ?", (f"{start}*",))
        return int(count)

    def count_hubs(self) -> int:
        ((count,),) = self._read("SELECT count(*) FROM airport")
        return int(count)

    def airports(self) -> dict[str, tuple[str, str, int]]:
        """The hub, the producer and the number of runs of each airport."""
        return {
            code: (hub, producer, runs)
            for code, hub, producer, runs in self._read(
                "SELECT code, hub, producer, runs FROM airport"
            )
        }

    def countries(self) -> dict[str, tuple[int, int]]:
        """The number of airports and of recounts of each country."""
        return {
            code: (airports, recounts)
            for code, airports, recounts in self._read("SELECT * FROM country")
        }

    def _write(self, statement: str, values: Sequence[object]) -> int:
        with self._transaction():
            return self._connection.execute(statement, values).rowcount

    def _read(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
