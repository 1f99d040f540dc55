"""The in-memory backend: the reference for what a queue promises, and the one for tests.

Owns the lock around the items of one group, and who waits for them on which event loop. Items are
kept as JSON text and read at pop. So a popped item is what a broker would have given, and shares
nothing with the pushed item.

The one rule: the lock is never held across an await, and never while other code runs.
"""

import asyncio
import socket
import threading
from collections.abc import Hashable, Mapping, Sequence
from typing import cast

from deferrable._codec.json import dump_value, load_item
from deferrable._fork import on_fork, set_aside
from deferrable.aio._contract.inspecting import Found, Place
from deferrable.aio._contract.loop_waiter import LoopWaiter
from deferrable.aio._contract.popping import Popped
from deferrable.aio._contract.settlement import LOST_ADVICE
from deferrable.aio.backend.memory._schedules import PushesHere
from deferrable.aio.backend.memory._store import Lease, Now, Standing, Store, StoredItem
from deferrable.aio.clock import Clock, SystemClock, timer_time
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Peeked, Push, Queue, Release, Touch
from deferrable.errors import DuplicateCall, LeaseLost, UnreadableItem
from deferrable.item import Item
from deferrable.lifecycle import with_error
from deferrable.pause import Pause
from deferrable.worker_reports import WorkerReport

__all__ = ["Group", "InMemoryQueue"]


class _WaitingPop(LoopWaiter):
    """A pop that waits on its loop for something to be available, until `wake_time` (monotonic)."""

    def __init__(self, consumer: "InMemoryQueue", now: Now, seconds: float) -> None:
        super().__init__()
        self.consumer = consumer
        self.wake_time = now.monotonic + seconds
        self.is_interrupted = False


class Group:
    """A queue's and its error queue's items, under one lock, so that one step can change both."""

    def __init__(self, lease_seconds: float, max_redeliveries: float) -> None:
        self.errors = Store(lease_seconds)
        self.main = Store(lease_seconds, max_redeliveries, self.errors)
        self.lock = threading.Lock()
        self.waiters: set[_WaitingPop] = set()
        on_fork(self._reset_after_fork)

    def rest_seconds(self, now: Now) -> float:
        return min(self.main.rest_seconds(now), self.errors.rest_seconds(now))

    def wake(self, now: Now) -> None:
        """Wake the waiters whose items are there now, or whose moment is too late now."""
        if not self.waiters:
            return
        moment = now.monotonic + self.rest_seconds(now)
        for waiter in self.waiters:
            if waiter.consumer.store.is_available or moment < waiter.wake_time:
                waiter.wake()

    def wake_all(self, store: Store) -> None:
        """Wake all who wait for items of `store`."""
        for waiter in self.waiters:
            if waiter.consumer.store is store:
                waiter.wake()

    def _reset_after_fork(self) -> None:
        # The items are a copy of the parent's; the waiters belong to the parent.
        set_aside(self.waiters)
        self.waiters = set()
        self.lock = threading.Lock()


class InMemoryQueue(PushesHere):
    """A consumer of items that live in this process. Made by `InMemoryBackendFactory`."""

    SUPPORTS_CANCEL = True
    SUPPORTS_INSPECTION = True
    SUPPORTS_PAUSE = True
    SUPPORTS_PEEK = True
    SUPPORTS_UNIQUE = True
    SUPPORTS_WORKERS = True
    IS_LOCAL = True

    def __init__(
        self,
        name: str,
        group: Group,
        store: Store,
        timeout: float | None,
        visibility_timeout: float,
        max_lease_seconds: float | None,
        clock: Clock | None,
    ) -> None:
        super().__init__(
            visibility_timeout,
            max_lease_seconds=max_lease_seconds,
            max_redeliveries=store.max_redeliveries,
            clock=clock,
        )
        self.store = store
        self._name = name
        self._group = group
        self._wait_seconds = 0 if timeout is None else timeout

    def __repr__(self) -> str:
        return f"<InMemoryQueue {self._name}>"

    @property
    def identity(self) -> Hashable:
        return self.store

    async def wait_for_items(self, seconds: float) -> None:
        with self._group.lock:
            now = self._catch_up()
            if self.store.is_available:
                return
            waiter = _WaitingPop(self, now, self._group.rest_seconds(now))
            self._group.waiters.add(waiter)
        try:
            await waiter.wait(SystemClock(), SystemClock.monotonic() + seconds)
        finally:
            with self._group.lock:
                self._group.waiters.discard(waiter)

    async def pop_at_once(self, count: int) -> list[Popped]:
        with self._group.lock:
            now = self._catch_up()
            leases = self.store.pop(count, now)
        return [popped for lease in leases if (popped := self._read(lease, now)) is not None]

    async def _push_batch(self, pushes: Sequence[Push]) -> Sequence[Exception | None]:
        outcomes: list[Exception | None] = [None] * len(pushes)
        with self._group.lock:
            now = self._catch_up()
            for index, push in enumerate(pushes):
                entry = StoredItem(push.text, now.time)
                if push.unique_key is not None:
                    holder_id = self.store.take_key(entry, push.unique_key, push.item["id"])
                    if holder_id is not None:
                        outcomes[index] = DuplicateCall(holder_id)
                        continue
                self.store.push(entry, now, push.delay_seconds)
            if self._group.waiters:
                self._group.wake(now)
        return outcomes

    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        end_time = timer_time(self.clock) + self._wait_seconds
        is_interrupted, was_paused = False, self.seen_pause is not None
        while True:
            with self._group.lock:
                now = self._catch_up()
                leases = self.store.pop(count, now)
                pause = self.seen_pause = self.store.pause
                if leases:
                    break
                rest_seconds = end_time - timer_time(self.clock)
                is_changed = (pause is not None) != was_paused
                if is_interrupted or is_changed or rest_seconds <= 0:
                    break
                waiter = _WaitingPop(self, now, min(rest_seconds, self._group.rest_seconds(now)))
                self._group.waiters.add(waiter)
            try:
                await waiter.wait(self.clock, waiter.wake_time)
            finally:
                with self._group.lock:
                    self._group.waiters.discard(waiter)
            is_interrupted = waiter.is_interrupted
        return [popped for lease in leases if (popped := self._read(lease, now)) is not None]

    async def _touch_batch(self, touches: Sequence[Touch]) -> Sequence[Exception | None]:
        outcomes: list[Exception | None] = []
        with self._group.lock:
            now = self._catch_up()
            for touch in touches:
                lease = self._held(touch.envelope)
                if lease is not None:
                    self.store.touch(lease, touch.seconds, now)
                    touch.envelope.is_stop_wanted = lease.is_stop_wanted
                outcomes.append(_outcome(lease, touch.envelope))
        return outcomes

    async def _complete_batch(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        outcomes: list[Exception | None] = []
        with self._group.lock:
            self._catch_up()
            for envelope in envelopes:
                lease = self._held(envelope)
                if lease is not None:
                    self.store.remove(lease)
                outcomes.append(_outcome(lease, envelope))
        return outcomes

    async def _release_batch(self, releases: Sequence[Release]) -> Sequence[Exception | None]:
        outcomes: list[Exception | None] = []
        with self._group.lock:
            now = self._catch_up()
            for release in releases:
                lease = self._held(release.envelope)
                if lease is not None:
                    self.store.release(
                        lease,
                        now,
                        release.delay_seconds,
                        to_front=not release.envelope.has_started,
                        is_counted=release.is_counted,
                    )
                outcomes.append(_outcome(lease, release.envelope))
            self._group.wake(now)
        return outcomes

    async def _replace(self, envelope: Envelope, push: Push, to: Queue) -> None:
        if not (isinstance(to, InMemoryQueue) and to._group is self._group):
            await super()._replace(envelope, push, to)
            return
        with self._group.lock:
            now = self._catch_up()
            lease = self._held(envelope)
            error = _outcome(lease, envelope)
            if lease is not None:
                entry = StoredItem(push.text, now.time)
                holder_id = self._give_key(push, entry, lease.entry, to.store)
                if holder_id is None:
                    to.store.push(entry, now, push.delay_seconds)
                    self.store.remove(lease)
                    self._group.wake(now)
                else:
                    error = DuplicateCall(holder_id)
        if error is not None:
            raise error

    def _give_key(self, push: Push, entry: StoredItem, old: StoredItem, store: Store) -> str | None:
        """Have what replaces an entry hold its key; if another item does, the id of that."""
        if push.unique_key is None:
            return None
        if store is self.store:
            store.pass_key_on(old, entry, push.unique_key, push.item["id"])
            return None
        return store.take_key(entry, push.unique_key, push.item["id"])

    async def _free_key(self, envelope: Envelope) -> None:
        with self._group.lock:
            self._catch_up()
            lease = self._held(envelope)
            if lease is not None:
                self.store.free_key(lease.entry)
        error = _outcome(lease, envelope)
        if error is not None:
            raise error

    async def _peek(self, cursor: str, count: int) -> tuple[Sequence[Peeked], str]:
        with self._group.lock:
            now = self._catch_up()
            each, next_cursor = self._page(cursor, count)
        page = [Peeked(str(entry.place), self._item_of(entry, now)) for entry, _, _ in each]
        return page, next_cursor

    def _page(self, cursor: str, count: int) -> tuple[list[Standing], str]:
        each = self.store.standing_from(int(cursor or 0), count + 1)
        return each[:count], str(each[count].entry.place) if len(each) > count else ""

    async def _inspect(self, cursor: str, count: int) -> tuple[Sequence[Found], str]:
        with self._group.lock:
            now = self._catch_up()
            each, next_cursor = self._page(cursor, count)
        return [self._found(standing, now) for standing in each], next_cursor

    async def _find(self, item_id: str) -> Found | None:
        with self._group.lock:
            now = self._catch_up()
            standing = [*self.store.standing_with(dump_value(item_id))]
            is_cancelled = self.store.is_cancelled(item_id, now.time)
        each = (self._found(one, now) for one in standing)
        found = next((found for found in each if found.item.get("id") == item_id), None)
        return Found({}, "cancelled") if found is None and is_cancelled else found

    async def _cancel(self, found: Found, *, is_remembered: bool) -> bool:
        with self._group.lock:
            now = self._catch_up()
            is_removed = self.store.take_out(cast(Standing, found.key))
            if is_removed and is_remembered:
                self.store.remember_cancelled(str(found.item.get("id")), now.time)
        return is_removed

    async def _hasten(self, found: Found, push: Push) -> bool:
        with self._group.lock:
            now = self._catch_up()
            is_there = self.store.hasten(cast(Standing, found.key), push.text)
            self._group.wake(now)
        return is_there

    async def _ask_to_stop(self, found: Found) -> bool:
        lease = cast(Standing, found.key).lease
        with self._group.lock:
            self._catch_up()
            if lease is None or not self.store.holds(lease):
                return False
            lease.is_stop_wanted = True
        return True

    async def _note_cancelled(self, item_id: str) -> None:
        with self._group.lock:
            self.store.remember_cancelled(item_id, self._catch_up().time)

    async def _pause(self, pause: Pause) -> None:
        with self._group.lock:
            self._catch_up()
            self.store.pause = pause
            self._group.wake_all(self.store)

    async def _resume(self) -> bool:
        with self._group.lock:
            self._catch_up()
            was_paused = self.store.pause is not None
            self.store.pause = None
            self._group.wake_all(self.store)
        return was_paused

    async def _find_pause(self) -> Pause | None:
        with self._group.lock:
            self._catch_up()
            return self.store.pause

    async def _report_worker(self, report: WorkerReport) -> None:
        with self._group.lock:
            self.store.reports.keep(report, self._catch_up())

    async def _forget_worker(self, worker_id: str) -> None:
        with self._group.lock:
            self.store.reports.drop(worker_id)

    async def _find_workers(self) -> Sequence[WorkerReport]:
        with self._group.lock:
            return self.store.reports.find(self._catch_up())

    def _found(self, standing: Standing, now: Now) -> Found:
        entry, lease, due_time = standing
        item = self._item_of(entry, now)
        if lease is None:
            place: Place = "queued" if due_time is None else "delayed"
            return Found(item, place, standing, available_time=due_time)
        to_epoch = now.time - now.monotonic
        return Found(
            item,
            "in flight",
            standing,
            running_since=lease.pop_time + to_epoch,
            lease_until=lease.end_time + to_epoch,
        )

    def _item_of(self, entry: StoredItem, now: Now) -> Item:
        try:
            return load_item(entry.text)
        except UnreadableItem as error:
            return with_error({"raw": entry.text}, error, now.time, socket.gethostname())

    async def _pop_keys(self, keys: Sequence[str]) -> Sequence[Popped | None]:
        with self._group.lock:
            now = self._catch_up()
            leases = self.store.pop_places([int(key) for key in keys], now)
        return [None if lease is None else self._read(lease, now) for lease in leases]

    async def _flush(self) -> None:
        with self._group.lock:
            self.store.flush()

    async def _stats(self) -> Mapping[str, float]:
        with self._group.lock:
            return self.store.stats(self._catch_up().time)

    async def _close(self) -> None:
        self._interrupt(None)

    def _interrupt_pop(self) -> None:
        self._interrupt(asyncio.get_running_loop())

    def _interrupt(self, loop: asyncio.AbstractEventLoop | None) -> None:
        with self._group.lock:
            for waiter in self._group.waiters:
                if waiter.consumer is self and loop in (None, waiter.loop):
                    waiter.is_interrupted = True
                    waiter.wake()

    def _catch_up(self) -> Now:
        now = Now(self.clock.time(), self.clock.monotonic())
        group = self._group
        group.main.catch_up(now)
        group.errors.catch_up(now)
        return now

    def _held(self, envelope: Envelope) -> Lease | None:
        lease = envelope.handle
        return lease if isinstance(lease, Lease) and self.store.holds(lease) else None

    def _read(self, lease: Lease, now: Now) -> Popped | None:
        try:
            item = load_item(lease.entry.text)
        except UnreadableItem as error:
            # This process wrote it, but deep nesting can be read from a shallow stack only.
            self._bury_unreadable(lease, error, now)
            return None
        redeliveries = lease.entry.redeliveries
        return Envelope(lease, now.monotonic, lease.end_time, redeliveries=redeliveries), item

    def _bury_unreadable(self, lease: Lease, error: UnreadableItem, now: Now) -> None:
        with self._group.lock:
            if self.store.holds(lease):
                self.store.bury(lease.entry, error, now.time)
                self.store.remove(lease)
                self._group.wake(now)


def _outcome(lease: Lease | None, envelope: Envelope) -> Exception | None:
    if lease is not None:
        return None
    return LeaseLost(
        f"{envelope!r} no longer belongs to this consumer: it was settled or flushed, or its lease "
        f"ended; {LOST_ADVICE}"
    )
