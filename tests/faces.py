"""Both APIs of the library, with the same verbs, so that one test holds for each of them.

Owns how a test makes an instance on the in-memory backend with a moved clock, and how it calls it.
The blocking API is called as its users call it: in the test's own thread, which waits meanwhile
(its portal is another thread). Afterwards a test asks the queue itself, which any loop may use.
"""

import asyncio
import functools
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal, Protocol

import pytest
from processes import DEADLINE_SECONDS

import deferrable
from deferrable.aio import Deferrable
from deferrable.aio._engine.keeper import keeper
from deferrable.aio.backend import InMemoryBackendFactory
from deferrable.aio.backend.base import Backend
from deferrable.aio.queue import Queue
from deferrable.item import Item
from deferrable.outcome import Outcome, Receipt
from deferrable.testing import MovingClock, wait_until
from deferrable.testing.faults import Faults, FaultyQueue

FaceName = Literal["awaiting", "blocking"]
Kind = Literal["plain", "async"]
How = Literal["run_once", "worker"]

LEASE_SECONDS = 30.0


class Face:
    """An instance of one of the APIs, with its own empty queue.

    Attributes:
        clock: moves the time of queue, engine and debounce store alike.
        faults: what goes wrong with the queue and the error queue.
        events: ``(event, item)`` for each event that was emitted, in order.
    """

    def __init__(
        self,
        name: FaceName,
        *,
        lease_seconds: float = LEASE_SECONDS,
        max_lease_seconds: float | None = None,
        max_redeliveries: int = 10,
        wait_seconds: float | None = None,
        has_atomic_replace: bool = True,
        wrap: Callable[[Queue], Queue] | None = None,
        **options: Any,
    ) -> None:
        self.name = name
        self.clock = MovingClock()
        self.faults = Faults()
        factory = InMemoryBackendFactory(
            wait_seconds,
            lease_seconds,
            max_redeliveries=max_redeliveries,
            max_lease_seconds=max_lease_seconds,
            clock=self.clock,
        )
        self.broker = factory.create_backend_for_group(None)
        """The queues themselves, where nothing goes wrong."""
        front: Queue = FaultyQueue(
            self.broker.queue, self.faults, has_atomic_replace=has_atomic_replace
        )
        self.backend = Backend(
            None,
            front if wrap is None else wrap(front),
            FaultyQueue(self.broker.error_queue, self.faults),
        )
        make: Any = Deferrable if name == "awaiting" else deferrable.Deferrable
        self.instance = make(self.backend, **options)
        self.events: list[tuple[str, Item | None]] = []

    @property
    def is_blocking(self) -> bool:
        return self.name == "blocking"

    def record_events(self) -> None:
        """Begin to fill `events`."""
        self.instance.register_event_consumer(Recorder(self.events))

    @property
    def event_names(self) -> list[str]:
        return [event for event, _ in self.events]

    def job(self, function: Callable[..., Any], **options: Any) -> Any:
        """Register a function of a test by its name, because it cannot be imported."""
        if "name" not in options:
            options["name"] = function.__name__
        return self.instance.deferrable(**options)(function)

    async def do(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call what blocks in one API, and is awaited in the other."""
        result = function(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    async def later(self, job: Any, *args: Any, **kwargs: Any) -> Receipt:
        method = job.later if self.is_blocking else job.later_async
        receipt: Receipt = await self.do(method, *args, **kwargs)
        return receipt

    async def later_many(self, job: Any, calls: Any) -> list[Receipt]:
        method = job.later_many if self.is_blocking else job.later_many_async
        receipts: list[Receipt] = await self.do(method, calls)
        return receipts

    async def run_once(self) -> Outcome | None:
        outcome: Outcome | None = await self.do(self.instance.run_once)
        return outcome

    async def run(self) -> Outcome:
        """`run_once` of a queue that has something."""
        outcome = await self.run_once()
        assert outcome is not None
        return outcome

    async def each(self, iterable: Any) -> AsyncIterator[Any]:
        """Iterate with ``for`` or ``async for``, as the API requires."""
        if self.is_blocking:
            for member in iterable:
                yield member
        else:
            async for member in iterable:
                yield member

    async def no_timer_is_left(self) -> None:
        """Return when nothing waits for the clock any more.

        The keeper's own timer stays until it finds nothing to do, unless it is woken.
        """
        await keeper(asyncio.get_running_loop()).tidy()
        await wait_until(lambda: self.clock.pending == 0, "no timer is left")

    # What is in the queues.

    async def stats(self) -> tuple[int, int, int]:
        """How many items are available, in flight and delayed in the main queue."""
        stats = await self.broker.queue.stats()
        return stats["available"], stats["in_flight"], stats["delayed"]

    async def take(self) -> Item | None:
        """Take the next available item off the main queue."""
        return await _take(self.broker.queue)

    async def take_error(self) -> Item | None:
        """Take the next item off the error queue."""
        return await _take(self.broker.error_queue)

    async def items(self) -> list[Item]:
        """Everything in both queues, after every delay and every lease; takes it off."""
        self.clock.advance(100_000_000)
        items = []
        for queue in (self.broker.queue, self.broker.error_queue):
            while (item := await _take(queue)) is not None:
                items.append(item)
        return items


async def _take(queue: Queue) -> Item | None:
    envelope, item = await queue.pop()
    if envelope is not None:
        await queue.complete(envelope)
    return item


class Recorder:
    """An event consumer that has a handler for each event."""

    def __init__(self, events: list[tuple[str, Item | None]]) -> None:
        self._events = events

    def __getattr__(self, name: str) -> Callable[[Item | None], None]:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda item: self._events.append((name[3:], item))


class MakeFace(Protocol):
    """What the fixture ``make_face`` is."""

    def __call__(self, **settings: Any) -> Face:
        """An instance with its own settings; see `Face`."""


def as_kind(kind: Kind, function: Callable[..., Any]) -> Callable[..., Any]:
    """The plain function itself, or an async one that does the same."""
    if kind == "plain":
        return function

    @functools.wraps(function)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return awaited


def until_in_flight(queue: Queue, count: int) -> Callable[[], Awaitable[bool]]:
    """A condition: so many items of the queue are in flight."""

    async def are_in_flight() -> bool:
        return (await queue.stats())["in_flight"] == count

    return are_in_flight


def wait_here(condition: Callable[[], object], description: str) -> None:
    """Block this thread until `condition` holds; for plain jobs, which cannot await."""
    deadline_time = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > deadline_time:
            raise TimeoutError(f"gave up after {DEADLINE_SECONDS} s of waiting until {description}")
        time.sleep(0.001)


async def cancelled(task: "asyncio.Task[Any]") -> bool:
    """Cancel a task, wait for its end, and say whether it ended by that."""
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled()


async def run(face: Face, how: How) -> Outcome:
    """Run one item, and return its outcome."""
    if how == "run_once":
        return await face.run()
    worker = face.instance.worker()
    if face.is_blocking:
        with worker:
            outcome: Outcome = next(worker)
            return outcome
    async with worker:
        return await anext(worker)  # type: ignore[no-any-return]


@pytest.fixture(params=["run_once", "worker"])
def how(request: pytest.FixtureRequest) -> How:
    """Who runs an item."""
    value: How = request.param
    return value


@pytest.fixture(params=["awaiting", "blocking"])
def make_face(request: pytest.FixtureRequest) -> MakeFace:
    """Makes instances of each API."""
    return functools.partial(Face, request.param)


@pytest.fixture
def face(make_face: MakeFace) -> Face:
    """An instance of each API."""
    return make_face()


@pytest.fixture(params=["plain", "async"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Whether the job is a plain function or an async one."""
    value: Kind = request.param
    return value
