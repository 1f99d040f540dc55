"""Traces and metrics by OpenTelemetry's own exporter: over HTTP, and through a real collector."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from otlp_place import Receiver, collector, receiver, why_no_collector

from deferrable import Deferrable
from deferrable.backend import InMemoryBackendFactory
from deferrable.contrib.opentelemetry import instrument


@pytest.fixture
def received() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def run_one(url: str) -> None:
    """Defer and run one job, and export what follows to `url`."""
    traces = TracerProvider()
    traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces")))
    exporter = OTLPMetricExporter(f"{url}/v1/metrics")
    meters = MeterProvider([PeriodicExportingMetricReader(exporter)])
    shop = Deferrable(InMemoryBackendFactory().create_backend_for_group("shop"))
    instrument(shop, tracer_provider=traces, meter_provider=meters)
    job = shop.deferrable(name="app:resize")(lambda name: None)

    job.later("photo.png")
    shop.run_once()

    traces.shutdown()
    meters.shutdown()


def check(received: Receiver) -> None:
    spans = received.spans(2)
    send, process = spans["send"], spans["process"]
    assert (send.name, process.name) == ("send deferrable_shop", "process deferrable_shop")
    (link,) = process.links
    assert (link.trace_id, link.span_id) == (send.trace_id, send.span_id)
    assert send.kind == 4  # PRODUCER, of opentelemetry-proto
    assert process.kind == 5  # CONSUMER
    attributes = {each.key: each.value.string_value for each in process.attributes}
    assert attributes["messaging.system"] == "deferrable"
    assert attributes["code.function.name"] == "app.resize"
    received.metric_names(
        "messaging.client.operation.duration",
        "messaging.client.sent.messages",
        "messaging.client.consumed.messages",
        "messaging.process.duration",
    )


def test_the_exporter_sends_spans_and_metrics_that_others_can_read(received: Receiver) -> None:
    run_one(received.url)

    check(received)


@pytest.mark.skipif(why_no_collector() is not None, reason=str(why_no_collector()))
def test_a_real_collector_takes_and_passes_on_spans_and_metrics(
    received: Receiver, tmp_path: Path
) -> None:
    with collector(received.url, tmp_path) as url:
        run_one(url)

        check(received)
