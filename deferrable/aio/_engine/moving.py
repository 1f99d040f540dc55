"""Move the items of a live queue into a queue of another broker.

Owns the order of settlement of a move: an item is pushed to the target, then removed from the
source. Producers and workers of both queues may be at work meanwhile.

The one rule: an item is removed from the source only after the target has acknowledged it, and
nothing is removed from the target but a call that was cancelled meanwhile. A process that is killed
between the two steps leaves the items in its hand, at most `HAND` of them, in both queues. Their
delivery ended without a settlement, or they are delayed, so the next move looks for them in the
target before it pushes them again.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import TypeGuard

import msgspec

from deferrable._moving import Tally, call_of, outgoing, wait_seconds
from deferrable.aio._contract.inspecting import Found, each_found
from deferrable.aio._contract.popping import Popped
from deferrable.aio._engine.keeper import Keeper, keeper
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Push, Queue
from deferrable.errors import (
    BackendUnavailable,
    DeferrableError,
    DuplicateCall,
    LeaseLost,
    Unsupported,
)
from deferrable.item import Item
from deferrable.lifecycle import shortened

__all__ = ["HAND", "MOST_REFUSED", "Lane", "move"]

HAND = 100
"""How many items are in hand at most, pushed to the target and not yet removed from the source."""

MOST_REFUSED = 1000
"""How many refused items are held, so that they are not popped again, before the move gives up."""

_SOON_SECONDS = 2.0
"""A delayed item that is due earlier is popped when it is due: a worker might take it meanwhile."""

_PAUSE_SECONDS = 1.0


async def move(main: "Lane", errors: "Lane | None", *, until_empty: bool) -> None:
    """Move what is there, and with `until_empty` what comes, until nothing is left.

    Raises:
        BackendError: a broker cannot be used; what was moved stays moved. Call it again.
    """
    lanes = [main] if errors is None else [main, errors]
    async with AsyncExitStack() as stack:
        for lane in lanes:
            stack.push_async_callback(lane.close)
        while True:
            await main.drain()
            soon_seconds = await main.move_delayed()
            if soon_seconds:
                await asyncio.sleep(soon_seconds)
                await main.drain()
            if errors is not None:
                await errors.drain()
            if not until_empty or main.is_stopped() or await _is_empty(lanes):
                return
            await asyncio.sleep(_PAUSE_SECONDS)


async def _is_empty(lanes: Sequence["Lane"]) -> bool:
    """Whether nothing is left that can be moved."""
    for lane in lanes:
        stats = await lane.source.stats()
        if "paused_seconds" in stats:
            return True  # Nothing more can be taken.
        count = sum(stats.get(name, 0) for name in ("available", "in_flight", "delayed"))
        if count > lane.held_count:
            return False
    return True


class Lane:
    """One queue whose items move into another.

    Args:
        tally: counts what happens here.
        is_stopped: whether to end before the next items are taken.
        on_progress: called after each hand.
        is_for_errors: both are error queues.
    """

    def __init__(
        self,
        source: Queue,
        target: Queue,
        *,
        tally: Tally,
        is_stopped: Callable[[], bool],
        on_progress: Callable[[], None],
        is_for_errors: bool = False,
    ) -> None:
        self.source = source
        self.target = target
        self.tally = tally
        self.is_stopped = is_stopped
        self._on_progress = on_progress
        self._is_for_errors = is_for_errors
        self._there: set[str] | None = None
        # Also after they were completed: SQS may deliver a message once more after that.
        self._pushed: set[str] = set()
        self._refused: dict[Envelope, None] = {}  # in their order
        self._refused_late: set[str] = set()
        self._keeper: Keeper | None = None

    @property
    def held_count(self) -> int:
        """How many items stay because the target has refused them."""
        return len(self._refused) + len(self._refused_late)

    # What is available.

    async def drain(self) -> None:
        """Move available items until a pop finds none."""
        # An empty answer of a standard queue of SQS does not prove that it is empty.
        empty_answers = 1 if self.source.SUPPORTS_INSPECTION else 2
        while empty_answers and not self.is_stopped():
            popped = await self._pop()
            if popped:
                await self._pass_on(popped)
                self._on_progress()
            else:
                empty_answers -= 1

    async def _pop(self) -> Sequence[Popped]:
        if self.source.MAX_POP_BATCH_SIZE < HAND:
            return await self.source.pop_up_to(HAND)
        return await self.source.pop_at_once(HAND)

    async def _pass_on(self, popped: Sequence[Popped]) -> None:
        envelopes = [envelope for envelope, _ in popped]
        self._keep(envelopes)
        try:
            pushes: list[tuple[Envelope, Push]] = []
            found: list[Envelope] = []
            for envelope, item in popped:
                if await self._is_there(envelope, item):
                    found.append(envelope)
                elif (push := self._push_for(envelope, item)) is not None:
                    pushes.append((envelope, push))
            await self._settle(pushes, found)
            self._check_refused()
        finally:
            # What is open now comes back after its lease, marked as redelivered.
            self._let_go([each for each in envelopes if each not in self._refused])

    async def _settle(
        self, pushes: Sequence[tuple[Envelope, Push]], found: Sequence[Envelope]
    ) -> None:
        """Push to the target, then complete in the source. The one place with this order."""
        now = self.source.clock.monotonic()
        held = [each for each in pushes if now < each[0].lease_end_time]
        outcomes = await self.target.push_each([push for _, push in held])
        new: dict[Envelope, Push] = {}
        there = list(found)
        failures: list[Exception] = []
        for (envelope, push), outcome in zip(held, outcomes, strict=True):
            if outcome is None:
                new[envelope] = push
            elif _is_held_by_itself(outcome, push.item):
                there.append(envelope)
            elif _is_refusal(outcome):
                self._refuse(envelope, push.item, outcome)
            else:  # It may have arrived.
                failures.append(outcome)
        self._pushed.update(call_of(push.item) for push in new.values())
        envelopes = [*new, *there]
        completed = await self.source.complete_each(envelopes)
        for envelope, failure in zip(envelopes, completed, strict=True):
            if failure is None:
                self._count(envelope, new.get(envelope))
                continue
            self.tally.doubled += envelope in new
            if not isinstance(failure, LeaseLost):
                failures.append(failure)
        if failures:
            raise failures[0]

    def _count(self, envelope: Envelope, push: Push | None) -> None:
        if push is None:
            self.tally.found += 1
            return
        self.tally.moved += 1
        if _was_delivered(envelope) and not self.target.SUPPORTS_INSPECTION:
            self.tally.unsure += 1

    # What is delayed.

    async def move_delayed(self) -> float:
        """Move delayed items, with the moments at which they are due.

        Returns:
            how long to wait for items that are due so soon that they stay; 0: there are none.
        """
        if not self.source.SUPPORTS_CANCEL:
            return 0.0  # SQS: nobody sees them before they are due
        soon_seconds, cursor = 0.0, ""
        while not self.is_stopped():
            page, cursor = await self.source.inspect(cursor)
            now = self.source.clock.time()
            late: list[Found] = []
            for found in page:
                if found.available_time is not None and not _is_unreadable(found.item):
                    rest = found.available_time - now
                    if rest >= _SOON_SECONDS:
                        late.append(found)
                    else:
                        soon_seconds = max(soon_seconds, rest)
            for start in range(0, len(late), HAND):
                await self._pass_on_delayed(late[start : start + HAND])
                self._on_progress()
            if not cursor:
                break
        return soon_seconds

    async def _pass_on_delayed(self, late: Sequence[Found]) -> None:
        pushes: list[tuple[Found, Push]] = []
        for found in late:
            assert found.available_time is not None
            is_there = await self._has(found.item)
            seconds = max(0.0, found.available_time - self.source.clock.time())
            if is_there:
                self.tally.found += await self.source.withdraw(found)
            elif call_of(found.item) not in self._refused_late:
                try:
                    push = self._prepared(found.item, 0, seconds)
                except DeferrableError as error:
                    self._refuse_late(found, error)
                else:
                    pushes.append((found, push))
        outcomes = await self.target.push_each([push for _, push in pushes])
        answered = list(zip(pushes, outcomes, strict=True))
        self._pushed.update(call_of(found.item) for (found, _), each in answered if each is None)
        failures: list[Exception] = []
        for (found, push), outcome in answered:
            if outcome is None:
                await self._withdraw(found)
            elif _is_held_by_itself(outcome, push.item):
                self.tally.found += await self.source.withdraw(found)
            elif _is_refusal(outcome):
                self._refuse_late(found, outcome)
            else:
                failures.append(outcome)
        if failures:
            raise failures[0]

    async def _withdraw(self, found: Found) -> None:
        """Remove from the source what the target has now."""
        if await self.source.withdraw(found):
            self.tally.moved += 1
        elif not await self._was_cancelled(found.item):
            self.tally.doubled += 1

    async def _was_cancelled(self, item: Item) -> bool:
        """Whether an item was cancelled while it moved; then the target must not run it either."""
        item_id = item.get("id")
        if not isinstance(item_id, str) or not self.target.SUPPORTS_CANCEL:
            return False
        here = await self.source.find(item_id)
        if here is None or here.place != "cancelled":
            return False
        there = await self.target.find(item_id)
        if there is None or call_of(there.item) != call_of(item):
            return False
        return await self.target.cancel(there)

    def _refuse_late(self, found: Found, error: DeferrableError) -> None:
        self._refused_late.add(call_of(found.item))
        self.tally.refuse(found.item, error)

    # What the target has.

    async def _is_there(self, envelope: Envelope, item: Item) -> bool:
        """Whether the target has an item whose earlier delivery was not settled."""
        if call_of(item) in self._pushed:
            return True
        # The error queue in Redis does not count deliveries.
        if not _was_delivered(envelope) and not self._is_for_errors:
            return False
        return await self._has(item)

    async def _has(self, item: Item) -> bool:
        """Whether the target had the item when this was first asked, or it was pushed since."""
        if self._there is None:
            self._there = await _calls_in(self.target)
        call = call_of(item)
        return call in self._there or call in self._pushed

    # One item.

    def _push_for(self, envelope: Envelope, item: Item) -> Push | None:
        """What to push for a popped item; None: the target does not take it."""
        in_place = envelope.in_place
        attempts = 0 if in_place is None else in_place.attempts
        try:
            seconds = 0.0
            if not self._is_for_errors:
                now = self.source.clock.time()
                seconds = wait_seconds(item, now, is_due=self.source.KEEPS_DELAYS)
            return self._prepared(item, attempts, seconds)
        except DeferrableError as error:
            self._refuse(envelope, item, error)
            return None

    def _prepared(self, item: Item, attempts: int, seconds: float) -> Push:
        target = self.target
        if seconds and not target.SUPPORTS_DELAY:
            raise Unsupported(
                f"{target!r} cannot delay an item, and it is due in {seconds:.0f} s; move it when "
                "it is due"
            )
        most = target.MAX_DELAY_SECONDS
        item = outgoing(item, attempts, seconds, self.source.clock.time(), most)
        if self._is_for_errors:
            item = shortened(item, target.excess_bytes(item))
        push = target.prepare(item, is_delayed=False, is_new=False)
        return msgspec.structs.replace(push, delay_seconds=min(seconds, most))

    # What is held.

    def _keep(self, envelopes: Sequence[Envelope]) -> None:
        self._keeper = leases = keeper(asyncio.get_running_loop())
        for envelope in envelopes:
            leases.keep(self.source, envelope, _note_nothing)

    def _let_go(self, envelopes: Sequence[Envelope]) -> None:
        if self._keeper is not None:
            for envelope in envelopes:
                self._keeper.let_go(self.source, envelope)

    def _refuse(self, envelope: Envelope, item: Item, error: DeferrableError) -> None:
        call = call_of(item)
        if call in self._refused_late:  # it was delayed then, and is counted already
            self._refused_late.discard(call)
        else:
            self.tally.refuse(item, error)
        # Held until the end, or the next pop would return it again.
        self._refused[envelope] = None

    def _check_refused(self) -> None:
        """End the move if too many are held; between two hands, when nothing is half done."""
        if len(self._refused) > MOST_REFUSED:
            raise Unsupported(
                f"{self.target!r} has refused more than {MOST_REFUSED} items, most of them because "
                f"{self.tally.refused.most_common(1)[0][0]}; the rest was not tried"
            )

    async def close(self) -> None:
        """Give back the refused items, in their order."""
        refused, self._refused = self._refused, {}
        self._let_go(list(refused))
        try:
            if refused:
                await self.source.release_each(list(refused))
        finally:
            if self._keeper is not None:
                await self._keeper.tidy()


async def _calls_in(queue: Queue) -> set[str]:
    """What tells the items of a queue from others; none if it cannot show them."""
    if not queue.SUPPORTS_INSPECTION:
        return set()
    return {call_of(each.item) async for each in each_found(queue) if each.place != "cancelled"}


def _was_delivered(envelope: Envelope) -> bool:
    """Whether an earlier delivery ended without a settlement, as far as the source knows."""
    in_place = envelope.in_place
    return envelope.redeliveries > 0 or (in_place is not None and in_place.attempts > 0)


def _is_unreadable(item: Item) -> bool:
    """Whether it only stands for an entry that no pop can read, and will bury when it is due."""
    return "raw" in item and "error" in item


def _is_held_by_itself(outcome: Exception, item: Item) -> bool:
    """Whether a push was refused because the target has this very item."""
    return isinstance(outcome, DuplicateCall) and outcome.holder_id == item.get("id")


def _is_refusal(outcome: Exception) -> TypeGuard[DeferrableError]:
    """Whether the target does not take the item, also at the next try."""
    return isinstance(outcome, DeferrableError) and not isinstance(outcome, BackendUnavailable)


def _note_nothing() -> None:
    """Do nothing: the settlement of the item will raise `LeaseLost`."""
