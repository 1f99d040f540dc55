"""The worker: many attempts at once, over the queues of one or several instances.

Owns its life: what is entered, started, stopped and left, in which order, and what its user may do
at which moment. Polls, slots, attempts, leases and outcomes have their own modules.

The one rule: one task enters everything and leaves everything, and it ends only when its work
ends. A cancellation only makes it hurry.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import (
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from types import TracebackType
from typing import Self

import anyio

from deferrable._durations import Duration, check_number, seconds_of
from deferrable._wrong_api import AsyncFor
from deferrable.aio._contract.loops import running_loop
from deferrable.aio._contract.popping import Popped
from deferrable.aio._engine.instance import Instance, entered
from deferrable.aio._engine.keeper import keeper
from deferrable.aio._engine.patched import refuse_patched
from deferrable.aio.queue import Queue
from deferrable.aio.worker._attempts import Attempts
from deferrable.aio.worker._door import WorkerResources
from deferrable.aio.worker._emptiness import until_empty
from deferrable.aio.worker._health import Health
from deferrable.aio.worker._order import OrderName, Turn, order_of
from deferrable.aio.worker._polling import Poller, same_queue
from deferrable.aio.worker._proposing import proposers
from deferrable.aio.worker._reporting import reporters
from deferrable.aio.worker._slots import Bell, Outcomes, PollSlots, Slots
from deferrable.aio.worker._watchdog import Watchdog
from deferrable.errors import InvalidOptions
from deferrable.outcome import Outcome, OutcomeStatus, WorkSummary

__all__ = ["Worker"]

_logger = logging.getLogger("deferrable")

DEFAULT_THREADS = 32
"""Plain functions that run at once, by default: the maximum of Python's own executor.

Source: ``concurrent.futures.ThreadPoolExecutor``, max_workers.
"""


class Worker(AsyncFor):
    """Pops items and runs their jobs until it is left or stopped.

    ``async with instance.worker() as worker: async for outcome in worker: ...``. Read the outcomes:
    while nobody reads them, nothing more is popped. The iteration ends when the worker was stopped
    and everything is settled. A worker can be entered only once.

    Args:
        instances: their queues are served; they share the slots.
        concurrency: how many jobs run at once.
        threads: how many of them may be plain functions, each of which needs a thread.
        prefetch: how many items may be popped beyond the free slots; 0: none. For many jobs of less
            than 20 ms with few slots: it works only while such jobs end one after the other, and
            the queue has more. An item that gets no slot goes back after at most a second, but
            another worker may be idle meanwhile. If the process dies, each item that it holds
            counts a redelivery.
        grace_seconds: how long running jobs may go on when the worker stops; then async ones are
            cancelled and their items given back. Plain functions cannot be cancelled: leaving waits
            for them, and their items are not given back.
        order: of several instances. ``"fair"``: they share the free slots, so a flood in one queue
            starves no other. ``"strict"``: an instance is served only while those before it have
            no items.
        weights: of each instance: how many of its items are taken for each item of another one of
            weight 1, while both have some. None: no weights.
        report: have the stores of the queues show this worker to those who ask for the workers. It
            costs one command for each queue in ten seconds. False: it costs nothing, and dashboards
            list the worker by the items that it holds, where the broker names their holders.

    Attributes:
        health: whether the brokers answer, and whether the worker takes items.

    Raises:
        InvalidOptions: a number is out of range, there is no instance, or two of them share a
            queue.
    """

    def __init__(
        self,
        instances: Sequence[Instance],
        *,
        concurrency: int = 100,
        threads: int | None = None,
        prefetch: int = 0,
        grace_seconds: Duration = 30.0,
        order: OrderName = "fair",
        weights: Sequence[float] | None = None,
        report: bool = True,
    ) -> None:
        thread_count = DEFAULT_THREADS if threads is None else threads
        check_number("concurrency", concurrency, least=1, is_whole=True)
        check_number("threads", thread_count, least=1, is_whole=True)
        check_number("prefetch", prefetch, is_whole=True)
        if not instances:
            raise InvalidOptions("a worker serves one or more instances, got none")
        self._instances = list(dict.fromkeys(instances))
        _check_queues(self._instances)
        self._thread_count = thread_count
        self._grace_seconds = seconds_of("grace_seconds", grace_seconds)
        self._reports = report
        self._slots = Slots(
            concurrency,
            pollers=len(self._instances),
            threads=thread_count,
            prefetch=prefetch,
            pops_ahead=any(each.backend.queue.POPS_AHEAD for each in self._instances),
        )
        self._room = Bell()
        self._order = order_of(order, weights, len(self._instances), self._room.ring)
        self._outcomes = Outcomes(self._slots, self._room.ring)
        self._is_to_stop = asyncio.Event()
        self._is_in_a_hurry = asyncio.Event()
        self._stop_count = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._life: asyncio.Task[None] | None = None
        self._attempts: Attempts | None = None
        self._pollers: list[Poller] = []
        self._clock = self._instances[0].backend.queue.clock
        self.health = Health([instance.backend.queue for instance in self._instances])

    async def __aenter__(self) -> Self:
        """Enter the lifespans, and begin to pop.

        Raises:
            RuntimeError: it was entered before, no thread can be started, or gevent or eventlet has
                patched this process.
            WrongApi: no event loop of asyncio is running in this thread.
            BaseException: the error of a lifespan; those entered before it were left.
        """
        if self._life is not None:
            raise RuntimeError("a worker can be entered only once; make another: instance.worker()")
        refuse_patched()
        self._loop = loop = running_loop()
        is_up: asyncio.Future[None] = loop.create_future()
        self._life = loop.create_task(self._live(is_up))
        try:
            await asyncio.wait([self._life, is_up], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            # A lifespan may wait for long; a worker that is up takes this as a hurried stop.
            self._life.cancel()
            await self._wait_for_the_end()
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
        """Stop, and return when everything is settled; cancelling it ends the grace period."""
        if self._life is None:
            return
        self._is_to_stop.set()
        cancellation = await self._wait_for_the_end()
        if cancellation is not None:
            raise cancellation
        self._life.result()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        """The next outcome.

        Raises:
            StopAsyncIteration: the worker has stopped, and every outcome was read.
            RuntimeError: it was not entered.
        """
        outcome = self._outcomes.next_unread() or await self.next_outcome()
        if outcome is None:
            raise StopAsyncIteration
        return outcome

    async def next_outcome(self) -> Outcome | None:
        """The next outcome; None once the worker has stopped and every outcome was read.

        Raises:
            RuntimeError: the worker was not entered.
        """
        if self._life is None:
            raise RuntimeError(
                "this worker was not entered; async with instance.worker() as worker: ..."
            )
        return await self._outcomes.next()

    async def run(self, *, until_empty: bool = False) -> WorkSummary:
        """Enter the worker, read its outcomes until it stops, and leave it.

        For callers that do not need the outcomes: ``await instance.worker().run()``. An interrupt
        (Ctrl-C) or a cancellation stops it within the grace period.

        Args:
            until_empty: stop when nothing is available or in flight in its queues. Delayed items
                are not waited for.

        Raises:
            BackendError: with `until_empty`, a queue cannot be counted. A broker that is away is
                waited for.
        """
        counts: Counter[OutcomeStatus] = Counter()
        async with self:
            emptying = asyncio.ensure_future(self._stop_when_empty()) if until_empty else None
            try:
                async for outcome in self:
                    counts[outcome.status] += 1
            finally:
                if emptying is not None:
                    emptying.cancel()
                    await asyncio.wait([emptying])
        is_empty = emptying is not None and not emptying.cancelled()
        return WorkSummary(dict(counts), emptying.result() if emptying and is_empty else None)

    async def until_empty(self) -> int:
        """Return when nothing is available or in flight in its queues, here or elsewhere.

        The worker goes on; call `stop`. Items that others push meanwhile count, too.

        Returns:
            how many items are still delayed.
        """
        queues = [each.backend.queue for each in self._instances]
        return await until_empty(queues, lambda: self._slots.holds_nothing)

    async def _stop_when_empty(self) -> int:
        try:
            return await self.until_empty()
        finally:
            self.stop()

    def stop(self) -> None:
        """Pop no more, and stop within the grace period.

        A second call ends the grace period. Any thread and any signal handler may call it. A
        worker that is not entered yet stops as soon as it is.
        """
        self._stop_count += 1
        self.health.note_stop()
        if self._loop is None:
            self._is_to_stop.set()
            return
        with suppress(RuntimeError):  # its loop was closed, and the worker with it
            self._loop.call_soon_threadsafe(self._react_to_stop)

    async def release_running(self, *, keeps_holder: bool = False) -> None:
        """Give back the items of all jobs that still run, also of plain ones. From any loop.

        Only for a process that ends at once: a plain function still runs, and its item may then
        run on another worker, too.

        Args:
            keeps_holder: but not the item of a job that holds the event loop. It comes back after
                its lease, and that delivery has failed, as if the process had died.
        """
        if self._attempts is not None:
            await self._attempts.release_running(keeps_holder=keeps_holder)

    def _react_to_stop(self) -> None:
        self._is_to_stop.set()
        if self._stop_count > 1:
            self._is_in_a_hurry.set()

    async def _wait_for_the_end(self) -> asyncio.CancelledError | None:
        """Return when its life is over. A cancellation makes it hurry, and is returned."""
        assert self._life is not None
        cancellation = None
        with anyio.CancelScope(shield=True):
            while not self._life.done():
                try:
                    await asyncio.wait([self._life])
                except asyncio.CancelledError as error:
                    cancellation = error
                    self._is_in_a_hurry.set()
        if cancellation is not None and not self._life.cancelled():
            self._life.exception()  # read it, or asyncio would complain
        return cancellation

    # What its one task does.

    async def _live(self, is_up: "asyncio.Future[None]") -> None:
        try:
            async with AsyncExitStack() as lifespans:
                states = {each: await entered(each.lifespan, lifespans) for each in self._instances}
                life = self._life
                assert life is not None
                leases = keeper(asyncio.get_running_loop())
                resources = WorkerResources(
                    leases, self._thread_count, lambda: life.cancelling() > 0
                )
                attempts = Attempts(
                    self._slots,
                    resources,
                    states,
                    self._room.ring,
                    self._outcomes.add,
                    self._clock,
                    self._hurry_polls,
                )
                self._attempts = attempts
                watchdog = Watchdog(attempts.find)
                queues = [each.backend.queue for each in self._instances]
                try:
                    for queue in queues:
                        leases.watch(queue, self.health.note_touch)
                    watchdog.start()
                    async with self._reporting(queues, attempts):
                        await self._work(is_up, attempts, resources)
                finally:
                    watchdog.stop()
                    for queue in queues:
                        leases.unwatch(queue, self.health.note_touch)
                    await leases.tidy()
        finally:
            self._outcomes.end()

    @asynccontextmanager
    async def _reporting(self, queues: Sequence[Queue], attempts: Attempts) -> AsyncIterator[None]:
        """Report to the queues until the last job has ended."""
        loop, informed = asyncio.get_running_loop(), queues if self._reports else ()
        reporting = [
            loop.create_task(each.run())
            for each in reporters(
                informed, self._slots.concurrency, attempts.jobs_on, self._is_to_stop.is_set
            )
        ]
        try:
            yield
        finally:
            for each in reporting:
                each.cancel()
            if reporting:
                await self._in_any_case(asyncio.wait(reporting))

    async def _work(
        self, is_up: "asyncio.Future[None]", attempts: Attempts, resources: WorkerResources
    ) -> None:
        loop = asyncio.get_running_loop()
        self._pollers = [
            self._poller(each, attempts, place) for place, each in enumerate(self._instances)
        ]
        pollers = [loop.create_task(each.run()) for each in self._pollers]
        pollers += [loop.create_task(each.run()) for each in proposers(self._instances)]
        self.health.note_start()
        if not is_up.done():
            is_up.set_result(None)
        await self._until(self._is_to_stop)
        self.health.note_stop()
        # Before the cancellations below: items of polls must not start from now on.
        attempts.close()
        for poller in pollers:
            poller.cancel()
        grace = self._clock.call_later(self._grace_seconds, self._is_in_a_hurry.set)
        winding_up = loop.create_task(self._wind_up(pollers, attempts))
        winding_up.add_done_callback(lambda _: self._is_in_a_hurry.set())
        await self._until(self._is_in_a_hurry)
        grace.cancel()
        resources.patience.end()
        attempts.cancel()
        while not winding_up.done():
            await self._in_any_case(asyncio.wait([winding_up]))
        if winding_up.cancelled():
            await self._in_any_case(asyncio.wait(pollers))
            await self._in_any_case(attempts.return_buffered())
        while not attempts.are_idle:
            await self._in_any_case(attempts.wait_until_idle())
        if not winding_up.cancelled() and winding_up.exception() is not None:
            _logger.error("a worker did not stop in order", exc_info=winding_up.exception())

    async def _wind_up(self, pollers: Sequence[asyncio.Task[None]], attempts: Attempts) -> None:
        """Give back items that have not started, and wait for the others."""
        # A running poll ends first: its answer may hold items.
        await asyncio.wait(pollers)
        await attempts.return_buffered()
        await attempts.return_unstarted()
        await attempts.wait_until_idle()

    async def _until(self, event: asyncio.Event) -> None:
        while not event.is_set():
            await self._in_any_case(event.wait())

    async def _in_any_case(self, waiting: Awaitable[object]) -> None:
        """Wait; a cancellation, of a loop that is being shut down, means to stop at once."""
        try:
            await waiting
        except asyncio.CancelledError:
            self._is_to_stop.set()
            self._is_in_a_hurry.set()

    # Popping.

    def _hurry_polls(self) -> None:
        for poller in self._pollers:
            poller.hurry()

    def _poller(self, instance: Instance, attempts: Attempts, place: int) -> Poller:
        queue, kinds = instance.backend.queue, attempts.kinds_of(instance)
        turn = None if self._order is None else Turn(self._order, place)
        room = PollSlots(
            self._slots, self._room, queue, self._clock, kinds, attempts.note_poll_end, turn
        )

        def take(popped: Sequence[Popped]) -> None:
            if turn is not None:
                turn.take(len(popped))
            attempts.take(instance, queue, popped)

        return Poller(queue, self.health, room, take)


def _check_queues(instances: Sequence[Instance]) -> None:
    twins = same_queue([instance.backend.queue for instance in instances])
    if twins is not None:
        one, other = twins
        raise InvalidOptions(
            f"instances {one + 1} and {other + 1} of this worker share "
            f"{instances[one].backend.queue!r}, where each would take the other's items; register "
            "all jobs with one of them, or give one of them its own group"
        )
