"""The backends of the asyncio API. This package exports their names and defines nothing."""

from typing import TYPE_CHECKING

from deferrable._lazy import lazy_names

if TYPE_CHECKING:
    from deferrable.aio.backend._redis.debounce import RedisDebounceStore
    from deferrable.aio.backend._redis.results import RedisResults
    from deferrable.aio.backend._redis.schedules import RedisScheduleStore
    from deferrable.aio.backend._url import from_url
    from deferrable.aio.backend.base import Backend, BackendFactory
    from deferrable.aio.backend.dockets import DocketsBackendFactory
    from deferrable.aio.backend.memory import InMemoryBackendFactory
    from deferrable.aio.backend.sqlite import SQLiteBackendFactory
    from deferrable.aio.backend.sqs import SQSBackendFactory
    from deferrable.aio.backend.sqs._foreign import ForeignMessage
    from deferrable.aio.backend.sqs._s3_store import S3Store

__all__ = [
    "Backend",
    "BackendFactory",
    "DocketsBackendFactory",
    "ForeignMessage",
    "InMemoryBackendFactory",
    "RedisDebounceStore",
    "RedisResults",
    "RedisScheduleStore",
    "S3Store",
    "SQLiteBackendFactory",
    "SQSBackendFactory",
    "from_url",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Backend": "deferrable.aio.backend.base",
        "BackendFactory": "deferrable.aio.backend.base",
        "DocketsBackendFactory": "deferrable.aio.backend.dockets",
        "ForeignMessage": "deferrable.aio.backend.sqs._foreign",
        "InMemoryBackendFactory": "deferrable.aio.backend.memory",
        "RedisDebounceStore": "deferrable.aio.backend._redis.debounce",
        "RedisResults": "deferrable.aio.backend._redis.results",
        "RedisScheduleStore": "deferrable.aio.backend._redis.schedules",
        "S3Store": "deferrable.aio.backend.sqs._s3_store",
        "SQLiteBackendFactory": "deferrable.aio.backend.sqlite",
        "SQSBackendFactory": "deferrable.aio.backend.sqs",
        "from_url": "deferrable.aio.backend._url",
    },
)
