"""The face that blocks; bare ``deferrable`` hands on the same names. It defines nothing."""

from typing import TYPE_CHECKING

from deferrable._lazy import lazy_names

if TYPE_CHECKING:
    from deferrable.aio.envelope import Envelope
    from deferrable.aio.job import BoundJob, Call, Job
    from deferrable.sync.backend import Backend, BackendFactory
    from deferrable.sync.deferrable import Deferrable
    from deferrable.sync.error_items import ErrorItem, ErrorItems
    from deferrable.sync.queue import Queue
    from deferrable.sync.worker import Worker

__all__ = [
    "Backend",
    "BackendFactory",
    "BoundJob",
    "Call",
    "Deferrable",
    "Envelope",
    "ErrorItem",
    "ErrorItems",
    "Job",
    "Queue",
    "Worker",
]

_JOB = "deferrable.aio.job"

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Backend": "deferrable.sync.backend",
        "BackendFactory": "deferrable.sync.backend",
        "BoundJob": _JOB,
        "Call": _JOB,
        "Deferrable": "deferrable.sync.deferrable",
        "Envelope": "deferrable.aio.envelope",
        "ErrorItem": "deferrable.sync.error_items",
        "ErrorItems": "deferrable.sync.error_items",
        "Job": _JOB,
        "Queue": "deferrable.sync.queue",
        "Worker": "deferrable.sync.worker",
    },
)
