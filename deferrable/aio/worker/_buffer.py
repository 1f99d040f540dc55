"""The items that a worker holds and that have not started.

Owns their order, their leases while they wait, and how they are given back. Some wait for a slot,
plain ones also for a thread, some for another item of their group or for their own retry, and one
to run alone.

The one rule: each added item is taken out to start, or given back, or lost to its lease. It is
kept until one of these happens. An item waits for a slot or a thread for at most
`LONGEST_WAIT_SECONDS`, because another worker may be idle.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from deferrable.aio._engine.instance import Instance
from deferrable.aio.clock import Timer
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Queue
from deferrable.aio.worker._door import WorkerResources
from deferrable.aio.worker._groups import Groups, key_of
from deferrable.aio.worker._slots import Slots
from deferrable.item import Item

__all__ = ["Buffer", "Buffered"]

_logger = logging.getLogger("deferrable")

LONGEST_WAIT_SECONDS = 1.0
"""The longest wait. Quick jobs do not reach it, except after a pause of the process."""


@dataclass(eq=False, slots=True)
class Buffered:
    """An item that has not started."""

    instance: Instance
    queue: Queue
    envelope: Envelope
    item: Item
    is_plain: bool = False


class Buffer:
    """The waiting items, first in, first out in each line. The slots count them.

    Args:
        slots: count the items.
        resources: its keeper keeps their leases.
        on_room: called when there may be room for more.
        run_in_background: runs something in a task that the worker waits for at its end.
    """

    def __init__(
        self,
        slots: Slots,
        resources: WorkerResources,
        on_room: Callable[[], None],
        run_in_background: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._slots = slots
        self._resources = resources
        self._keeper = resources.keeper
        self._on_room = on_room
        self._run_in_background = run_in_background
        self._timer: Timer | None = None
        self._waiting: deque[Buffered] = deque()
        self._plain: deque[Buffered] = deque()
        self._aside: deque[Buffered] = deque()
        self._resting: dict[Buffered, Timer] = {}
        self._groups: Groups[Buffered] = Groups()

    # In.

    def enter_group(self, each: Buffered) -> bool:
        """Whether the item's group allows it to start; if not, it waits here."""
        if self._groups.enter(each):
            return True
        self._keep(each)
        self._slots.blocked += 1
        return False

    def add(self, each: Buffered) -> None:
        """Let an item wait for a slot, and for a thread if it is plain."""
        self._keep(each)
        self._line_of(each).append(each)
        self._count(each, 1)

    def add_aside(self, each: Buffered) -> None:
        """Let an item wait until `take_aside`."""
        self._keep(each)
        self._aside.append(each)

    def rest(self, each: Buffered, seconds: float, wake: Callable[[Buffered], None]) -> None:
        """Keep an item, which holds its group, until its retry; then give it to `wake`."""
        self._keep(each)

        def end_rest() -> None:
            self._remove(each)
            if each.envelope.in_place is not None:
                each.envelope.in_place.rest_end_time = None
            wake(each)

        self._resting[each] = each.queue.clock.call_later(seconds, end_rest)
        self._slots.blocked += 1

    def _keep(self, each: Buffered) -> None:
        self._keeper.keep(each.queue, each.envelope, partial(self._drop, each))

    def _line_of(self, each: Buffered) -> deque[Buffered]:
        return self._plain if each.is_plain else self._waiting

    def _count(self, each: Buffered, number: int) -> None:
        if each.is_plain:
            self._slots.thread_waiting += number
        else:
            self._slots.buffered += number

    # Out, to be started. The lease is kept until it is let go.

    @property
    def is_ready(self) -> bool:
        """Whether an item waits only for a slot."""
        return bool(self._waiting) or (bool(self._plain) and self._slots.has_thread)

    def take_out(self) -> Buffered:
        """The ready item that has waited longest."""
        line = self._waiting
        if self._plain and self._slots.has_thread:
            is_older = line and line[0].envelope.number < self._plain[0].envelope.number
            line = line if is_older else self._plain
        each = line.popleft()
        self._count(each, -1)
        return each

    def is_aside(self, each: Buffered) -> bool:
        return each in self._aside

    @property
    def aside_count(self) -> int:
        """How many wait for `take_aside`, or to go back."""
        return len(self._aside)

    def take_aside(self, each: Buffered) -> None:
        self._aside.remove(each)

    def blocked(self) -> Iterator[Buffered]:
        """Those that wait for another of their group, or for their retry."""
        yield from self._groups.waiting()
        yield from self._resting

    def has_more(self, key: Hashable) -> bool:
        """Whether an item waits for another of its group."""
        return self._groups.has_more(key)

    def leave_group(
        self, key: Hashable, *, goes_on: bool, item_id: object = None
    ) -> Buffered | None:
        """The item that held a group is gone. Return the next one, which may start.

        Args:
            goes_on: it has ended for good; if False, the items behind it go back to the queue.
            item_id: its id, if it may have come again already.
        """
        following, back = self._groups.leave(key, goes_on=goes_on, item_id=item_id)
        self._slots.blocked -= len(back) + (following is not None)
        if back:
            self._run_in_background(self._give_back(back, 0.0))
        return following

    # Back to the queue.

    def newest_plain(self, queue: Queue, count: int) -> list[Buffered]:
        """Up to `count` items of a queue that wait for a thread."""
        own = [each for each in self._plain if each.queue is queue]
        return own[max(0, len(own) - count) :]

    def watch(self) -> None:
        """Give the waiting items back if they do not start in time."""
        if self._timer is None and self._resources.is_open:
            self._look()

    def close(self) -> None:
        """Give nothing back any more, except on request."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        firsts = [self._first_to_return(line) for line in (self._waiting, self._plain)]
        first = min((each for each in firsts if each), key=_number, default=None)
        if first is None:
            return
        clock = first.queue.clock
        rest_seconds = first.envelope.pop_time + LONGEST_WAIT_SECONDS - clock.monotonic()
        if rest_seconds > 0 and not self._slots.has_stalled:
            self._timer = clock.call_later(rest_seconds, self._look)
            return
        if not first.is_plain:
            self._slots.has_stalled = True
        overdue = set(filter(_may_go_back, self._line_of(first)))
        self._run_in_background(self.give_back(overdue.__contains__))
        self._look_again()

    def _look_again(self) -> None:
        """Other items wait in the other line while these go back."""
        if self._waiting and self._plain:
            self._timer = self._plain[0].queue.clock.call_later(LONGEST_WAIT_SECONDS, self._look)

    def _first_to_return(self, line: Iterable[Buffered]) -> Buffered | None:
        return next((each for each in line if _may_go_back(each)), None)

    async def give_back(
        self,
        which: "Callable[[Buffered], bool]" = lambda _: True,
        delay_seconds: float = 0.0,
    ) -> None:
        """Release the waiting items, in their old order, while the worker has patience.

        They count as being settled meanwhile. If this is cancelled, the items that were not
        released wait again. Items behind one of these in its group go back, too.
        """
        given = [each for each in self._all() if which(each)]
        holders = {each for each in given if key_of(each) is not None}
        holders.difference_update(self._groups.waiting())
        for each in given:
            self._remove(each)
        behind: list[Buffered] = []
        for each in given:
            if each in holders:
                _, back = self._groups.leave(key_of(each), goes_on=False)
                self._slots.blocked -= len(back)
                behind.extend(back)
        await self._give_back(sorted([*given, *behind], key=_number), delay_seconds)

    async def _give_back(self, given: list[Buffered], delay_seconds: float) -> None:
        self._slots.settling += len(given)
        try:
            await self._release(given, delay_seconds)
        except BaseException:
            for each in reversed([each for each in given if _is_to_be_returned(each)]):
                self._line_of(each).appendleft(each)
                self._count(each, 1)
            raise
        finally:
            self._slots.settling -= len(given)
            self._on_room()

    async def _release(self, waiting: list[Buffered], delay_seconds: float) -> None:
        failures, patience, refused = 0, self._resources.patience, waiting
        try:
            while waiting:
                for queue, envelopes in _by_queue(waiting).items():
                    await self._release_once(queue, envelopes, delay_seconds)
                for each in waiting:
                    if each.envelope.settlement != "open":
                        self._keeper.let_go(each.queue, each.envelope)
                waiting = [each for each in waiting if _is_to_be_returned(each)]
                if waiting and patience.is_over:
                    _logger.warning("%d items come back only after their leases", len(waiting))
                    return
                if waiting:
                    failures += 1
                    await patience.pause(waiting[0].queue.clock, failures)
        finally:
            for each in refused:
                patience.forget(each.queue, each.envelope)

    async def _release_once(
        self, queue: Queue, envelopes: Sequence[Envelope], delay_seconds: float
    ) -> None:
        outcomes: Sequence[Exception | None]
        try:
            outcomes = await _release_each(queue, envelopes, delay_seconds)
        except Exception as error:  # an adapter's own mistake must not end it either
            outcomes = [error] * len(envelopes)
        for envelope, outcome in zip(envelopes, outcomes, strict=True):
            if outcome is not None and envelope.settlement == "open":
                self._resources.patience.note_refusal(queue, envelope, outcome)

    # All lines.

    def _all(self) -> Iterator[Buffered]:
        for line in (self._waiting, self._plain, self._aside, self.blocked()):
            yield from line

    def _remove(self, each: Buffered) -> bool:
        """Forget an item; return whether it was here."""
        if each in self._aside:
            self._aside.remove(each)
        elif each in self._line_of(each):
            self._line_of(each).remove(each)
            self._count(each, -1)
        elif each in self._resting:
            self._resting.pop(each).cancel()
            self._slots.blocked -= 1
        elif self._groups.remove(each):
            self._slots.blocked -= 1
        else:
            return False
        return True

    def _drop(self, each: Buffered) -> None:
        """Its lease was lost while it waited. Those behind it in its group go back."""
        if each in self._groups.waiting():
            back = self._groups.cut(each)
            self._slots.blocked -= 1 + len(back)
            if back:
                self._run_in_background(self._give_back(back, 0.0))
        elif self._remove(each):
            self.leave_group(key_of(each), goes_on=False)
        else:
            return
        self._on_room()


def _number(each: Buffered) -> int:
    return each.envelope.number


def _may_go_back(each: Buffered) -> bool:
    return not each.queue.COUNTS_RELEASES


async def _release_each(
    queue: Queue, envelopes: Sequence[Envelope], delay_seconds: float
) -> Sequence[Exception | None]:
    now = queue.clock.monotonic()
    if not delay_seconds and not any(_rest_seconds(each, now) for each in envelopes):
        return await queue.release_each(envelopes)

    async def release(envelope: Envelope) -> Exception | None:
        try:
            await queue.release(envelope, max(delay_seconds, _rest_seconds(envelope, now)))
        except Exception as error:
            return error
        return None

    return await asyncio.gather(*map(release, envelopes))


def _rest_seconds(envelope: Envelope, now: float) -> float:
    """Until the retry of an item that rests."""
    in_place = envelope.in_place
    if in_place is None or in_place.rest_end_time is None:
        return 0.0
    return max(0.0, in_place.rest_end_time - now)


def _by_queue(waiting: Iterable[Buffered]) -> dict[Queue, list[Envelope]]:
    envelopes: dict[Queue, list[Envelope]] = {}
    for each in waiting:
        envelopes.setdefault(each.queue, []).append(each.envelope)
    return envelopes


def _is_to_be_returned(each: Buffered) -> bool:
    is_ours = each.queue.clock.monotonic() < each.envelope.lease_end_time
    return is_ours and each.envelope.settlement == "open"
