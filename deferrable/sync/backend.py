"""Backends and their factories for callers that cannot await.

Owns the pairing of each factory with its original. It may not know any broker. Factories do no
I/O, so they create what theirs creates and put a blocking face in front.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deferrable._durations import Duration
from deferrable.aio.backend import base
from deferrable.aio.backend.memory._queue import InMemoryBackendFactory as AwaitingMemoryFactory
from deferrable.aio.clock import Clock
from deferrable.sync._facade import ClosingFacade
from deferrable.sync.queue import Queue

if TYPE_CHECKING:
    from deferrable.aio.backend.sqs._s3_store import S3Store

__all__ = [
    "Backend",
    "BackendFactory",
    "DocketsBackendFactory",
    "InMemoryBackendFactory",
    "SQSBackendFactory",
]


class Backend(ClosingFacade[base.Backend]):
    """The blocking face of a backend, whoever wrote it.

    Attributes:
        group: what it was created for; None for the nameless group.
        queue: where jobs wait.
        error_queue: where those go that failed for good.
        debounce_store: where debounce windows are kept by default; None: nowhere.
    """

    def __init__(self, core: base.Backend) -> None:
        super().__init__(core)
        self.group = core.group
        self.debounce_store = core.debounce_store
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
        timeout: Duration | None = None,
        visibility_timeout: Duration = 30,
        *,
        max_redeliveries: int = 10,
        max_lease_seconds: Duration | None = None,
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
        wait_time: Duration = 3,
        timeout: Duration = 300,
        *,
        max_redeliveries: int = 10,
        max_lease_seconds: Duration | None = None,
        max_item_bytes: int = 100_000_000,
        clock: Clock | None = None,
    ) -> None:
        from deferrable.aio.backend.dockets._queue import DocketsBackendFactory as AwaitingFactory

        super().__init__(
            AwaitingFactory(
                redis_client,
                wait_time,
                timeout,
                max_redeliveries=max_redeliveries,
                max_lease_seconds=max_lease_seconds,
                max_item_bytes=max_item_bytes,
                clock=clock,
            )
        )


class SQSBackendFactory(BackendFactory):
    """Backends in SQS; see `deferrable.aio.backend.SQSBackendFactory`."""

    def __init__(
        self,
        sqs_connection: object = None,
        visibility_timeout: Duration = 30,
        wait_time: Duration = 20,
        name_suffix: str | None = None,
        *,
        queue_url: str | None = None,
        error_queue_url: str | None = None,
        create: bool = True,
        tags: Mapping[str, str] | None = None,
        max_receive_count: int = 20,
        max_lease_seconds: Duration | None = None,
        compress_over_bytes: float | None = None,
        large_items: "S3Store | None" = None,
        offload_over_bytes: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        from deferrable.aio.backend.sqs._factory import SQSBackendFactory as AwaitingFactory

        super().__init__(
            AwaitingFactory(
                sqs_connection,
                visibility_timeout,
                wait_time,
                name_suffix,
                queue_url=queue_url,
                error_queue_url=error_queue_url,
                create=create,
                tags=tags,
                max_receive_count=max_receive_count,
                max_lease_seconds=max_lease_seconds,
                compress_over_bytes=compress_over_bytes,
                large_items=large_items,
                offload_over_bytes=offload_over_bytes,
                clock=clock,
            )
        )
