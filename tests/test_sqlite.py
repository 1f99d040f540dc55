"""The SQLite backend: the conformance suite, and what is special to its queues."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.sqlite import SQLiteBackendFactory, SQLiteQueue
from deferrable.aio.backend.sqlite._store import Store
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


async def test_work_that_fails_fails_alone_and_its_neighbours_are_done(tmp_path: Path) -> None:
    factory = SQLiteBackendFactory(tmp_path / "jobs.db", 0, durability="process")
    async with factory.create_backend_for_group(None) as backend:
        queue = backend.queue
        assert isinstance(queue, SQLiteQueue)

        class Strange(Exception):
            def __init__(self, one: int, two: int) -> None:
                super().__init__("strange")

        def fail(store: Store) -> None:
            store.push(queue.lane, [('{"number": -1}', 0.0)], queue.now())
            raise Strange(1, 2)

        outcomes = await asyncio.gather(
            *(queue.push({"number": number}) for number in range(3)),
            queue.run(fail),
            *(queue.push({"number": number}) for number in range(3, 6)),
            return_exceptions=True,
        )

        assert [type(each) for each in outcomes].count(Strange) == 1
        assert [item["number"] for _, item in await queue.pop_batch(10)] == list(range(6))


async def test_transaction_failing_for_one_of_many_callers_does_not_double_the_others(
    tmp_path: Path,
) -> None:
    factory = SQLiteBackendFactory(tmp_path / "jobs.db", 0, durability="process")
    async with factory.create_backend_for_group(None) as backend:
        queue = backend.queue
        assert isinstance(queue, SQLiteQueue)
        ran: list[int] = []

        def work(number: int) -> Callable[[Store], None]:
            def run(store: Store) -> None:
                ran.append(number)
                store.push(queue.lane, [(f'{{"number": {number}}}', 0.0)], queue.now())
                if number == 3:
                    raise ValueError(number)

            return run

        outcomes = await asyncio.gather(
            *(queue.run(work(number)) for number in range(6)), return_exceptions=True
        )

        assert [type(each) for each in outcomes].count(ValueError) == 1
        assert len(ran) > 6  # they were done again, each alone
        popped = await queue.pop_batch(10)
        assert [item["number"] for _, item in popped] == [0, 1, 2, 4, 5]
