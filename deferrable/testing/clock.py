"""A clock that a test moves.

Owns the moment that a test set, and the calls that wait for a later one. Any number of event loops
may wait on one clock, and any thread may move it.

The one rule: the time moves first, then the due calls are made. So a callback never reads a time
before the moment for which it asked.
"""

import asyncio
import contextvars
import heapq
import threading
from collections.abc import Callable
from itertools import count

from deferrable._fork import on_fork, set_aside

__all__ = ["MovingClock"]


class MovingClock:
    """Stands still until it is advanced. It is a `deferrable.aio.clock.Clock`.

    Args:
        start: the moment that it shows first, in epoch seconds.
    """

    def __init__(self, start: float = 1_000_000_000.0) -> None:
        self._now = start
        self._stepped = 0.0
        self._calls: list[tuple[float, int, _Timer]] = []
        self._numbers = count()
        self._lock = threading.Lock()
        on_fork(self._reset_after_fork)

    def __repr__(self) -> str:
        return f"<MovingClock {self.time()!r}>"

    @property
    def pending(self) -> int:
        """How many calls wait for a later moment.

        Wait for this in a test before you move the time, to know that a task sleeps.
        """
        with self._lock:
            return sum(not call.is_cancelled for _, _, call in self._calls)

    def time(self) -> float:
        """The moment, in epoch seconds."""
        return self._now + self._stepped

    def monotonic(self) -> float:
        """The same moment, without what `step` added."""
        return self._now

    def call_later(self, seconds: float, callback: Callable[[], None]) -> "_Timer":
        """Call `callback` on the running event loop once the clock was advanced by `seconds`.

        Raises:
            RuntimeError: no event loop is running in this thread.
        """
        call = _Timer(asyncio.get_running_loop(), callback)
        with self._lock:
            moment = self._now + seconds
            if moment > self._now:
                heapq.heappush(self._calls, (moment, next(self._numbers), call))
                return call
        call.hand_over()
        return call

    def advance(self, seconds: float) -> None:
        """Move the time forward, and schedule every call that is now due, each on its own loop.

        Calls of one loop are made in the order of their moments. It does not wait for them.

        Raises:
            ValueError: `seconds` is under 0.
        """
        if seconds < 0:
            raise ValueError(f"time does not go back, got {seconds!r} seconds to advance")
        with self._lock:
            self._now += seconds
            while self._calls and self._calls[0][0] <= self._now:
                _, _, call = heapq.heappop(self._calls)
                call.hand_over()

    def step(self, seconds: float) -> None:
        """Change the time by `seconds`, which may be negative, as if somebody set the machine's
        clock.

        No time passes: no call becomes due, and `monotonic` stays.
        """
        with self._lock:
            self._stepped += seconds

    def _reset_after_fork(self) -> None:
        # The calls belong to the parent's loops.
        set_aside(self._calls)
        self._calls = []
        self._lock = threading.Lock()


class _Timer:
    """One call that a clock will make; a `deferrable.aio.clock.Timer`."""

    __slots__ = ("_callback", "_context", "_loop", "is_cancelled")

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._context = contextvars.copy_context()
        self.is_cancelled = False

    def cancel(self) -> None:
        """Do not make the call."""
        self.is_cancelled = True

    def hand_over(self) -> None:
        """Let its own loop make the call, unless that loop is closed."""
        try:
            self._loop.call_soon_threadsafe(self._make, context=self._context)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def _make(self) -> None:
        if not self.is_cancelled:
            self._callback()
