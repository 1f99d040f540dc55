"""Run the items that somebody else has popped: the engine of a function of AWS Lambda.

Owns how many run at once, what happens when the time of the function ends, and which messages are
reported as failed. `handed_order` says which of them may begin.

The one rule: a message is reported unless its item was completed. What is reported is delivered
again, so a doubt may cost a second run, and never an item.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from deferrable._durations import check_number
from deferrable._ended import Raised
from deferrable.aio._contract.handed import Handed
from deferrable.aio._contract.popping import Popped
from deferrable.aio._contract.tasks import start_task
from deferrable.aio._engine.attempt import Attempt, outcome_of
from deferrable.aio._engine.handed_order import FailureStops, HandedOrder, check_failure_stops
from deferrable.aio._engine.instance import Instance
from deferrable.aio._engine.task_door import TaskDoor
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Queue
from deferrable.errors import InvalidOptions
from deferrable.outcome import Outcome

__all__ = ["handle_event"]

_logger = logging.getLogger("deferrable")

_MARGIN_SECONDS = 1.0
"""So long before its end the function stops its jobs, and answers."""

_LAST_SECONDS = 0.5
"""For so long of the margin stopped jobs may settle."""


async def handle_event(
    instance: Instance,
    event: object,
    context: object,
    concurrency: int,
    failure_stops: FailureStops,
) -> dict[str, list[dict[str, str]]]:
    """Run the items of an event of Lambda. Return what a function has to return."""
    check_number("concurrency", concurrency, least=1, is_whole=True)
    check_failure_stops(failure_stops)
    queue, loop = instance.backend.queue, asyncio.get_running_loop()
    seconds = _seconds_left(context)
    lease_seconds = queue.lease_seconds if seconds is None else seconds
    most = None if seconds is None else seconds - _MARGIN_SECONDS
    start_time = loop.time()
    handed = await queue.take_event(event, lease_seconds)
    order = HandedOrder(handed, is_ordered=queue.FIFO, failure_stops=failure_stops)
    batch = _Batch(instance, order, concurrency)
    await batch.run(None if most is None else most - (loop.time() - start_time))
    failed = [each.name for each in handed if not each.is_done()]
    return {"batchItemFailures": [{"itemIdentifier": name} for name in failed]}


def _seconds_left(context: object) -> float | None:
    """Until the function is ended; None: it is not known."""
    if context is None:
        return None
    ask: Any = getattr(context, "get_remaining_time_in_millis", None)
    if ask is None:
        raise InvalidOptions(
            "handle_sqs_event takes the context that Lambda gives to the function, or None, got "
            f"{type(context).__name__}"
        )
    return float(ask()) / 1000


class _Door(TaskDoor):
    """The door of an attempt at an item whose lease is somebody else's matter."""

    __slots__ = ()
    exits_are_failures = True

    def keep(
        self, queue: Queue, envelope: Envelope, on_lost: Callable[[], None]
    ) -> Callable[[], object]:
        return _keep_nothing


def _keep_nothing() -> None:
    """Lambda keeps the lease."""


class _Batch:
    """The items of one event.

    Args:
        order: which of them may begin.
        concurrency: how many run at once.
    """

    def __init__(self, instance: Instance, order: HandedOrder, concurrency: int) -> None:
        self._instance = instance
        self._order = order
        self._concurrency = concurrency
        self._end_time = math.inf
        self._running: dict[asyncio.Task[Any], tuple[Attempt, Handed]] = {}

    async def run(self, seconds: float | None) -> None:
        """Run the items until all have ended, or the time is over."""
        loop = asyncio.get_running_loop()
        if seconds is not None:
            self._end_time = loop.time() + seconds
        try:
            while True:
                self._start_some(loop)
                if not self._running and not self._order.has_next():
                    return
                if not self._running:
                    break
                rest = None if seconds is None else max(0.0, self._end_time - loop.time())
                done, _ = await asyncio.wait(
                    self._running, timeout=rest, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    self._note_end(task)
                if not done:
                    break
            _logger.warning(
                "the time of the function ends: %d jobs are stopped, and %d are not started; their "
                "messages come back",
                len(self._running),
                self._order.waiting_count,
            )
            await self._stop()
        except BaseException:
            await self._stop()
            raise

    def _start_some(self, loop: asyncio.AbstractEventLoop) -> None:
        while (
            self._order.has_next()
            and len(self._running) < self._concurrency
            and loop.time() < self._end_time
        ):
            handed = self._order.take()
            if handed.popped is None:
                self._order.end(handed)
                continue
            attempt, task = self._start(loop, handed.popped)
            self._running[task] = attempt, handed

    def _start(
        self, loop: asyncio.AbstractEventLoop, popped: Popped
    ) -> tuple[Attempt, asyncio.Task[Any]]:
        envelope, item = popped
        context = copy_context()
        attempt = Attempt(self._instance, _Door(context, bool), envelope, item, context)
        return attempt, start_task(loop, self._run_in_time(loop, attempt), context)

    async def _run_in_time(
        self, loop: asyncio.AbstractEventLoop, attempt: Attempt
    ) -> Outcome | Raised | None:
        # Jobs that never wait hold the loop. Time may be over when this task makes its first step.
        return await attempt.run_job(completes=True) if loop.time() < self._end_time else None

    def _note_end(self, task: "asyncio.Task[Any]") -> None:
        _, handed = self._running.pop(task)
        try:
            if not task.cancelled() and task.result() is None:
                self._order.put_back(handed)
                return
            if not task.cancelled():
                outcome_of(task.result())
        except Exception as error:
            _logger.error("a message of Lambda comes back: %s", error)
        self._order.end(handed)

    async def _stop(self) -> None:
        """Stop what runs. What cannot be stopped is lost: it may go on, but settles nothing."""
        for attempt, _ in self._running.values():
            attempt.control.stop("cancelled")
        if self._running:
            done, _ = await asyncio.wait(self._running, timeout=_LAST_SECONDS)
            for task in done:
                self._note_end(task)
        for attempt, _ in self._running.values():
            attempt.lose()
