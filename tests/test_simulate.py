"""Jobs under the faults of at-least-once delivery: which may run twice, and which may not."""

import sys
from collections.abc import Callable
from typing import Any, cast

import pytest
import simulated_jobs
from simulated_jobs import (
    async_shop,
    charged_and_free,
    charged_once,
    newest_price,
    orders,
    orders_async,
    prices,
    shipped_once,
    shop,
    stock_is_right,
    world,
)

from deferrable.errors import InvalidOptions, WrongApi
from deferrable.testing import SimulationFailed, simulate, simulate_async
from deferrable.testing.simulation._strikes import FAULTS, Passed, Strike, every_strike, strikes_of

Step = Callable[[], Any]

PLAIN: dict[str, tuple[str, Callable[[Any], Step], Step]] = {
    "charge_naive": ("charge_right", orders, charged_once),
    "mark_after": ("mark_right", orders, charged_once),
    "mark_before": ("mark_right", orders, charged_once),
    "take_naive": ("take_right", orders, stock_is_right),
    "price_naive": ("price_right", prices, newest_price),
    "order_naive": ("order_right", orders, shipped_once),
}
ASYNC: dict[str, tuple[str, Callable[[Any], Step], Step]] = {
    "reserve_naive": ("reserve_right", orders_async, charged_and_free),
    "check_naive": ("check_right", orders_async, charged_once),
}


def job_called(name: str) -> Any:
    return getattr(simulated_jobs, name)


@pytest.mark.parametrize("name", PLAIN)
def test_job_that_may_not_run_twice_is_found_and_its_seed_replays(name: str) -> None:
    _, start, check = PLAIN[name]

    with pytest.raises(SimulationFailed) as first:
        simulate(shop, start(job_called(name)), check)
    with pytest.raises(SimulationFailed) as again:
        simulate(shop, start(job_called(name)), check, seeds=[first.value.seed or 0])

    assert first.value.seed is not None
    assert str(again.value) == str(first.value)


@pytest.mark.parametrize("name", PLAIN)
def test_right_version_passes(name: str) -> None:
    right, start, check = PLAIN[name]

    simulated = simulate(shop, start(job_called(right)), check, seeds=150)

    assert simulated.runs == 150
    assert 0 < simulated.single_faults < 150
    assert simulated.attempts > 300


@pytest.mark.parametrize("name", ASYNC)
def test_async_job_that_may_not_run_twice_is_found(name: str) -> None:
    _, start, check = ASYNC[name]

    with pytest.raises(SimulationFailed):
        simulate(async_shop, start(job_called(name)), check)


@pytest.mark.parametrize("name", ASYNC)
@pytest.mark.anyio
async def test_right_async_version_passes_on_the_loop_of_the_test(name: str) -> None:
    right, start, check = ASYNC[name]

    simulated = await simulate_async(async_shop, start(job_called(right)), check, seeds=150)

    assert {"crash", "lost lease", "stop"} <= set(simulated.struck)


def test_failure_tells_what_happened() -> None:
    with pytest.raises(SimulationFailed) as raised:
        simulate(shop, orders(simulated_jobs.mark_after), charged_once)

    lines = str(raised.value).splitlines()
    assert lines[0] == "seed 2: charged [7, 8, 7]"
    assert lines[1].startswith("  1. mark_after(7): its process ended before line ")
    assert lines[1].endswith("of simulated_jobs.py `world.paid.add(order)`")
    assert lines[2:] == [
        "  2. mark_after(8): completed",
        "  3. mark_after(7): completed",
        "To run only this again, pass seeds=[2].",
    ]


def test_check_that_fails_without_a_fault_says_so() -> None:
    with pytest.raises(SimulationFailed, match=r"^without any fault: the check returned False"):
        simulate(shop, orders(simulated_jobs.charge_right), lambda: False)


def test_error_of_the_check_that_is_no_assertion_is_raised_as_it_is() -> None:
    with pytest.raises(KeyError, match="coffee"):
        simulate(shop, orders(simulated_jobs.charge_right), lambda: world.prices["coffee"])


def test_instance_and_tracing_are_as_before() -> None:
    backend, registry = shop.backend, shop._core.registry
    traced = sys.gettrace()

    with pytest.raises(SimulationFailed):
        simulate(shop, orders(simulated_jobs.charge_naive), charged_once)

    assert shop.backend is backend
    assert shop._core.registry is registry
    assert sys.gettrace() is traced


def test_lines_of_other_modules_are_points_if_they_are_named() -> None:
    alone = simulate(shop, orders(simulated_jobs.charge_right), charged_once, seeds=0)
    together = simulate(
        shop, orders(simulated_jobs.charge_right), charged_once, seeds=0, crash_in=[simulated_jobs]
    )

    assert alone.single_faults < together.single_faults


def test_only_chosen_faults_strike() -> None:
    simulated = simulate(
        shop, prices(simulated_jobs.price_right), newest_price, seeds=40, faults=["crash"]
    )

    assert set(simulated.struck) == {"crash"}


def test_unknown_fault_and_wrong_api_are_refused() -> None:
    with pytest.raises(InvalidOptions, match="no fault 'flood'"):
        simulate(shop, list, list, faults=cast(Any, ["flood"]))
    with pytest.raises(InvalidOptions, match="start is async"):
        simulate(shop, orders_async(simulated_jobs.charge_right), list)
    with pytest.raises(WrongApi, match="without await"):
        simulate_async(cast(Any, shop), list, list).send(None)


def test_retries_delays_and_thirty_days_take_no_time() -> None:
    def start() -> None:
        simulated_jobs.reset()
        simulated_jobs.ship.options(delay_seconds=30 * 86_400).later(7)

    def check() -> bool:
        return world.shipped == [7]

    with pytest.raises(SimulationFailed, match="without any fault"):
        simulate(shop, start, check, seeds=1)
    assert simulate(shop, start, check, seeds=20, seconds=31 * 86_400).runs == 20


def test_jobs_that_defer_each_other_for_ever_are_an_error() -> None:
    def start() -> None:
        forever.later()

    with pytest.raises(AssertionError, match="for ever"):
        simulate(shop, start, list)


@shop.deferrable
def forever() -> None:
    forever.later()


# Which faults a run has.


def test_first_seeds_have_each_single_fault_once() -> None:
    passed = [Passed(False, ["line", "line"], 1), Passed(True, ["line", "await"], 0)]
    singles = every_strike(passed, FAULTS)

    drawn = [strikes_of(seed, singles, passed, FAULTS) for seed in range(len(singles))]

    assert [strike for (strike,) in drawn] == singles
    assert len(set(singles)) == len(singles)
    assert {each.fault for each in singles if each.attempt == 0} == set(FAULTS) - {"stop"}
    assert Strike("crash", 0, 2) in singles
    assert Strike("lost lease", 1, 0) not in singles


def test_later_seeds_have_several_and_always_the_same() -> None:
    passed = [Passed(False, ["line"], 1)]
    singles = every_strike(passed, FAULTS)
    seeds = range(len(singles), len(singles) + 50)

    drawn = [strikes_of(seed, singles, passed, FAULTS) for seed in seeds]

    assert drawn == [strikes_of(seed, singles, passed, FAULTS) for seed in seeds]
    assert max(map(len, drawn)) == 4
    assert any(strike.attempt > 0 for strikes in drawn for strike in strikes)
