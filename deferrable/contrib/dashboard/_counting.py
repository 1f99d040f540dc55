"""What this process itself pushes and runs.

Owns the counters of one instance, and how long its jobs took. They are exact, but only of this
process: a dashboard that is mounted beside a worker counts all that this worker does.
"""

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from deferrable._reading import job_name
from deferrable.aio import Middleware
from deferrable.contrib.dashboard._history import Counts
from deferrable.item import Item
from deferrable.outcome import Outcome

__all__ = ["Counter", "JobCounts", "LastRun", "percentile"]

_MOST_JOBS = 1000
_DURATIONS = 1000
_OTHERS = "other jobs"
_FAILURES = ("errored", "expired")


@dataclass(frozen=True, slots=True)
class LastRun:
    """How the last call of a schedule ended here."""

    status: str
    time: float
    error: str | None


@dataclass(slots=True)
class JobCounts:
    """The ended attempts of one job.

    Attributes:
        statuses: how many ended with each status.
        durations: of the last completed ones, in seconds.
    """

    statuses: dict[str, int] = field(default_factory=dict)
    durations: deque[float] = field(default_factory=lambda: deque(maxlen=_DURATIONS))


class Counter(Middleware):
    """Counts pushes and attempts: an event consumer, and a middleware."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self.counts = Counts()
        self.jobs: dict[str, JobCounts] = {}
        self.last_runs: dict[str, LastRun] = {}

    def on_push(self, item: Item) -> None:
        """Count a call that was deferred here."""
        with self._lock:
            self.counts = replace(self.counts, arrivals=self.counts.arrivals + 1)

    def after_attempt(self, outcome: Outcome) -> None:
        """Count an attempt that ended here."""
        name, status = job_name(outcome.item), outcome.status
        schedule = outcome.item.get("schedule")
        with self._lock:
            counts = self.counts
            if name not in self.jobs and len(self.jobs) >= _MOST_JOBS:
                name = _OTHERS
            job = self.jobs.setdefault(name, JobCounts())
            job.statuses[status] = job.statuses.get(status, 0) + 1
            if status == "completed":
                job.durations.append(outcome.duration_seconds)
                self.counts = replace(counts, completions=counts.completions + 1)
            elif status in _FAILURES:
                self.counts = replace(counts, failures=counts.failures + 1)
            if isinstance(schedule, str) and len(self.last_runs) < _MOST_JOBS:
                error = None if outcome.error is None else type(outcome.error).__name__
                self.last_runs[schedule] = LastRun(status, self._now(), error)


def percentile(durations: Sequence[float], part: float) -> float | None:
    """The duration that this part of them does not exceed; None: there are none."""
    if not durations:
        return None
    ordered = sorted(durations)
    return ordered[max(math.ceil(part * len(ordered)) - 1, 0)]
