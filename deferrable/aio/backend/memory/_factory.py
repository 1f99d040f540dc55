"""The factory of backends in memory.

Owns the options, their checks and their defaults, and which queues share their items.
"""

from deferrable._durations import Duration, check_number, optional_seconds_of, seconds_of
from deferrable._one_process import OneProcess
from deferrable.aio.backend.base import Backend, BackendFactory
from deferrable.aio.backend.memory._queue import Group, InMemoryQueue
from deferrable.aio.backend.memory._schedules import MemoryScheduleStore
from deferrable.aio.backend.memory._store import Store
from deferrable.aio.clock import Clock
from deferrable.aio.debounce import InMemoryDebounceStore
from deferrable.aio.results import InMemoryResults

__all__ = ["InMemoryBackendFactory"]


class InMemoryBackendFactory(BackendFactory, OneProcess):
    """Creates backends whose items live in this process, and end with it.

    Backends that one factory creates for one group are consumers of the same items. A forked child
    has its own copy.

    Args:
        timeout: how many seconds a pop waits for an item; None: not at all.
        visibility_timeout: how many seconds a popped item stays hidden without a touch.
        max_redeliveries: an item goes to the error queue when more deliveries than that ended
            without settlement.
        max_lease_seconds: how long after the pop heartbeats stop; None: they never stop.
        clock: the source of time; None: the machine's clock.

    Raises:
        InvalidOptions: a number is out of range.
    """

    def __init__(
        self,
        timeout: Duration | None = None,
        visibility_timeout: Duration = 30,
        *,
        max_redeliveries: int = 10,
        max_lease_seconds: Duration | None = None,
        clock: Clock | None = None,
    ) -> None:
        check_number("max_redeliveries", max_redeliveries)
        self._timeout = optional_seconds_of("timeout", timeout)
        self._visibility_timeout = seconds_of(
            "visibility_timeout", visibility_timeout, is_over=True
        )
        self._max_redeliveries = max_redeliveries
        self._max_lease_seconds = optional_seconds_of(
            "max_lease_seconds", max_lease_seconds, is_over=True
        )
        self._clock = clock
        self._groups: dict[str, Group] = {}
        self._debounce_store = InMemoryDebounceStore(clock)
        self._result_store = InMemoryResults(clock)
        self._schedule_store = MemoryScheduleStore(clock)

    def _create_backend(self, group: str | None, name: str) -> Backend:
        # setdefault is one step, so that two threads agree on one group.
        items = self._groups.setdefault(
            name, Group(self._visibility_timeout, self._max_redeliveries)
        )
        return Backend(
            group,
            self._create_queue(name, items, items.main),
            self._create_queue(f"{name}_error", items, items.errors),
            debounce_store=self._debounce_store,
            result_store=self._result_store,
            schedule_store=self._schedule_store,
        )

    def _create_queue(self, name: str, items: Group, store: Store) -> InMemoryQueue:
        return InMemoryQueue(
            name,
            items,
            store,
            self._timeout,
            self._visibility_timeout,
            self._max_lease_seconds,
            self._clock,
        )
