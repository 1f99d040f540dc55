"""The SQLite backend: the conformance suite, and what is special to its queues."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.sqlite import SQLiteBackendFactory
from deferrable.testing import MovingClock, QueueConformance, WaitingQueueConformance, wait_until


class SQLite:
    wait_time: float = 0

    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "jobs.db"

    def make_backend(self, clock: MovingClock) -> Backend:
        factory = SQLiteBackendFactory(self.path, self.wait_time, durability="process", clock=clock)
        return factory.create_backend_for_group(None)


class TestSQLiteQueue(SQLite, QueueConformance):
    pass


class TestWaitingSQLiteQueue(SQLite, WaitingQueueConformance):
    wait_time = 3


pytestmark = pytest.mark.anyio


async def test_file_shrinks_after_a_large_queue_was_worked_off(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    backend = SQLiteBackendFactory(path, 0, durability="process").create_backend_for_group(None)
    async with backend:
        await backend.queue.push_each([{"text": "x" * 1000} for _ in range(10_000)])
        popped = await backend.queue.pop_up_to(10_000)
        await backend.queue.complete_each([envelope for envelope, _ in popped])
        assert path.stat().st_size > 8_000_000

        async def has_shrunk() -> bool:
            with closing(sqlite3.connect(path)) as other:
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return path.stat().st_size < 5_000_000

        await wait_until(has_shrunk, "the file is smaller")


async def test_file_is_reused_and_does_not_grow_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    backend = SQLiteBackendFactory(path, 0, durability="process").create_backend_for_group(None)
    sizes = []
    async with backend:
        for _ in range(6):
            await backend.queue.push_each([{"text": "x" * 500} for _ in range(500)])
            popped = await backend.queue.pop_up_to(500)
            await backend.queue.complete_each([envelope for envelope, _ in popped])
            with closing(sqlite3.connect(path)) as other:
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            sizes.append(path.stat().st_size)

    assert max(sizes[1:]) <= sizes[0] * 1.1
