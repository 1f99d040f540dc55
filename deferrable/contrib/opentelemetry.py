"""Traces and metrics for OpenTelemetry, by its conventions for messaging.

Owns the spans, their attributes, and how the context travels in an item. Needs the API only; the
application chooses the SDK.

The rules: the span of a job is a root that links to the span of its ``later``. A job may run days
later, or many times, so it is a part of that trace only if the application wants it. An error in a
sampler, a span processor or a propagator is logged, and is never one of a job or of a ``later``.

Source: semantic conventions 1.44, messaging (in development).
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from time import perf_counter
from types import TracebackType
from typing import Any

from deferrable import (
    CurrentAttempt,
    Deferral,
    MetadataProducerConsumer,
    Middleware,
    Outcome,
    Receipt,
    current_attempt,
)
from deferrable._codec.refusals import describe
from deferrable._extras import missing_extra
from deferrable._version import __version__
from deferrable.contrib._ends import failure_of, type_name
from deferrable.contrib._instance import Traceable, registered
from deferrable.contrib._last_words import before_forced_end
from deferrable.contrib._pushed import receipts_of
from deferrable.item import queue_name

try:
    from opentelemetry import metrics, propagate, trace
    from opentelemetry.context import Context, attach, detach
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import (
        INVALID_SPAN,
        Link,
        Span,
        SpanKind,
        Status,
        StatusCode,
        TracerProvider,
    )
except ImportError as error:
    raise missing_extra("deferrable.contrib.opentelemetry", "opentelemetry", error) from error

__all__ = ["OpenTelemetryMiddleware", "instrument"]

_logger = logging.getLogger("deferrable.opentelemetry")

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
_NAMESPACE = "opentelemetry"
_NOTHING = Context()
_MOST_KNOWN = 1_000
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

_remote: ContextVar[Context | None] = ContextVar("deferrable_otel_remote", default=None)
_batch: ContextVar["OpenTelemetryMiddleware | None"] = ContextVar(
    "deferrable_otel_batch", default=None
)


class _Pair(MetadataProducerConsumer):
    """Carries the context of the span of a ``later``, and baggage, to the job."""

    NAMESPACE = _NAMESPACE

    def produce_metadata(self) -> Any:
        middleware = _batch.get()
        carrier: dict[str, str] = {}
        try:
            if middleware is None:
                propagate.inject(carrier)
            else:
                middleware.create(carrier)
        except Exception as error:
            _log(error)
            return None
        return carrier or None

    def consume_metadata(self, metadata: Any) -> None:
        # It was written by another process: only texts are read.
        carrier = metadata if isinstance(metadata, dict) else {}
        texts = {
            name: value
            for name, value in carrier.items()
            if isinstance(name, str) and isinstance(value, str)
        }
        _remote.set(_extracted(texts) if texts else None)


def _extracted(texts: Mapping[str, str]) -> Context | None:
    try:
        return propagate.extract(texts, _NOTHING)
    except Exception as error:
        _log(error)
        return None


_logged: set[type[Exception]] = set()


def _log(error: Exception) -> None:
    """Log an error of tracing. A processor that fails may fail for each span."""
    if type(error) not in _logged:
        _logged.add(type(error))
        _logger.error(
            "a span is lost, and jobs go on: %s; fix the sampler, span processor or propagator in "
            "the traceback (logged once for each type of error)",
            describe(error),
            exc_info=error,
        )


class OpenTelemetryMiddleware(Middleware):
    """Makes the spans and metrics of one instance; made by `instrument`."""

    def __init__(
        self,
        destination: str,
        system: str,
        *,
        parent: bool,
        item_spans: bool,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
    ) -> None:
        self._destination = destination
        self._parent = parent
        self._item_spans = item_spans
        self._common = {
            "messaging.system": system,
            "messaging.destination.name": destination,
        }
        self._known: dict[tuple[str, str | None, str | None], Mapping[str, Any]] = {}
        self._tracer = trace.get_tracer(
            "deferrable", __version__, tracer_provider, schema_url=SCHEMA_URL
        )
        meter = metrics.get_meter("deferrable", __version__, meter_provider, SCHEMA_URL)
        self._operations = meter.create_histogram(
            "messaging.client.operation.duration",
            "s",
            "Duration of messaging operations of a client.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self._processing = meter.create_histogram(
            "messaging.process.duration",
            "s",
            "Duration of processing operations.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self._sent = meter.create_counter(
            "messaging.client.sent.messages", "{message}", "Messages that were sent."
        )
        self._consumed = meter.create_counter(
            "messaging.client.consumed.messages", "{message}", "Messages that were delivered."
        )

    def around_later(self, deferral: Deferral) -> AbstractContextManager[object]:
        return _Sending(self, deferral)

    def around_job(self, attempt: CurrentAttempt) -> AbstractContextManager[object]:
        return _Processing(self, attempt)

    def after_attempt(self, outcome: Outcome) -> None:
        self._consumed.add(
            1, self._attributes("process", error_type=outcome_type(outcome, current_attempt()))
        )

    def create(self, carrier: dict[str, str]) -> None:
        """Make the span of one call of a batch, and put its context into `carrier`."""
        span = self._tracer.start_span(
            f"create {self._destination}",
            kind=SpanKind.PRODUCER,
            attributes=self._attributes("create"),
        )
        span.end()
        propagate.inject(carrier, trace.set_span_in_context(span))

    def _attributes(
        self, operation: str, job_name: str | None = None, error_type: str | None = None
    ) -> Mapping[str, Any]:
        """Attributes that many spans and measurements share; nobody changes them."""
        known = self._known.get((operation, job_name, error_type))
        if known is None:
            known = self._make_attributes(operation, job_name, error_type)
            if len(self._known) < _MOST_KNOWN:
                self._known[operation, job_name, error_type] = known
        return known

    def _make_attributes(
        self, operation: str, job_name: str | None, error_type: str | None
    ) -> Mapping[str, Any]:
        attributes = {
            **self._common,
            "messaging.operation.name": operation,
            "messaging.operation.type": operation,
        }
        if job_name is not None:
            attributes["code.function.name"] = job_name.replace(":", ".")
        if error_type is not None:
            attributes["error.type"] = error_type
        return attributes


class _Open:
    """A span that is the current one in a block."""

    __slots__ = ("_middleware", "_span", "_start_time", "_token")

    _span: Span
    _token: Token[Context]

    def __init__(self, middleware: OpenTelemetryMiddleware) -> None:
        self._middleware = middleware

    def _open(self, name: str, base: Context | None, **options: Any) -> None:
        """Start a span, and make it the current one.

        Args:
            base: the context of what runs in the span; None: the current one.
            options: of the span, as for ``Tracer.start_span``.
        """
        try:
            self._span = self._middleware._tracer.start_span(name, **options)
        except Exception as error:
            _log(error)
            self._span = INVALID_SPAN
        self._token = attach(trace.set_span_in_context(self._span, base))
        self._start_time = perf_counter()

    def _close(self, error: BaseException | None, error_type: str | None) -> float:
        """End the span; how many seconds it was open."""
        seconds = perf_counter() - self._start_time
        detach(self._token)
        try:
            if error is not None and error_type is not None and self._span.is_recording():
                self._span.set_attribute("error.type", error_type)
                _record(self._span, error, error_type)
                self._span.set_status(Status(StatusCode.ERROR, error_type))
            self._span.end()
        except Exception as failure:
            _log(failure)
        return seconds


def _record(span: Span, error: BaseException, error_type: str) -> None:
    try:
        span.record_exception(error)
    except KeyboardInterrupt:
        raise
    except BaseException:  # the text of the error is the user's own code
        span.add_event(
            "exception", {"exception.type": error_type, "exception.message": describe(error)}
        )


class _Sending(_Open):
    __slots__ = ("_batch_token", "_deferral")

    def __init__(self, middleware: OpenTelemetryMiddleware, deferral: Deferral) -> None:
        super().__init__(middleware)
        self._deferral = deferral
        self._batch_token: Token[OpenTelemetryMiddleware | None] | None = None

    def __enter__(self) -> None:
        middleware, deferral = self._middleware, self._deferral
        self._open(
            f"send {middleware._destination}",
            None,
            kind=SpanKind.CLIENT if deferral.is_batch else SpanKind.PRODUCER,
            attributes=middleware._attributes("send", deferral.job_name),
        )
        has_items = deferral.is_batch and middleware._item_spans
        self._batch_token = _batch.set(middleware if has_items else None)

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        middleware, span = self._middleware, self._span
        assert self._batch_token is not None
        _batch.reset(self._batch_token)
        receipts = receipts_of(self._deferral, error)
        pushed = 0
        for receipt in receipts:
            pushed += receipt.status in ("pushed", "delayed")
        if span.is_recording():
            span.set_attributes(_receipt_attributes(receipts, is_batch=self._deferral.is_batch))
        failure = None if error is None else type_name(error)
        seconds = self._close(error, failure)
        middleware._operations.record(seconds, middleware._attributes("send", None, failure))
        if pushed:
            middleware._sent.add(pushed, middleware._attributes("send"))


def _receipt_attributes(receipts: Sequence[Receipt], *, is_batch: bool) -> dict[str, Any]:
    if is_batch:
        return {"messaging.batch.message_count": len(receipts)}
    if not receipts:
        return {}
    attributes: dict[str, Any] = {"deferrable.receipt.status": receipts[0].status}
    message_id = receipts[0].id or receipts[0].serves_id
    if message_id is not None:
        attributes["messaging.message.id"] = message_id
    return attributes


class _Processing(_Open):
    __slots__ = ("_attempt",)

    def __init__(self, middleware: OpenTelemetryMiddleware, attempt: CurrentAttempt) -> None:
        super().__init__(middleware)
        self._attempt = attempt

    def __enter__(self) -> None:
        middleware, attempt = self._middleware, self._attempt
        remote, item_id = _remote.get(), attempt.id
        if remote is None and attempt.attributes:  # a message of others has no metadata
            remote = _extracted(attempt.attributes)
        if "schedule" in attempt.item:
            remote = None  # the span that a worker has is that of all its ticks
        sender = trace.get_current_span(remote or _NOTHING).get_span_context()
        attributes = {
            **middleware._attributes("process", attempt.job_name),
            "deferrable.attempt": attempt.number,
        }
        if item_id is not None:
            attributes["messaging.message.id"] = item_id
        is_child = middleware._parent and sender.is_valid
        self._open(
            f"process {middleware._destination}",
            remote or _NOTHING,
            # Not of the span in which the worker happens to have been started.
            context=remote if is_child else _NOTHING,
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=[Link(sender)] if sender.is_valid and not is_child else None,
        )

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        failure = failure_of(self._attempt, error)
        seconds = self._close(error, failure)
        middleware = self._middleware
        middleware._processing.record(
            seconds, middleware._attributes("process", self._attempt.job_name, failure)
        )


def outcome_type(outcome: Outcome, attempt: CurrentAttempt) -> str | None:
    """The ``error.type`` of an attempt that failed, the same as that of its span."""
    if outcome.status in ("expired", "lost"):
        return outcome.status
    return failure_of(attempt, outcome.error)


def _system_of(queue: object) -> str:
    # The conventions have a name for SQS, and none for the others.
    return "aws_sqs" if repr(queue).startswith("<SQS") else "deferrable"


def _flush(provider: object, seconds: float) -> None:
    # The provider of the API alone sends nothing, and has no such method.
    force_flush = getattr(provider, "force_flush", None)
    if force_flush is not None:
        force_flush(int(seconds * 1000))


def instrument(
    instance: Traceable,
    *,
    parent: bool = False,
    item_spans: bool = True,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> OpenTelemetryMiddleware:
    """Trace what an instance of either API defers and runs. Call it on both sides.

    A second call changes nothing.

    Args:
        parent: the span of a job is a child of the span of its ``later``, in one trace. False: it
            begins a new trace, with a link.
        item_spans: each call of ``later_many`` has its own span.
        tracer_provider: None: the global one.
        meter_provider: None: the global one.
    """
    known = registered(instance, OpenTelemetryMiddleware)
    if known is not None:
        return known
    middleware = OpenTelemetryMiddleware(
        queue_name(instance.backend.group),
        _system_of(instance.backend.queue),
        parent=parent,
        item_spans=item_spans,
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
    )
    instance.register_metadata_producer_consumer(_Pair())
    instance.register_middleware(middleware)
    before_forced_end(
        ("spans", tracer_provider),
        lambda seconds: _flush(tracer_provider or trace.get_tracer_provider(), seconds),
    )
    before_forced_end(
        ("metrics", meter_provider),
        lambda seconds: _flush(meter_provider or metrics.get_meter_provider(), seconds),
    )
    return middleware
