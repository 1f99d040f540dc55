"""Metrics for Prometheus: of what this process defers and runs.

Owns what is noted when, and the registry where a scrape finds it. Queue depths are not here: many
workers would count the same items many times. ``deferrable exporter`` has those.

The rule: labels have few values. A label is the name of a registered job, or a status; never an id,
an error's text or a host.
"""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any
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
from deferrable.contrib._instance import HasClock, registered
from deferrable.contrib._job_counts import Counted, Notes
from deferrable.contrib._pushed import receipts_of
from deferrable.contrib._waited import waited_seconds

try:
    from prometheus_client import REGISTRY, CollectorRegistry
    from prometheus_client.exposition import choose_encoder

    from deferrable.contrib._job_metrics import JobCollector, SharedJobs
except ImportError as error:
    raise missing_extra("deferrable.contrib.prometheus", "prometheus", error) from error

__all__ = ["PrometheusMiddleware", "instrument", "scrape"]

_SHARES_VALUES = bool({"prometheus_multiproc_dir", "PROMETHEUS_MULTIPROC_DIR"} & os.environ.keys())
"""Whether prometheus-client keeps values in files, for several processes. It decides that when it
is imported, too."""

_of_registries: WeakKeyDictionary[CollectorRegistry, JobCollector | SharedJobs] = (
    WeakKeyDictionary()
)


def _jobs_of(registry: CollectorRegistry) -> JobCollector | SharedJobs:
    """The metrics of a registry, which can register each name once."""
    jobs = _of_registries.get(registry)
    if jobs is None:
        if _SHARES_VALUES:
            jobs = SharedJobs(registry)
        else:
            jobs = JobCollector()
            registry.register(jobs)
        _of_registries[registry] = jobs
    return jobs


class PrometheusMiddleware(Middleware):
    """Counts what one instance does; made by `instrument`.

    Attributes:
        registry: where its metrics are.
    """

    def __init__(self, clock: Clock, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._clock = clock
        self._jobs = _jobs_of(registry)
        self._notes: Notes[Any] = self._jobs.notes

    def set_slots(self, count: int) -> None:
        """Set how many jobs may run at once in this process: the worker's ``concurrency``."""
        self._jobs.set_slots(count)

    def around_later(self, deferral: Deferral) -> AbstractContextManager[object]:
        return _Deferring(self._notes, deferral)

    def around_job(self, attempt: CurrentAttempt) -> AbstractContextManager[object]:
        waited = waited_seconds(attempt.item, self._clock.time())
        return _Running(self._notes, self._notes.of(attempt.job_name), waited, self._clock)

    def after_attempt(self, outcome: Outcome) -> None:
        # The name that was found, not the one in the item, which may be anything.
        notes = self._notes
        notes.add(notes.of(current_attempt().job_name).settle, outcome.status)


class _Deferring:
    __slots__ = ("_deferral", "_notes")

    def __init__(self, notes: Notes[Counted], deferral: Deferral) -> None:
        self._notes = notes
        self._deferral = deferral

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pushed = skipped = 0
        for receipt in receipts_of(self._deferral, error):
            pushed += receipt.status in ("pushed", "delayed")
            skipped += receipt.status == "skipped"
        notes = self._notes
        job = notes.of(self._deferral.job_name)
        if skipped:
            notes.add(job.skip, skipped)
        if pushed:
            notes.add(job.push, pushed)


class _Running:
    __slots__ = ("_clock", "_job", "_notes", "_start_time", "_waited_seconds")

    def __init__(
        self, notes: Notes[Counted], job: Counted, waited_seconds: float | None, clock: Clock
    ) -> None:
        self._notes = notes
        self._job = job
        self._waited_seconds = waited_seconds
        self._clock = clock

    def __enter__(self) -> None:
        self._notes.add(self._job.start, self._waited_seconds)
        self._start_time = self._clock.monotonic()

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._notes.add(self._job.end, self._clock.monotonic() - self._start_time)


def instrument(
    instance: HasClock, *, registry: CollectorRegistry = REGISTRY
) -> PrometheusMiddleware:
    """Count what an instance of either API defers and runs.

    A second call for an instance and a registry changes nothing.

    Args:
        registry: where the metrics are; the default is the one that most programs serve.
    """
    known = registered(instance, PrometheusMiddleware, lambda each: each.registry is registry)
    if known is not None:
        return known
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
