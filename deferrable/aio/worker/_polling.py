"""Poll one queue.

Owns when the next poll is made, and what happens when the broker cannot be reached: the wait
before the next try grows, up to a maximum. The log reports the failure once and the return once,
and likewise a pause of the queue and its end. The caller decides how many items may come, and who
takes them.

The one rule: only a cancellation ends a poller. A running worker always keeps polling.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from deferrable._codec.refusals import short_repr
from deferrable._pauses import growing_seconds, jittered
from deferrable.aio._contract.popping import Popped
from deferrable.aio.clock import sleep
from deferrable.aio.queue import Queue
from deferrable.aio.worker._health import LONGEST_POLL_SECONDS, Health
from deferrable.errors import BackendError

__all__ = ["Poller", "Room", "reconnect_seconds", "same_queue"]

_logger = logging.getLogger("deferrable")

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_IDLE_SECONDS = 0.05
"""How long a poll takes on a queue that does not wait by itself, if nothing arrives before."""


def reconnect_seconds(failures: int, draw: float) -> float:
    """The wait after a number of failures in a row (at least 1): half of it is random.

    Args:
        draw: a number from 0 to 1.
    """
    return jittered(growing_seconds(failures, _FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS), draw)


def same_queue(queues: Sequence[Queue]) -> tuple[int, int] | None:
    """The places of two objects of one queue, as far as queues know; None: there are none."""
    places: dict[Hashable, int] = {}
    for place, queue in enumerate(queues):
        identity = queue.identity
        first = places.setdefault(queue if identity is None else identity, place)
        if first != place:
            return first, place
    return None


class Room(Protocol):
    """How many items one poller may ask for."""

    def try_take(self, *, is_quiet: bool, is_backlogged: bool) -> int:
        """How many items may be requested now; 0: none, and nothing was reserved.

        Args:
            is_quiet: the last poll found nothing.
            is_backlogged: it found as many as it asked for.
        """
        ...

    async def wait(self) -> None:
        """Return when there may be room."""

    def give_up(self) -> None:
        """The poll for the reserved number is over."""


class Poller:
    """Polls `queue` until it is cancelled; cancelling it loses nothing.

    Args:
        room: says how many items may be requested.
        take: gets the items; it must not raise.
    """

    def __init__(
        self,
        queue: Queue,
        health: Health,
        room: Room,
        take: Callable[[Sequence[Popped]], None],
    ) -> None:
        self._queue = queue
        self._health = health
        self._room = room
        self._take = take
        self._failures = 0
        self._is_quiet = False
        self._is_backlogged = False
        self._is_paused = False
        self._limit: asyncio.Timeout | None = None

    async def run(self) -> None:
        try:
            while True:
                await self._poll()
        finally:
            await self._queue.end_pops()

    async def _poll(self) -> None:
        count = await self._wait_for_room()
        try:
            popped = await self._pop(count)
        except Exception as error:  # an adapter's own mistake must not end the polling either
            self._note_failure(error)
            popped = []
        else:
            self._note_success()
            if (self._queue.seen_pause is not None) != self._is_paused:
                self._note_pause()
        finally:
            self._room.give_up()
        self._is_quiet = not popped
        self._is_backlogged = len(popped) >= min(count, self._queue.MAX_POP_BATCH_SIZE)
        if popped:
            self._take(popped)
        elif self._failures:
            await sleep(self._queue.clock, reconnect_seconds(self._failures, random.random()))

    async def _wait_for_room(self) -> int:
        while not (count := self._try_take()):
            self._health.note_pause(self._queue)
            await self._room.wait()
        self._health.note_poll_start(self._queue)
        return count

    def _try_take(self) -> int:
        return self._room.try_take(is_quiet=self._is_quiet, is_backlogged=self._is_backlogged)

    async def _pop(self, count: int) -> list[Popped]:
        loop, limit = asyncio.get_running_loop(), asyncio.timeout(LONGEST_POLL_SECONDS)
        start = loop.time()
        try:
            # The answer of such a poll still arrives, and its items are given back.
            async with limit:
                self._limit = limit
                popped = await self._queue.pop_up_to(count)
                if not popped and loop.time() - start < _IDLE_SECONDS:
                    await self._queue.wait_for_items(_IDLE_SECONDS)
                return popped
        except TimeoutError:
            if limit.expired():
                return []
            raise
        finally:
            self._limit = None

    def hurry(self) -> None:
        """End the running poll where that costs nothing. Its items go back."""
        limit = self._limit
        if limit is not None and not limit.expired() and not self._queue.COUNTS_RELEASES:
            limit.reschedule(asyncio.get_running_loop().time())

    def _note_failure(self, error: Exception) -> None:
        # Before the log says so, or a probe right after that line would still show the old state.
        self._health.note_poll(self._queue, error)
        if not self._failures:
            trace = None if isinstance(error, BackendError) else error
            _logger.error(
                "%r cannot be polled, the worker retries: %s", self._queue, error, exc_info=trace
            )
        self._failures += 1

    def _note_pause(self) -> None:
        pause = self._queue.seen_pause
        self._is_paused = pause is not None
        if pause is None:
            _logger.warning("%r is not paused any more", self._queue)
        else:
            reason = f" (reason: {short_repr(pause.reason)})" if pause.reason else ""
            _logger.warning("%r is paused%s, so no more items are taken", self._queue, reason)

    def _note_success(self) -> None:
        if self._failures:
            noun = "failure" if self._failures == 1 else "failures"
            _logger.warning("%r is back after %d %s", self._queue, self._failures, noun)
        self._failures = 0
        self._health.note_poll(self._queue, None)
