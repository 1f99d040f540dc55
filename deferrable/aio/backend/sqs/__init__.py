"""The backend in SQS. This package exports its names and defines nothing."""

from typing import TYPE_CHECKING

from deferrable._lazy import lazy_names

if TYPE_CHECKING:
    from deferrable.aio.backend.sqs._factory import SQSBackendFactory
    from deferrable.aio.backend.sqs._foreign import ForeignMessage
    from deferrable.aio.backend.sqs._queue import SQSFifoQueue, SQSQueue
    from deferrable.aio.backend.sqs._s3_store import S3Store

__all__ = [
    "ForeignMessage",
    "S3Store",
    "SQSBackendFactory",
    "SQSFifoQueue",
    "SQSQueue",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ForeignMessage": "deferrable.aio.backend.sqs._foreign",
        "S3Store": "deferrable.aio.backend.sqs._s3_store",
        "SQSBackendFactory": "deferrable.aio.backend.sqs._factory",
        "SQSFifoQueue": "deferrable.aio.backend.sqs._queue",
        "SQSQueue": "deferrable.aio.backend.sqs._queue",
    },
)
