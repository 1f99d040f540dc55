"""The attempts of one run of a simulation, and the faults that meet them.

Owns which fault strikes where, what it does to the attempt, and what happened to each attempt.

The one rule: a fault only does what a crashed process, a late consumer or a broker could do. An
item that was accepted is never lost, and a job that returned may be run again.
"""

import linecache
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from types import CodeType, FrameType
from typing import Any, Protocol

from deferrable._codec.json_values import written_function
from deferrable._codec.refusals import describe
from deferrable._codec.serializers import short_repr
from deferrable.aio._engine.registry import FoundCall, RegisteredJob
from deferrable.aio._engine.running import Control
from deferrable.aio.current import current_attempt
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Queue, Release
from deferrable.item import Item
from deferrable.outcome import Outcome
from deferrable.testing.deferrals import result_of
from deferrable.testing.simulation._stepping import Crash, run_async, run_plain
from deferrable.testing.simulation._strikes import FaultName, Passed, Point, Strike

__all__ = ["Attempt", "Attempts", "Run"]


class Run(Protocol):
    """What runs the other calls while a job stands still."""

    def run_others(self) -> None:
        """Run what is due. A plain job calls this in its thread."""

    async def run_others_async(self) -> None:
        """Run what is due, on the loop of an async job."""


class Attempts:
    """All attempts of a run, in the order of their starts.

    Args:
        run: runs other calls.
        queue: in memory, without faults.
        strikes: the faults. None of them: what the attempts pass through is noted.
        files: whose lines are points, and not only the lines of the jobs.

    Attributes:
        running: the attempt whose job runs now, and does not stand still.
        struck: the faults that met an attempt.
    """

    def __init__(self, run: Run, queue: Queue, strikes: Sequence[Strike], files: set[str]) -> None:
        self.run = run
        self._queue = queue
        self._open = list(strikes)
        self._files = files
        self._all: list[Attempt] = []
        self.is_noting = not strikes
        self.running: Attempt | None = None
        self.struck: list[FaultName] = []

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, number: int) -> "Attempt":
        return self._all[number]

    def __iter__(self) -> Iterator["Attempt"]:
        return iter(self._all)

    def history(self) -> list[str]:
        """What happened, an attempt a sentence."""
        return [f"{each.name}: {'; '.join(each.notes)}" for each in self._all]

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

    def begin(self, job: RegisteredJob, args: tuple[Any, ...], kwargs: Any) -> "Attempt":
        """An attempt at a job starts."""
        number = len(self._all)
        has_points = self.is_noting or any(
            each.attempt == number and each.fault in ("crash", "lost lease", "stop")
            for each in self._open
        )
        attempt = Attempt(self, number, job, _shown(job.name, args, kwargs), has_points=has_points)
        self._all.append(attempt)
        return attempt

    def attempt_at(self, envelope: Envelope) -> "Attempt | None":
        """The attempt at what was delivered."""
        return next((each for each in self._all if each.envelope is envelope), None)

    def is_watched(self, code: CodeType, job: RegisteredJob) -> bool:
        """Whether lines of this code are points."""
        own = getattr(written_function(job.function), "__code__", None)
        return code is own or (
            bool(self._files) and os.path.realpath(code.co_filename) in self._files
        )

    def watched(self, call: FoundCall, _: Item) -> FoundCall:
        """A call whose attempt is noted, and struck."""
        watch = _watched_async if call.job.is_async else _watched_plain
        return FoundCall(call.job, watch(self, call), call.args, call.kwargs)

    def lose(self, envelope: Envelope) -> None:
        """End a lease: the item is there again, for anybody."""
        released = self._queue._release_batch([Release(envelope, is_counted=True)])
        result_of(released)


class Attempt:
    """One attempt at a job."""

    def __init__(
        self, others: "Attempts", number: int, job: RegisteredJob, name: str, *, has_points: bool
    ) -> None:
        self._others = others
        self._number = number
        self._job = job
        self._before = others.running
        self._count = self._pushes = 0
        self.name = name
        self.has_points = has_points
        self.passed = Passed(job.is_async)
        self.notes: list[str] = []
        self.envelope = current_attempt()._envelope
        self._has_crashed = False
        others.running = self

    def is_watched(self, code: CodeType) -> bool:
        return self._others.is_watched(code, self._job)

    def on_point(self, kind: Point, frame: FrameType | None) -> Awaitable[None] | None:
        """Before a line, or at a wait."""
        place = self._count
        self._count += 1
        if self._others.is_noting:
            self.passed.points.append(kind)
            return None
        where = _place_of(kind, frame)
        if self._others.take("crash", self._number, place):
            self._crash(f"its process ended {where}")
        is_async = self.passed.is_async
        if is_async == (kind == "await") and self._others.take("lost lease", self._number, place):
            self.notes.append(f"stood still {where}, so long that it lost its lease, and went on")
            self._others.lose(self.envelope)
            if kind == "await":
                return self._others.run.run_others_async()
            self._others.run.run_others()
            self._others.running = self
        if kind == "await" and self._others.take("stop", self._number, place):
            self.notes.append(f"its worker was stopped {where}")
            self._control().stop("cancelled")
        return None

    def _control(self) -> Control:
        control = self.envelope.stopper
        assert isinstance(control, Control)
        return control

    def note_return(self) -> None:
        """The job has returned."""
        if self._others.take("crash", self._number, self._count, or_later=True):
            self._crash("its process ended after it had returned, before that was settled")

    def note_end(self) -> None:
        """The job has ended, in whatever way."""
        self._others.running = self._before

    def note_outcome(self, outcome: Outcome) -> None:
        """Its item was settled, or not."""
        if not self._has_crashed:
            why = "" if outcome.error is None else f" ({describe(outcome.error)})"
            self.notes.append(outcome.status + why)

    def choose_for_push(self) -> FaultName | None:
        """What happens to the next call that the job defers."""
        place = self._pushes
        self._pushes += 1
        if self._others.is_noting:
            self.passed.pushes += 1
        for fault in ("refused push", "lost push answer"):
            if self._others.take(fault, self._number, place):
                self.notes.append(f"{fault} of its call {place + 1}")
                return fault
        return None

    def choose_for_settlement(self) -> FaultName | None:
        """What happens to its settlement."""
        for fault in ("refused settlement", "lost answer"):
            if self._others.take(fault, self._number):
                self.notes.append(f"ended; {fault}")
                return fault
        return None

    def _crash(self, note: str) -> None:
        self.notes.append(note)
        self._has_crashed = True
        self._control().note_lost()  # what has ended keeps no result, and settles nothing
        self._others.lose(self.envelope)
        raise Crash


def _watched_plain(attempts: Attempts, call: FoundCall) -> Callable[..., Any]:
    def watched(*args: Any, **kwargs: Any) -> Any:
        attempt = attempts.begin(call.job, call.args, call.kwargs)
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


def _watched_async(attempts: Attempts, call: FoundCall) -> Callable[..., Any]:
    async def watched(*args: Any, **kwargs: Any) -> Any:
        attempt = attempts.begin(call.job, call.args, call.kwargs)
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
