"""What a third party writes to prove its own backend."""

from pathlib import Path

import pytest
from third_party_backend import SqliteQueue

from deferrable.aio import Backend
from deferrable.testing import MovingClock, QueueConformance


class TestSqliteQueue(QueueConformance):
    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "queue"

    def make_backend(self, clock: MovingClock) -> Backend:
        queue = SqliteQueue(self.path, "jobs", clock, errors="errors")
        return Backend(None, queue, SqliteQueue(self.path, "errors", clock))
