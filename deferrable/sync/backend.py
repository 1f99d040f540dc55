"""Backends and their factories for callers that cannot await.

Owns the pairing of each factory with its original. Factories do no I/O, so each creates what its
original creates and wraps it in the blocking API.
"""

from collections.abc import Callable

from deferrable.aio import backend as awaiting
from deferrable.aio.backend import base
from deferrable.aio.backend._url import factory_call
from deferrable.sync._facade import ClosingFacade, made_like
from deferrable.sync.queue import Queue

__all__ = [
    "Backend",
    "BackendFactory",
    "DocketsBackendFactory",
    "InMemoryBackendFactory",
    "SQLiteBackendFactory",
    "SQSBackendFactory",
    "from_url",
]


class Backend(ClosingFacade[base.Backend]):
    """The blocking API of a backend, also of a third-party one.

    Attributes:
        group: its group; None for the group without a name.
        queue: the queue of jobs.
        error_queue: the queue of items that failed for good.
        debounce_store: where debounce windows are kept by default; None: nowhere.
        schedule_store: where schedules are kept by default; None: nowhere.
    """

    def __init__(self, core: base.Backend) -> None:
        super().__init__(core)
        self.group = core.group
        self.debounce_store = core.debounce_store
        self.schedule_store = core.schedule_store
        self.queue = Queue(core.queue)
        self.error_queue = Queue(core.error_queue)


class BackendFactory:
    """The blocking API of a factory, also of a third-party one."""

    def __init__(self, core: base.BackendFactory) -> None:
        self._core = core

    def __repr__(self) -> str:
        return f"<blocking {self._core!r}>"

    def create_backend_for_group(self, group: str | None) -> Backend:
        """A backend for `group`; see `deferrable.aio.BackendFactory`."""
        return Backend(self._core.create_backend_for_group(group))


class InMemoryBackendFactory(BackendFactory):
    """Backends in this process's memory; see `deferrable.aio.backend.InMemoryBackendFactory`."""

    @made_like(lambda: awaiting.InMemoryBackendFactory)
    def __init__(self, core: base.BackendFactory) -> None:
        super().__init__(core)


class DocketsBackendFactory(BackendFactory):
    """Backends in Redis; see `deferrable.aio.backend.DocketsBackendFactory`."""

    @made_like(lambda: awaiting.DocketsBackendFactory)
    def __init__(self, core: base.BackendFactory) -> None:
        super().__init__(core)


class SQLiteBackendFactory(BackendFactory):
    """Backends in a SQLite file; see `deferrable.aio.backend.SQLiteBackendFactory`."""

    @made_like(lambda: awaiting.SQLiteBackendFactory)
    def __init__(self, core: base.BackendFactory) -> None:
        super().__init__(core)


class SQSBackendFactory(BackendFactory):
    """Backends in SQS; see `deferrable.aio.backend.SQSBackendFactory`."""

    @made_like(lambda: awaiting.SQSBackendFactory)
    def __init__(self, core: base.BackendFactory) -> None:
        super().__init__(core)


_FACTORIES: dict[str, Callable[..., BackendFactory]] = {
    each.__name__: each
    for each in (
        DocketsBackendFactory,
        InMemoryBackendFactory,
        SQLiteBackendFactory,
        SQSBackendFactory,
    )
}


def from_url(url: str | None = None, /, **settings: object) -> BackendFactory:
    """The factory of the backend at `url`; see `deferrable.aio.backend.from_url`."""
    call = factory_call(url, settings)
    return _FACTORIES[call.factory.__name__](*call.arguments, **call.settings)
