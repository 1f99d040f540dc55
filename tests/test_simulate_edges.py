"""Odd jobs, locks and wrong uses in simulations."""

import asyncio
import contextlib
import functools
import sys
import threading
from typing import Any

import pytest
from simulated_jobs import async_shop, shop, world

from deferrable.errors import InvalidOptions, WrongApi
from deferrable.testing import SimulationFailed, simulate, simulate_async
from deferrable.testing.simulation import _run
from deferrable.testing.simulation._stepping import Crash, run_plain
from deferrable.testing.simulation._strikes import FaultName

ran: list[int] = []
locks: dict[str, Any] = {}

ALL_BUT_LOST_LEASES: list[FaultName] = ["crash", "stop", "second delivery", "refused settlement"]


@shop.deferrable
def note(number: int) -> None:
    ran.append(number)


@shop.deferrable
def note_three() -> None:
    for number in range(3):
        note.later(number)


@shop.deferrable
def misspelled() -> None:
    raise AttributeError("no such carrier")


@shop.deferrable
def locked(number: int) -> int:
    with locks["plain"]:
        ran.append(number)
        return number


@async_shop.deferrable
async def locked_async(number: int) -> int:
    async with locks["async"]:
        for _ in range(2):
            async with locks["inner"]:
                await asyncio.sleep(0)
                ran.append(number)
                continue
    return number


def two_lines(number: int) -> None:
    ran.append(number)
    ran.append(number)


class TwoLines:
    def __call__(self, number: int) -> None:
        ran.append(number)
        ran.append(number)


JOBS = {
    "function": shop.deferrable(two_lines),
    "partial": shop.deferrable(functools.partial(two_lines), name="partial"),
    "callable": shop.deferrable(TwoLines(), name="callable"),
}


def start_with(job: Any, *args: Any) -> Any:
    def start() -> None:
        ran.clear()
        locks["plain"] = threading.Lock()
        job.later(*args)

    return start


async def start_locked() -> None:
    ran.clear()
    locks.update({"async": asyncio.Lock(), "inner": asyncio.Lock()})
    await locked_async.later_async(1)
    await locked_async.later_async(2)


def all_ran() -> None:
    assert set(ran) >= set(locks["wanted"]), f"ran {ran}"


def test_job_that_fails_with_a_refused_push_is_requeued_and_nothing_is_lost() -> None:
    locks["wanted"] = range(3)

    simulated = simulate(
        shop, start_with(note_three), all_ran, seeds=6, faults=["refused push", "lost push answer"]
    )

    assert simulated.struck == {"refused push": 3, "lost push answer": 3}


@pytest.mark.parametrize("kind", JOBS)
def test_lines_of_whatever_can_be_a_job_are_points(kind: str) -> None:
    simulated = simulate(shop, start_with(JOBS[kind], 1), list, seeds=0)

    assert simulated.single_faults == 3 + 2 + 4


def test_same_seed_has_the_same_history() -> None:
    def fail() -> bool:
        return len(ran) == 3

    def told() -> str:
        with pytest.raises(SimulationFailed) as failed:
            simulate(shop, start_with(note_three), fail)
        return str(failed.value)

    assert told() == told()


def test_error_of_a_job_is_told() -> None:
    with pytest.raises(SimulationFailed, match=r"errored \(AttributeError: no such carrier\)"):
        simulate(shop, start_with(misspelled), lambda: False)


class Held:
    """Counts how often it is entered and not left."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, *_: object) -> None:
        self.count -= 1


def leave(held: Held, how: str) -> int | None:
    with held:
        for index in range(2):
            with held, held:
                if how == "return":
                    return index
                if how == "raise":
                    raise ValueError
                if how == "continue":
                    continue
                if how == "break":
                    break
    with (
        held,
        held,
    ):
        pass
    return None


@pytest.mark.parametrize("how", ["end", "return", "raise", "continue", "break"])
def test_crash_at_any_line_leaves_each_with_block(how: str) -> None:
    for place in range(60):
        held, seen = Held(), []

        def on_point(kind: str, frame: Any, seen: list[Any] = seen, place: int = place) -> None:
            seen.append(frame)
            if len(seen) == place:
                raise Crash

        with contextlib.suppress(Crash, ValueError):
            run_plain(
                functools.partial(leave, held, how), lambda code: code is leave.__code__, on_point
            )

        assert held.count == 0, f"crash at place {place}, line {seen[-1].f_lineno}"


def test_locks_are_free_after_crashes() -> None:
    locks["wanted"] = [7]

    simulate(shop, start_with(locked, 7), all_ran, seeds=20, faults=ALL_BUT_LOST_LEASES)


def test_locks_of_asyncio_are_free_after_crashes() -> None:
    locks["wanted"] = [1, 2]

    simulate(async_shop, start_locked, all_ran, seeds=60, faults=ALL_BUT_LOST_LEASES)


def test_lock_of_a_job_that_stands_still_is_an_error_and_no_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_run, "_LONGEST_SECONDS", 1.0)

    with pytest.raises(
        AssertionError, match=r"locked_async.* still waits after 1 seconds"
    ) as raised:
        simulate(async_shop, start_locked, list, faults=["lost lease"])

    assert "1. locked_async(1): stood still in line " in str(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": -1}, "seeds is -1; it must be a whole number"),
        ({"seeds": [-1]}, "a seed is -1; it must be a whole number"),
        ({"seeds": 2.5}, "seeds is 2.5; it must be"),
        ({"seeds": "ab"}, "a seed is 'a'; it must be"),
        ({"crash_in": [sys]}, "crash_in has <module 'sys' "),
        ({"crash_in": "ab"}, "crash_in has 'a'; it takes modules"),
    ],
)
def test_wrong_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOptions, match=message):
        simulate(shop, start_with(note, 1), list, **options)


def test_start_that_defers_nothing_is_refused() -> None:
    with pytest.raises(InvalidOptions, match=r"start deferred nothing .*another instance"):
        simulate(shop, world.charges.clear, list)


@pytest.mark.anyio
async def test_simulate_on_a_running_loop_names_what_to_await() -> None:
    with pytest.raises(WrongApi, match=r"await simulate_async\(\.\.\.\)"):
        simulate(async_shop, start_locked, list)

    assert (await simulate_async(async_shop, start_locked, list, seeds=1)).runs == 1


@pytest.mark.parametrize("step", ["start", "job", "check"])
def test_interrupt_leaves_the_instance_as_it_was(step: str) -> None:
    backend, registry = shop.backend, shop._core.registry

    def interrupt() -> None:
        raise KeyboardInterrupt

    start = {"start": interrupt, "job": start_with(interrupted)}.get(step, start_with(note, 1))
    with pytest.raises(KeyboardInterrupt):
        simulate(shop, start, interrupt if step == "check" else list)

    assert shop.backend is backend
    assert shop._core.registry is registry


@shop.deferrable
def interrupted() -> None:
    raise KeyboardInterrupt
