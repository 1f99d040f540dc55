"""Complete the items of one queue, for all jobs of a worker.

Owns which items of returned jobs are completed together, and when. It returns each item with the
result of its completion.

The one rule: the job's task does not wait. Its slot is already free, so all items that end while
the broker is busy, or within the time that the queue allows for it, are completed in one call.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Queue
from deferrable.aio.results import KeptResult, ResultStore

__all__ = ["Completer"]


class Completable(Protocol):
    """An item whose job has returned."""

    @property
    def envelope(self) -> Envelope: ...

    @property
    def keeps_result(self) -> bool:
        """Whether there may be something to store before it is completed."""
        ...

    def kept_result(self) -> tuple[ResultStore, KeptResult] | None:
        """What to store before it is completed; None: nothing."""
        ...


R = TypeVar("R", bound=Completable)


class Completer(Generic[R]):
    """Completes its items, one call of the queue at a time.

    Args:
        queue: where the items were popped.
        tell: gets each of them with None, or with why it was not completed: the queue's error, or
            the cancellation of a loop that is being shut down.
    """

    def __init__(self, queue: Queue, tell: Callable[[R, BaseException | None], None]) -> None:
        self._queue = queue
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._pending: list[R] = []
        self._completing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_in_a_hurry = False

    @property
    def is_idle(self) -> bool:
        """Whether every item was returned."""
        return not self._pending and self._completing is None

    def add(self, returned: R, *, is_urgent: bool = False) -> None:
        """Complete an item soon.

        Args:
            is_urgent: do not wait for others to fill the batch.
        """
        self._pending.append(returned)
        if self._completing is None:
            self._begin_soon(is_urgent=is_urgent)

    def hurry(self) -> None:
        """Do not wait any more to fill a batch."""
        self._is_in_a_hurry = True
        if self._timer is not None:
            self._timer.cancel()
            self._begin()

    def _begin_soon(self, *, is_urgent: bool = False) -> None:
        seconds = self._queue.COMPLETE_GATHER_SECONDS
        is_full = len(self._pending) >= self._queue.MAX_COMPLETE_BATCH_SIZE
        if not seconds or is_full or is_urgent or self._is_in_a_hurry:
            if self._timer is not None:
                self._timer.cancel()
            self._begin()
        elif self._timer is None:
            self._timer = self._loop.call_later(seconds, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._completing = self._loop.create_task(self._complete())
        self._completing.add_done_callback(self._go_on)

    async def _complete(self) -> None:
        # Full batches first, if there are any; the rest also waits for its moment.
        size, most = len(self._pending), self._queue.MAX_COMPLETE_BATCH_SIZE
        count = size - size % most if size > most else size
        batch, self._pending = self._pending[:count], self._pending[count:]
        outcomes: Sequence[BaseException | None]
        try:
            keeping = [each for each in batch if each.keeps_result]
            if keeping:
                await _keep_results(keeping)
            outcomes = await self._queue.complete_each([each.envelope for each in batch])
        except BaseException as error:
            # After any error, the caller must settle each of them.
            outcomes = [error] * len(batch)
        self._completing = None  # before the callbacks, which would see it as busy
        for returned, outcome in zip(batch, outcomes, strict=True):
            self._tell(returned, outcome)

    def _go_on(self, completed: asyncio.Task[None]) -> None:
        if completed.cancelled():  # before its first step
            batch, self._pending = self._pending, []
            self._completing = None
            for returned in batch:
                self._tell(returned, asyncio.CancelledError())
        elif self._pending and self._completing is None:
            self._begin_soon()


async def _keep_results(batch: Sequence[Completable]) -> None:
    """Store the results of a batch, in one call for each store."""
    by_store: dict[ResultStore, list[KeptResult]] = {}
    for each in batch:
        kept = each.kept_result()
        if kept is not None:
            by_store.setdefault(kept[0], []).append(kept[1])
    for store, results in by_store.items():
        await store.put(results)
