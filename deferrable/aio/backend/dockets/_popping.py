"""How a consumer of a Dockets queue pops items.

Owns one pop from its first look to its last: the available items, the wait for new ones, and the
handling of unreadable entries. A paused queue gives none.

An idle consumer sends few commands. When a wait ends with nothing, the next one begins at once;
the script that looks for due items runs again only when one is due or another item is the next.

The one rule: from the moment at which the server may move an item until the item is held, a pop is
recorded as running. A pop that failed stays recorded for as long as the server may still act on
it.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from deferrable._fork import on_fork, set_aside
from deferrable.aio._contract.popping import Popped
from deferrable.aio.backend.dockets._commands import MOST_AT_ONCE, Commands
from deferrable.aio.backend.dockets._consumer import Consumer, Held, Pop
from deferrable.aio.backend.dockets._moves import Move, as_missing_payload, as_unreadable
from deferrable.aio.backend.dockets._pausing import Pauses
from deferrable.aio.backend.dockets._upkeep import IDLE_UPKEEP_SECONDS, Upkeep
from deferrable.aio.backend.dockets._wait import Wait
from deferrable.aio.backend.dockets._wire import GAP, delivery_in, key_in
from deferrable.aio.clock import Clock, SystemClock
from deferrable.aio.envelope import Envelope
from deferrable.errors import BackendError, UnreadableItem

__all__ = ["ConsumerPopper"]

_SERVER_MARGIN_SECONDS = 1.0
"""By how much a server may be late to notice that the wait of a lost client is over."""

_TRUST_SECONDS = 60.0
"""How long the server's due moment is trusted; then its clock is read again."""

_FULL_PAUSE_SECONDS = 0.1
"""A full Redis refuses commands that wait, so it is asked again after this time."""

_logger = logging.getLogger("deferrable")


@dataclass(frozen=True, slots=True)
class _Outlook:
    """The result of a look that left nothing in the queue.

    Attributes:
        consumer_id: the consumer that looked.
        next_id: the id of the next delayed item; empty: there was none.
        look_time: when it was.
        due_time: when that item is due; infinity: there was none.
    """

    consumer_id: str
    next_id: bytes
    look_time: float
    due_time: float

    def holds(self, now: float) -> bool:
        """Whether nothing is due, as far as is known without asking."""
        if not self.next_id:
            return True
        return self.look_time <= now < min(self.due_time, self.look_time + _TRUST_SECONDS)


class ConsumerPopper:
    """Takes items for one consumer.

    Args:
        wait_seconds: how long a pop waits for the first item.
        lease_seconds: how long an item is held without a touch.
        max_lease_seconds: how long it is held at most.
        injected_clock: None: time is the machine's, and the server's.
    """

    def __init__(
        self,
        consumer: Consumer,
        commands: Commands,
        upkeep: Upkeep,
        pauses: Pauses,
        *,
        wait_seconds: float,
        lease_seconds: float,
        max_lease_seconds: float,
        clock: Clock,
        injected_clock: Clock | None,
    ) -> None:
        self._consumer = consumer
        self._commands = commands
        self._upkeep = upkeep
        self._pauses = pauses
        self._wait_seconds = wait_seconds
        self._lease_seconds = lease_seconds
        self._max_lease_seconds = max_lease_seconds
        self._clock = clock
        self._injected_clock = injected_clock
        self._waits: dict[asyncio.AbstractEventLoop, Wait] = {}
        # Of the last wait, if it ended with nothing.
        self._outlook: _Outlook | None = None
        self._is_full = False
        on_fork(self._reset_after_fork)

    def _reset_after_fork(self) -> None:
        set_aside(self._waits)
        self._waits = {}
        self._outlook = None

    def interrupt(self) -> None:
        """End the wait of the pop of the running loop."""
        wait = self._waits.get(asyncio.get_running_loop())
        if wait is not None:
            wait.interrupt()

    def interrupt_all(self) -> None:
        """End the waits of the pops of all loops."""
        for loop, wait in list(self._waits.items()):
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(wait.interrupt)

    async def pop(self, count: int) -> list[Popped]:
        """Up to `count` items; none if the wait ended without any."""
        loop = asyncio.get_running_loop()
        was_paused = self._pauses.seen is not None
        wait = Wait(self._wait_seconds, self._injected_clock, was_paused=was_paused)
        self._waits[loop] = wait
        try:
            while True:
                await self._upkeep.run(is_idle=self._outlook is not None)
                popped = await self._look(count, wait)
                if popped is not None:
                    return popped
        finally:
            self._waits.pop(loop, None)

    def heartbeat_seconds(self) -> float:
        """How long Redis must treat this consumer as alive: as long as it holds anything."""
        return max(self._lease_seconds, self._consumer.latest_time - self._clock.monotonic())

    async def _look(self, count: int, wait: Wait) -> list[Popped] | None:
        """Items that are available now or soon; empty: the wait is over; None: look again."""
        pop = self._consumer.begin_pop()
        popped: list[Popped] = []
        try:
            await self._take_or_wait(pop, count, wait, popped)
        except BaseException as error:
            self._outlook = None
            end_time = SystemClock.monotonic() + self._wait_seconds + _SERVER_MARGIN_SECONDS
            self._consumer.break_pop(pop, end_time)
            self._upkeep.hurry()
            if popped and isinstance(error, BackendError):
                _logger.warning("a pop failed after its first items: %s", error)
                return popped
            raise
        self._consumer.end_pop(pop)
        if popped:
            return popped
        is_still_itself = self._consumer.id == pop.consumer_id
        return [] if is_still_itself and wait.rest_seconds() <= 0 else None

    async def _take_or_wait(self, pop: Pop, count: int, wait: Wait, popped: list[Popped]) -> None:
        outlook = self._outlook
        if outlook is None or not self._suffices(outlook, pop, wait):
            outlook = await self._take(pop, count, wait, popped)
        if popped or self._consumer.id != pop.consumer_id:
            self._outlook = None
            return
        if self._pauses.seen is not None:
            self._outlook = None
            await self._pauses.wait_for_end(wait)
            return
        is_as_before = await self._wait_for_one(pop, wait, outlook, popped)
        # An item that ends the wait is returned at once: a look for more would delay it.
        self._outlook = None if popped or not is_as_before else outlook

    def _suffices(self, outlook: _Outlook, pop: Pop, wait: Wait) -> bool:
        """Whether the pop may wait without a look for due items."""
        is_own = outlook.consumer_id == pop.consumer_id and not pop.is_first
        return is_own and wait.rest_seconds() > 0 and outlook.holds(self._clock.monotonic())

    async def _take(self, pop: Pop, count: int, wait: Wait, popped: list[Popped]) -> _Outlook:
        """Add available items to `popped`."""
        while True:
            pop_time = self._clock.monotonic()
            wanted = min(count - len(popped), MOST_AT_ONCE)
            taken = await self._commands.take(pop, wanted, self.heartbeat_seconds())
            if taken is None:
                self._consumer.lose(pop.consumer_id)
                return _Outlook(pop.consumer_id, b"", pop_time, pop_time)
            self._consumer.join(pop)
            if self._pauses.note(taken.pause_text, wait):
                return _Outlook(pop.consumer_id, b"", pop_time, pop_time)
            await self._accept(pop, taken.raws, pop_time, popped)
            if taken.missing:
                await self._bury_missing(taken.missing)
            is_more_there = taken.is_more_due or len(taken.raws) == wanted
            if len(popped) >= count or not is_more_there:
                due_time = pop_time + taken.next_due_seconds
                return _Outlook(pop.consumer_id, taken.next_id, pop_time, due_time)

    async def _wait_for_one(
        self, pop: Pop, wait: Wait, outlook: _Outlook, popped: list[Popped]
    ) -> bool:
        """Add arriving items to `popped`. Return whether the next delayed item is that of
        `outlook`.
        """
        # A third of the lease: the heartbeat must not end while the server may hand over an item.
        seconds = min(wait.rest_seconds(), self._lease_seconds / 3, IDLE_UPKEEP_SECONDS)
        event_time = min(outlook.due_time, self._upkeep.due_time)
        event_seconds = event_time - self._clock.monotonic()
        if self._injected_clock is None:
            seconds = min(seconds, event_seconds)
        if min(seconds, event_seconds) <= 0:
            return False
        is_as_before = True

        def note_next_id(next_id: bytes) -> None:
            nonlocal is_as_before
            is_as_before = next_id == outlook.next_id
            if not is_as_before:
                # It may be due before the wait is over.
                wait.end_command()

        async with self._commands.link.blocking(self._commands.keys.queue) as line:
            with wait.on(line, event_time), self._pauses.watched(wait, seconds):
                waited = await self._commands.wait(
                    line, pop, self.heartbeat_seconds(), seconds, note_next_id
                )
        if waited.was_lost:
            self._consumer.lose(pop.consumer_id)
        if not waited.is_refused and self._pauses.note(waited.pause_text, wait):
            if waited.raw is not None:  # it came after the pause
                key = key_in(waited.raw)
                back = Move(waited.raw, "front", waited.raw, unique_key=key)
                await self._commands.move(pop.consumer_id, [back])
            return False
        if waited.raw == GAP:
            await self._commands.drop_gap(pop.consumer_id)
            return False
        if waited.raw is not None:
            await self._accept(pop, [waited.raw], self._clock.monotonic(), popped)
        self._note_full(waited.is_refused)
        if waited.is_refused:
            await asyncio.sleep(min(seconds, _FULL_PAUSE_SECONDS))
            return False
        return is_as_before

    def _note_full(self, is_full: bool) -> None:
        if is_full != self._is_full:
            self._is_full = is_full
            _logger.warning(
                "Redis has reached its maxmemory and accepts no new items; %s goes on with the "
                "existing ones"
                if is_full
                else "Redis accepts new items again; %s waits for them",
                self._commands.keys.queue,
            )

    async def _accept(
        self, pop: Pop, raws: Sequence[bytes], pop_time: float, popped: list[Popped]
    ) -> None:
        """Hold the taken entries, and read them."""
        taken = self._consumer.hold(
            pop, raws, pop_time + self._lease_seconds, pop_time + self._max_lease_seconds
        )
        if taken is None:
            # They are in the list of an id that is not ours any more, and that perhaps nobody looks
            # after.
            back = [Move(raw, "front", raw, unique_key=key_in(raw)) for raw in reversed(raws)]
            await self._commands.move(pop.consumer_id, back)
            return
        unreadable: list[tuple[Held, UnreadableItem]] = []
        for held in taken:
            try:
                item, redeliveries = delivery_in(held.raw)
            except UnreadableItem as error:
                unreadable.append((held, error))
            else:
                if "unique_key" in item:
                    held.unique_key = key_in(held.raw)
                end_time = held.end_time
                envelope = Envelope(held, pop_time, end_time, redeliveries=redeliveries)
                popped.append((envelope, item))
        if unreadable:
            await self._bury(pop, unreadable)

    async def _bury(self, pop: Pop, unreadable: Sequence[tuple[Held, UnreadableItem]]) -> None:
        now = self._clock.time()
        moves = [as_unreadable(held.raw, error, now) for held, error in unreadable]
        # From here on they are not ours: if the move fails, they are orphans.
        self._consumer.drop([held for held, _ in unreadable])
        for _, error in unreadable:
            _logger.error("moved an unreadable entry to the errors: %s", error)
        await self._commands.move(pop.consumer_id, moves)

    async def _bury_missing(self, ids: Sequence[bytes]) -> None:
        now = self._clock.time()
        await self._commands.bury([as_missing_payload(each, now) for each in ids])
        _logger.error("%d delayed items had no payload; see the error queue", len(ids))
