"""The backend in a SQLite file. This package exports its names and defines nothing."""

from typing import TYPE_CHECKING

from deferrable._lazy import lazy_names

if TYPE_CHECKING:
    from deferrable.aio.backend.sqlite._factory import SQLiteBackendFactory
    from deferrable.aio.backend.sqlite._queue import SQLiteQueue

__all__ = ["SQLiteBackendFactory", "SQLiteQueue"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "SQLiteBackendFactory": "deferrable.aio.backend.sqlite._factory",
        "SQLiteQueue": "deferrable.aio.backend.sqlite._queue",
    },
)
