"""A job that never ends, behind exporters that send what they have once in a while."""

import os
from collections.abc import Sequence
from pathlib import Path

import sentry_sdk
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from deferrable.contrib import opentelemetry, sentry

from .jobs import block_forever, fail, mails

__all__ = ["block_forever", "fail", "mails"]

SENT = Path(os.environ["SENT"])


def note(line: str) -> None:
    with SENT.open("a") as file:
        file.write(f"{line}\n")


class Spans(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            note(span.name.split()[0])
        return SpanExportResult.SUCCESS


class Events(Transport):
    """Sends nothing before somebody wants it."""

    def __init__(self) -> None:
        super().__init__({"dsn": "http://key@localhost/1"})
        self.kept = 0

    def capture_envelope(self, envelope: Envelope) -> None:
        self.kept += envelope.get_event() is not None

    def flush(self, timeout: float, callback: object = None) -> None:
        for _ in range(self.kept):
            note("event")


provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(Spans(), schedule_delay_millis=600_000))
trace.set_tracer_provider(provider)
sentry_sdk.init("http://key@localhost/1", transport=Events())
opentelemetry.instrument(mails)
sentry.instrument(mails)
