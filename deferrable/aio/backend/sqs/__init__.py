"""The backend in SQS. This package exports its names and defines nothing."""

from typing import TYPE_CHECKING

from deferrable._lazy import lazy_names

if TYPE_CHECKING:
    from deferrable.aio.backend.sqs._cost import Bill, Load, bill, naive_bill
    from deferrable.aio.backend.sqs._factory import SQSBackendFactory
    from deferrable.aio.backend.sqs._foreign import ForeignMessage
    from deferrable.aio.backend.sqs._queue import SQSFifoQueue, SQSQueue
    from deferrable.aio.backend.sqs._s3_store import S3Store

__all__ = [
    "Bill",
    "ForeignMessage",
    "Load",
    "S3Store",
    "SQSBackendFactory",
    "SQSFifoQueue",
    "SQSQueue",
    "bill",
    "naive_bill",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Bill": "deferrable.aio.backend.sqs._cost",
        "ForeignMessage": "deferrable.aio.backend.sqs._foreign",
        "Load": "deferrable.aio.backend.sqs._cost",
        "S3Store": "deferrable.aio.backend.sqs._s3_store",
        "SQSBackendFactory": "deferrable.aio.backend.sqs._factory",
        "SQSFifoQueue": "deferrable.aio.backend.sqs._queue",
        "SQSQueue": "deferrable.aio.backend.sqs._queue",
        "bill": "deferrable.aio.backend.sqs._cost",
        "naive_bill": "deferrable.aio.backend.sqs._cost",
    },
)
