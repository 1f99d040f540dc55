"""Calls that may wait a moment travel in full batches.

Owns the gathering of calls of one kind, on one event loop, until a native batch is full or the
first of them has waited for so long. It may not know which kind: what performs a batch is given to
it. See `_batching` for calls that nobody has wait.

The one rule: a batch that is full goes at once, whatever is under way.
"""

import asyncio
from typing import Generic, TypeVar

from deferrable.aio._batching import Perform, Place, perform_for

__all__ = ["Gatherer"]

T = TypeVar("T")


class Gatherer(Generic[T]):
    """Performs entries, several batches at a time.

    Args:
        perform: see `Batcher`.
        max_size: the most entries of one batch.
        seconds: how long an entry waits for others at most. In real time: what is under way is.
    """

    def __init__(self, perform: Perform[T], max_size: int, seconds: float) -> None:
        self._perform = perform
        self._max_size = max_size
        self._seconds = seconds
        self._waiting: list[Place[T]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    async def __call__(self, entry: T) -> None:
        """Perform `entry`, together with others. Cancelled before it left, it does not leave.

        Raises:
            Exception: this entry's own failure, or the failure of the whole batch.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        place = (entry, future)
        self._waiting.append(place)
        if len(self._waiting) >= self._max_size:
            self._leave()
        elif self._timer is None:
            self._timer = loop.call_later(self._seconds, self._leave)
        try:
            await future
        except asyncio.CancelledError:
            if place in self._waiting:
                self._waiting.remove(place)
            raise

    def _leave(self) -> None:
        """Perform what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._waiting = self._waiting, []
        if batch:
            task = asyncio.get_running_loop().create_task(perform_for(self._perform, batch))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
