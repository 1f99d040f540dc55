"""Ids that travel from a request to its jobs, ready-made.

Owns two pairs for ``register_metadata_producer_consumer``: a correlation id, and the
``traceparent`` of W3C for programs that read it without OpenTelemetry. What an item holds was
written by another process, so it is checked before a job sees it.
"""

import re
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from deferrable import MetadataProducerConsumer
from deferrable.item import new_id

__all__ = ["CorrelationId", "TraceParent", "correlation_id", "traceparent"]

correlation_id: ContextVar[str | None] = ContextVar("correlation_id", default=None)
"""The id of the request, set by your own code; in a job that of the request that deferred it."""

traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)
"""The W3C trace context, set by your own code; in a job that of the code that deferred it."""

_MOST_CHARACTERS = 200
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
"""Source: W3C Trace Context, section 3.2."""


class CorrelationId(MetadataProducerConsumer):
    """Carries a correlation id. A call that is deferred without one gets a new one.

    Args:
        variable: another variable than `correlation_id`, such as that of your web framework. A
            UUID or a number in it reaches the job as a text.
    """

    NAMESPACE = "correlation_id"

    def __init__(self, variable: ContextVar[Any] = correlation_id) -> None:
        super().__init__()
        self._variable = variable

    def produce_metadata(self) -> str:
        current = self._variable.get(None)
        # Some frameworks hold a UUID, which not every serializer takes, or a number.
        return str(current) if isinstance(current, str | UUID | int) else new_id()

    def consume_metadata(self, metadata: Any) -> None:
        # One short line, whatever it holds: it stands in logs.
        is_fit = isinstance(metadata, str) and metadata.isprintable()
        self._variable.set(metadata[:_MOST_CHARACTERS] if is_fit else None)


class TraceParent(MetadataProducerConsumer):
    """Carries the ``traceparent`` header of W3C.

    Args:
        variable: another variable than `traceparent`.
    """

    NAMESPACE = "traceparent"

    def __init__(self, variable: ContextVar[Any] = traceparent) -> None:
        super().__init__()
        self._variable = variable

    def produce_metadata(self) -> str | None:
        return _valid(self._variable.get(None))

    def consume_metadata(self, metadata: Any) -> None:
        self._variable.set(_valid(metadata))


def _valid(text: object) -> str | None:
    return text if isinstance(text, str) and _TRACEPARENT.fullmatch(text) else None
