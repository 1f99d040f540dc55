"""Debounce windows in the file, and the push that decides and pushes in one transaction.

Owns the rows of the windows. The decisions are those of `deferrable.debounce`.

The one rule: a window is read, decided on and written in one transaction, with the push if its
queue is in the same file.
"""

from collections.abc import Callable
from dataclasses import dataclass

from deferrable._codec.json import dump
from deferrable.aio.backend.sqlite._queue import SQLiteQueue
from deferrable.aio.backend.sqlite._store import Store
from deferrable.aio.backend.sqlite._writer import Writer
from deferrable.aio.clock import Clock, SystemClock
from deferrable.aio.debounce import (
    DebounceKey,
    DebounceStore,
    JoinedPush,
    PushDelayed,
    Reservation,
    Skip,
)
from deferrable.aio.queue import Queue
from deferrable.debounce import Window, confirm, life_seconds, reserve, restore
from deferrable.item import Item

__all__ = ["SQLiteDebounceStore"]

_SWEPT_AT_ONCE = 20


class SQLiteDebounceStore(DebounceStore):
    """Windows in the file of the queues. A factory makes it for its backends.

    Args:
        writer: of the file.
        clock: the source of time; None: the machine's.
    """

    def __init__(self, writer: Writer, clock: Clock | None) -> None:
        self.writer = writer
        self.injected_clock = clock
        self._clock: Clock = SystemClock() if clock is None else clock

    def __repr__(self) -> str:
        return f"<SQLiteDebounceStore {self.writer.place.shown}>"

    async def reserve(
        self, key: DebounceKey, window_seconds: float, always_delay: bool, token: str
    ) -> Reservation:
        def decide(store: Store) -> Reservation:
            now = self._clock.time()
            window = _read(store, key, now)
            decision, kept = reserve(window, now, window_seconds, always_delay, token)
            if isinstance(decision, Skip):
                return Reservation(decision, decision.pending_time)
            assert kept is not None  # what is to be pushed is remembered
            _keep(store, key, kept, now + life_seconds(window_seconds))
            _sweep(store, now)
            return Reservation(decision, kept.available_time)

        return await self.writer.perform(decide)

    async def confirm(self, key: DebounceKey, token: str) -> None:
        await self._change(key, token, confirm)

    async def restore(self, key: DebounceKey, token: str) -> None:
        await self._change(key, token, restore)

    async def _change(
        self,
        key: DebounceKey,
        token: str,
        change: Callable[[Window | None, float, str], Window | None],
    ) -> None:
        def run(store: Store) -> None:
            now = self._clock.time()
            window = change(_read(store, key, now), now, token)
            if window is None:
                store.change("DELETE FROM deferrable_windows WHERE key = ?", key.text)
            else:
                _keep(store, key, window, None)

        await self.writer.perform(run)

    def joined_with(self, queue: Queue) -> JoinedPush | None:
        if not isinstance(queue, SQLiteQueue) or queue.writer is not self.writer:
            return None
        # The delayed items' time must be the windows' time.
        return _JoinedPush(queue) if queue.injected_clock is self.injected_clock else None


@dataclass(frozen=True, slots=True)
class _JoinedPush:
    """A `JoinedPush` onto `queue`."""

    queue: SQLiteQueue

    async def __call__(
        self,
        item: Item,
        key: DebounceKey,
        window_seconds: float,
        always_delay: bool,
        token: str,
    ) -> Reservation:
        queue = self.queue

        def run(store: Store) -> Reservation:
            now = queue.now()
            window = _read(store, key, now.time)
            decision, kept = reserve(window, now.time, window_seconds, always_delay, token)
            if isinstance(decision, Skip):
                return Reservation(decision, decision.pending_time)
            assert kept is not None  # what is to be pushed is remembered
            delay = decision.delay_seconds if isinstance(decision, PushDelayed) else 0.0
            text = dump(_decided(item, delay, kept.available_time))
            store.push(queue.lane, [(text, delay)], now)
            end_time = now.time + life_seconds(window_seconds)
            _keep(store, key, Window(kept.available_time), end_time)
            _sweep(store, now.time)
            return Reservation(decision, kept.available_time)

        return await queue.run(run)


def _decided(item: Item, delay: float, available_time: float) -> Item:
    """The item with the fields that depend on the decision."""
    decided = {**item}
    if delay > 0:
        decided |= {"delay": delay, "original_delay": delay, "due_time": available_time}
    return decided


def _read(store: Store, key: DebounceKey, now: float) -> Window | None:
    rows = store.rows(
        "SELECT available_time, token, reserved_until, previous_time FROM deferrable_windows "
        "WHERE key = ? AND end_time >= ?",
        key.text,
        now,
    )
    if not rows:
        return None
    available_time, token, reserved_until, previous_time = rows[0]
    text = token.decode() if isinstance(token, bytes) else token
    return Window(available_time, text, reserved_until, previous_time)


def _keep(store: Store, key: DebounceKey, window: Window, end_time: float | None) -> None:
    """Write a window.

    Args:
        end_time: after it, the window cannot matter any more; None: as it was.
    """
    store.change(
        "INSERT INTO deferrable_windows VALUES (?1, ?2, ?3, ?4, ?5, ifnull(?6, 0)) "
        "ON CONFLICT (key) DO UPDATE SET available_time = ?2, token = ?3, reserved_until = ?4, "
        "previous_time = ?5, end_time = ifnull(?6, end_time)",
        key.text,
        window.available_time,
        window.token,
        window.reserved_until_time,
        window.previous_time,
        end_time,
    )


def _sweep(store: Store, now: float) -> None:
    """Forget some windows that cannot matter any more: more than one call adds."""
    store.change(
        "DELETE FROM deferrable_windows WHERE key IN (SELECT key FROM deferrable_windows WHERE "
        "end_time < ? ORDER BY end_time LIMIT ?)",
        now,
        _SWEPT_AT_ONCE,
    )
