"""Debounce windows in the file, and the push that decides and pushes in one transaction.

Owns the rows of the windows. The decisions are those of `deferrable.debounce`.

The one rule: a window is read, decided on and written in one transaction, with the push if its
queue is in the same file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from deferrable._codec.json import dump
from deferrable.aio._contract.uniqueness import unique_key_of
from deferrable.aio.backend.sqlite import _statements as sql
from deferrable.aio.backend.sqlite._lending import loan_of
from deferrable.aio.backend.sqlite._queue import SQLiteQueue
from deferrable.aio.backend.sqlite._store import Entry, Store, as_text
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
from deferrable.debounce import Window, confirm, life_seconds, reserve, restore, withdraw
from deferrable.errors import DuplicateCall, Unsupported
from deferrable.item import Item

__all__ = ["SQLiteDebounceStore"]

_SWEPT_AT_ONCE = 20
"""How many windows that cannot matter any more a call forgets: more than one call adds."""


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
            assert kept is not None  # what is pending, or to be pushed, is remembered
            if isinstance(decision, Skip):
                return _skipped(decision, kept)
            _keep(store, key, kept, now, life_seconds(window_seconds))
            return Reservation(decision, kept.available_time)

        self._refuse_loan()
        return await self.writer.perform(decide)

    async def confirm(self, key: DebounceKey, token: str) -> None:
        await self._change(key, token, confirm)

    async def restore(self, key: DebounceKey, token: str) -> None:
        await self._change(key, token, restore)

    async def withdraw(self, key: DebounceKey, item_id: str, available_time: float | None) -> None:
        await self._change(key, item_id, withdraw)

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
                store.change(sql.DROP_WINDOW, key.text)
            else:
                store.change(sql.CHANGE_WINDOW, *_values(window), key.text)

        self._refuse_loan()
        await self.writer.perform(run)

    def _refuse_loan(self) -> None:
        """Refuse what would wait for the user's own transaction, and so for itself."""
        if loan_of(self.writer.place) is not None:
            raise Unsupported(
                "a debounced call that is signed cannot be a part of your transaction; defer it "
                "outside the `using` block, or without signing_keys"
            )

    def joined_with(self, queue: Queue) -> JoinedPush | None:
        if not isinstance(queue, SQLiteQueue) or queue.writer is not self.writer:
            return None
        # The delayed items' time must be the windows' time.
        return _JoinedPush(queue) if queue.injected_clock is self.injected_clock else None


@dataclass(frozen=True, slots=True)
class _JoinedPush:
    """A `JoinedPush` onto `queue`."""

    keeps_keys: ClassVar[bool] = True
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

        def run(store: Store) -> Reservation | DuplicateCall:
            now = queue.now()
            window = _read(store, key, now.time)
            if window is not None and window.token is not None:
                # Somebody pushes in two steps. That may still fail, and a duplicate is allowed.
                window = restore(window, now.time, window.token)
            decision, kept = reserve(window, now.time, window_seconds, always_delay, token)
            assert kept is not None  # what is pending, or to be pushed, is remembered
            if isinstance(decision, Skip):
                return _skipped(decision, kept)
            delay = decision.delay_seconds if isinstance(decision, PushDelayed) else 0.0
            text = dump(_decided(item, delay, kept.available_time))
            entry = Entry(text, delay, unique_key_of(item))
            (duplicate,) = store.push_unique(queue.lane, [entry], now)
            if duplicate is not None:
                return duplicate
            pushed = confirm(kept, now.time, token)
            assert pushed is not None
            _keep(store, key, pushed, now.time, life_seconds(window_seconds))
            return Reservation(decision, kept.available_time)

        answer = await queue.run_push(run)
        if isinstance(answer, DuplicateCall):
            raise answer
        return answer


def _decided(item: Item, delay: float, available_time: float) -> Item:
    """The item with the fields that depend on the decision."""
    decided = {**item}
    if delay > 0:
        decided |= {"delay": delay, "original_delay": delay, "due_time": available_time}
    return decided


def _skipped(decision: Skip, window: Window) -> Reservation:
    is_pushed = window.token is None
    return Reservation(decision, decision.pending_time, window.pending_id, is_pushed)


def _read(store: Store, key: DebounceKey, now: float) -> Window | None:
    rows = store.rows(sql.WINDOW, key.text, now)
    if not rows:
        return None
    available_time, token, reserved_until, previous_time, item_id = rows[0]
    return Window(available_time, as_text(token), reserved_until, previous_time, as_text(item_id))


def _keep(store: Store, key: DebounceKey, window: Window, now: float, seconds: float) -> None:
    """Write a new window, and forget some that cannot matter any more.

    Args:
        seconds: how long it is from now until it cannot matter any more.
    """
    store.change(sql.KEEP_WINDOW, *_values(window), now + seconds, key.text)
    store.change(sql.SWEEP, now, _SWEPT_AT_ONCE)


def _values(window: Window) -> tuple[float | str | None, ...]:
    return (
        window.available_time,
        window.token,
        window.reserved_until_time,
        window.previous_time,
        window.item_id,
    )
