"""The backend in this process's memory. This package exports its names and defines nothing."""

from typing import TYPE_CHECKING

from deferrable._lazy import lazy_names

if TYPE_CHECKING:
    from deferrable.aio.backend.memory._factory import InMemoryBackendFactory
    from deferrable.aio.backend.memory._queue import InMemoryQueue

__all__ = [
    "InMemoryBackendFactory",
    "InMemoryQueue",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "InMemoryBackendFactory": "deferrable.aio.backend.memory._factory",
        "InMemoryQueue": "deferrable.aio.backend.memory._queue",
    },
)
