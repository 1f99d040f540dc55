"""The asyncio API. This package exports its names and defines nothing."""

from typing import TYPE_CHECKING

from deferrable._lazy import lazy_names

if TYPE_CHECKING:
    from deferrable.aio.backend.base import Backend, BackendFactory
    from deferrable.aio.clock import Clock
    from deferrable.aio.current import current_attempt
    from deferrable.aio.debounce import DebounceStore, InMemoryDebounceStore
    from deferrable.aio.deferrable import Deferrable
    from deferrable.aio.envelope import Envelope
    from deferrable.aio.error_items import ErrorItem, ErrorItems
    from deferrable.aio.job import BoundJob, Call, Job
    from deferrable.aio.peeked import PeekedCall
    from deferrable.aio.queue import Push, Queue, Release, Touch
    from deferrable.aio.worker import Worker
    from deferrable.errors import (
        ArgumentMismatch,
        BackendError,
        BackendUnavailable,
        BlocksEventLoop,
        CalledFromEventLoop,
        DeferrableError,
        InvalidOptions,
        ItemTooLarge,
        LeaseLost,
        SerializationError,
        UnreadableItem,
        UnserializableCall,
        Unsupported,
        WrongApi,
    )
    from deferrable.handles import CallHandle, CallState
    from deferrable.metadata import MetadataProducerConsumer
    from deferrable.outcome import Outcome, Receipt, WorkSummary
    from deferrable.retry import Retry

__all__ = [
    "ArgumentMismatch",
    "Backend",
    "BackendError",
    "BackendFactory",
    "BackendUnavailable",
    "BlocksEventLoop",
    "BoundJob",
    "Call",
    "CallHandle",
    "CallState",
    "CalledFromEventLoop",
    "Clock",
    "DebounceStore",
    "Deferrable",
    "DeferrableError",
    "Envelope",
    "ErrorItem",
    "ErrorItems",
    "InMemoryDebounceStore",
    "InvalidOptions",
    "ItemTooLarge",
    "Job",
    "LeaseLost",
    "MetadataProducerConsumer",
    "Outcome",
    "PeekedCall",
    "Push",
    "Queue",
    "Receipt",
    "Release",
    "Retry",
    "SerializationError",
    "Touch",
    "UnreadableItem",
    "UnserializableCall",
    "Unsupported",
    "WorkSummary",
    "Worker",
    "WrongApi",
    "current_attempt",
]

_ERRORS = "deferrable.errors"

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ArgumentMismatch": _ERRORS,
        "Backend": "deferrable.aio.backend.base",
        "BackendError": _ERRORS,
        "BackendFactory": "deferrable.aio.backend.base",
        "BackendUnavailable": _ERRORS,
        "BlocksEventLoop": _ERRORS,
        "BoundJob": "deferrable.aio.job",
        "Call": "deferrable.aio.job",
        "CallHandle": "deferrable.handles",
        "CallState": "deferrable.handles",
        "CalledFromEventLoop": _ERRORS,
        "Clock": "deferrable.aio.clock",
        "DebounceStore": "deferrable.aio.debounce",
        "Deferrable": "deferrable.aio.deferrable",
        "DeferrableError": _ERRORS,
        "Envelope": "deferrable.aio.envelope",
        "ErrorItem": "deferrable.aio.error_items",
        "ErrorItems": "deferrable.aio.error_items",
        "InMemoryDebounceStore": "deferrable.aio.debounce",
        "InvalidOptions": _ERRORS,
        "ItemTooLarge": _ERRORS,
        "Job": "deferrable.aio.job",
        "LeaseLost": _ERRORS,
        "MetadataProducerConsumer": "deferrable.metadata",
        "Outcome": "deferrable.outcome",
        "PeekedCall": "deferrable.aio.peeked",
        "Push": "deferrable.aio.queue",
        "Queue": "deferrable.aio.queue",
        "Receipt": "deferrable.outcome",
        "Release": "deferrable.aio.queue",
        "Retry": "deferrable.retry",
        "SerializationError": _ERRORS,
        "Touch": "deferrable.aio.queue",
        "UnreadableItem": _ERRORS,
        "UnserializableCall": _ERRORS,
        "Unsupported": _ERRORS,
        "WorkSummary": "deferrable.outcome",
        "Worker": "deferrable.aio.worker",
        "WrongApi": _ERRORS,
        "current_attempt": "deferrable.aio.current",
    },
    submodules={"backend"},
)
