"""A caller in a thread that waits until another thread has done its work.

Owns the wait. The thread that holds a shared connection does the work of all who wait, and wakes
them.

The one rule: a woken caller checks again, and it also checks by itself every now and then. So a
wake-up that comes early or is lost costs a moment, and no more.
"""

import threading
from contextlib import suppress

__all__ = ["ThreadWaiter"]

_LOOK_SECONDS = 0.25
"""How often, at least, a caller that waits for another one checks again."""


class ThreadWaiter:
    """What one caller waits for. Most never wait, so the lock is made at the first wait."""

    __slots__ = ("_is_over",)

    def __init__(self) -> None:
        self._is_over: threading.Lock | None = None

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing to wait for any more."""
        raise NotImplementedError

    def wait(self) -> None:
        """Return after a call of `wake`, or after a moment."""
        if self._is_over is None:
            is_over = threading.Lock()
            is_over.acquire()
            self._is_over = is_over
            if self.has_ended:
                return
        self._is_over.acquire(timeout=_LOOK_SECONDS)

    def wake(self) -> None:
        """Make the caller check whether its work has ended, or whether it may do it itself."""
        if self._is_over is not None:
            with suppress(RuntimeError):  # it was woken before, and has not checked yet
                self._is_over.release()
