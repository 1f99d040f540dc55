"""The worker: many attempts at once, over the queues of one or several instances.

Owns when items are popped and started, the stream of outcomes, and the order in which a worker
stops. It may not know brokers, nor how an attempt is made. It is an object that is entered, read
and left; whoever holds it may leave at any point.

The one rule: whatever is popped is started, or given back, or kept until one of both.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from deferrable._ended import Returned
from deferrable.aio._polling import Poller
from deferrable.aio._popping import Popped
from deferrable.aio._slots import Slots
from deferrable.aio._tasks import until_done
from deferrable.aio._worker_door import WorkerDoor
from deferrable.aio.attempt import Attempt
from deferrable.aio.envelope import Envelope
from deferrable.aio.health import Health
from deferrable.aio.keeper import Keeper
from deferrable.aio.queue import Queue
from deferrable.aio.watchdog import Watchdog
from deferrable.errors import InvalidOptions
from deferrable.item import Item
from deferrable.outcome import Outcome

if TYPE_CHECKING:
    from deferrable.aio.deferrable import Deferrable

__all__ = ["Worker"]

_logger = logging.getLogger("deferrable")

DEFAULT_THREADS = 32
"""Plain functions that run at once, unless told otherwise: what Python's own executor uses at most.

Source: ``concurrent.futures.ThreadPoolExecutor``, max_workers.
"""


class Worker:
    """Pops items and runs their jobs until it is left or stopped.

    ``async with instance.worker() as worker: async for outcome in worker: ...``. Outcomes have to
    be read: while nobody reads them, nothing more is popped. The iteration ends when the worker
    was stopped and everything is settled.

    Args:
        instances: whose queues are served; they share the slots.
        concurrency: how many jobs run at once.
        threads: how many of them may be plain functions, each of which needs a thread.
        grace_seconds: how long running jobs may go on when the worker stops; then async ones are
            cancelled and their items given back. Plain functions cannot be cancelled: leaving waits
            for them, and their items stay theirs.

    Attributes:
        health: whether the brokers answer.

    Raises:
        InvalidOptions: a number is out of range, or there is no instance.
    """

    def __init__(
        self,
        instances: Sequence["Deferrable"],
        *,
        concurrency: int = 100,
        threads: int | None = None,
        grace_seconds: float = 30.0,
    ) -> None:
        _check("concurrency", concurrency, 1)
        _check("threads", DEFAULT_THREADS if threads is None else threads, 1)
        _check("grace_seconds", grace_seconds, 0)
        if not instances:
            raise InvalidOptions("a worker serves one or more instances, got none")
        self._instances = list(instances)
        self._grace_seconds = grace_seconds
        self._slots = Slots(concurrency, pollers=len(self._instances))
        self._threads = asyncio.Semaphore(DEFAULT_THREADS if threads is None else threads)
        self._buffer: deque[tuple[Deferrable, Envelope, Item]] = deque()
        self._attempts: dict[str, Attempt] = {}
        self._outcomes: deque[Outcome] = deque()
        self._states: dict[Deferrable, Any] = {}
        self._readable = asyncio.Event()
        self._has_room = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_to_stop = asyncio.Event()
        self._is_in_a_hurry = asyncio.Event()
        self._telling: set[asyncio.Task[None]] = set()
        self._life: asyncio.Task[None] | None = None
        self.health = Health([instance.backend.queue for instance in self._instances])
        self._keeper = Keeper(self.health.note_touch)
        self._watchdog = Watchdog(self._on_held)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        is_up: asyncio.Future[None] = loop.create_future()
        # One task enters and leaves the lifespans, as they may hold a cancel scope open.
        self._life = loop.create_task(self._live(is_up))
        try:
            await asyncio.wait([self._life, is_up], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self.stop()
            await until_done(self._life)
            raise
        if self._life.done():
            self._life.result()
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._life is not None
        self._is_to_stop.set()
        cancellation = await until_done(self._life)
        self._life.result()
        if cancellation is not None:
            raise cancellation

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        """The next outcome.

        Raises:
            StopAsyncIteration: the worker has stopped, and every outcome was read.
        """
        outcome = await self.next_outcome()
        if outcome is None:
            raise StopAsyncIteration
        return outcome

    async def next_outcome(self) -> Outcome | None:
        """The next outcome; None once the worker has stopped and every outcome was read."""
        while not self._outcomes:
            if self._life is None or self._life.done():
                return None
            self._readable.clear()
            await self._readable.wait()
        self._slots.unread -= 1
        self._has_room.set()
        return self._outcomes.popleft()

    def stop(self) -> None:
        """Pop no more, and come to an end within the grace period. Called on the worker's loop.

        Called again, it ends the grace period.
        """
        if self._is_to_stop.is_set():
            self._is_in_a_hurry.set()
        self._is_to_stop.set()

    async def release_running(self) -> None:
        """Give back the items of all jobs that still run, the plain ones too. From any loop.

        For a process that ends in the same moment, and for nobody else: a plain function runs on,
        and its item may be running elsewhere by then.
        """
        attempts = list(self._attempts.values())
        await asyncio.gather(*(each.give_back() for each in attempts), return_exceptions=True)

    async def _live(self, is_up: "asyncio.Future[None]") -> None:
        try:
            async with AsyncExitStack() as lifespans:
                for instance in self._instances:
                    self._states[instance] = await instance.enter_lifespan(lifespans)
                self._keeper.start([instance.backend.queue for instance in self._instances])
                self._watchdog.start()
                loop = asyncio.get_running_loop()
                pollers = [loop.create_task(self._poller(each).run()) for each in self._instances]
                is_up.set_result(None)
                await self._is_to_stop.wait()
                await self._wind_up(pollers)
        finally:
            self._readable.set()

    # Popping and starting.

    def _poller(self, instance: "Deferrable") -> Poller:
        queue = instance.backend.queue

        def take(popped: Sequence[Popped]) -> None:
            for envelope, item in popped:
                self._keep_buffered(queue, envelope)
                self._buffer.append((instance, envelope, item))
                self._slots.buffered += 1
            self._start_what_fits()

        return Poller(queue, self.health, self._wait_for_room, take, self._give_up_room)

    async def _wait_for_room(self) -> int:
        while (count := self._slots.to_ask()) == 0:
            self._has_room.clear()
            await self._has_room.wait()
        self._slots.asked += count
        self._slots.polling += 1
        return count

    def _give_up_room(self, count: int) -> None:
        self._slots.asked -= count
        self._slots.polling -= 1

    def _keep_buffered(self, queue: Queue, envelope: Envelope) -> None:
        def drop() -> None:
            for entry in self._buffer:
                if entry[1] is envelope:
                    self._buffer.remove(entry)
                    self._slots.buffered -= 1
                    return

        self._keeper.keep(queue, envelope, drop)

    def _start_what_fits(self) -> None:
        while self._buffer and self._slots.is_free and not self._is_to_stop.is_set():
            instance, envelope, item = self._buffer.popleft()
            self._slots.buffered -= 1
            self._slots.running += 1
            self._start(instance, envelope, item)
        self._has_room.set()

    def _start(self, instance: "Deferrable", envelope: Envelope, item: Item) -> None:
        has_ended = False

        def job_ended() -> None:
            nonlocal has_ended
            if not has_ended:
                has_ended = True
                self._slots.running -= 1
                self._slots.settling += 1
                self._start_what_fits()

        queue = instance.backend.queue
        door = WorkerDoor(queue, envelope, self._keeper, self._threads, job_ended)
        attempt = Attempt(instance, door, envelope, item, self._states.get(instance))
        task = asyncio.get_running_loop().create_task(self._make(attempt, job_ended))
        self._attempts[task.get_name()] = attempt
        self._is_idle.clear()

    async def _make(self, attempt: Attempt, job_ended: Callable[[], None]) -> None:
        ended = await attempt.run_to_value()
        job_ended()
        self._slots.settling -= 1
        task = asyncio.current_task()
        if task is not None:
            del self._attempts[task.get_name()]
        if not self._attempts:
            self._is_idle.set()
        if isinstance(ended, Returned):
            self._tell(ended.value)
        else:
            _logger.error("%s could not be settled: %s", attempt.name, ended.error)
            self._tell(attempt.outcome("lost", ended.error))
        self._has_room.set()

    def _tell(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._slots.unread += 1
        self._readable.set()

    def _on_held(self, name: str) -> None:
        """The loop turns again; tell of the job that held it."""
        for attempt in self._attempts.values():
            if attempt.name == name:
                telling = asyncio.get_running_loop().create_task(attempt.tell_overrun())
                self._telling.add(telling)
                telling.add_done_callback(self._telling.discard)

    # Stopping.

    async def _wind_up(self, pollers: Sequence[asyncio.Task[None]]) -> None:
        """Pop no more, give back what has not started, let the rest end, cancel what does not."""
        for poller in pollers:
            poller.cancel()
        # A poll under way ends first: its answer may hold items.
        await asyncio.gather(*pollers, return_exceptions=True)
        await self._return_buffered()
        for attempt in list(self._attempts.values()):
            if not attempt.has_started:
                attempt.control.stop("cancelled")
        await self._wait_for_grace()
        for attempt in list(self._attempts.values()):
            attempt.control.stop("cancelled")
        while self._attempts:
            self._is_idle.clear()
            await self._is_idle.wait()
        self._watchdog.stop()
        await self._keeper.stop()

    async def _return_buffered(self) -> None:
        held: dict[Queue, list[Envelope]] = {}
        for instance, envelope, _ in self._buffer:
            held.setdefault(instance.backend.queue, []).append(envelope)
        self._buffer.clear()
        self._slots.buffered = 0
        for queue, envelopes in held.items():
            for envelope in envelopes:
                self._keeper.let_go(queue, envelope)
            await queue.release_batch(envelopes)

    async def _wait_for_grace(self) -> None:
        if not self._attempts:
            return
        loop = asyncio.get_running_loop()
        ends = [
            loop.create_task(self._is_idle.wait()),
            loop.create_task(self._is_in_a_hurry.wait()),
        ]
        await asyncio.wait(ends, timeout=self._grace_seconds, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()


def _check(name: str, value: float, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
        raise InvalidOptions(f"{name} is a number from {least} on, got {value!r}")
