"""The core of an instance: its queues, its settings and its listeners.

Owns the settings that attempts, deferrals and jobs read. Users call `deferrable.aio.Deferrable`,
which is built on it.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack
from typing import Any, TypeAlias

from deferrable._codec.contract import Serializer
from deferrable._durations import Duration, seconds_of
from deferrable._one_process import OneProcess
from deferrable._option_conflicts import NO_RESULT_STORE
from deferrable._protection import Protection
from deferrable.aio._engine.registry import Registry
from deferrable.aio._engine.scheduled import Scheduled
from deferrable.aio.backend.base import Backend
from deferrable.aio.clock import Clock
from deferrable.aio.debounce import DebounceStore
from deferrable.aio.middleware import Registered
from deferrable.aio.results import ResultStore
from deferrable.aio.schedules import ScheduleStore
from deferrable.errors import InvalidOptions
from deferrable.handles import Calls
from deferrable.item import group_text
from deferrable.metadata import MetadataProducerConsumer
from deferrable.options import (
    ErrorClasses,
    check_max_attempts,
    error_class_tuple,
)

__all__ = ["Instance", "Lifespan", "entered"]

Lifespan: TypeAlias = Callable[[], AbstractAsyncContextManager[Any] | AbstractContextManager[Any]]
"""Resources that stay open while a worker works: a pool, a client."""


async def entered(lifespan: Lifespan | None, stack: AsyncExitStack) -> object:
    """The value of a lifespan; `stack` leaves it. None without one."""
    if lifespan is None:
        return None
    manager = lifespan()
    if isinstance(manager, AbstractAsyncContextManager):
        return await stack.enter_async_context(manager)
    return stack.enter_context(manager)


class Instance(OneProcess):
    """The state of a `deferrable.aio.Deferrable`; see there."""

    def __init__(
        self,
        backend: Backend,
        default_error_classes: ErrorClasses | None,
        default_max_attempts: int,
        *,
        protection: Protection,
        import_from: Iterable[str] | None,
        debounce_store: DebounceStore | None,
        lifespan: Lifespan | None,
        clock: Clock | None,
        check_arguments: bool = True,
        results: ResultStore | None = None,
        keep_results_seconds: Duration = 0,
        schedule_store: ScheduleStore | None = None,
    ) -> None:
        _check_backend(backend)
        self.backend = backend
        self._clock = clock
        self.default_error_classes = default_error_classes
        self.default_max_attempts = default_max_attempts
        self.protection = protection
        self._debounce_store = debounce_store
        self._results = results
        self.waiting_clock: Clock | None = None
        """By which ``result(timeout_seconds=)`` counts; None: the instance's clock."""
        self.has_warned_of_results = False
        self.keep_results_seconds = seconds_of("keep_results_seconds", keep_results_seconds)
        if self.keep_results_seconds and self.results is None:
            raise InvalidOptions(f"keep_results_seconds is given, but {NO_RESULT_STORE}")
        self._schedule_store = schedule_store
        self.scheduled: dict[str, Scheduled] = {}
        self.lifespan = lifespan
        self.check_arguments = check_arguments
        self.registry = Registry(protection, import_from)
        self.event_consumers: tuple[object, ...] = ()
        self.metadata_producer_consumers: tuple[MetadataProducerConsumer, ...] = ()
        self.around: Registered | None = None

    def __repr__(self) -> str:
        count = len(self.registry)
        jobs = "1 job" if count == 1 else f"{count} jobs"
        backend = self.backend
        return f"<{type(self).__name__}, {group_text(backend.group)}: {backend.queue!r}, {jobs}>"

    def calls(self) -> Calls:
        """What answers for the calls of this instance."""
        raise NotImplementedError

    @property
    def serializer(self) -> Serializer:
        """The serializer of new items, for the current backend."""
        protection = self.protection
        if self.backend.queue.IS_LOCAL:
            return protection.local_serializer
        return protection.serializer

    @property
    def clock(self) -> Clock:
        """The given clock, or the clock of the current backend."""
        return self.backend.queue.clock if self._clock is None else self._clock

    @property
    def debounce_store(self) -> DebounceStore | None:
        """The store of debounce windows: the given one, or that of the current backend.

        None: the backend cannot store them, and no store was given.
        """
        return self.backend.debounce_store if self._debounce_store is None else self._debounce_store

    @debounce_store.setter
    def debounce_store(self, store: DebounceStore | None) -> None:
        self._debounce_store = store

    @property
    def results(self) -> ResultStore | None:
        """The store of results: the given one, or that of the current backend.

        None: the backend cannot keep them, and no store was given.
        """
        return self.backend.result_store if self._results is None else self._results

    @property
    def schedule_store(self) -> ScheduleStore | None:
        """The store of schedules: the given one, or that of the current backend; None: neither."""
        return self.backend.schedule_store if self._schedule_store is None else self._schedule_store

    @property
    def default_error_classes(self) -> tuple[type[BaseException], ...] | None:
        """Errors that are retried, for jobs without ``error_classes``; read at each ``later``."""
        return self._default_error_classes

    @default_error_classes.setter
    def default_error_classes(self, classes: ErrorClasses | None) -> None:
        self._default_error_classes = error_class_tuple("default_error_classes", classes)

    @property
    def default_max_attempts(self) -> int:
        """How often a job without ``max_attempts`` runs at most; read at each ``later``."""
        return self._default_max_attempts

    @default_max_attempts.setter
    def default_max_attempts(self, attempts: int) -> None:
        check_max_attempts("default_max_attempts", attempts)
        self._default_max_attempts = attempts


def _check_backend(backend: object) -> None:
    if hasattr(backend, "create_backend_for_group"):
        raise TypeError(
            f"{type(backend).__name__} is a factory, not a backend; write "
            'Deferrable(factory.create_backend_for_group("name"))'
        )
    if not isinstance(backend, Backend):
        raise TypeError(
            f"pass a backend that a factory of deferrable.aio.backend creates, got "
            f"{backend!r:.200}; backends of deferrable.backend are for the blocking Deferrable"
        )
