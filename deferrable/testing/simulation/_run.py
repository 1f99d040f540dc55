"""One run of a simulation: the jobs of an instance, until nothing is left.

Owns the order in which calls run and time passes, and that a run which cannot go on is an error.

The one rule: the instance has its own jobs and queue again at the end.
"""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, Self

from deferrable.aio import deferrable as awaiting
from deferrable.aio._engine.registry import PassingRegistry
from deferrable.aio.backend.base import Backend
from deferrable.errors import BackendError, BackendUnavailable
from deferrable.outcome import Outcome
from deferrable.sync import deferrable as blocking
from deferrable.sync._portal import portal
from deferrable.testing.deferrals import Deferrals, moments_of, result_of
from deferrable.testing.simulation._attempts import Attempts
from deferrable.testing.simulation._strikes import FaultName, Passed, Strike
from deferrable.testing.simulation._watched_queue import WatchedQueue

__all__ = ["SimulatedRun"]

_MOST_ATTEMPTS = 1000
"""More of them in one run are taken for jobs that defer each other for ever."""

_LONGEST_SECONDS = 20.0
"""Real ones, of an async attempt. One that takes longer is taken for one that waits for ever."""


class SimulatedRun:
    """One run; in its block the jobs and the queue of the instance are watched.

    Args:
        calls: what the instance defers.
        strikes: the faults. None of them: what the attempts pass through is noted.
        files: whose lines are points, and not only the lines of the jobs.
        ticks: whether schedules tick.

    Attributes:
        stuck: why the run cannot go on, if it cannot.
    """

    def __init__(
        self,
        instance: "blocking.Deferrable | awaiting.Deferrable",
        calls: Deferrals,
        strikes: Sequence[Strike],
        files: set[str],
        *,
        ticks: bool = False,
    ) -> None:
        self._instance = instance
        self._calls = calls
        self._core = instance._core if isinstance(instance, blocking.Deferrable) else instance
        self._registry = self._core.registry
        self._backend = self._core.backend
        self._queue = self._backend.queue
        self._ticks = ticks
        self._thread = threading.get_ident()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._attempts = Attempts(self, self._queue, strikes, files)
        self.stuck: str | None = None
        self._seen_struck = 0

    def __enter__(self) -> Self:
        self._core.registry = PassingRegistry(self._registry, self._attempts.watched)
        backend = self._backend
        self._instance.backend = Backend(
            backend.group,
            WatchedQueue(self._queue, self._attempts),
            backend.error_queue,
            debounce_store=backend.debounce_store,
            result_store=backend.result_store,
            schedule_store=backend.schedule_store,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._core.registry = self._registry
        self._instance.backend = self._backend

    @property
    def passed(self) -> list[Passed]:
        """What each attempt passed through, in the order of their starts."""
        return [each.passed for each in self._attempts]

    @property
    def struck(self) -> list[FaultName]:
        """The faults that met an attempt."""
        return self._attempts.struck

    def history(self) -> list[str]:
        """What happened, an attempt a sentence."""
        return self._attempts.history()

    async def drain(self, end_time: float) -> None:
        """Run all that becomes due until `end_time`."""
        clock = self._calls.clock
        while True:
            tick_time = await self._propose()
            await self._run_due(on_loop=False)
            now = clock.time()
            moments = [*await moments_of(self._queue), tick_time]
            moments = [each for each in moments if now < each <= end_time]
            if moments:
                clock.advance(min(moments) - now)
            elif not await self._requeue_refused():
                return

    async def _propose(self) -> float:
        """Push the ticks that are due. Return when the next one is."""
        if not self._ticks:
            return float("inf")
        if isinstance(self._instance, blocking.Deferrable):
            seconds = portal().run(self._calls.propose())
        else:
            seconds = await self._calls.propose()
        return self._calls.clock.time() + seconds

    async def _requeue_refused(self) -> bool:
        """Do what an operator does with jobs that failed because the broker was away."""
        struck, self._seen_struck = self.struck[self._seen_struck :], len(self.struck)
        if not {"refused push", "lost push answer"} & set(struck):
            return False
        if isinstance(self._instance, blocking.Deferrable):
            return portal().run(self._requeue_unavailable())  # what keeps leases needs a loop
        return await self._requeue_unavailable()

    async def _requeue_unavailable(self) -> bool:
        has_requeued = False
        async for each in self._core.errors():
            if each.error.get("error_type", "").endswith(BackendUnavailable.__name__):
                await each.requeue()
                has_requeued = True
        return has_requeued

    async def _run_due(self, *, on_loop: bool) -> None:
        while True:
            first = len(self._attempts)
            try:
                outcome = await self._run_once(on_loop)
            except BackendError:
                continue
            if self.stuck is not None:
                raise AssertionError(self.stuck)
            if outcome is None:
                return
            if first < len(self._attempts):
                self._attempts[first].note_outcome(outcome)
            if first > _MOST_ATTEMPTS:
                raise AssertionError(
                    f"{_MOST_ATTEMPTS} attempts ran, and there are more; do your jobs defer each "
                    "other for ever, or does a schedule tick often? Pass fewer seconds="
                )

    async def _run_once(self, on_loop: bool) -> Outcome | None:
        if isinstance(self._instance, blocking.Deferrable) and not on_loop:
            return self._instance.run_once()
        self._loop = asyncio.get_running_loop()
        running = asyncio.create_task(self._core.run_once())
        try:
            await asyncio.wait([running], timeout=_LONGEST_SECONDS)
        except asyncio.CancelledError:
            running.cancel()
            raise
        if running.done():
            return running.result()
        running.add_done_callback(_see_error)
        running.cancel()
        self.stuck = _still_waits(self._attempts[-1].name, self.history())
        raise AssertionError(self.stuck)

    def run_others(self) -> None:
        """Run what is due while a plain job stands still, which calls this in its thread."""
        if self._loop is None or threading.get_ident() == self._thread:
            result_of(self._run_due(on_loop=False))
        else:
            asyncio.run_coroutine_threadsafe(self.run_others_async(), self._loop).result()

    async def run_others_async(self) -> None:
        """Run what is due while a job stands still, on the loop."""
        await self._run_due(on_loop=True)


def _still_waits(name: str, history: Sequence[str]) -> str:
    lines = [f"  {number}. {each}" for number, each in enumerate(history, 1)]
    first = (
        f"{name} still waits after {_LONGEST_SECONDS:g} seconds; is it for a lock of this process, "
        "and does a job hold it that stands still?"
    )
    last = "Take such a lock out of the jobs, or leave out the fault 'lost lease'."
    return "\n".join([first, *lines, last])


def _see_error(task: "asyncio.Task[Any]") -> None:
    """Or asyncio would log that nobody did."""
    if not task.cancelled():
        task.exception()
