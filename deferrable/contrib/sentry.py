"""Errors and traces for Sentry.

Owns what is an event, the scope of each attempt, and how a trace goes on from a ``later`` to its
job.

The rule: one event for each item that goes to the error queue, however often it was tried. No
argument of a call is sent.

Source: Sentry's conventions for queues.
"""

from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from deferrable import (
    Clock,
    CurrentAttempt,
    Deferral,
    MetadataProducerConsumer,
    Middleware,
    Outcome,
    current_attempt,
)
from deferrable._extras import missing_extra
from deferrable.contrib._ends import failure_of
from deferrable.contrib._instance import Traceable, registered
from deferrable.contrib._last_words import before_forced_end
from deferrable.contrib._pushed import receipts_of
from deferrable.contrib._waited import waited_seconds
from deferrable.item import queue_name

try:
    import sentry_sdk
    from sentry_sdk.integrations.logging import ignore_logger
    from sentry_sdk.scope import use_isolation_scope, use_scope
except ImportError as error:
    raise missing_extra("deferrable.contrib.sentry", "sentry", error) from error

__all__ = ["SentryMiddleware", "instrument"]

_ORIGIN = "auto.queue.deferrable"
_JOBS_LOGGER = "deferrable.jobs"
"""It logs what is an event of ours already."""

_Scopes: TypeAlias = "tuple[sentry_sdk.Scope, sentry_sdk.Scope]"
"""The isolation scope and the current one."""

_trace: ContextVar[dict[str, str]] = ContextVar("deferrable_sentry_trace", default={})  # noqa: B039


class _Pair(MetadataProducerConsumer):
    """Carries Sentry's headers to the job."""

    NAMESPACE = "sentry"

    def produce_metadata(self) -> Any:
        traceparent, baggage = sentry_sdk.get_traceparent(), sentry_sdk.get_baggage()
        headers = {"sentry-trace": traceparent, "baggage": baggage}
        return {name: text for name, text in headers.items() if text} or None

    def consume_metadata(self, metadata: Any) -> None:
        # It was written by another process: only texts are read.
        headers = metadata if isinstance(metadata, dict) else {}
        known = {name: headers.get(name) for name in ("sentry-trace", "baggage")}
        _trace.set({name: text for name, text in known.items() if isinstance(text, str)})


class SentryMiddleware(Middleware):
    """Reports what one instance does; made by `instrument`."""

    def __init__(self, destination: str, clock: Clock, *, sends_retries: bool) -> None:
        self._destination = destination
        self._clock = clock
        self._sends_retries = sends_retries
        self._scopes: WeakKeyDictionary[CurrentAttempt, _Scopes] = WeakKeyDictionary()

    def around_later(self, deferral: Deferral) -> AbstractContextManager[object] | None:
        if sentry_sdk.get_current_span() is None:
            return None  # A span outside of a transaction is never sent.
        return _Publishing(deferral, self._destination)

    def around_job(self, attempt: CurrentAttempt) -> AbstractContextManager[object]:
        return _Running(self, attempt)

    def after_attempt(self, outcome: Outcome) -> None:
        attempt = current_attempt()
        scopes = self._scopes.pop(attempt, None)
        is_wanted = outcome.status == "errored" or (
            outcome.status == "retried"
            and self._sends_retries
            and failure_of(attempt, outcome.error) is not None
        )
        if not is_wanted or outcome.error is None:
            return
        if scopes is None:  # its job did not run
            with sentry_sdk.isolation_scope() as scope:
                self.describe(scope, attempt)
                sentry_sdk.capture_exception(outcome.error)
        else:
            isolation, current = scopes
            with use_isolation_scope(isolation), use_scope(current):
                sentry_sdk.capture_exception(outcome.error)

    def describe(self, scope: "sentry_sdk.Scope", attempt: CurrentAttempt) -> None:
        """Say in a scope which attempt it is about."""
        name = attempt.job_name or "(unknown)"
        scope.set_transaction_name(name, source="task")
        scope.set_tag("deferrable.job", name)
        scope.set_tag("deferrable.queue", self._destination)
        scope.set_context("deferrable", {"job": name, "id": attempt.id, "attempt": attempt.number})

    def keep(self, attempt: CurrentAttempt, scope: "sentry_sdk.Scope") -> None:
        """Keep the scope of a failed job, with breadcrumbs and span, until it is settled."""
        # A copy of the current scope, because the end of the span takes it out of the scope.
        self._scopes[attempt] = scope, sentry_sdk.get_current_scope().fork()


class _Publishing:
    def __init__(self, deferral: Deferral, destination: str) -> None:
        self._deferral = deferral
        self._span = sentry_sdk.start_span(
            op="queue.publish", name=deferral.job_name, origin=_ORIGIN
        )
        self._span.set_data("messaging.system", "deferrable")
        self._span.set_data("messaging.destination.name", destination)

    def __enter__(self) -> None:
        self._span.__enter__()

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        receipts = receipts_of(self._deferral, error)
        if len(receipts) == 1 and receipts[0].id is not None:
            self._span.set_data("messaging.message.id", receipts[0].id)
        self._span.__exit__(error_type, error, traceback)


class _Running:
    """The isolation scope and the transaction of one run."""

    def __init__(self, middleware: SentryMiddleware, attempt: CurrentAttempt) -> None:
        self._middleware = middleware
        self._attempt = attempt
        self._stack = ExitStack()

    def __enter__(self) -> None:
        middleware, attempt = self._middleware, self._attempt
        name = attempt.job_name or "(unknown)"
        self._scope = self._stack.enter_context(sentry_sdk.isolation_scope())
        # Breadcrumbs of what ran here before are not this job's.
        self._scope.clear_breadcrumbs()
        middleware.describe(self._scope, attempt)
        # A tick has no request behind it. What a worker would send is one trace for all its ticks.
        headers = {} if "schedule" in attempt.item else _trace.get()
        transaction = sentry_sdk.continue_trace(
            headers, op="queue.process", name=name, source="task", origin=_ORIGIN
        )
        self._span = self._stack.enter_context(sentry_sdk.start_transaction(transaction))
        self._span.set_data("messaging.system", "deferrable")
        self._span.set_data("messaging.destination.name", middleware._destination)
        self._span.set_data("messaging.message.id", attempt.id)
        self._span.set_data("messaging.message.retry.count", attempt.number - 1)
        waited = waited_seconds(attempt.item, middleware._clock.time())
        if waited is not None:
            self._span.set_data("messaging.message.receive.latency", waited * 1000)

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        failure = failure_of(self._attempt, error)
        if error is not None:
            self._middleware.keep(self._attempt, self._scope)
        # The span gets no error: that of a wanted retry is none.
        self._span.set_status("ok" if failure is None else "internal_error")
        self._stack.__exit__(None, None, None)


def instrument(instance: Traceable, *, sends_retries: bool = False) -> SentryMiddleware:
    """Report what an instance of either API defers and runs. Call it on both sides.

    A second call changes nothing. ``sentry_sdk.init`` may be called before or after it.

    Args:
        sends_retries: a failure that is retried is an event, too. Never one by ``raise Retry``.
    """
    known = registered(instance, SentryMiddleware)
    if known is not None:
        return known
    ignore_logger(_JOBS_LOGGER)
    middleware = SentryMiddleware(
        queue_name(instance.backend.group), instance.clock, sends_retries=sends_retries
    )
    instance.register_metadata_producer_consumer(_Pair())
    instance.register_middleware(middleware)
    before_forced_end("sentry", lambda seconds: sentry_sdk.flush(seconds))
    return middleware
