"""The backend in Redis. This package exports its names and defines nothing."""

from typing import TYPE_CHECKING

from deferrable._lazy import lazy_names

if TYPE_CHECKING:
    from deferrable.aio.backend.dockets._errors import DocketsErrorQueue
    from deferrable.aio.backend.dockets._factory import DocketsBackendFactory
    from deferrable.aio.backend.dockets._queue import DocketsQueue

__all__ = [
    "DocketsBackendFactory",
    "DocketsErrorQueue",
    "DocketsQueue",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "DocketsBackendFactory": "deferrable.aio.backend.dockets._factory",
        "DocketsErrorQueue": "deferrable.aio.backend.dockets._errors",
        "DocketsQueue": "deferrable.aio.backend.dockets._queue",
    },
)
