"""What this process has deferred and run, counted for a scrape.

Owns the counts of each job, and how they are taken. A job only notes what happened, in a list that
any thread may append to. The reader of the counts adds the notes up, so nothing waits for a lock
while jobs run.

The rule: each note is added once. Only the holder of the lock takes notes out of the list.
"""

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from deferrable._fork import on_fork

__all__ = ["Counted", "JobCounts", "Notes", "Spread"]

_MOST_JOBS = 200
_MOST_NOTES = 5_000
_OTHER, _UNKNOWN = "(other)", "(unknown)"


class Spread:
    """How often values were how large.

    Args:
        bounds: the upper ends of the buckets, in order.

    Attributes:
        counts: how many values are in each bucket; the last one has no end.
        total: their sum.
    """

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """The buckets of Prometheus: the upper end, and how many values are not above it."""
        buckets, count = [], 0
        ends = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for end, each in zip(ends, self.counts, strict=True):
            count += each
            buckets.append((end, float(count)))
        return buckets


class Counted(Protocol):
    """What is noted of one job. Each method takes one value, also those that need none."""

    def push(self, count: int) -> None:
        """Calls were pushed."""

    def skip(self, count: int) -> None:
        """Calls were skipped, because an equal one is pending."""

    def start(self, waited_seconds: float | None) -> None:
        """Its function starts, so long after the item became available; None: unknown."""

    def end(self, seconds: float) -> None:
        """Its function has ended, after so long."""

    def settle(self, status: str) -> None:
        """An attempt has ended."""


class JobCounts:
    """The counts of one job."""

    __slots__ = ("attempts", "debounced", "duration", "latency", "pushed", "running")

    def __init__(self, duration_bounds: Sequence[float], latency_bounds: Sequence[float]) -> None:
        self.pushed = self.debounced = self.running = 0
        self.attempts: dict[str, int] = {}
        self.duration = Spread(duration_bounds)
        self.latency = Spread(latency_bounds)

    def push(self, count: int) -> None:
        self.pushed += count

    def skip(self, count: int) -> None:
        self.debounced += count

    def start(self, waited_seconds: float | None) -> None:
        self.running += 1
        if waited_seconds is not None:
            self.latency.add(waited_seconds)

    def end(self, seconds: float) -> None:
        self.running -= 1
        self.duration.add(seconds)

    def settle(self, status: str) -> None:
        self.attempts[status] = self.attempts.get(status, 0) + 1


J = TypeVar("J", bound=Counted)


class Notes(Generic[J]):
    """What happened to all jobs, and the counts of each.

    Args:
        make: makes the empty counts of a job with this name.
        is_direct: add each note at once, for counts that other processes read at any time.
    """

    def __init__(self, make: Callable[[str], J], *, is_direct: bool = False) -> None:
        self._make = make
        self._is_direct = is_direct
        self._begin()
        on_fork(self._begin)

    def _begin(self) -> None:
        # A forked child counts what it does itself, and a thread of its parent may hold the lock.
        self._lock = threading.Lock()
        self._jobs: dict[str, J] = {}
        self._pending: deque[tuple[Callable[[Any], None], Any]] = deque()

    def of(self, name: str | None) -> J:
        """The counts of a job; None: it was not found. Jobs after the first 200 share theirs."""
        name = name or _UNKNOWN
        job = self._jobs.get(name)
        if job is None:
            if len(self._jobs) >= _MOST_JOBS and name not in (_OTHER, _UNKNOWN):
                return self.of(_OTHER)
            with self._lock:  # of two that are made at once, one would undo what the other counts
                job = self._jobs.get(name)
                if job is None:
                    job = self._jobs[name] = self._make(name)
        return job

    def add(self, count: Callable[[Any], None], value: object) -> None:
        """Call `count`, a method of some counts, with `value`: at the next reading at the latest.

        Any thread may call it; it does not wait for others.
        """
        if self._is_direct:
            count(value)
            return
        pending = self._pending
        pending.append((count, value))
        if len(pending) >= _MOST_NOTES and self._lock.acquire(blocking=False):
            try:
                self._add_up()
            finally:
                self._lock.release()

    def read(self, view: Callable[[Mapping[str, J]], None]) -> None:
        """Call `view` with the counts of all jobs, by their names; nothing changes meanwhile."""
        with self._lock:
            self._add_up()
            view(dict(self._jobs))

    def _add_up(self) -> None:
        # As many as there are now: others may add without an end.
        for _ in range(len(self._pending)):
            count, value = self._pending.popleft()
            count(value)
