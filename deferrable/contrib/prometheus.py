"""Metrics for Prometheus: of what this process defers and runs.

Owns the names, labels and buckets of the metrics, and where they are counted. Queue depths are not
here: many workers would count the same items many times. ``deferrable exporter`` has those.

The rule: labels have few values. A label is the name of a registered job, or a status; never an id,
an error's text or a host.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from weakref import WeakKeyDictionary

from deferrable import (
    Clock,
    CurrentAttempt,
    Deferral,
    Middleware,
    Outcome,
    current_attempt,
)
from deferrable._extras import missing_extra
from deferrable.contrib._instance import HasClock
from deferrable.contrib._pushed import receipts_of
from deferrable.contrib._waited import waited_seconds

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
    from prometheus_client.exposition import choose_encoder
except ImportError as error:
    raise missing_extra("deferrable.contrib.prometheus", "prometheus", error) from error

__all__ = ["PrometheusMiddleware", "instrument", "scrape"]

_MOST_JOBS = 200
_OTHER, _UNKNOWN = "(other)", "(unknown)"
_DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
_LATENCY_BUCKETS = (0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 15, 60, 300, 900, 3600, 21600)


class _Metrics:
    """The metrics of one registry, which can register each name once."""

    def __init__(self, registry: CollectorRegistry) -> None:
        job = ["job"]
        self.pushed = Counter(
            "deferrable_pushed_total", "Calls that were pushed.", job, registry=registry
        )
        self.debounced = Counter(
            "deferrable_debounced_total",
            "Calls that were skipped, because an equal one is pending.",
            job,
            registry=registry,
        )
        self.attempts = Counter(
            "deferrable_attempts_total",
            "Attempts that ended, by how they ended.",
            ["job", "status"],
            registry=registry,
        )
        self.lease_lost = Counter(
            "deferrable_lease_lost_total",
            "Attempts that lost their lease: the item may run twice.",
            job,
            registry=registry,
        )
        self.duration = Histogram(
            "deferrable_job_duration_seconds",
            "How long jobs ran, without the wait for a thread and without the settlement.",
            job,
            buckets=_DURATION_BUCKETS,
            registry=registry,
        )
        self.latency = Histogram(
            "deferrable_queue_latency_seconds",
            "From the moment when an item became available to the start of its job.",
            job,
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self.running = Gauge(
            "deferrable_running",
            "Jobs that run now.",
            job,
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.slots = Gauge(
            "deferrable_slots",
            "How many jobs may run at once in this process.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._jobs: dict[str, _Job] = {}

    def of(self, name: str) -> "_Job":
        """The metrics of a job. Jobs after the first 200 share one label."""
        job = self._jobs.get(name)
        if job is None:
            if len(self._jobs) >= _MOST_JOBS and name not in (_OTHER, _UNKNOWN):
                return self.of(_OTHER)
            job = self._jobs.setdefault(name, _Job(self, name))
        return job


class _Job:
    """The metrics of one job; a lookup of labels costs more than a count."""

    def __init__(self, metrics: _Metrics, name: str) -> None:
        self.pushed = metrics.pushed.labels(name)
        self.debounced = metrics.debounced.labels(name)
        self.lease_lost = metrics.lease_lost.labels(name)
        self.duration = metrics.duration.labels(name)
        self.latency = metrics.latency.labels(name)
        self.running = metrics.running.labels(name)
        self._attempts = metrics.attempts
        self._name = name
        self._by_status: dict[str, Counter] = {}

    def attempts(self, status: str) -> Counter:
        counter = self._by_status.get(status)
        if counter is None:
            counter = self._by_status[status] = self._attempts.labels(self._name, status)
        return counter


_of_registries: WeakKeyDictionary[CollectorRegistry, _Metrics] = WeakKeyDictionary()


class PrometheusMiddleware(Middleware):
    """Counts what one instance does; made by `instrument`.

    Attributes:
        registry: where its metrics are.
    """

    def __init__(self, clock: Clock, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._clock = clock
        metrics = _of_registries.get(registry)
        if metrics is None:
            metrics = _of_registries[registry] = _Metrics(registry)
        self._metrics = metrics

    def set_slots(self, count: int) -> None:
        """Set how many jobs may run at once in this process: the worker's ``concurrency``."""
        self._metrics.slots.set(count)

    def around_later(self, deferral: Deferral) -> AbstractContextManager[object]:
        return _Deferring(self._metrics, deferral)

    def around_job(self, attempt: CurrentAttempt) -> AbstractContextManager[object]:
        job = self._metrics.of(attempt.job_name or _UNKNOWN)
        waited = waited_seconds(attempt.item, self._clock.time())
        if waited is not None:
            job.latency.observe(waited)
        return _Running(job, self._clock)

    def after_attempt(self, outcome: Outcome) -> None:
        # The name that was found, not the one in the item, which may be anything.
        job = self._metrics.of(current_attempt().job_name or _UNKNOWN)
        job.attempts(outcome.status).inc()
        if outcome.status == "lost":
            job.lease_lost.inc()


class _Deferring:
    def __init__(self, metrics: _Metrics, deferral: Deferral) -> None:
        self._metrics = metrics
        self._deferral = deferral

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        receipts = receipts_of(self._deferral, error)
        job = self._metrics.of(self._deferral.job_name)
        pushed = skipped = 0
        for receipt in receipts:
            pushed += receipt.status in ("pushed", "delayed")
            skipped += receipt.status == "skipped"
        if skipped:
            job.debounced.inc(skipped)
        if pushed:
            job.pushed.inc(pushed)


class _Running:
    __slots__ = ("_clock", "_job", "_start_time")

    def __init__(self, job: _Job, clock: Clock) -> None:
        self._job = job
        self._clock = clock
        self._start_time = 0.0

    def __enter__(self) -> None:
        self._job.running.inc()
        self._start_time = self._clock.monotonic()

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._job.duration.observe(self._clock.monotonic() - self._start_time)
        self._job.running.dec()


def instrument(
    instance: HasClock, *, registry: CollectorRegistry = REGISTRY
) -> PrometheusMiddleware:
    """Count what an instance of either API defers and runs.

    A second call for an instance and a registry changes nothing.

    Args:
        registry: where the metrics are; the default is the one that most programs serve.
    """
    for each in instance.middleware:
        if isinstance(each, PrometheusMiddleware) and each.registry is registry:
            return each
    middleware = PrometheusMiddleware(instance.clock, registry)
    instance.register_middleware(middleware)
    return middleware


def scrape(headers: Mapping[str, str], registry: CollectorRegistry = REGISTRY) -> tuple[bytes, str]:
    """The metrics of a registry as text, and its content type.

    Args:
        headers: of the request, by names in lower case.
    """
    encode, content_type = choose_encoder(headers.get("accept", ""))
    return encode(registry), content_type
