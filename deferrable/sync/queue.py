"""A queue for callers that cannot await.

Owns the list of its verbs. An interrupted pop keeps no item.
"""

from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager

from deferrable.aio._contract.flags import QueueFlags
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Queue as AwaitingQueue
from deferrable.item import Item
from deferrable.sync._facade import ClosingFacade, blocking

__all__ = ["Queue"]


async def _put_back(
    queue: AwaitingQueue, popped: tuple[Envelope, Item] | tuple[None, None]
) -> None:
    """Release an item that arrived just when its caller was interrupted."""
    if popped[0] is not None:
        await queue.release_batch([popped[0]])


async def _put_taken_back(
    queue: AwaitingQueue, popped: Sequence[tuple[Envelope, Item] | None]
) -> None:
    await _put_all_back(queue, [each for each in popped if each is not None])


async def _put_all_back(queue: AwaitingQueue, popped: Sequence[tuple[Envelope, Item]]) -> None:
    await queue.release_batch([envelope for envelope, _ in popped])


class Queue(ClosingFacade[AwaitingQueue], QueueFlags):
    """The blocking API of a queue; see `deferrable.aio.Queue` for what each verb promises."""

    push = blocking(AwaitingQueue.push)
    push_batch = blocking(AwaitingQueue.push_batch)
    push_each = blocking(AwaitingQueue.push_each)
    pop = blocking(AwaitingQueue.pop, undo=_put_back)
    pop_batch = blocking(AwaitingQueue.pop_batch, undo=_put_all_back)
    pop_up_to = blocking(AwaitingQueue.pop_up_to, undo=_put_all_back)
    pop_at_once = blocking(AwaitingQueue.pop_at_once, undo=_put_all_back)
    peek = blocking(AwaitingQueue.peek)
    find = blocking(AwaitingQueue.find)
    inspect = blocking(AwaitingQueue.inspect)
    cancel = blocking(AwaitingQueue.cancel)
    hasten = blocking(AwaitingQueue.hasten)
    ask_to_stop = blocking(AwaitingQueue.ask_to_stop)
    withdraw = blocking(AwaitingQueue.withdraw)
    locate = blocking(AwaitingQueue.locate)
    note_cancelled = blocking(AwaitingQueue.note_cancelled)
    pause = blocking(AwaitingQueue.pause)
    resume = blocking(AwaitingQueue.resume)
    find_pause = blocking(AwaitingQueue.find_pause)
    report_worker = blocking(AwaitingQueue.report_worker)
    forget_worker = blocking(AwaitingQueue.forget_worker)
    find_workers = blocking(AwaitingQueue.find_workers)
    pop_keys = blocking(AwaitingQueue.pop_keys, undo=_put_taken_back)
    touch = blocking(AwaitingQueue.touch)
    touch_each = blocking(AwaitingQueue.touch_each)
    complete = blocking(AwaitingQueue.complete)
    complete_batch = blocking(AwaitingQueue.complete_batch)
    complete_each = blocking(AwaitingQueue.complete_each)
    release = blocking(AwaitingQueue.release)
    release_batch = blocking(AwaitingQueue.release_batch)
    release_each = blocking(AwaitingQueue.release_each)
    replace = blocking(AwaitingQueue.replace)
    free_key = blocking(AwaitingQueue.free_key)
    flush = blocking(AwaitingQueue.flush)
    stats = blocking(AwaitingQueue.stats)
    server_memory = blocking(AwaitingQueue.server_memory)
    old_consumers = blocking(AwaitingQueue.old_consumers)
    take_back = blocking(AwaitingQueue.take_back)

    def __init__(self, core: AwaitingQueue) -> None:
        super().__init__(core)
        for flag in QueueFlags.__annotations__:
            setattr(self, flag, getattr(core, flag))
        self.lease_seconds = core.lease_seconds
        self.max_lease_seconds = core.max_lease_seconds
        self.clock = core.clock

    @property
    def identity(self) -> Hashable | None:
        """Equal for two queue objects with the same items; None: unknown."""
        return self._core.identity

    def using(self, connection: object) -> AbstractContextManager[None]:
        """Have pushes in a ``with`` block be a part of the user's own database transaction."""
        return self._core.using(connection)

    def check(self, item: Item) -> None:
        """Raise what `push` would raise for `item` without any I/O; do nothing otherwise."""
        self._core.check(item)

    def excess_bytes(self, item: Item) -> int:
        """By how many bytes `item` exceeds the limit of `push`; 0: it fits."""
        return self._core.excess_bytes(item)
