"""The clocks: what a test may rely on when it moves the time."""

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from deferrable.aio.clock import Clock, SystemClock, call_at, sleep
from deferrable.testing import MovingClock, wait_until

pytestmark = pytest.mark.anyio


async def settle() -> None:
    """Let what was handed over to this loop run."""
    for _ in range(3):
        await asyncio.sleep(0)


def test_time_stands_still_until_it_is_advanced() -> None:
    clock: Clock = MovingClock(start=100)

    first, second = clock.time(), clock.time()

    assert (first, second) == (100, 100)


def test_time_does_not_go_back() -> None:
    clock = MovingClock(start=100)

    with pytest.raises(ValueError, match="-1"):
        clock.advance(-1)

    assert clock.time() == 100


async def test_a_call_is_made_once_its_moment_has_come() -> None:
    clock = MovingClock()
    made: list[str] = []
    clock.call_later(10, lambda: made.append("call"))

    clock.advance(9.5)
    await settle()
    before = list(made)
    clock.advance(0.5)
    await settle()

    assert (before, made) == ([], ["call"])


async def test_calls_are_made_in_the_order_of_their_moments() -> None:
    clock = MovingClock()
    made: list[int] = []
    for seconds in (3, 1, 2, 1):
        clock.call_later(seconds, partial(made.append, seconds))

    clock.advance(5)
    await settle()

    assert made == [1, 1, 2, 3]


async def test_a_call_sees_a_time_at_or_after_its_moment() -> None:
    clock = MovingClock(start=0)
    seen: list[float] = []
    clock.call_later(4, lambda: seen.append(clock.time()))

    clock.advance(10)
    await settle()

    assert seen[0] >= 4


async def test_a_call_without_a_wait_is_made_soon_but_not_at_once() -> None:
    clock = MovingClock()
    made: list[str] = []

    clock.call_later(0, lambda: made.append("call"))
    at_once = list(made)
    await settle()

    assert (at_once, made) == ([], ["call"])


async def test_a_cancelled_call_is_not_made_even_when_it_was_handed_over_already() -> None:
    clock = MovingClock()
    made: list[str] = []
    early = clock.call_later(1, lambda: made.append("early"))
    late = clock.call_later(1, lambda: made.append("late"))

    early.cancel()
    clock.advance(1)
    late.cancel()
    await settle()

    assert made == []


async def test_a_call_keeps_the_context_that_it_was_asked_for_in() -> None:
    clock = MovingClock()
    variable = contextvars.ContextVar("variable", default="outside")
    seen: list[str] = []
    context = contextvars.copy_context()
    context.run(variable.set, "inside")
    context.run(clock.call_later, 1, lambda: seen.append(variable.get()))

    clock.advance(1)
    await settle()

    assert seen == ["inside"]


async def test_sleepers_of_several_loops_are_woken_each_on_its_own() -> None:
    clock = MovingClock()
    threads: list[int] = []

    def sleep_on_a_loop_of_its_own() -> None:
        asyncio.run(sleep(clock, 5))
        threads.append(threading.get_ident())

    sleepers = [threading.Thread(target=sleep_on_a_loop_of_its_own) for _ in range(3)]
    for thread in sleepers:
        thread.start()
    await wait_until(lambda: clock.pending == 3, "three loops sleep")
    clock.advance(5)
    for thread in sleepers:
        thread.join(30)

    assert len(set(threads)) == 3


async def test_a_loop_that_was_closed_meanwhile_is_passed_over() -> None:
    clock = MovingClock()
    made: list[str] = []
    loop = asyncio.new_event_loop()

    async def ask() -> None:
        clock.call_later(1, lambda: made.append("closed"))

    await asyncio.to_thread(loop.run_until_complete, ask())
    loop.close()
    clock.call_later(1, lambda: made.append("open"))
    clock.advance(1)
    await settle()

    assert made == ["open"]


async def test_pending_counts_the_calls_that_are_yet_to_come() -> None:
    clock = MovingClock()
    clock.call_later(1, lambda: None)
    clock.call_later(2, lambda: None)
    clock.call_later(3, lambda: None).cancel()

    before = clock.pending
    clock.advance(1)

    assert (before, clock.pending) == (2, 1)


class MovedMeanwhile(MovingClock):
    """Another thread moves it between the look at the time and the setting of the timer."""

    moves = 1

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Any:
        if self.moves:
            self.moves -= 1
            self.advance(4)
        return super().call_later(seconds, callback)


async def test_a_call_at_a_moment_is_made_in_time_though_the_clock_moves_while_it_is_set() -> None:
    clock, called = MovedMeanwhile(start=100), []

    call_at(clock, 110, lambda: called.append(clock.time()))
    await settle()
    before = list(called)
    clock.advance(6)
    await settle()

    assert (before, called) == ([], [110])
    assert clock.pending == 0


def test_the_system_clock_follows_a_tool_that_replaces_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SystemClock()
    monkeypatch.setattr(time, "time", lambda: 7.0)

    assert clock.time() == 7.0
