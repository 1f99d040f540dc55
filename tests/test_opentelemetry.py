"""Spans and metrics of OpenTelemetry, read from its in-memory exporters."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from faces import Face, How, Kind, MakeFace, as_kind, run
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from processes import run_program

from deferrable import Retry
from deferrable._extras import install_command
from deferrable.aio import Deferrable, InMemoryDebounceStore
from deferrable.aio.backend import InMemoryBackendFactory
from deferrable.contrib.opentelemetry import SCHEMA_URL, instrument
from deferrable.errors import BackendError
from deferrable.testing import wait_until

pytestmark = pytest.mark.anyio


class HasNoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Broken(SpanProcessor):
    """One that fails at the start, or at the end, of spans."""

    def __init__(self, at: str) -> None:
        self._at = at

    def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:
        if self._at == "start":
            raise KeyError("tenant")

    def on_end(self, span: ReadableSpan) -> None:
        if self._at == "end":
            raise KeyError("tenant")


class BrokenPropagator(TraceContextTextMapPropagator):
    def inject(self, *args: Any, **options: Any) -> None:
        raise KeyError("tenant")

    def extract(self, *args: Any, **options: Any) -> context.Context:
        raise KeyError("tenant")


class Telemetry:
    """The spans and metrics of one instance."""

    def __init__(self, face: Face, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.middleware = instrument(
            face.instance,
            tracer_provider=self.provider,
            meter_provider=MeterProvider([self._reader]),
            **options,
        )
        self.tracer = self.provider.get_tracer("test")

    def spans(self, operation: str) -> list[ReadableSpan]:
        finished = self._exporter.get_finished_spans()
        return [each for each in finished if each.name.startswith(f"{operation} ")]

    def span(self, operation: str) -> ReadableSpan:
        (span,) = self.spans(operation)
        return span

    def points(self, name: str) -> list[Any]:
        data: Any = self._reader.get_metrics_data()
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def ids(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def links_of(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(each.context.trace_id, each.context.span_id) for each in span.links]


def fail() -> None:
    raise ValueError("no")


def retry() -> None:
    raise Retry(after_seconds=5)


async def test_the_span_of_a_job_links_to_the_span_of_its_later(
    face: Face, kind: Kind, how: How
) -> None:
    seen = []
    telemetry = Telemetry(face)
    job = face.job(as_kind(kind, lambda: seen.append(trace.get_current_span())), name="app:work")
    with telemetry.tracer.start_as_current_span("request"):
        receipt = await face.later(job)
    await run(face, how)

    send, process = telemetry.span("send"), telemetry.span("process")
    assert (send.name, process.name) == ("send deferrable", "process deferrable")
    assert (send.kind, process.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert send.parent is not None
    assert process.parent is None
    assert links_of(process) == [ids(send)]
    assert ids(process)[0] != ids(send)[0]
    # The job is inside of its span, in its own thread too.
    assert [each.get_span_context().span_id for each in seen] == [ids(process)[1]]
    assert attributes_of(send) == {
        "messaging.system": "deferrable",
        "messaging.destination.name": "deferrable",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "code.function.name": "app.work",
        "messaging.message.id": receipt.id,
        "deferrable.receipt.status": "pushed",
    }
    assert attributes_of(process) == {
        "messaging.system": "deferrable",
        "messaging.destination.name": "deferrable",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "code.function.name": "app.work",
        "messaging.message.id": receipt.id,
        "deferrable.attempt": 1,
    }
    scope = process.instrumentation_scope
    assert scope is not None
    assert scope.schema_url == SCHEMA_URL


async def test_as_a_child_it_is_in_the_trace_of_its_later(face: Face, kind: Kind, how: How) -> None:
    telemetry = Telemetry(face, parent=True)
    await face.later(face.job(as_kind(kind, lambda: 1), name="work"))
    await run(face, how)

    send, process = telemetry.span("send"), telemetry.span("process")
    assert process.parent is not None
    assert (process.parent.trace_id, process.parent.span_id) == ids(send)
    assert links_of(process) == []


async def test_a_tick_is_in_no_trace_of_the_worker_that_pushed_it() -> None:
    shop = Deferrable(InMemoryBackendFactory().create_backend_for_group("shop"))
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrument(shop, parent=True, tracer_provider=provider)
    shop.periodic(every_seconds=1, name="tick")(as_kind("async", fail))
    with provider.get_tracer("app").start_as_current_span("serve"):
        async with shop.worker() as worker:
            async for _ in worker:
                worker.stop()

    (process,) = [each for each in exporter.get_finished_spans() if each.name.startswith("process")]
    assert process.parent is None
    assert links_of(process) == []


async def test_baggage_reaches_the_job_and_what_it_defers(face: Face, kind: Kind, how: How) -> None:
    Telemetry(face)
    seen = []
    job = face.job(as_kind(kind, lambda: seen.append(baggage.get_baggage("tenant"))), name="work")
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    try:
        await face.later(job)
    finally:
        context.detach(token)
    await run(face, how)

    assert seen == ["acme"]


async def test_a_call_that_a_job_defers_is_a_part_of_the_span_of_the_job(face: Face) -> None:
    telemetry = Telemetry(face)
    inner = face.job(lambda: 1, name="inner")

    def outer() -> None:
        inner.later()

    await face.later(face.job(outer))
    if not face.is_blocking:
        async with face.instance.worker() as worker:
            for _ in range(2):  # the inner one may end first
                await anext(worker)
    else:
        await face.run()

    _, second = telemetry.spans("send")
    assert second.parent is not None
    parent = second.parent.trace_id, second.parent.span_id
    assert parent in [ids(each) for each in telemetry.spans("process")]


async def test_a_batch_has_one_span_and_each_call_its_own(face: Face, kind: Kind) -> None:
    telemetry = Telemetry(face)
    await face.later_many(face.job(as_kind(kind, lambda: 1), name="work"), [()] * 3)
    for _ in range(3):
        await face.run()

    send, created = telemetry.span("send"), telemetry.spans("create")
    assert send.kind == SpanKind.CLIENT
    assert attributes_of(send)["messaging.batch.message_count"] == 3
    assert {each.parent.span_id for each in created if each.parent} == {ids(send)[1]}
    linked = [links_of(each) for each in telemetry.spans("process")]
    assert sorted(linked) == sorted([ids(each)] for each in created)


async def test_the_spans_of_a_batch_s_calls_can_be_switched_off(face: Face) -> None:
    telemetry = Telemetry(face, item_spans=False)
    await face.later_many(face.job(lambda: 1, name="work"), [()] * 2)
    await face.run()

    assert telemetry.spans("create") == []
    assert links_of(telemetry.span("process")) == [ids(telemetry.span("send"))]


@pytest.mark.parametrize(
    ("work", "options", "error_type"),
    [
        (fail, {}, "ValueError"),
        (fail, {"error_classes": [ValueError]}, "ValueError"),
        (retry, {}, None),
    ],
)
async def test_a_failure_is_an_error_and_a_wanted_retry_is_none(
    face: Face, kind: Kind, how: How, work: Callable[[], None], options: Any, error_type: str | None
) -> None:
    telemetry = Telemetry(face)
    await face.later(face.job(as_kind(kind, work), name="work", **options))
    await run(face, how)

    process = telemetry.span("process")
    assert attributes_of(process).get("error.type") == error_type
    is_error = process.status.status_code == StatusCode.ERROR
    assert is_error == (error_type is not None)
    assert [each.name for each in process.events] == (["exception"] if error_type else [])


async def test_each_attempt_has_its_span_with_the_same_link(face: Face, kind: Kind) -> None:
    telemetry = Telemetry(face)
    await face.later(face.job(as_kind(kind, retry), name="work"))
    for _ in range(3):
        await face.run()
        face.clock.advance(10)

    spans = telemetry.spans("process")
    assert [attributes_of(each)["deferrable.attempt"] for each in spans] == [1, 2, 3]
    assert {tuple(links_of(each)) for each in spans} == {(ids(telemetry.span("send")),)}


async def test_the_metadata_of_an_item_does_not_grow_with_its_retries(face: Face) -> None:
    Telemetry(face)
    await face.later(face.job(retry, name="work"))
    sizes = []
    for _ in range(3):
        envelope, item = await face.broker.queue.pop()
        assert envelope is not None
        assert item is not None
        sizes.append(len(str(item["encoded_metadata"])))
        await face.broker.queue.release(envelope)
        await face.run()
        face.clock.advance(10)

    assert len(set(sizes)) == 1


async def test_a_skipped_call_says_whose_pending_call_runs(make_face: MakeFace) -> None:
    face = make_face(debounce_store=InMemoryDebounceStore())
    telemetry = Telemetry(face)
    job = face.job(fail, name="work", debounce_seconds=60)
    for _ in range(3):
        await face.later(job)

    statuses = [
        attributes_of(each)["deferrable.receipt.status"] for each in telemetry.spans("send")
    ]
    assert statuses == ["pushed", "delayed", "skipped"]


async def test_a_push_that_fails_is_an_error(face: Face) -> None:
    telemetry = Telemetry(face)
    face.faults.fail_before("push")
    with pytest.raises(BackendError):
        await face.later(face.job(fail, name="work"))

    send = telemetry.span("send")
    assert send.status.status_code == StatusCode.ERROR
    assert attributes_of(send)["error.type"] == "deferrable.errors.BackendError"
    assert telemetry.points("messaging.client.sent.messages") == []


async def test_a_time_limit_is_a_time_out_and_a_stop_is_no_error() -> None:
    face = Face("awaiting")
    telemetry = Telemetry(face)
    started = []

    async def hang() -> None:
        started.append(1)
        await asyncio.Event().wait()

    await face.later(face.job(hang, timeout_seconds=5))
    running = asyncio.create_task(face.run())
    await wait_until(lambda: len(started) == 1, "it runs")
    face.clock.advance(6)
    await running
    await face.later(face.job(hang, name="again"))
    running = asyncio.create_task(face.run())
    await wait_until(lambda: len(started) == 2, "it runs again")
    running.cancel()
    await asyncio.wait([running])

    found = [attributes_of(each).get("error.type") for each in telemetry.spans("process")]
    assert found == ["TimeoutError", None]


@pytest.mark.parametrize(
    "metadata", [7, [], {"traceparent": 5}, {"traceparent": "00-zz"}, {1: "a"}]
)
async def test_metadata_that_others_wrote_never_fails_a_job(
    face: Face, how: How, metadata: Any
) -> None:
    telemetry = Telemetry(face)
    await face.later(face.job(as_kind("plain", lambda: 1), name="work"))
    item = await face.take()
    assert item is not None
    encoded = face.instance.serializer.dump_value(metadata)
    await face.broker.queue.push({**item, "encoded_metadata": {"opentelemetry": encoded}})
    outcome = await run(face, how)

    assert outcome.status == "completed"
    assert links_of(telemetry.span("process")) == []


async def test_an_item_of_a_producer_without_tracing_is_a_root(face: Face, how: How) -> None:
    job = face.job(as_kind("plain", lambda: 1), name="work")
    await face.later(job)
    telemetry = Telemetry(face)
    await run(face, how)

    assert (telemetry.span("process").parent, links_of(telemetry.span("process"))) == (None, [])


async def test_a_worker_that_is_started_inside_a_span_makes_no_jobs_its_children(
    face: Face, kind: Kind, how: How
) -> None:
    telemetry = Telemetry(face)
    await face.later(face.job(as_kind(kind, lambda: 1), name="work"))
    with telemetry.tracer.start_as_current_span("startup"):
        await run(face, how)

    assert telemetry.span("process").parent is None


async def test_nothing_stays_current_after_it(
    face: Face, kind: Kind, how: How, caplog: pytest.LogCaptureFixture
) -> None:
    Telemetry(face)
    for work in (fail, retry):
        await face.later(face.job(as_kind(kind, work), name=work.__name__))
        await run(face, how)

    assert not trace.get_current_span().get_span_context().is_valid
    assert "Failed to detach context" not in caplog.text


async def test_an_error_whose_text_raises_is_recorded_and_retried(
    face: Face, kind: Kind, how: How
) -> None:
    def work() -> None:
        raise HasNoText

    telemetry = Telemetry(face)
    job = face.job(as_kind(kind, work), name="work", error_classes=[HasNoText], max_attempts=2)
    await face.later(job)

    outcome = await run(face, how)

    assert (outcome.status, type(outcome.error)) == ("retried", HasNoText)
    (event,) = telemetry.span("process").events
    assert str((event.attributes or {})["exception.message"]).startswith("HasNoText: <HasNoText")


@pytest.mark.parametrize("at", ["start", "end"])
async def test_a_span_processor_that_fails_fails_no_job_and_no_later(
    face: Face, kind: Kind, how: How, at: str, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry = Telemetry(face)
    telemetry.provider.add_span_processor(Broken(at))
    await face.later(face.job(as_kind(kind, lambda: 1), name="work"))

    outcome = await run(face, how)

    assert (outcome.status, outcome.result) == ("completed", 1)
    assert not trace.get_current_span().get_span_context().is_valid
    (sent,) = telemetry.points("messaging.client.sent.messages")
    assert sent.value == 1


async def test_a_propagator_that_fails_fails_no_job_and_no_later(
    face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    telemetry = Telemetry(face)
    job = face.job(lambda: 1, name="work")
    await face.later(job)
    monkeypatch.setattr(propagate, "get_global_textmap", BrokenPropagator)
    await face.later_many(job, [()])

    outcomes = [await face.run() for _ in range(2)]

    assert [each.status for each in outcomes] == ["completed"] * 2
    assert [links_of(each) for each in telemetry.spans("process")] == [[], []]


async def test_metrics_have_the_names_of_the_conventions(face: Face) -> None:
    telemetry = Telemetry(face)
    await face.later(face.job(fail, name="work"))
    await face.later_many(face.job(lambda: 1, name="other"), [()] * 2)
    for _ in range(3):
        await face.run()

    (sent,) = telemetry.points("messaging.client.sent.messages")
    consumed = telemetry.points("messaging.client.consumed.messages")
    processed = telemetry.points("messaging.process.duration")
    operations = telemetry.points("messaging.client.operation.duration")
    assert sent.value == 3
    assert {each.attributes.get("error.type"): each.value for each in consumed} == {
        "ValueError": 1,
        None: 2,
    }
    assert sum(each.count for each in processed) == 3
    assert sum(each.count for each in operations) == 2
    for point in [sent, *consumed, *processed, *operations]:
        assert "messaging.message.id" not in point.attributes


class OutOfStock(Exception):
    pass


async def test_both_metrics_of_an_attempt_have_the_same_type_of_error(
    face: Face, kind: Kind, how: How
) -> None:
    def sell(number: int) -> None:
        raise OutOfStock if number else Retry(after_seconds=1000)

    telemetry = Telemetry(face)
    job = face.job(as_kind(kind, sell), name="sell")
    for number in range(2):
        await face.later(job, number)
        await run(face, how)

    for name in ("messaging.client.consumed.messages", "messaging.process.duration"):
        found = {each.attributes.get("error.type") for each in telemetry.points(name)}
        assert found == {None, f"{OutOfStock.__module__}.OutOfStock"}, name


async def test_a_second_call_changes_nothing(face: Face) -> None:
    telemetry = Telemetry(face)

    assert instrument(face.instance) is telemetry.middleware
    assert len(face.instance.middleware) == 1


def test_a_missing_extra_is_named() -> None:
    (message,) = run_program(
        """
        import sys
        sys.modules["opentelemetry"] = None
        try:
            import deferrable.contrib.opentelemetry
        except ImportError as error:
            print(error)
        """
    )

    assert install_command("opentelemetry") in message
