"""The worker. This package exports its names and defines nothing."""

from typing import TYPE_CHECKING

from deferrable._lazy import lazy_names

if TYPE_CHECKING:
    from deferrable.aio.worker._health import Health, QueueHealth
    from deferrable.aio.worker._life import Worker

__all__ = [
    "Health",
    "QueueHealth",
    "Worker",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Health": "deferrable.aio.worker._health",
        "QueueHealth": "deferrable.aio.worker._health",
        "Worker": "deferrable.aio.worker._life",
    },
)
