"""Where attacks take place: the table of the backends that are attacked.

Owns how consumers of one queue are made on each of them, with a clock that an attack moves. A new
backend is a line in `PLACES`. It may not know what is attacked, nor how.
"""

from collections.abc import Callable
from typing import Protocol

from redis_server import unique_group

from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.dockets import DocketsBackendFactory
from deferrable.aio.backend.memory import InMemoryBackendFactory
from deferrable.testing import MovingClock

__all__ = ["LEASE_SECONDS", "PLACES", "Place"]

LEASE_SECONDS = 30.0
MANY = 10**6


class Place(Protocol):
    """A queue and its error queue, empty at first.

    Attributes:
        clock: moves the time of all its consumers.
        wait_seconds: how long the pops of a worker wait.
        pause_seconds: real time to wait before looking again for what comes back by itself.
    """

    clock: MovingClock
    wait_seconds: float
    pause_seconds: float

    def consumer(self) -> Backend:
        """Another consumer; its pops do not wait."""
        ...

    def set_wait(self, consumer: Backend, seconds: float) -> None:
        """Have its pops wait for so long from now on."""


class MemoryPlace:
    """The reference."""

    wait_seconds = 1e6
    pause_seconds = 0.0

    def __init__(self, url: str | None = None) -> None:
        self.clock = MovingClock()
        self._factory = InMemoryBackendFactory(
            visibility_timeout=LEASE_SECONDS, max_redeliveries=MANY, clock=self.clock
        )

    def consumer(self) -> Backend:
        return self._factory.create_backend_for_group("attacked")

    def set_wait(self, consumer: Backend, seconds: float) -> None:
        consumer.queue._wait_seconds = seconds  # type: ignore[attr-defined]


class DocketsPlace:
    """A group of its own in a real Redis."""

    wait_seconds = 0.2
    pause_seconds = 0.3
    """An answer that may still come is waited for in the server's time, before an item is an
    orphan."""

    def __init__(self, url: str | None = None) -> None:
        assert url is not None, "Dockets needs a Redis"
        self.clock = MovingClock()
        self._url = url
        self._group = unique_group("attacked")

    def consumer(self) -> Backend:
        factory = DocketsBackendFactory(
            self._url,
            wait_time=0,
            timeout=LEASE_SECONDS,
            max_redeliveries=MANY,
            clock=self.clock,
        )
        return factory.create_backend_for_group(self._group)

    def set_wait(self, consumer: Backend, seconds: float) -> None:
        consumer.queue._taker._wait_seconds = seconds  # type: ignore[attr-defined]


PLACES: dict[str, Callable[[str | None], Place]] = {
    "memory": MemoryPlace,
    "dockets": DocketsPlace,
}
