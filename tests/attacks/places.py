"""Where attacks take place: the table of the backends that are attacked.

Owns which broker each of them needs, and how consumers of one queue are made there, with a clock
that an attack moves. A new backend is a line in `PLACES`.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Protocol

from redis_server import RedisServer, find_kind, start_redis, unique_group

from attacks.sqs_place import SQSPlace, start_moved_sqs
from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.dockets import DocketsBackendFactory
from deferrable.aio.backend.memory import InMemoryBackendFactory
from deferrable.aio.backend.sqlite import SQLiteBackendFactory
from deferrable.testing import MovingClock

__all__ = ["LEASE_SECONDS", "PLACES", "TROUBLED_PLACES", "Place", "PlaceKind"]

LEASE_SECONDS = 30.0
MANY = 10**6
DURABILITIES: tuple[Literal["process", "full"], ...] = ("process", "full")


class Place(Protocol):
    """A queue and its error queue, empty at first.

    Attributes:
        clock: moves the time of all its consumers.
        wait_seconds: how long the pops of a worker wait.
        pause_seconds: real time to wait before looking again for what comes back by itself.
        late_seconds: what is delayed may come so much later, as the broker counts coarsely.
        has_atomic_replace: else a replace that is cancelled may leave both items.
        fences_stale_holders: the broker itself knows who holds an item no more.
        flushes_at_will: else a second flush may be refused.
        refuses_pushes: while it has trouble.
    """

    clock: MovingClock
    wait_seconds: float
    pause_seconds: float
    late_seconds: float = 0.0
    has_atomic_replace: bool = True
    fences_stale_holders: bool = True
    flushes_at_will: bool = True
    refuses_pushes: bool = False

    def consumer(self) -> Backend:
        """Another consumer; its pops do not wait."""
        ...

    def set_wait(self, consumer: Backend, seconds: float) -> None:
        """Have its pops wait for so long from now on."""

    def begin_trouble(self) -> None:
        """Called before the attack on what is there, as `end_trouble` is after it."""

    def end_trouble(self) -> None:
        """Let everything recover."""


class MemoryPlace(Place):
    """The reference."""

    wait_seconds = 1e6
    pause_seconds = 0.0

    def __init__(self, broker: None = None) -> None:
        self.clock = MovingClock()
        self._factory = InMemoryBackendFactory(
            visibility_timeout=LEASE_SECONDS, max_redeliveries=MANY, clock=self.clock
        )

    def consumer(self) -> Backend:
        return self._factory.create_backend_for_group("attacked")

    def set_wait(self, consumer: Backend, seconds: float) -> None:
        consumer.queue._wait_seconds = seconds  # type: ignore[attr-defined]


class DocketsPlace(Place):
    """Its own group in a real Redis."""

    wait_seconds = 0.2
    pause_seconds = 0.3
    """An answer that may still come is waited for in the server's time, before an item is an
    orphan."""

    def __init__(self, url: str) -> None:
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
        consumer.queue._popper._wait_seconds = seconds  # type: ignore[attr-defined]


class SQLitePlace(Place):
    """A new group in a file. Its consumers have two connections to the file."""

    wait_seconds = 1e6
    pause_seconds = 0.1
    """What was popped for a caller who is gone is given back by the writer's thread."""

    def __init__(self, path: Path) -> None:
        self.clock = MovingClock()
        self._path = path
        self._group = unique_group("attacked")
        self._durabilities = cycle(DURABILITIES)

    def consumer(self) -> Backend:
        factory = SQLiteBackendFactory(
            self._path,
            wait_time=0,
            visibility_timeout=LEASE_SECONDS,
            durability=next(self._durabilities),
            max_redeliveries=MANY,
            clock=self.clock,
        )
        return factory.create_backend_for_group(self._group)

    def set_wait(self, consumer: Backend, seconds: float) -> None:
        consumer.queue._wait_seconds = seconds  # type: ignore[attr-defined]


class FullPlace(DocketsPlace):
    """Its Redis has no memory for anything new during the attack."""

    refuses_pushes = True

    def __init__(self, server: RedisServer) -> None:
        super().__init__(server.url)
        self._server = server

    def begin_trouble(self) -> None:
        self._set_maxmemory(1)

    def end_trouble(self) -> None:
        self._set_maxmemory(0)

    def _set_maxmemory(self, number: int) -> None:
        with self._server.client() as client:
            client.config_set("maxmemory", number)


class SteppedPlace(DocketsPlace):
    """The clock is set an hour forward before the attack, also that of the broker."""

    def begin_trouble(self) -> None:
        self.clock.step(3600)


@contextmanager
def _redis(kind: str | None = None) -> Iterator[str]:
    with start_redis(program=None if kind is None else find_kind(kind)) as server:
        yield server.url


@contextmanager
def _file() -> Iterator[Path]:
    # In memory, if there is such a place: a disk would make every step wait.
    shared = Path("/dev/shm")
    with TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder, "jobs.db")


@dataclass(frozen=True)
class PlaceKind:
    """A backend that is attacked.

    Attributes:
        start: starts the broker, which is given to `make` and is there until the end of the block.
        make: a new place.
    """

    start: Callable[[], AbstractContextManager[Any]]
    make: Callable[[Any], Place]


PLACES: dict[str, PlaceKind] = {
    "memory": PlaceKind(nullcontext, MemoryPlace),
    "dockets": PlaceKind(_redis, DocketsPlace),
    "sqlite": PlaceKind(_file, SQLitePlace),
    "sqs": PlaceKind(start_moved_sqs, lambda sqs: SQSPlace(sqs, LEASE_SECONDS)),
}

TROUBLED_PLACES: dict[str, PlaceKind] = {
    "redis6": PlaceKind(partial(_redis, "Redis 6"), DocketsPlace),
    "full-redis": PlaceKind(start_redis, FullPlace),
    "stepped-clock": PlaceKind(_redis, SteppedPlace),
}
"""Where only the cancelling attack takes place: a backend of `PLACES` beside other trouble."""
