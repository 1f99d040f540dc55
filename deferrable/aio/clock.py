"""The clock of the engine and the adapters.

Owns the protocol of a clock and the real clock. A clock is injected (``clock=``), so that tests
move the time instead of sleeping; see ``deferrable.testing.MovingClock``.

The one rule: a moment that is stored or sent comes from `Clock.time`. A moment that only this
process compares, such as the end of a lease, comes from `Clock.monotonic`, because somebody may
set the time.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType
from typing import Protocol

__all__ = ["Clock", "SystemClock", "Timer", "call_at", "sleep", "timer_time"]

_NO_TIME = 0.001
"""A clock that moved by less than this did not move."""


class Timer(Protocol):
    """A call that a clock will make."""

    def cancel(self) -> None:
        """Do not make the call. May be called after it was made or cancelled."""
        ...


class Clock(Protocol):
    """Gives the time and calls back later. Any thread and any event loop may use it."""

    def time(self) -> float:
        """The moment, in epoch seconds. It may jump, in both directions."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment. They never jump, even if `time` does."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` on the running event loop once `seconds` have passed on this clock."""
        ...


def _real_monotonic() -> Callable[[], float]:
    if isinstance(time.monotonic, BuiltinFunctionType):
        return time.monotonic
    # This module is imported while the time is frozen for a test.
    return partial(time.clock_gettime, time.CLOCK_MONOTONIC)


class SystemClock:
    """The machine's clock."""

    # Kept in the class: tools that freeze the time replace the functions in modules. A test that
    # freezes the time wants a fixed date, not a lease that never ends.
    monotonic = staticmethod(_real_monotonic())

    def time(self) -> float:
        # Looked up each time: tools that freeze or move the time for tests replace it.
        return time.time()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, callback)


def timer_time(clock: Clock) -> float:
    """The moment on the scale by which `clock` counts the seconds of `call_later`.

    That is the running event loop's for the machine's own clock: code that replaced the loop's time
    has replaced both.
    """
    if isinstance(clock, SystemClock):
        return asyncio.get_running_loop().time()
    return clock.monotonic()


def call_at(clock: Clock, moment: float, callback: Callable[[], None]) -> Timer:
    """Call `callback` on the running event loop once ``clock.monotonic()`` has reached `moment`.

    The clock may be moved in another thread meanwhile. The timer counts from a moment that was read
    before that, and would fire too late; then it is set again.
    """
    while True:
        now = clock.monotonic()
        timer = clock.call_later(moment - now, callback)
        if clock.monotonic() - now < _NO_TIME:
            return timer
        timer.cancel()


async def sleep(clock: Clock, seconds: float) -> None:
    """Return once `seconds` have passed on `clock`."""
    woken = asyncio.Event()
    timer = clock.call_later(seconds, woken.set)
    try:
        await woken.wait()
    finally:
        timer.cancel()
