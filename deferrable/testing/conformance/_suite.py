"""The base of all tests of the suite.

Owns what the author of a backend provides, the APIs and roles through which each test uses a
queue, and the few helpers of the tests. It holds no promise.

The one rule: nothing here sleeps to wait. Time passes only when `pass_time` moves it.
"""

import functools
import importlib
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any, ClassVar, cast

import anyio.lowlevel
import anyio.to_thread
import pytest

from deferrable.aio.backend.base import Backend
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Item, Queue
from deferrable.errors import BackendError
from deferrable.testing.clock import MovingClock
from deferrable.testing.waiting import wait_until

__all__ = ["Face", "Items", "NativeCalls", "Suite", "empty", "numbers", "take"]

HOOKS = (
    "_push_batch",
    "_pop_batch",
    "_touch_batch",
    "_complete_batch",
    "_release_batch",
    "_replace",
    "_flush",
    "_stats",
)


@pytest.mark.anyio
class Suite:
    """The base of every part of the suite; see `QueueConformance` for what an author provides."""

    max_redeliveries: ClassVar[int] = 10
    fences_stale_holders: ClassVar[bool] = True
    tells_releases_from_crashes: ClassVar[bool] = True

    @abstractmethod
    def make_backend(self, clock: MovingClock) -> Backend:
        """A consumer of the queue under test. Each call in one test gives another consumer."""
        raise NotImplementedError(
            f"{type(self).__name__} has to define make_backend(self, clock), which returns a "
            "deferrable.aio Backend whose pops do not wait"
        )

    async def pass_time(self, clock: MovingClock, seconds: float) -> None:
        """Let `seconds` pass for every consumer and for the broker."""
        clock.advance(seconds)

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def clock(self) -> MovingClock:
        return MovingClock()

    @pytest.fixture(params=["awaiting", "blocking"])
    def face(self, request: pytest.FixtureRequest) -> "Face":
        return _blocking if request.param == "blocking" else _awaiting

    @pytest.fixture(params=["queue", "error_queue"])
    def role(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    async def backend(self, clock: MovingClock) -> AsyncIterator[Backend]:
        """A first consumer, in the asyncio API. It is flushed when the test is over."""
        async with self.make_backend(clock) as backend:
            yield backend
            for queue in (backend.queue, backend.error_queue):
                with suppress(BackendError):  # some brokers allow a flush only once in a while
                    await queue.flush()

    @pytest.fixture
    async def second_backend(self, backend: Backend, clock: MovingClock) -> AsyncIterator[Backend]:
        """Another consumer of the same queues."""
        async with self.make_backend(clock) as second:
            yield second

    @pytest.fixture
    def core(self, backend: Backend, role: str) -> Queue:
        """The queue under test in the asyncio API, for what the blocking API cannot show."""
        return _queue_of(backend, role)

    @pytest.fixture
    def queue(self, backend: Backend, face: "Face", role: str) -> Queue:
        """The queue under test, through one of the two APIs."""
        return face(backend, role)

    @pytest.fixture
    def second(self, second_backend: Backend, face: "Face", role: str) -> Queue:
        """Another consumer of the queue under test, through the same API."""
        return face(second_backend, role)

    @pytest.fixture
    def other_queue(self, backend: Backend, face: "Face", role: str) -> Queue:
        """The error queue of the queue under test, or the queue of the error queue under test."""
        return face(backend, "error_queue" if role == "queue" else "queue")

    @pytest.fixture
    def native_calls(self, core: Queue, monkeypatch: pytest.MonkeyPatch) -> "NativeCalls":
        """Counts the calls of the adapter's hooks."""
        return NativeCalls(core, monkeypatch)

    @pytest.fixture
    def items(self, role: str) -> "Items":
        """Makes items, numbered from 1. Those for an error queue carry an error."""

        def make(count: int) -> list[Item]:
            return [_item(number, role) for number in range(1, count + 1)]

        return make


Face = Callable[[Backend, str], Queue]
Items = Callable[[int], list[Item]]


class NativeCalls:
    """How often each hook of a queue was called; each call suspends, as with a remote broker."""

    def __init__(self, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: dict[str, int] = dict.fromkeys(HOOKS, 0)
        for name in HOOKS:
            monkeypatch.setattr(queue, name, self._count(name, getattr(queue, name)))

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def _count(self, name: str, hook: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(hook)
        async def counted(*args: Any) -> Any:
            await anyio.lowlevel.checkpoint()
            # Last, so that a test in another thread sees a hook that has begun.
            self.counts[name] += 1
            return await hook(*args)

        return counted


async def take(queue: Queue, count: int) -> list[tuple[Envelope, Item]]:
    """Pop `count` items, in as many batches as needed.

    Raises:
        TimeoutError: there were fewer.
    """
    popped: list[tuple[Envelope, Item]] = []

    async def have_come() -> bool:
        wanted = min(count - len(popped), queue.MAX_POP_BATCH_SIZE)
        popped.extend(await queue.pop_batch(wanted))
        return len(popped) >= count

    await wait_until(have_come, f"{count} items were popped")
    return popped


async def empty(queue: Queue) -> bool:
    """Whether there is nothing to pop."""
    return await queue.pop() == (None, None)


def numbers(queue: Queue, popped: Sequence[tuple[Envelope, Item]]) -> list[int]:
    """The numbers of the items, in their order; sorted if the queue does not promise one."""
    found = [item["number"] for _, item in popped]
    return found if queue.FIFO else sorted(found)


def _item(number: int, role: str) -> Item:
    item: Item = {"id": f"item-{number}", "number": number}
    if role == "error_queue":
        item["error"] = {
            "id": f"error-{number}",
            "error_type": "ValueError",
            "error_text": "why",
            "traceback": "",
            "hostname": "host",
            "ts": 1.5,
        }
    return item


def _queue_of(backend: Backend, role: str) -> Queue:
    return backend.error_queue if role == "error_queue" else backend.queue


def _awaiting(backend: Backend, role: str) -> Queue:
    return _queue_of(backend, role)


def _blocking(backend: Backend, role: str) -> Queue:
    blocking = importlib.import_module("deferrable.sync.backend").Backend(backend)
    return cast(Queue, _Threaded(getattr(blocking, role)))


class _Threaded:
    """A blocking queue with awaitable verbs: a worker thread makes the call."""

    def __init__(self, queue: object) -> None:
        self._queue = queue

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._queue, name)
        if not callable(attribute):
            return attribute

        async def call_in_a_thread(*args: Any, **kwargs: Any) -> Any:
            given = [each._queue if isinstance(each, _Threaded) else each for each in args]
            return await anyio.to_thread.run_sync(functools.partial(attribute, *given, **kwargs))

        return call_in_a_thread
