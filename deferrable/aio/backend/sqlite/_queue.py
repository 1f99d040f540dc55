"""A queue in a SQLite file.

Owns what each verb of the contract asks of the file, and how long a pop waits. The queue of jobs
and the error queue are the same here, under two names.

The one rule: one verb is one transaction, also where it changes both queues.
"""

import asyncio
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from deferrable._codec.json import load_item
from deferrable.aio._contract.popping import Popped
from deferrable.aio._contract.settlement import LOST_ADVICE
from deferrable.aio.backend.sqlite import _finding
from deferrable.aio.backend.sqlite._errors import is_for_want_of_room
from deferrable.aio.backend.sqlite._lending import Loan, lending, loan_of, refuse_inside
from deferrable.aio.backend.sqlite._looking import LookingQueue
from deferrable.aio.backend.sqlite._place import boot_id
from deferrable.aio.backend.sqlite._store import Delivery, Entry, Lane, Lease, Now, Store, Taken
from deferrable.aio.backend.sqlite._tickets import LoopTicket, Work
from deferrable.aio.backend.sqlite._waking import Waiter
from deferrable.aio.backend.sqlite._writer import Writer
from deferrable.aio.clock import Clock, SystemClock, timer_time
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Push, Queue, Release, Touch
from deferrable.errors import (
    BackendError,
    ItemTooLarge,
    LeaseLost,
    UnreadableItem,
)
from deferrable.item import Item

__all__ = ["SQLiteQueue"]

T = TypeVar("T")

_logger = logging.getLogger("deferrable")

_BOOT = boot_id()
_NO_LEASE = Lease(-1, -1)


class SQLiteQueue(LookingQueue):
    """A producer and consumer of one queue in a file. Made by `SQLiteBackendFactory`.

    Args:
        lane: the queue's name, and where it buries items.
        writer: of the file.
        wait_time: how many seconds a pop waits for an item.
        visibility_timeout: how many seconds a popped item stays hidden without a touch.
        clock: the source of time; None: the machine's.
    """

    SUPPORTS_CANCEL = True
    SUPPORTS_INSPECTION = True
    SUPPORTS_PAUSE = True
    SUPPORTS_WORKERS = True
    SUPPORTS_PEEK = True
    SUPPORTS_UNIQUE = True
    KEEPS_DELAYS = True

    def __init__(
        self,
        lane: Lane,
        writer: Writer,
        wait_time: float,
        visibility_timeout: float,
        max_lease_seconds: float | None,
        max_item_bytes: int,
        clock: Clock | None,
    ) -> None:
        super().__init__(
            visibility_timeout,
            max_lease_seconds=max_lease_seconds,
            max_redeliveries=lane.max_redeliveries,
            clock=clock,
        )
        self.MAX_ITEM_BYTES = max_item_bytes
        self.lane = lane
        self.writer = writer
        self.injected_clock = clock
        self._wait_seconds = wait_time
        self._do: Callable[..., Any] = writer.perform
        self._view: SQLiteQueue | None = None
        self._is_lent = False
        writer.join(self)

    def __repr__(self) -> str:
        return f"<SQLiteQueue {self.lane.name} in {self.writer.place.shown}>"

    @property
    def identity(self) -> Hashable:
        return self.writer.place.path, self.lane.name

    def now(self) -> Now:
        """The moment. See `Now` for its scales."""
        time, monotonic = self.clock.time(), self.clock.monotonic()
        # Without a name for the machine's start, its monotonic clock means nothing after one.
        is_shared = self.injected_clock is not None or _BOOT is not None
        return Now(time, monotonic if is_shared else time, monotonic)

    def _without_loop(self) -> Queue:
        if self._view is None:
            view = self._copy_without_loop()
            view._do = view._do_here
            self._view = view
        return self._view

    async def _do_here(self, work: Work[T]) -> T:
        return self.writer.call(work)

    async def run(self, work: Work[T]) -> T:
        """Do `work` in a transaction, as this queue does it: for a loop, or without one."""
        if not self._is_lent:
            refuse_inside(self.writer.place)
        answer: T = await self._do(work)
        return answer

    async def run_push(self, work: Work[T]) -> T:
        """Do `work` in the user's transaction if there is one here, else like `run`."""
        loan = loan_of(self.writer.place)
        return await self.run(work) if loan is None else loan.run(work)

    # Push.

    def _travelling_bytes(self, text: str, *, is_new: bool) -> int:
        return len(text) if is_new else 0  # The limit is for new items.

    def _too_large(self, size: int) -> ItemTooLarge:
        return ItemTooLarge(
            f"the item is {size} bytes, {self!r} takes at most {self._most_item_bytes()}; pass a "
            "reference to the data instead of the data, or raise max_item_bytes"
        )

    async def _push_batch(self, pushes: Sequence[Push]) -> Sequence[Exception | None]:
        entries = [(push.text, push.delay_seconds) for push in pushes]
        try:
            if [push for push in pushes if push.unique_key is not None]:
                return await self._push_unique(pushes)
            await self.run(lambda store: store.push(self.lane, entries, self.now()))
        except BackendError as error:
            if len(pushes) == 1 or not is_for_want_of_room(error):
                return [error] * len(pushes)
            # Nothing was stored. Halves are pushed, in their order, until what does not fit is
            # alone.
            middle = len(pushes) // 2
            halves = pushes[:middle], pushes[middle:]
            return [outcome for half in halves for outcome in await self._push_batch(half)]
        return [None] * len(pushes)

    async def _push_unique(self, pushes: Sequence[Push]) -> Sequence[Exception | None]:
        entries = [Entry(push.text, push.delay_seconds, push.unique_key) for push in pushes]
        return await self.run(lambda store: store.push_unique(self.lane, entries, self.now()))

    # Pushes in a transaction of the user. They are never batched with those of other callers.

    def using(self, connection: object) -> AbstractContextManager[None]:
        return lending(self.writer, connection)

    async def push(self, item: Item | Push) -> None:
        loan = loan_of(self.writer.place)
        if loan is None:
            await super().push(item)
        else:
            await super(SQLiteQueue, self._of_loan(loan)).push(item)

    async def push_each(self, items: Sequence[Item | Push]) -> list[Exception | None]:
        loan = loan_of(self.writer.place)
        if loan is None:
            return await super().push_each(items)
        return await super(SQLiteQueue, self._of_loan(loan)).push_each(items)

    def _of_loan(self, loan: Loan) -> "SQLiteQueue":
        async def run(work: Work[T]) -> T:
            return loan.run(work)

        view = self._copy_without_loop()
        view._do, view._is_lent = run, True
        return view

    # Pop.

    async def wait_for_items(self, seconds: float) -> None:
        waiter, clock = Waiter(self.lane.name, self), SystemClock()
        end_time = clock.monotonic() + seconds
        self.writer.waking.add(waiter)
        try:
            rest, _ = await self._look(lambda store: store.outlook(self.lane, self.now()))
            await waiter.wait(clock, min(end_time, clock.monotonic() + rest))
        finally:
            self.writer.waking.remove(waiter)

    async def pop_at_once(self, count: int) -> list[Popped]:
        return await self._read(await self.writer.perform(*self._taking(count)))

    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        end_time = timer_time(self.clock) + self._wait_seconds
        was_paused = self.seen_pause is not None
        # Noted before it looks, so that it can be interrupted, too.
        waiter = Waiter(self.lane.name, self)
        if self._wait_seconds:
            self.writer.waking.add(waiter)
        try:
            taken = await self.writer.perform(*self._taking(count))
            while True:
                popped = await self._read(taken)
                self.seen_pause = taken.pause
                is_changed = (taken.pause is not None) != was_paused
                rest = end_time - timer_time(self.clock)
                if popped or waiter.is_interrupted or is_changed or rest <= 0:
                    return popped
                # From when it looked: the clock may have moved since.
                next_time = taken.now.monotonic + taken.rest_seconds
                next_time = min(self.clock.monotonic() + rest, next_time)
                taken = await self._take_next(waiter, count, next_time)
        finally:
            self.writer.waking.remove(waiter)

    async def _take_next(self, waiter: Waiter, count: int, next_time: float) -> Taken:
        """Take items when the waiter is woken, or at `next_time` on the monotonic clock."""
        ticket = LoopTicket(*self._taking(count))
        # The thread that hears of an item takes it at once, which saves two changes of threads.
        waiter.arm(ticket)
        try:
            await waiter.wait(self.clock, next_time)
        except asyncio.CancelledError:
            if not waiter.disarm():
                self.writer.forget(ticket)
            raise
        if not waiter.disarm():
            taken = await ticket.future
            waiter.note_taken()
            return taken
        waiter.take_over(ticket)
        waiter.rearm()
        self.writer.submit(ticket)
        return await ticket.future

    def _taking(
        self, count: int
    ) -> tuple[Work[Taken], Work[Taken | None], Callable[[Taken], Work[None] | None]]:
        """The work of a pop, what it does first without a lock, and what takes it back."""

        def look(store: Store) -> Taken | None:
            now = self.now()
            rest, pause = store.outlook(self.lane, now)
            return Taken([], now, rest, pause) if rest > 0 else None

        def take(store: Store) -> Taken:
            now = self.now()
            deliveries = store.take(self.lane, count, now, self.lease_seconds)
            if deliveries:
                return Taken(deliveries, now, 0.0)
            return Taken([], now, *store.outlook(self.lane, now))

        refuse_inside(self.writer.place)
        return take, look, self._give_back

    def _give_back(self, taken: Taken) -> Work[None] | None:
        """The work that gives back what was taken for a caller who has gone."""
        if not taken.deliveries:
            return None

        def release(store: Store) -> None:
            now = self.now()
            for delivery in taken.deliveries:
                store.release(self.lane, delivery.lease, now, 0, to_front=True, is_counted=False)

        return release

    async def _read(self, taken: Taken) -> list[Popped]:
        popped: list[Popped] = []
        for delivery in taken.deliveries:
            try:
                item = load_item(delivery.text)
            except UnreadableItem as error:
                await self._bury(delivery, error)
            else:
                popped.append((self._envelope(delivery, taken.now), item))
        return popped

    def _envelope(self, delivery: Delivery, now: Now) -> Envelope:
        end_time = now.monotonic + self.lease_seconds
        return Envelope(delivery.lease, now.monotonic, end_time, redeliveries=delivery.redeliveries)

    async def _bury(self, delivery: Delivery, error: UnreadableItem) -> None:
        """Move an item that another program has written, or damaged, out of the way."""
        _logger.error("moved an unreadable item to the error queue: %s", error)

        def bury(store: Store) -> None:
            now = self.now()
            if store.holds(delivery.lease, now):
                store.bury(self.lane, delivery.lease.row, error, now)

        await self.run(bury)

    def _interrupt_pop(self) -> None:
        self.writer.waking.interrupt(self, asyncio.get_running_loop())

    # Touch and settlement.

    async def _touch_batch(self, touches: Sequence[Touch]) -> Sequence[Exception | None]:
        def touch(store: Store) -> tuple[list[bool], Sequence[tuple[int, int]]]:
            now = self.now()
            held = [store.touch(_lease(each.envelope), each.seconds, now) for each in touches]
            return held, _finding.stops(store, self.lane)

        were_held, stops = await self.run(touch)
        for each in touches if stops else ():
            each.envelope.is_stop_wanted = tuple(_lease(each.envelope)) in stops
        return _outcomes([each.envelope for each in touches], were_held)

    async def _complete_batch(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        def complete(store: Store) -> list[bool]:
            now = self.now()
            return [store.remove(_lease(envelope), now) for envelope in envelopes]

        return _outcomes(envelopes, await self.run(complete))

    async def _release_batch(self, releases: Sequence[Release]) -> Sequence[Exception | None]:
        def release(store: Store) -> list[bool]:
            now = self.now()
            return [
                store.release(
                    self.lane,
                    _lease(each.envelope),
                    now,
                    each.delay_seconds,
                    to_front=not each.envelope.has_started,
                    is_counted=each.is_counted,
                )
                for each in releases
            ]

        return _outcomes([each.envelope for each in releases], await self.run(release))

    async def _replace(self, envelope: Envelope, push: Push, to: Queue) -> None:
        if not (isinstance(to, SQLiteQueue) and to.writer is self.writer):
            await super()._replace(envelope, push, to)
            return
        target = to

        def replace(store: Store) -> BackendError | None:
            now, lease = self.now(), _lease(envelope)
            if not store.holds(lease, now):
                return _lost(envelope)
            entry = Entry(push.text, push.delay_seconds, push.unique_key)
            return store.replace(self.lane, lease, target.lane, entry, target.now())

        outcome = await self.run(replace)
        if outcome is not None:
            raise outcome

    async def _free_key(self, envelope: Envelope) -> None:
        if not await self.run(lambda store: store.free_key(_lease(envelope), self.now())):
            raise _lost(envelope)

    # Looking.

    async def _pop_keys(self, keys: Sequence[str]) -> Sequence[Popped | None]:
        wanted = [_place_of(key) for key in keys]

        def take(store: Store) -> tuple[list[Delivery | None], Now]:
            now = self.now()
            return store.take_rows(self.lane, wanted, now, self.lease_seconds), now

        deliveries, now = await self.run(take)
        popped: list[Popped | None] = []
        for delivery in deliveries:
            read = [] if delivery is None else await self._read(Taken([delivery], now, 0.0))
            popped.append(read[0] if read else None)
        return popped

    async def _flush(self) -> None:
        await self.run(lambda store: store.flush(self.lane))

    async def _stats(self) -> Mapping[str, float]:
        return await self._look(lambda store: store.stats(self.lane, self.now()))

    async def _close(self) -> None:
        self.writer.waking.interrupt(self, None)
        self.writer.leave(self)


def _lease(envelope: Envelope) -> Lease:
    handle = envelope.handle
    return handle if isinstance(handle, Lease) else _NO_LEASE


def _outcomes(envelopes: Sequence[Envelope], were_held: Sequence[bool]) -> list[Exception | None]:
    return [
        None if was_held else _lost(envelope)
        for envelope, was_held in zip(envelopes, were_held, strict=True)
    ]


def _lost(envelope: Envelope) -> LeaseLost:
    return LeaseLost(
        f"{envelope!r} no longer belongs to this consumer: it was settled or flushed, or its lease "
        f"ended; {LOST_ADVICE}"
    )


def _place_of(key: str) -> tuple[int, float]:
    row, _, pushed = key.partition("-")
    return int(row), float(pushed)
