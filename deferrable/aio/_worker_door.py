"""The door of a worker's attempts.

Owns what is different when many attempts run at once: leases are kept by the keeper, plain jobs
wait for one of the worker's threads and have their plain metadata consumers run there, a slot is
given back when the job ends, and a settlement that the broker does not take is tried again for as
long as the lease lasts and the worker has time. It may not know slots or polls; it calls back.
"""

import asyncio
import inspect
import random
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import anyio

from deferrable._ended import Ended, Raised, Returned
from deferrable.aio._polling import reconnect_seconds
from deferrable.aio.clock import sleep
from deferrable.aio.door import AwaitingDoor, NotStarted, Run
from deferrable.aio.envelope import Envelope
from deferrable.aio.heartbeat import Heartbeat
from deferrable.aio.keeper import Keeper
from deferrable.aio.queue import Queue
from deferrable.errors import BackendUnavailable, LeaseLost

__all__ = ["Surroundings", "WorkerDoor"]

T = TypeVar("T")


class Surroundings:
    """What the attempts of one worker share.

    Args:
        keeper: keeps their leases.
        threads: how many plain jobs run at once.

    Attributes:
        turns: of the plain jobs, whose items can be given back while they wait for one.
        threads: where they run; the limiter makes nobody wait. The default one is shared with
            everybody else in the process.
        is_open: whether jobs may still begin.
        is_patient: whether a settlement that the broker does not take is tried again.
    """

    def __init__(self, keeper: Keeper, threads: int) -> None:
        self.keeper = keeper
        self.turns = asyncio.Semaphore(threads)
        self.threads = anyio.CapacityLimiter(threads)
        self.is_open = True
        self.is_patient = True


class WorkerDoor(AwaitingDoor):
    """Behind which one attempt of a worker is made.

    Args:
        queue: where the item was popped.
        envelope: of the item.
        surroundings: of all attempts of the worker.
        on_job_end: called when the job has ended, before it is settled.
    """

    exits_are_failures = True
    may_gather = True

    def __init__(
        self,
        queue: Queue,
        envelope: Envelope,
        surroundings: Surroundings,
        on_job_end: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._envelope = envelope
        self._surroundings = surroundings
        self._on_job_end = on_job_end
        self._consumers: list[tuple[Callable[..., Any], object]] = []
        self.limiter = surroundings.threads

    async def finish(self, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        failures = 0
        while True:
            try:
                return await start()
            except BackendUnavailable as error:
                failures += 1
                if self._queue.clock.time() >= self._envelope.lease_end_time:
                    raise LeaseLost(
                        f"{self._envelope!r} could not be settled before its lease ended: {error}"
                    ) from error
                if not self._surroundings.is_patient:
                    raise
            await sleep(self._queue.clock, reconnect_seconds(failures, random.random()))

    async def consume(
        self, context: Context, function: Callable[..., Any], value: object
    ) -> Ended[Any]:
        # Whether it belongs into the job's thread is known once the job is.
        self._consumers.append((function, value))
        return Returned(None)

    def start_heartbeat(self, heartbeat: Heartbeat) -> Callable[[], None]:
        keeper = self._surroundings.keeper
        keeper.keep(heartbeat.queue, heartbeat.envelope, heartbeat.on_lost)
        return lambda: keeper.let_go(heartbeat.queue, heartbeat.envelope)

    async def run(self, run: Run) -> Ended[Any]:
        try:
            is_async = inspect.iscoroutinefunction(run.function)
            in_thread = []
            for function, value in self._consumers:
                if is_async or inspect.iscoroutinefunction(function):
                    ended = await self.call(run.context, function, value)
                    if isinstance(ended, Raised):
                        return ended
                else:
                    in_thread.append(partial(function, value))
            if in_thread:
                run = replace(run, function=partial(_run_after, in_thread, run.function))
            return await super().run(run)
        finally:
            self._on_job_end()

    async def _run_in_thread(self, run: Run) -> Ended[Any]:
        if not await self._wait_for_turn(run):
            return Raised(NotStarted())
        try:
            return await super()._run_in_thread(run)
        finally:
            self._surroundings.turns.release()

    async def _wait_for_turn(self, run: Run) -> bool:
        """Whether a thread could be had; False when the attempt was stopped meanwhile."""
        turns, loop = self._surroundings.turns, asyncio.get_running_loop()
        if not turns.locked():
            await turns.acquire()
            return True
        self._envelope.has_started = False
        waiting = loop.create_task(turns.acquire())
        run.control.attach(waiting.cancel)
        await asyncio.wait([waiting])
        run.control.detach()
        if waiting.cancelled():
            return False
        if run.control.reason is None and not self._surroundings.is_open:
            # The worker stops, and is about to have items given back in their order.
            stopped = loop.create_future()
            run.control.attach(stopped.cancel)
            await asyncio.wait([stopped])
            run.control.detach()
        if run.control.reason is not None:
            turns.release()
            return False
        self._envelope.has_started = True
        return True


def _run_after(
    consumers: Sequence[Callable[[], Any]], function: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    for consume in consumers:
        consume()
    return function(*args, **kwargs)
