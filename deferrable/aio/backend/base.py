"""The base of all backends: a queue, its error queue and their group.

Owns the pairing, and the names of queues by group. A factory holds what its backends share: the
address of the broker, and the settings.
"""

from abc import ABC, abstractmethod

from deferrable._one_process import OneProcess
from deferrable.aio._contract.closing import Closing
from deferrable.aio.debounce import DebounceStore
from deferrable.aio.queue import Queue
from deferrable.aio.results import ResultStore
from deferrable.aio.schedules import ScheduleStore
from deferrable.item import group_text, queue_name

__all__ = ["Backend", "BackendFactory"]


class Backend(Closing, OneProcess):
    """A queue and its error queue.

    Attributes:
        group: their group; None for the group without a name.
        queue: the queue of jobs.
        error_queue: the queue of items that failed for good.
        debounce_store: where an instance keeps debounce windows by default; None: this broker
            cannot store them.
        result_store: where an instance keeps results by default; None: this broker cannot keep
            them.
        schedule_store: where an instance keeps its schedules by default; None: this broker cannot
            store them.
    """

    def __init__(
        self,
        group: str | None,
        queue: Queue,
        error_queue: Queue,
        *,
        debounce_store: DebounceStore | None = None,
        result_store: ResultStore | None = None,
        schedule_store: ScheduleStore | None = None,
    ) -> None:
        self.group = group
        self.queue = queue
        self.error_queue = error_queue
        self.debounce_store = debounce_store
        self.result_store = result_store
        self.schedule_store = schedule_store

    def __repr__(self) -> str:
        return f"<Backend, {group_text(self.group)}: {self.queue!r}, {self.error_queue!r}>"

    async def close(self) -> None:
        """Close both queues and the stores. May be called twice."""
        await self.queue.close()
        await self.error_queue.close()
        if self.debounce_store is not None:
            await self.debounce_store.close()
        if self.result_store is not None:
            await self.result_store.close()
        if self.schedule_store is not None:
            await self.schedule_store.close()


class BackendFactory(ABC):
    """Creates the backends of one broker. An implementation overrides `_create_backend`."""

    def create_backend_for_group(self, group: str | None) -> Backend:
        """A backend for `group`; None or empty is the group without a name. Does no I/O.

        Groups of one factory share connections and have different queue names:
        ``deferrable_GROUP``, or ``deferrable`` for the group without a name.
        """
        return self._create_backend(group, queue_name(group))

    @abstractmethod
    def _create_backend(self, group: str | None, name: str) -> Backend:
        """A backend of `group`, whose main queue is called `name`."""
