"""Schedules in memory, and the admission that pushes in the same step.

The one rule: the store's lock is taken before the queue's, and nothing suspends meanwhile.
"""

from dataclasses import dataclass

from deferrable.aio.queue import Push, Queue
from deferrable.aio.schedules import Admission, InMemoryScheduleStore, JoinedTick, Proposal

__all__ = ["MemoryScheduleStore", "PushesHere"]


class PushesHere(Queue):
    """A queue whose `_push_batch` never suspends, so that it may be awaited under a lock."""


class MemoryScheduleStore(InMemoryScheduleStore):
    """The schedules of a factory's queues."""

    def joined_with(self, queue: Queue) -> JoinedTick | None:
        return _JoinedTick(self, queue) if isinstance(queue, PushesHere) else None


@dataclass(frozen=True, slots=True)
class _JoinedTick:
    """A `JoinedTick` onto `queue`."""

    store: MemoryScheduleStore
    queue: PushesHere

    async def __call__(self, name: str, proposal: Proposal, push: Push) -> Admission:
        store = self.store
        with store._lock:
            admission = store._admit(name, proposal, None)
            if admission.verdict == "admitted":
                await self.queue._push_batch([push])
        return admission
