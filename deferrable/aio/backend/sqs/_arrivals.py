"""The messages that receives bring to one event loop.

Owns the running receives, the messages that are still being read (their items are in S3, or they
go to the error queue), and the items that no pop has taken yet.

Items must not wait: no heartbeat covers them before a pop has returned them. So a pop returns what
is there, and leaves running receives to the next pop. No receive is ever cancelled.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from deferrable.aio._contract.popping import Popped
from deferrable.aio.backend.sqs._batches import MAX_BATCH_SIZE
from deferrable.aio.backend.sqs._receiving import Message
from deferrable.aio.clock import Clock
from deferrable.aio.envelope import Envelope

__all__ = ["Arrivals", "ComesBack", "Read", "log_unread"]

_FULL_RECEIVES_FOR_ANOTHER = 10
_KEPT_SECONDS = 1.0
"""How long an item waits for the next pop before it is given back."""

Receive: TypeAlias = Callable[[int, float], Awaitable[tuple[Sequence[Message], float]]]
Read: TypeAlias = Callable[[Message, float], Popped | Coroutine[Any, Any, Popped | None]]

_logger = logging.getLogger("deferrable")


class ComesBack(Exception):
    """A message could not be read now. Nobody holds it; it comes back after its lease."""


class Arrivals:
    """Serves one pop at a time.

    Args:
        receive: takes a number of messages and a number of seconds to wait; returns the messages,
            and a moment before which none of them was handed over.
        read: takes a message and the moment after which it was received; returns its item, or work
            that ends with the item, or with None if the message is done with, or with `ComesBack`.
        give_back: releases items that no pop has taken.
        is_ordered: the items of one receive stay together, in their order. None is handed out
            after one of its group that comes back.
    """

    def __init__(
        self,
        receive: Receive,
        read: Read,
        give_back: Callable[[Sequence[Envelope]], Awaitable[None]],
        clock: Clock,
        *,
        is_ordered: bool,
    ) -> None:
        self._receive = receive
        self._read = read
        self._give_back = give_back
        self._clock = clock
        self._is_ordered = is_ordered
        self._ready: deque[Popped] = deque()
        self._receiving: dict[asyncio.Task[None], int] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._has_changed = asyncio.Event()
        self._is_popping = False
        self._keeping: asyncio.TimerHandle | None = None
        self._failure: Exception | None = None
        self._full_count = 0

    async def pop(self, count: int, most_at_once: int, longest_seconds: float) -> list[Popped]:
        """Up to `count` items, as soon as there is one; none if the wait ended without any.

        Args:
            most_at_once: how many receives may run at once.
            longest_seconds: the receive that waits does so no longer than this.
        """
        self._is_popping = True
        self._failure = None
        try:
            if not self._ready:
                self._begin(count, most_at_once, longest_seconds)
            while not self._ready and (self._receiving or self._working):
                self._has_changed.clear()
                await self._has_changed.wait()
        finally:
            self._is_popping = False
            self._keep_for_a_moment()
        failure, self._failure = self._failure, None
        popped = self._take(count)
        if failure is not None and not popped:
            raise failure
        return popped

    async def end(self) -> None:
        """Return once no receive runs any more; items that no pop has taken are given back.

        If another pop runs, it takes these items, and this returns.
        """
        while not self._is_popping and (under_way := {*self._receiving, *self._working}):
            await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        await self._give_back_rest()

    # Receiving.

    def _begin(self, count: int, most_at_once: int, longest_seconds: float) -> None:
        """Start the useful number of further receives.

        One of them waits. Others do not: there are some while the last ones came back full, more
        each time, so that only a few find nothing at the end of a backlog.
        """
        most = min(most_at_once, 1 + self._full_count // _FULL_RECEIVES_FOR_ANOTHER)
        wanted = count - sum(self._receiving.values())
        while wanted > 0 and len(self._receiving) < most:
            size = min(wanted, MAX_BATCH_SIZE)
            # Receives that do not wait end soon, so a receive that still runs is the one that
            # waits.
            wait_seconds = 0.0 if self._receiving else longest_seconds
            task = asyncio.get_running_loop().create_task(self._bring(size, wait_seconds))
            self._receiving[task] = size
            task.add_done_callback(self._note_received)
            wanted -= size

    async def _bring(self, count: int, wait_seconds: float) -> None:
        messages, start_time = await self._receive(count, wait_seconds)
        self._full_count = self._full_count + 1 if len(messages) >= count else 0
        reading = [self._read(message, start_time) for message in messages]
        if self._is_ordered and not all(isinstance(each, tuple) for each in reading):
            groups = [each.get("Attributes", {}).get("MessageGroupId") for each in messages]
            self._work(self._add_in_order(reading, groups))
            return
        for each in reading:
            if isinstance(each, tuple):
                self._ready.append(each)
            else:
                self._work(self._add(each))

    def _note_received(self, task: "asyncio.Task[None]") -> None:
        del self._receiving[task]
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._failure = error
            self._full_count = 0
        self._note_change()

    # Reading.

    def _work(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._working.add(task)
        task.add_done_callback(self._note_worked)

    def _note_worked(self, task: "asyncio.Task[None]") -> None:
        self._working.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log_unread(error)
        self._note_change()

    async def _add(self, reading: Coroutine[Any, Any, Popped | None]) -> None:
        with suppress(ComesBack):
            popped = await reading
            if popped is not None:
                self._ready.append(popped)

    async def _add_in_order(
        self,
        reading: Sequence[Popped | Coroutine[Any, Any, Popped | None]],
        groups: Sequence[object],
    ) -> None:
        works = [each for each in reading if not isinstance(each, tuple)]
        read = iter(await asyncio.gather(*works, return_exceptions=True))
        held_up: set[object] = set()
        back: list[Envelope] = []
        for each, group in zip(reading, groups, strict=True):
            popped = each if isinstance(each, tuple) else next(read)
            if isinstance(popped, BaseException):
                held_up.add(group)
                if not isinstance(popped, ComesBack):
                    log_unread(popped)
            elif popped is not None and group in held_up:
                back.append(popped[0])
            elif popped is not None:
                self._ready.append(popped)
        if back:
            await self._give_back(back)

    # Taking.

    def _take(self, count: int) -> list[Popped]:
        now = self._clock.monotonic()
        taken: list[Popped] = []
        while self._ready and len(taken) < count:
            popped = self._ready.popleft()
            if now <= popped[0].lease_end_time:  # else it has come back by itself
                taken.append(popped)
        return taken

    def _note_change(self) -> None:
        self._has_changed.set()
        if not self._is_popping:
            self._keep_for_a_moment()

    def _keep_for_a_moment(self) -> None:
        if self._keeping is None and self._ready:
            loop = asyncio.get_running_loop()
            self._keeping = loop.call_later(_KEPT_SECONDS, self._give_up_keeping)

    def _give_up_keeping(self) -> None:
        self._keeping = None
        if not self._is_popping and self._ready:
            self._work(self._give_back_rest())

    async def _give_back_rest(self) -> None:
        if self._is_popping:
            return  # the pop that takes them now
        rest = [envelope for envelope, _ in self._take(len(self._ready))]
        if rest:
            await self._give_back(rest)


def log_unread(error: BaseException) -> None:
    """Log an error that no reading of a message should raise."""
    _logger.error("a message comes back after its lease, unread", exc_info=error)
