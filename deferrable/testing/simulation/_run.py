"""One run of a simulation: the jobs of an instance, and the faults that they meet.

Owns what a fault does to an attempt and to its item, and the history of the run.

The one rule: a fault only does what a crashed process, a late consumer or a broker could do. An
item that was accepted is never lost, and a job that returned may be run again.
"""

import asyncio
import linecache
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import CodeType, FrameType
from typing import Any, Self

from deferrable._codec.json import dump
from deferrable._codec.json_values import written_function
from deferrable._codec.refusals import describe
from deferrable._codec.serializers import short_repr
from deferrable.aio import deferrable as awaiting
from deferrable.aio._contract.popping import Popped
from deferrable.aio._engine.registry import FoundCall, PassingRegistry, RegisteredJob
from deferrable.aio._engine.running import Control
from deferrable.aio.backend.base import Backend
from deferrable.aio.current import current_attempt
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Push, Queue, Release
from deferrable.errors import BackendError, BackendUnavailable
from deferrable.item import Item
from deferrable.outcome import Outcome
from deferrable.sync import deferrable as blocking
from deferrable.sync._portal import portal
from deferrable.testing.deferrals import Deferrals, moments_of, result_of
from deferrable.testing.faults import FaultyQueue
from deferrable.testing.simulation._stepping import Crash, run_async, run_plain
from deferrable.testing.simulation._strikes import FaultName, Passed, Point, Strike

__all__ = ["SimulatedRun"]

_MOST_ATTEMPTS = 1000
"""More of them in one run are taken for jobs that defer each other for ever."""

_LATE_SECONDS = 60.0
"""A late delivery comes after everything else that is due."""

_LONGEST_SECONDS = 20.0
"""Real ones, of an async attempt. One that takes longer is taken for one that waits for ever."""

_UNAVAILABLE = "simulated: the broker did not answer"


class SimulatedRun:
    """One run; in its block the jobs and the queue of the instance are watched.

    Args:
        calls: what the instance defers.
        strikes: the faults. None of them: what the attempts pass through is noted.
        files: whose lines are points, and not only the lines of the jobs.

    Attributes:
        passed: what each attempt passed through, in the order of their starts.
        struck: the faults that met an attempt.
        stuck: why the run cannot go on, if it cannot.
    """

    def __init__(
        self,
        instance: "blocking.Deferrable | awaiting.Deferrable",
        calls: Deferrals,
        strikes: Sequence[Strike],
        files: set[str],
    ) -> None:
        self._instance = instance
        self._calls = calls
        self._core = instance._core if isinstance(instance, blocking.Deferrable) else instance
        self._registry = self._core.registry
        self._backend = self._core.backend
        self._queue = self._backend.queue
        self._files = files
        self._thread = threading.get_ident()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._attempts: list[_Attempt] = []
        self._open = list(strikes)
        self.is_noting = not strikes
        self.running: _Attempt | None = None
        self.struck: list[FaultName] = []
        self.stuck: str | None = None
        self._seen_struck = 0

    def __enter__(self) -> Self:
        self._core.registry = PassingRegistry(self._registry, self._watched)
        backend = self._backend
        self._instance.backend = Backend(
            backend.group,
            _WatchedQueue(self._queue, self),
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
        return [each.passed for each in self._attempts]

    def history(self) -> list[str]:
        """What happened, an attempt a sentence."""
        return [f"{each.name}: {'; '.join(each.notes)}" for each in self._attempts]

    # Running.

    async def drain(self, end_time: float) -> None:
        """Run all that becomes due until `end_time`."""
        clock = self._calls.clock
        while True:
            await self._run_due(on_loop=False)
            now = clock.time()
            moments = [each for each in await moments_of(self._queue) if now < each <= end_time]
            if moments:
                clock.advance(min(moments) - now)
            elif not await self._requeue_refused():
                return

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
                    "other for ever? Pass fewer seconds="
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

    # Striking.

    def take(
        self, fault: FaultName, attempt: int, place: int = 0, *, or_later: bool = False
    ) -> bool:
        """Whether this fault strikes here. It strikes once."""
        for each in self._open:
            if (each.fault, each.attempt) == (fault, attempt) and (
                each.place == place or (or_later and each.place > place)
            ):
                self._open.remove(each)
                self.struck.append(fault)
                return True
        return False

    def begin(self, job: RegisteredJob, args: tuple[Any, ...], kwargs: Any) -> "_Attempt":
        """An attempt at a job starts."""
        number = len(self._attempts)
        has_points = self.is_noting or any(
            each.attempt == number and each.fault in ("crash", "lost lease", "stop")
            for each in self._open
        )
        attempt = _Attempt(self, number, job, _shown(job.name, args, kwargs), has_points=has_points)
        self._attempts.append(attempt)
        return attempt

    def next_number(self) -> int:
        """Of the attempt that starts next."""
        return len(self._attempts)

    def attempt_at(self, envelope: Envelope) -> "_Attempt | None":
        """The attempt at what was delivered."""
        return next((each for each in self._attempts if each.envelope is envelope), None)

    def is_watched(self, code: CodeType, job: RegisteredJob) -> bool:
        """Whether lines of this code are points."""
        own = getattr(written_function(job.function), "__code__", None)
        return code is own or (
            bool(self._files) and os.path.realpath(code.co_filename) in self._files
        )

    def _watched(self, call: FoundCall, _: Item) -> FoundCall:
        watch = _watched_async if call.job.is_async else _watched_plain
        return FoundCall(call.job, watch(self, call), call.args, call.kwargs)

    def lose(self, envelope: Envelope) -> None:
        """End a lease: the item is there again, for anybody."""
        released = self._queue._release_batch([Release(envelope, is_counted=True)])
        result_of(released)


class _Attempt:
    """One attempt at a job."""

    def __init__(
        self, run: SimulatedRun, number: int, job: RegisteredJob, name: str, *, has_points: bool
    ) -> None:
        self._run = run
        self._number = number
        self._job = job
        self._before = run.running
        self._count = self._pushes = 0
        self.name = name
        self.has_points = has_points
        self.passed = Passed(job.is_async)
        self.notes: list[str] = []
        self.envelope = current_attempt()._envelope
        self._has_crashed = False
        run.running = self

    def is_watched(self, code: CodeType) -> bool:
        return self._run.is_watched(code, self._job)

    def on_point(self, kind: Point, frame: FrameType | None) -> Awaitable[None] | None:
        """Before a line, or at a wait."""
        place = self._count
        self._count += 1
        if self._run.is_noting:
            self.passed.points.append(kind)
            return None
        where = _place_of(kind, frame)
        if self._run.take("crash", self._number, place):
            self._crash(f"its process ended {where}")
        is_async = self.passed.is_async
        if is_async == (kind == "await") and self._run.take("lost lease", self._number, place):
            self.notes.append(f"stood still {where}, so long that it lost its lease, and went on")
            self._run.lose(self.envelope)
            if kind == "await":
                return self._run.run_others_async()
            self._run.run_others()
            self._run.running = self
        if kind == "await" and self._run.take("stop", self._number, place):
            self.notes.append(f"its worker was stopped {where}")
            stopper = self.envelope.stopper
            assert isinstance(stopper, Control)
            stopper.stop("cancelled")
        return None

    def note_return(self) -> None:
        """The job has returned."""
        if self._run.take("crash", self._number, self._count, or_later=True):
            self._crash("its process ended after it had returned, before that was settled")

    def note_end(self) -> None:
        """The job has ended, in whatever way."""
        self._run.running = self._before

    def note_outcome(self, outcome: Outcome) -> None:
        """Its item was settled, or not."""
        if not self._has_crashed:
            why = "" if outcome.error is None else f" ({describe(outcome.error)})"
            self.notes.append(outcome.status + why)

    def choose_for_push(self) -> FaultName | None:
        """What happens to the next call that the job defers."""
        place = self._pushes
        self._pushes += 1
        if self._run.is_noting:
            self.passed.pushes += 1
        for fault in ("refused push", "lost push answer"):
            if self._run.take(fault, self._number, place):
                self.notes.append(f"{fault} of its call {place + 1}")
                return fault
        return None

    def choose_for_settlement(self) -> FaultName | None:
        """What happens to its settlement."""
        for fault in ("refused settlement", "lost answer"):
            if self._run.take(fault, self._number):
                self.notes.append(f"ended; {fault}")
                return fault
        return None

    def _crash(self, note: str) -> None:
        self.notes.append(note)
        self._has_crashed = True
        self._run.lose(self.envelope)
        raise Crash


def _watched_plain(run: SimulatedRun, call: FoundCall) -> Callable[..., Any]:
    def watched(*args: Any, **kwargs: Any) -> Any:
        attempt = run.begin(call.job, call.args, call.kwargs)
        try:
            doing = partial(call.function, *args, **kwargs)
            if attempt.has_points:
                returned = run_plain(doing, attempt.is_watched, attempt.on_point)
            else:
                returned = doing()
            attempt.note_return()
            return returned
        finally:
            attempt.note_end()

    return watched


def _watched_async(run: SimulatedRun, call: FoundCall) -> Callable[..., Any]:
    async def watched(*args: Any, **kwargs: Any) -> Any:
        attempt = run.begin(call.job, call.args, call.kwargs)
        try:
            doing = call.function(*args, **kwargs)
            if attempt.has_points:
                doing = run_async(doing, attempt.is_watched, attempt.on_point)
            returned = await doing
            attempt.note_return()
            return returned
        finally:
            attempt.note_end()

    return watched


class _WatchedQueue(FaultyQueue):
    """The queue of an instance in memory, with the faults of the run."""

    def __init__(self, queue: Queue, run: SimulatedRun) -> None:
        super().__init__(queue)
        self._run = run

    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        while True:
            popped = await super()._pop_batch(count)
            number = self._run.next_number()
            if not popped or not self._run.take("late delivery", number):
                break
            late = [Release(envelope, _LATE_SECONDS) for envelope, _ in popped]
            await self._queue._release_batch(late)
        if popped and self._run.take("second delivery", number):
            for _, item in popped:
                await self._queue._push_batch([Push(item, dump(item), 0)])
        return popped

    async def _push_batch(self, pushes: Sequence[Push]) -> Sequence[Exception | None]:
        outcomes: list[Exception | None] = []
        for push in pushes:
            attempt = self._run.running
            fault = None if attempt is None else attempt.choose_for_push()
            answer: Exception | None = BackendUnavailable(_UNAVAILABLE)
            if fault != "refused push":
                (pushed,) = await super()._push_batch([push])
                answer = pushed if fault is None else answer
            outcomes.append(answer)
        return outcomes

    async def _complete_batch(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        complete = super()._complete_batch  # outside of a comprehension, where Python 3.11 has none
        return [await self._settle(each, complete, [each]) for each in envelopes]

    async def _release_batch(self, releases: Sequence[Release]) -> Sequence[Exception | None]:
        release = super()._release_batch
        return [await self._settle(each.envelope, release, [each]) for each in releases]

    async def _replace(self, envelope: Envelope, push: Push, to: Queue) -> None:
        async def replace(entries: Sequence[Push]) -> Sequence[Exception | None]:
            await super(_WatchedQueue, self)._replace(envelope, push, to)
            return [None]

        error = await self._settle(envelope, replace, [push])
        if error is not None:
            raise error

    async def _settle(
        self,
        envelope: Envelope,
        settle: Callable[[Sequence[Any]], Awaitable[Sequence[Exception | None]]],
        entries: Sequence[Any],
    ) -> Exception | None:
        attempt = self._run.attempt_at(envelope)
        fault = None if attempt is None else attempt.choose_for_settlement()
        if fault == "refused settlement":
            self._run.lose(envelope)
            return BackendUnavailable(_UNAVAILABLE)
        (answer,) = await settle(entries)
        return BackendUnavailable(_UNAVAILABLE) if fault == "lost answer" else answer


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


def _shown(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    arguments = [*map(short_repr, args), *(f"{key}={short_repr(kwargs[key])}" for key in kwargs)]
    return f"{name.rpartition(':')[2]}({', '.join(arguments)})"


def _place_of(kind: Point, frame: FrameType | None) -> str:
    when = "before" if kind == "line" else "in"
    if frame is None:
        return f"{when} a line"
    path, line = frame.f_code.co_filename, frame.f_lineno
    source = linecache.getline(path, line).strip()
    return f"{when} line {line} of {os.path.basename(path)} `{source}`"
