"""Backends and their factories for callers that cannot await.

Owns the pairing of each factory with its original. It may not know any broker. Factories do no
I/O, so they create what theirs creates and put a blocking face in front.
"""

from typing import Any

from deferrable.aio.backend import base
from deferrable.aio.backend.memory import InMemoryBackendFactory as AwaitingMemoryFactory
from deferrable.aio.clock import Clock
from deferrable.sync._facade import ClosingFacade
from deferrable.sync.queue import Queue

__all__ = ["Backend", "BackendFactory", "DocketsBackendFactory", "InMemoryBackendFactory"]


class Backend(ClosingFacade[base.Backend]):
    """The blocking face of a backend, whoever wrote it.

    Attributes:
        group: what it was created for; None for the nameless group.
        queue: where jobs wait.
        error_queue: where those go that failed for good.
    """

    def __init__(self, core: base.Backend) -> None:
        super().__init__(core)
        self.group = core.group
        self.queue = Queue(core.queue)
        self.error_queue = Queue(core.error_queue)


class BackendFactory:
    """The blocking face of a factory, whoever wrote it."""

    def __init__(self, core: base.BackendFactory) -> None:
        self._core = core

    def create_backend_for_group(self, group: str | None) -> Backend:
        """A backend for `group`; see `deferrable.aio.BackendFactory`."""
        return Backend(self._core.create_backend_for_group(group))


class InMemoryBackendFactory(BackendFactory):
    """Backends in this process's memory; see `deferrable.aio.backend.InMemoryBackendFactory`."""

    def __init__(
        self,
        timeout: float | None = None,
        visibility_timeout: float = 30,
        *,
        max_redeliveries: int = 10,
        max_lease_seconds: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(
            AwaitingMemoryFactory(
                timeout,
                visibility_timeout,
                max_redeliveries=max_redeliveries,
                max_lease_seconds=max_lease_seconds,
                clock=clock,
            )
        )


class DocketsBackendFactory(BackendFactory):
    """Backends in Redis; see `deferrable.aio.backend.DocketsBackendFactory`."""

    def __init__(
        self,
        redis_client: Any,
        wait_time: float = 3,
        timeout: float = 300,
        *,
        max_redeliveries: int = 10,
        max_lease_seconds: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        from deferrable.aio.backend.dockets import DocketsBackendFactory as AwaitingFactory

        super().__init__(
            AwaitingFactory(
                redis_client,
                wait_time,
                timeout,
                max_redeliveries=max_redeliveries,
                max_lease_seconds=max_lease_seconds,
                clock=clock,
            )
        )
