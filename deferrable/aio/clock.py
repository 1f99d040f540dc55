"""The clock that the engine and the adapters read, and nobody else.

Owns the protocol of a clock and the one that shows the real time. It may not know what is timed.
A clock is injected (``clock=``), so that tests move the time instead of sleeping; see
``deferrable.testing.MovingClock``.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

__all__ = ["Clock", "SystemClock", "Timer", "sleep"]


class Timer(Protocol):
    """A call that a clock will make."""

    def cancel(self) -> None:
        """Do not make the call. Harmless when it was made or cancelled already."""
        ...


class Clock(Protocol):
    """Tells the time and calls back later. It may be used from any thread and any event loop."""

    def time(self) -> float:
        """The moment, in epoch seconds."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` on the running event loop once `seconds` have passed on this clock."""
        ...


class SystemClock:
    """The machine's own clock."""

    def time(self) -> float:
        # Looked up each time: tools that freeze or move the time for tests replace it.
        return time.time()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, callback)


async def sleep(clock: Clock, seconds: float) -> None:
    """Return once `seconds` have passed on `clock`."""
    woken = asyncio.Event()
    timer = clock.call_later(seconds, woken.set)
    try:
        await woken.wait()
    finally:
        timer.cancel()
