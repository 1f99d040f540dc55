"""Stores of debounce windows: the contract, and the store in memory.

Owns what a store promises to its callers. A store is independent of the queue. The decisions are
in `deferrable.debounce`.

The one rule: to read a window, decide and write it back is one step. Of 50 producers that ask at
once, exactly one may push now.
"""

import threading
from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

from deferrable._fork import on_fork
from deferrable.aio._contract.closing import Closing
from deferrable.aio.clock import Clock, SystemClock
from deferrable.aio.queue import Queue
from deferrable.debounce import (
    Decision,
    PushDelayed,
    PushNow,
    Skip,
    Window,
    confirm,
    life_seconds,
    reserve,
    restore,
    withdraw,
)
from deferrable.item import Item

__all__ = [
    "DebounceKey",
    "DebounceStore",
    "Decision",
    "InMemoryDebounceStore",
    "JoinedPush",
    "PushDelayed",
    "PushNow",
    "Reservation",
    "Skip",
]


@dataclass(frozen=True, slots=True)
class DebounceKey:
    """Which calls share a window.

    Attributes:
        text: the identity of the call; see `deferrable.debounce.identity`.
        classic: the two keys under which the old library keeps the same window in Redis, for items
            of the classic serializer; see `deferrable.debounce.classic_keys`. A store that shares
            no windows with it uses only `text`.
    """

    text: str
    classic: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Reservation:
    """The decision of a store on one call.

    Attributes:
        decision: push now, push delayed, or skip.
        available_time: when the item to be pushed, or the pending one, becomes available, by the
            store's clock.
        pending_id: of a call to skip, the token of the call whose item is pending, which is the
            item's id; None: unknown.
        is_pushed: of a call to skip, False while the push of that item is under way. It may still
            fail, so the call is decided on again a moment later.
    """

    decision: Decision
    available_time: float
    pending_id: str | None = None
    is_pushed: bool = True


class JoinedPush(Protocol):
    """Decides on a call and pushes its item in one atomic step; see `DebounceStore.joined_with`.

    One with an attribute ``keeps_keys`` that is true also takes the unique key of the item in that
    step; without it, a call that is unique, too, is reserved and pushed in two steps.
    """

    async def __call__(
        self,
        item: Item,
        key: DebounceKey,
        window_seconds: float,
        always_delay: bool,
        token: str,
    ) -> Reservation:
        """Push `item`, now or delayed, or skip it. Do not confirm or restore afterwards.

        The item is stored with the ``delay``, ``original_delay`` and, if it is delayed,
        ``due_time`` of the decision. These replace its own fields, so it cannot be signed. The
        caller's item is neither kept nor changed.

        Raises:
            SerializationError: it is not made of JSON values.
            BackendError: it was not pushed, and no window is kept. `BackendUnavailable`: it is
                unknown whether both happened, or neither. `DuplicateCall`: another item holds its
                unique key.
        """
        ...


class DebounceStore(Closing):
    """Keeps the windows of debounced calls. Implement it to keep them elsewhere.

    The order of a push is: `reserve`, the push itself, `confirm`. If the push fails or is
    cancelled, `restore` is called instead of `confirm`. A producer that dies calls neither.

    While a reservation to skip is not `is_pushed`, `reserve` is called again.

    The methods may be called from several event loops at once. Their errors never stop work: a call
    whose window cannot be reserved is pushed at once.
    """

    @abstractmethod
    async def reserve(
        self, key: DebounceKey, window_seconds: float, always_delay: bool, token: str
    ) -> Reservation:
        """Decide on a call, now, and count it as pushed for the next `RESERVATION_SECONDS`.

        It must be one atomic step, and it must decide as `deferrable.debounce.reserve` does: an
        implementation that can run Python under a lock calls that, and keeps the `Window` that it
        returns for `life_seconds`. Asked again with the same token it must return the same push.

        Args:
            key: which window.
            window_seconds: over 0, and perhaps fractional.
            always_delay: the first call of a window waits, too.
            token: names the reservation; new for each call.

        Raises:
            BackendError: it is unknown whether anything was reserved. The caller may `restore`.
        """

    @abstractmethod
    async def confirm(self, key: DebounceKey, token: str) -> None:
        """The push has worked: it counts while its item is pending, and for its window after that.

        It must do nothing if the reservation does not exist any more, or has another token.

        Raises:
            BackendError: the reservation may end as if nothing had been pushed.
        """

    @abstractmethod
    async def restore(self, key: DebounceKey, token: str) -> None:
        """The push has failed: restore the window as it was before `reserve`.

        It must do nothing if the reservation does not exist any more, or has another token.

        Raises:
            BackendError: the window may be restored only when its reservation ends.
        """

    async def withdraw(self, key: DebounceKey, item_id: str, available_time: float | None) -> None:
        """The item was cancelled: restore the window as it was before `reserve`, for later calls.

        It must do nothing if another item was reserved since. A store that does nothing at all
        skips calls in favour of a cancelled one until that would have become available.

        Args:
            item_id: the token with which the item was reserved.
            available_time: when a delayed item was to become available, as the reservation said;
                None: it was not delayed.

        Raises:
            BackendError: the window may be as it was.
        """
        return

    def joined_with(self, queue: Queue) -> JoinedPush | None:
        """A function that decides and pushes in one step, if windows and `queue` are in one place.

        None if they are not, as for most stores.
        """
        return None

    async def close(self) -> None:
        """Close the store's connections, on every loop. Windows stay. May be called twice."""
        return


class InMemoryDebounceStore(DebounceStore):
    """Windows of this process, for tests and for programs of one process.

    It may be used from any thread and any event loop. A forked child starts with a copy. Windows
    that cannot matter any more are dropped.

    Args:
        clock: the source of time; None: the machine's own.
        max_windows: the most windows kept. Above it the oldest reservations are dropped early; the
            next such call then counts as a first one (a duplicate, never a loss).
    """

    def __init__(self, clock: Clock | None = None, *, max_windows: int = 100_000) -> None:
        self._clock: Clock = SystemClock() if clock is None else clock
        self._max_windows = max_windows
        self._kept: dict[str, tuple[Window, float]] = {}
        """Windows and the ends of their lives, reserved longest ago first."""
        self._next_sweep_size = _MIN_SWEEP_SIZE
        self._lock = threading.Lock()
        on_fork(self._renew_lock)

    def __len__(self) -> int:
        """How many windows are kept, some of which may not matter any more."""
        return len(self._kept)

    async def reserve(
        self, key: DebounceKey, window_seconds: float, always_delay: bool, token: str
    ) -> Reservation:
        with self._lock:
            now = self._clock.time()
            decision, window = reserve(
                self._window(key, now), now, window_seconds, always_delay, token
            )
            assert window is not None  # what is pending, or to be pushed, is remembered
            if isinstance(decision, Skip):
                is_pushed = window.token is None
                return Reservation(decision, decision.pending_time, window.pending_id, is_pushed)
            self._keep(key, window, now, now + life_seconds(window_seconds))
            return Reservation(decision, window.available_time)

    async def confirm(self, key: DebounceKey, token: str) -> None:
        with self._lock:
            now = self._clock.time()
            self._replace(key, confirm(self._window(key, now), now, token))

    async def restore(self, key: DebounceKey, token: str) -> None:
        with self._lock:
            now = self._clock.time()
            self._replace(key, restore(self._window(key, now), now, token))

    async def withdraw(self, key: DebounceKey, item_id: str, available_time: float | None) -> None:
        with self._lock:
            now = self._clock.time()
            self._replace(key, withdraw(self._window(key, now), now, item_id))

    def _window(self, key: DebounceKey, now: float) -> Window | None:
        window, end_time = self._kept.get(key.text, (None, now))
        return window if now <= end_time else None

    def _keep(self, key: DebounceKey, window: Window, now: float, end_time: float) -> None:
        self._kept.pop(key.text, None)
        self._kept[key.text] = (window, end_time)
        if len(self._kept) >= self._next_sweep_size:
            self._kept = {text: kept for text, kept in self._kept.items() if kept[1] >= now}
            # Twice what is left, so that a sweep costs each reservation the same on average.
            self._next_sweep_size = max(_MIN_SWEEP_SIZE, 2 * len(self._kept))
        while len(self._kept) > self._max_windows:
            del self._kept[next(iter(self._kept))]

    def _replace(self, key: DebounceKey, window: Window | None) -> None:
        if window is None:
            self._kept.pop(key.text, None)
        else:
            self._kept[key.text] = (window, self._kept[key.text][1])

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()


_MIN_SWEEP_SIZE = 256
