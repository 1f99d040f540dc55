"""The SQLite backend: the conformance suite, and what is special to its queues."""

from pathlib import Path

import pytest

from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.sqlite import SQLiteBackendFactory
from deferrable.testing import MovingClock, QueueConformance, WaitingQueueConformance


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
