"""The asyncio API. This package exports its names and defines nothing."""

from typing import TYPE_CHECKING

from deferrable._lazy import lazy_names

if TYPE_CHECKING:
    from deferrable.aio.backend.base import Backend, BackendFactory
    from deferrable.aio.clock import Clock
    from deferrable.aio.current import CurrentAttempt, current_attempt
    from deferrable.aio.debounce import DebounceStore, InMemoryDebounceStore
    from deferrable.aio.deferrable import Deferrable
    from deferrable.aio.envelope import Envelope
    from deferrable.aio.error_items import ErrorItem, ErrorItems
    from deferrable.aio.job import BoundJob, Call, Job
    from deferrable.aio.middleware import Deferral, Middleware
    from deferrable.aio.peeked import PeekedCall
    from deferrable.aio.queue import Push, Queue, Release, Touch
    from deferrable.aio.results import (
        EndedCall,
        InMemoryResults,
        ResultStore,
        gather_results,
        results_as_they_end,
    )
    from deferrable.aio.schedule import Schedule
    from deferrable.aio.schedules import InMemoryScheduleStore, ScheduleStore
    from deferrable.aio.worker import Worker
    from deferrable.errors import (
        ArgumentMismatch,
        BackendError,
        BackendUnavailable,
        BlocksEventLoop,
        CalledFromEventLoop,
        DeferrableError,
        DuplicateCall,
        InvalidOptions,
        ItemTooLarge,
        JobFailed,
        LeaseLost,
        ResultExpired,
        SerializationError,
        UnreadableItem,
        UnserializableCall,
        Unsupported,
        WrongApi,
    )
    from deferrable.handles import CallHandle, CallState
    from deferrable.metadata import MetadataProducerConsumer
    from deferrable.outcome import Outcome, Receipt, WorkSummary
    from deferrable.pause import Pause
    from deferrable.retry import Retry
    from deferrable.worker_reports import WorkerReport

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
    "CurrentAttempt",
    "DebounceStore",
    "Deferrable",
    "DeferrableError",
    "Deferral",
    "DuplicateCall",
    "EndedCall",
    "Envelope",
    "ErrorItem",
    "ErrorItems",
    "InMemoryDebounceStore",
    "InMemoryResults",
    "InMemoryScheduleStore",
    "InvalidOptions",
    "ItemTooLarge",
    "Job",
    "JobFailed",
    "LeaseLost",
    "MetadataProducerConsumer",
    "Middleware",
    "Outcome",
    "Pause",
    "PeekedCall",
    "Push",
    "Queue",
    "Receipt",
    "Release",
    "ResultExpired",
    "ResultStore",
    "Retry",
    "Schedule",
    "ScheduleStore",
    "SerializationError",
    "Touch",
    "UnreadableItem",
    "UnserializableCall",
    "Unsupported",
    "WorkSummary",
    "Worker",
    "WorkerReport",
    "WrongApi",
    "current_attempt",
    "gather_results",
    "results_as_they_end",
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
        "CurrentAttempt": "deferrable.aio.current",
        "DebounceStore": "deferrable.aio.debounce",
        "Deferrable": "deferrable.aio.deferrable",
        "DeferrableError": _ERRORS,
        "Deferral": "deferrable.aio.middleware",
        "DuplicateCall": _ERRORS,
        "EndedCall": "deferrable.aio.results",
        "Envelope": "deferrable.aio.envelope",
        "ErrorItem": "deferrable.aio.error_items",
        "ErrorItems": "deferrable.aio.error_items",
        "InMemoryDebounceStore": "deferrable.aio.debounce",
        "InMemoryResults": "deferrable.aio.results",
        "InMemoryScheduleStore": "deferrable.aio.schedules",
        "InvalidOptions": _ERRORS,
        "ItemTooLarge": _ERRORS,
        "Job": "deferrable.aio.job",
        "JobFailed": _ERRORS,
        "LeaseLost": _ERRORS,
        "MetadataProducerConsumer": "deferrable.metadata",
        "Middleware": "deferrable.aio.middleware",
        "Outcome": "deferrable.outcome",
        "Pause": "deferrable.pause",
        "PeekedCall": "deferrable.aio.peeked",
        "Push": "deferrable.aio.queue",
        "Queue": "deferrable.aio.queue",
        "Receipt": "deferrable.outcome",
        "Release": "deferrable.aio.queue",
        "ResultExpired": _ERRORS,
        "ResultStore": "deferrable.aio.results",
        "Retry": "deferrable.retry",
        "Schedule": "deferrable.aio.schedule",
        "ScheduleStore": "deferrable.aio.schedules",
        "SerializationError": _ERRORS,
        "Touch": "deferrable.aio.queue",
        "UnreadableItem": _ERRORS,
        "UnserializableCall": _ERRORS,
        "Unsupported": _ERRORS,
        "WorkSummary": "deferrable.outcome",
        "Worker": "deferrable.aio.worker",
        "WorkerReport": "deferrable.worker_reports",
        "WrongApi": _ERRORS,
        "current_attempt": "deferrable.aio.current",
        "gather_results": "deferrable.aio.results",
        "results_as_they_end": "deferrable.aio.results",
    },
    submodules={"backend"},
)
