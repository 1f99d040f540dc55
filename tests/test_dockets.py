"""The Redis backend: the conformance suite, and what is special to its main queue."""

import pytest
from redis_server import unique_group

from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.dockets import DocketsBackendFactory
from deferrable.testing import MovingClock, QueueConformance, WaitingQueueConformance


class Dockets:
    wait_time: float = 0

    @pytest.fixture(autouse=True)
    def place(self, redis_url: str) -> None:
        self.url = redis_url
        self.group = unique_group()

    def make_backend(self, clock: MovingClock) -> Backend:
        factory = DocketsBackendFactory(self.url, wait_time=self.wait_time, clock=clock)
        return factory.create_backend_for_group(self.group)


class TestDocketsQueue(Dockets, QueueConformance):
    pass


class TestWaitingDocketsQueue(Dockets, WaitingQueueConformance):
    wait_time = 3

    @pytest.fixture(params=["queue"])
    def role(self, request: pytest.FixtureRequest) -> str:
        """An error queue is a hash; nothing in Redis waits for a hash."""
        return str(request.param)
