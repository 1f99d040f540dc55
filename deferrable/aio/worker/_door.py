"""The door of a worker's attempts.

Owns what is different when many attempts run at once: plain jobs wait for one of the worker's
threads and have their plain metadata consumers run there, a slot is given back when the job ends,
and a settlement is tried again while the lease lasts and the worker has time.
"""

import asyncio
import inspect
import math
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

import anyio

from deferrable._ended import Ended, Raised, Returned
from deferrable.aio._engine.keeper import Keeper
from deferrable.aio._engine.running import NotStarted, Run
from deferrable.aio._engine.task_door import TaskDoor
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Queue
from deferrable.aio.worker._settling import Patience
from deferrable.item import Item

__all__ = ["WorkerResources", "WorkerDoor"]

T = TypeVar("T")


class WorkerResources:
    """The common part of the attempts of one worker.

    Args:
        keeper: keeps their leases.
        threads: how many plain jobs run at once.
        is_being_cancelled: whether somebody ends the worker's loop, and so cancels all its tasks.

    Attributes:
        turns: of the plain jobs, whose items can be given back while they wait for one.
        threads: their limiter, which never makes them wait. The default limiter is shared with all
            other code in the process.
        is_open: whether jobs may still begin.
        patience: for retries of settlements that the broker refuses.
        on_plain: called when a job turns out to be plain that was not known to be.
        has_room: whether the worker may hold more items that wait.
    """

    def __init__(
        self, keeper: Keeper, threads: int, is_being_cancelled: Callable[[], bool]
    ) -> None:
        self.keeper = keeper
        self.is_being_cancelled = is_being_cancelled
        self.turns = asyncio.Semaphore(threads)
        self.threads = anyio.CapacityLimiter(threads)
        self.is_open = True
        self.patience = Patience()
        self.on_plain: Callable[[Queue, Item], None] = _note_nothing
        self.has_room: Callable[[], bool] = bool


def _note_nothing(queue: Queue, item: Item) -> None:
    """Nobody counts plain jobs."""


class WorkerDoor(TaskDoor):
    """The door of one attempt of a worker.

    Args:
        queue: where the item was popped.
        envelope: of the item.
        resources: of all attempts of the worker.
        context: in which the attempt's task runs.
        on_job_end: called when the job has ended, before it is settled, with whether it was plain.
        is_plain: it is known to be a plain job, and counted as one.
    """

    __slots__ = (
        "_consumers",
        "_envelope",
        "_has_job_ended",
        "_is_plain",
        "_on_job_end",
        "_queue",
        "_resources",
    )
    exits_are_failures = True

    def __init__(
        self,
        queue: Queue,
        envelope: Envelope,
        resources: WorkerResources,
        context: Context,
        on_job_end: Callable[[bool], None],
        is_plain: bool,
    ) -> None:
        super().__init__(context, resources.is_being_cancelled, resources.threads)
        self._queue = queue
        self._envelope = envelope
        self._resources = resources
        self._on_job_end = on_job_end
        self._is_plain = is_plain
        self._has_job_ended = False
        self._consumers: Sequence[tuple[Callable[..., Any], object]] = ()

    def finish(self, start: Callable[[], Coroutine[Any, Any, T]]) -> Coroutine[Any, Any, T]:
        return self._resources.patience.settle(self._queue, self._envelope, start)

    async def consume(
        self, context: Context, function: Callable[..., Any], value: object
    ) -> Ended[Any]:
        # Only the job shows whether it must run in the job's thread.
        self._consumers = (*self._consumers, (function, value))
        return Returned(None)

    def keep(
        self, queue: Queue, envelope: Envelope, on_lost: Callable[[], None]
    ) -> Callable[[], object]:
        # It has been kept since before the attempt's first step.
        return partial(self._resources.keeper.let_go, queue, envelope)

    def run(self, run: Run) -> Coroutine[Any, Any, Ended[Any]]:
        if run.is_async and not self._consumers:
            return super().run(run)
        return self._run_after_consumers(run)

    async def _run_after_consumers(self, run: Run) -> Ended[Any]:
        ended = None
        try:
            in_thread = []
            for function, value in self._consumers:
                if run.is_async or inspect.iscoroutinefunction(function):
                    ended = await self.call(run.context, function, value)
                    if isinstance(ended, Raised):
                        return ended
                else:
                    in_thread.append(partial(function, value))
            if not run.is_async:
                self._note_plain(run)
                if in_thread:
                    run.function = partial(_run_after, in_thread, run.function)
            return await super().run(run)
        finally:
            ended = None  # an error's traceback holds this frame
            self.end_job()

    def _note_plain(self, run: Run) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.set_name(run.job_name)
        if not self._is_plain:
            self._is_plain = True
            self._resources.on_plain(self._queue, run.item)

    def end_job(self) -> None:
        """The job has ended, or will never begin. A second call has no effect."""
        if not self._has_job_ended:
            self._has_job_ended = True
            self._on_job_end(self._is_plain)

    _note_end = end_job

    def keeps_for(self, seconds: float) -> bool:
        """Only an item that holds its group is kept: others of the group may wait here behind it.

        If it went back to the queue, they would have to go, too, and the broker would count that.
        """
        queue, envelope, resources = self._queue, self._envelope, self._resources
        if envelope.order_key is None or not resources.is_open or not resources.has_room():
            return False
        most = math.inf if queue.max_lease_seconds is None else queue.max_lease_seconds
        end_time = queue.clock.monotonic() + seconds
        return end_time + queue.lease_seconds <= envelope.pop_time + most

    async def _run_in_thread(self, run: Run, context: Context) -> Ended[Any]:
        if not await self._wait_for_turn(run):
            return Raised(NotStarted())
        try:
            return await super()._run_in_thread(run, context)
        finally:
            self._resources.turns.release()

    async def _wait_for_turn(self, run: Run) -> bool:
        """Whether it got a thread; False if the attempt was stopped meanwhile."""
        turns, loop = self._resources.turns, asyncio.get_running_loop()
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
        if run.control.reason is None and not self._resources.is_open:
            # The worker stops, and will soon give items back in their order.
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
