"""The backends of the blocking API. This package exports their names and defines nothing."""

from typing import TYPE_CHECKING

from deferrable._lazy import lazy_names

if TYPE_CHECKING:
    from deferrable.aio.backend._redis.debounce import RedisDebounceStore
    from deferrable.aio.backend._redis.results import RedisResults
    from deferrable.aio.backend._redis.schedules import RedisScheduleStore
    from deferrable.aio.backend.sqs._foreign import ForeignMessage
    from deferrable.aio.backend.sqs._s3_store import S3Store
    from deferrable.sync.backend import (
        Backend,
        BackendFactory,
        DocketsBackendFactory,
        InMemoryBackendFactory,
        SQLiteBackendFactory,
        SQSBackendFactory,
        from_url,
    )

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

_HOME = "deferrable.sync.backend"

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Backend": _HOME,
        "BackendFactory": _HOME,
        "DocketsBackendFactory": _HOME,
        "ForeignMessage": "deferrable.aio.backend.sqs._foreign",
        "InMemoryBackendFactory": _HOME,
        "RedisDebounceStore": "deferrable.aio.backend._redis.debounce",
        "RedisResults": "deferrable.aio.backend._redis.results",
        "RedisScheduleStore": "deferrable.aio.backend._redis.schedules",
        "S3Store": "deferrable.aio.backend.sqs._s3_store",
        "SQLiteBackendFactory": _HOME,
        "SQSBackendFactory": _HOME,
        "from_url": _HOME,
    },
)
