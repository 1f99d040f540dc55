"""deferrable: defer a function call now, run it later, elsewhere, at least once.

This package exports the names of the blocking API, and the names that both APIs share. The asyncio
API is ``deferrable.aio``. Nothing is defined here, and each name is imported on first use.
"""

import atexit
import sys
from typing import TYPE_CHECKING

from deferrable import _blocking
from deferrable._lazy import lazy_names

if TYPE_CHECKING:
    from deferrable.aio.clock import Clock
    from deferrable.aio.current import CurrentAttempt, current_attempt
    from deferrable.aio.debounce import DebounceStore, InMemoryDebounceStore
    from deferrable.aio.envelope import Envelope
    from deferrable.aio.job import BoundJob, Call, Job
    from deferrable.aio.middleware import Deferral, Middleware
    from deferrable.aio.peeked import PeekedCall
    from deferrable.aio.queue import Push, Release, Touch
    from deferrable.aio.results import EndedCall, InMemoryResults, ResultStore
    from deferrable.aio.schedule import Schedule
    from deferrable.aio.schedules import InMemoryScheduleStore, ScheduleStore
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
    from deferrable.sync.backend import Backend, BackendFactory
    from deferrable.sync.deferrable import Deferrable
    from deferrable.sync.error_items import ErrorItem, ErrorItems
    from deferrable.sync.queue import Queue
    from deferrable.sync.results import gather_results, results_as_they_end
    from deferrable.sync.worker import Worker
    from deferrable.worker_reports import WorkerReport

    __version__: str

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
        "Backend": "deferrable.sync.backend",
        "BackendError": _ERRORS,
        "BackendFactory": "deferrable.sync.backend",
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
        "Deferrable": "deferrable.sync.deferrable",
        "DeferrableError": _ERRORS,
        "Deferral": "deferrable.aio.middleware",
        "DuplicateCall": _ERRORS,
        "EndedCall": "deferrable.aio.results",
        "Envelope": "deferrable.aio.envelope",
        "ErrorItem": "deferrable.sync.error_items",
        "ErrorItems": "deferrable.sync.error_items",
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
        "Queue": "deferrable.sync.queue",
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
        "Worker": "deferrable.sync.worker",
        "WorkerReport": "deferrable.worker_reports",
        "WrongApi": _ERRORS,
        "__version__": "deferrable._version",
        "current_attempt": "deferrable.aio.current",
        "gather_results": "deferrable.sync.results",
        "results_as_they_end": "deferrable.sync.results",
    },
    submodules={"aio", "backend", "sync", "testing"},
)


def _load_blocking_driver() -> object:
    from deferrable.sync._door import BlockingDriver

    return BlockingDriver()


_blocking.register(_load_blocking_driver)


# Handlers run in the reverse order of their registration: with this one registered so early, most
# of the program's own handlers still find the threads running.
@atexit.register
def _stop_threads() -> None:
    for name in ("deferrable.sync._portal", "deferrable.aio._engine.keeper"):
        module = sys.modules.get(name)
        if module is not None:
            module.stop()
