"""The in-memory backend: the conformance suite, and what is special to it."""

import pytest

from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.memory import InMemoryBackendFactory
from deferrable.testing import MovingClock, QueueConformance, WaitingQueueConformance


class InMemory:
    timeout: float | None = None

    @pytest.fixture(autouse=True)
    def factory(self, clock: MovingClock) -> None:
        self.made = InMemoryBackendFactory(timeout=self.timeout, clock=clock)

    def make_backend(self, clock: MovingClock) -> Backend:
        return self.made.create_backend_for_group(None)


class TestInMemoryQueue(InMemory, QueueConformance):
    pass


class TestWaitingInMemoryQueue(InMemory, WaitingQueueConformance):
    timeout = 3
