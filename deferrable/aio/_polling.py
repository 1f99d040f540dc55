"""Polling one queue.

Owns when the next poll is made, and what a broker that cannot be reached means: the wait before the
next try grows, up to a maximum, and the log tells once that it went away and once that it is back.
It may not know slots, jobs or attempts: how many items may come, and who takes them, is given.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence

from deferrable.aio._popping import Popped
from deferrable.aio.clock import sleep
from deferrable.aio.health import Health
from deferrable.aio.queue import Queue
from deferrable.errors import BackendError

__all__ = ["Poller", "reconnect_seconds"]

_logger = logging.getLogger("deferrable")

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_IDLE_SECONDS = 0.05
"""The pause after an empty poll of a queue that does not wait by itself."""


def reconnect_seconds(failures: int, draw: float) -> float:
    """The wait after so many failures in a row, from 1 on: half of it is left to chance.

    Args:
        draw: a number from 0 to 1.
    """
    longest = min(_FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 10), _LONGEST_PAUSE_SECONDS)
    return longest * (0.5 + 0.5 * draw)


class Poller:
    """Polls `queue` until it is cancelled; cancelling it loses nothing.

    Args:
        wait_for_room: returns how many items may be asked for, once it is one or more.
        take: is handed what came; it must not raise.
        give_up_room: is told how many had been asked for when a poll has ended.
    """

    def __init__(
        self,
        queue: Queue,
        health: Health,
        wait_for_room: Callable[[], Awaitable[int]],
        take: Callable[[Sequence[Popped]], None],
        give_up_room: Callable[[int], None],
    ) -> None:
        self._queue = queue
        self._health = health
        self._wait_for_room = wait_for_room
        self._take = take
        self._give_up_room = give_up_room
        self._failures = 0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            count = await self._wait_for_room()
            start = loop.time()
            try:
                popped = await self._queue.pop_batch(min(count, self._queue.MAX_POP_BATCH_SIZE))
            except BackendError as error:
                self._note_failure(error)
                popped = []
            else:
                self._note_success()
            finally:
                self._give_up_room(count)
            if popped:
                self._take(popped)
            elif self._failures:
                await sleep(self._queue.clock, reconnect_seconds(self._failures, random.random()))
            elif loop.time() - start < _IDLE_SECONDS:
                await asyncio.sleep(_IDLE_SECONDS)

    def _note_failure(self, error: BackendError) -> None:
        if not self._failures:
            _logger.error("%r cannot be polled, and is tried again: %s", self._queue, error)
        self._failures += 1
        self._health.note_failure(self._queue, error)

    def _note_success(self) -> None:
        if self._failures:
            _logger.warning("%r is back after %d failures", self._queue, self._failures)
        self._failures = 0
        self._health.note_poll(self._queue)
