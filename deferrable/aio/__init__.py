"""The face that awaits. This door hands on its names and defines nothing."""

from typing import TYPE_CHECKING

from deferrable._lazy import lazy_names

if TYPE_CHECKING:
    from deferrable.aio.backend.base import Backend, BackendFactory
    from deferrable.aio.clock import Clock
    from deferrable.aio.debounce import DebounceStore, InMemoryDebounceStore
    from deferrable.aio.deferrable import Deferrable
    from deferrable.aio.error_items import ErrorItem, ErrorItems
    from deferrable.aio.job import BoundJob, Call, Job
    from deferrable.aio.queue import Envelope, Push, Queue, Release, Touch
    from deferrable.aio.worker import Worker

__all__ = [
    "Backend",
    "BackendFactory",
    "BoundJob",
    "Call",
    "Clock",
    "DebounceStore",
    "Deferrable",
    "Envelope",
    "ErrorItem",
    "ErrorItems",
    "InMemoryDebounceStore",
    "Job",
    "Push",
    "Queue",
    "Release",
    "Touch",
    "Worker",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Backend": "deferrable.aio.backend.base",
        "BackendFactory": "deferrable.aio.backend.base",
        "BoundJob": "deferrable.aio.job",
        "Call": "deferrable.aio.job",
        "Clock": "deferrable.aio.clock",
        "DebounceStore": "deferrable.aio.debounce",
        "Deferrable": "deferrable.aio.deferrable",
        "Envelope": "deferrable.aio.queue",
        "ErrorItem": "deferrable.aio.error_items",
        "ErrorItems": "deferrable.aio.error_items",
        "InMemoryDebounceStore": "deferrable.aio.debounce",
        "Job": "deferrable.aio.job",
        "Push": "deferrable.aio.queue",
        "Queue": "deferrable.aio.queue",
        "Release": "deferrable.aio.queue",
        "Touch": "deferrable.aio.queue",
        "Worker": "deferrable.aio.worker",
    },
    submodules={"backend"},
)
