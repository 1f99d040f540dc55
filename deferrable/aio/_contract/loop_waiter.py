"""A coroutine that waits on its event loop for something that another thread may bring.

Owns the wait: it ends when it is woken, or at a moment of a clock.

The one rule: any thread may wake it, and a loop that was closed meanwhile is no error.
"""

import asyncio

from deferrable.aio.clock import Clock

__all__ = ["LoopWaiter"]


class LoopWaiter:
    """Waits on the running event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._is_woken = False
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Let it check again. Any thread may call this."""
        if self._is_woken:
            return
        self._is_woken = True
        try:
            self.loop.call_soon_threadsafe(self._woken.set)
        except RuntimeError:
            if not self.loop.is_closed():
                raise

    async def wait(self, clock: Clock, end_time: float) -> None:
        """Return when it is woken, or at `end_time` on the clock's monotonic scale."""
        timer = clock.call_later(end_time - clock.monotonic(), self._woken.set)
        if clock.monotonic() >= end_time:
            # It was moved in another thread just now, and the timer counts from that moment.
            self._woken.set()
        try:
            await self._woken.wait()
        finally:
            timer.cancel()
