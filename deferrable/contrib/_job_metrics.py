"""The metrics of jobs in the words of Prometheus.

Owns their names, labels and buckets. A scrape makes them from counts. With several processes of one
web server, prometheus-client keeps its own values in files, and these are changed at once.

The rule: both ways have the same names and labels.
"""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from deferrable.contrib._job_counts import JobCounts, Notes

__all__ = ["DURATION_BUCKETS", "LATENCY_BUCKETS", "JobCollector", "SharedJobs"]

DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
LATENCY_BUCKETS = (0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 15, 60, 300, 900, 3600, 21600)

_PUSHED = "deferrable_pushed_total", "Calls that were pushed."
_DEBOUNCED = (
    "deferrable_debounced_total",
    "Calls that were skipped, because an equal one is pending.",
)
_ATTEMPTS = "deferrable_attempts_total", "Attempts that ended, by how they ended."
_LOST = (
    "deferrable_lease_lost_total",
    "Attempts that lost their lease: the item may run twice.",
)
_DURATION = (
    "deferrable_job_duration_seconds",
    "How long jobs ran, without the wait for a thread and without the settlement.",
)
_LATENCY = (
    "deferrable_queue_latency_seconds",
    "From the moment when an item became available to the start of its job.",
)
_RUNNING = "deferrable_running", "Jobs that run now."
_SLOTS = "deferrable_slots", "How many jobs may run at once in this process."


class JobCollector(Collector):
    """Makes the metrics of this process at each scrape."""

    def __init__(self) -> None:
        self._slots = 0
        self.notes = Notes(lambda name: JobCounts(DURATION_BUCKETS, LATENCY_BUCKETS))

    def set_slots(self, count: int) -> None:
        self._slots = count

    def describe(self) -> Iterable[Metric]:
        return _Families().all

    def collect(self) -> Iterator[Metric]:
        families = _Families()
        self.notes.read(families.add)
        families.slots.add_metric([], self._slots)
        yield from families.all


class _Families:
    def __init__(self) -> None:
        job = ["job"]
        self.pushed = CounterMetricFamily(*_PUSHED, labels=job)
        self.debounced = CounterMetricFamily(*_DEBOUNCED, labels=job)
        self.attempts = CounterMetricFamily(*_ATTEMPTS, labels=["job", "status"])
        self.lost = CounterMetricFamily(*_LOST, labels=job)
        self.duration = HistogramMetricFamily(*_DURATION, labels=job)
        self.latency = HistogramMetricFamily(*_LATENCY, labels=job)
        self.running = GaugeMetricFamily(*_RUNNING, labels=job)
        self.slots = GaugeMetricFamily(*_SLOTS, labels=[])

    @property
    def all(self) -> list[Metric]:
        return list(vars(self).values())

    def add(self, jobs: Mapping[str, JobCounts]) -> None:
        for name, counts in jobs.items():
            self.pushed.add_metric([name], counts.pushed)
            self.debounced.add_metric([name], counts.debounced)
            self.lost.add_metric([name], counts.attempts.get("lost", 0))
            self.running.add_metric([name], counts.running)
            for status, count in counts.attempts.items():
                self.attempts.add_metric([name, status], count)
            for family, spread in (
                (self.duration, counts.duration),
                (self.latency, counts.latency),
            ):
                family.add_metric([name], buckets=spread.cumulative(), sum_value=spread.total)


class SharedJobs:
    """The metrics of prometheus-client itself, whose values several processes share."""

    def __init__(self, registry: CollectorRegistry) -> None:
        job = ["job"]
        self.pushed = Counter(*_PUSHED, job, registry=registry)
        self.debounced = Counter(*_DEBOUNCED, job, registry=registry)
        self.attempts = Counter(*_ATTEMPTS, ["job", "status"], registry=registry)
        self.lost = Counter(*_LOST, job, registry=registry)
        self.duration = Histogram(*_DURATION, job, buckets=DURATION_BUCKETS, registry=registry)
        self.latency = Histogram(*_LATENCY, job, buckets=LATENCY_BUCKETS, registry=registry)
        self.running = Gauge(*_RUNNING, job, registry=registry, multiprocess_mode="livesum")
        self._slots = Gauge(*_SLOTS, registry=registry, multiprocess_mode="livesum")
        self.notes = Notes(lambda name: _SharedJob(self, name), is_direct=True)

    def set_slots(self, count: int) -> None:
        self._slots.set(count)


class _SharedJob:
    """The metrics of one job; a lookup of labels costs more than a count."""

    def __init__(self, jobs: SharedJobs, name: str) -> None:
        self._pushed = jobs.pushed.labels(name)
        self._debounced = jobs.debounced.labels(name)
        self._lost = jobs.lost.labels(name)
        self._duration = jobs.duration.labels(name)
        self._latency = jobs.latency.labels(name)
        self._running = jobs.running.labels(name)
        # A killed process leaves its file, which the next one of the same number goes on with.
        self._running.set(0)
        self._attempts = jobs.attempts
        self._name = name

    def push(self, count: int) -> None:
        self._pushed.inc(count)

    def skip(self, count: int) -> None:
        self._debounced.inc(count)

    def start(self, waited_seconds: float | None) -> None:
        self._running.inc()
        if waited_seconds is not None:
            self._latency.observe(waited_seconds)

    def end(self, seconds: float) -> None:
        self._running.dec()
        self._duration.observe(seconds)

    def settle(self, status: str) -> None:
        self._attempts.labels(self._name, status).inc()
        if status == "lost":
            self._lost.inc()
