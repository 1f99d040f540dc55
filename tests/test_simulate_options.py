"""Simulations with everything that a job can be given, and the promise that no call is lost.

A call that `later` has accepted is completed, in the error queue or still pending, whatever strikes
it; otherwise a simulation would blame a job for what the simulator lost.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import deferrable
import deferrable.aio
from deferrable import current_attempt
from deferrable.backend import InMemoryBackendFactory
from deferrable.errors import BackendUnavailable, InvalidOptions
from deferrable.testing import SimulationFailed, simulate

IS_FULL = os.environ.get("DEFERRABLE_TESTS") == "full"
SEEDS = range(0, 2000, 1 if IS_FULL else 50)

shop = deferrable.Deferrable(
    InMemoryBackendFactory().create_backend_for_group("options"),
    serializer="json",
    signing_keys=["k" * 32],
    keep_results_seconds=30 * 86_400,
)
async_shop = deferrable.aio.Deferrable(
    deferrable.aio.backend.InMemoryBackendFactory().create_backend_for_group("options-async")
)
# The ids of calls that were accepted, and of those whose job has returned.
accepted: set[str] = set()
ended: Counter[str] = Counter()
world: dict[str, Any] = {}


def accept(receipt: Any) -> None:
    accepted.add(receipt.id)


def end() -> None:
    item_id = current_attempt().item["id"]
    assert isinstance(item_id, str)
    ended[item_id] += 1


# Nothing is lost.


@shop.deferrable
def leaf(number: int) -> None:
    world["leaves"] = number
    end()


@shop.deferrable(error_classes=[ConnectionError, BackendUnavailable], max_attempts=3)
def branch(number: int) -> None:
    for each in range(2):
        accept(leaf.later(each))
    accept(leaf.options(delay_seconds=600).later(number))
    if number % 2:
        raise ConnectionError("the bank does not answer")
    end()


@async_shop.deferrable
async def async_leaf(number: int) -> None:
    await asyncio.sleep(0)
    end()


@async_shop.deferrable(error_classes=[ConnectionError, BackendUnavailable], max_attempts=3)
async def async_branch(number: int) -> None:
    for each in range(2):
        accept(await async_leaf.later_async(each))
    accept(await async_leaf.options(delay_seconds=600).later_async(number))
    await asyncio.sleep(0)
    if number % 2:
        raise ConnectionError("the bank does not answer")
    end()


def forget() -> None:
    accepted.clear()
    ended.clear()
    world.clear()


def start() -> None:
    forget()
    for number in (1, 2):
        accept(branch.later(number))
    accept(leaf.options(delay_seconds=30 * 86_400).later(9))  # after the end of the run


async def start_async() -> None:
    forget()
    for number in (1, 2):
        accept(await async_branch.later_async(number))
    accept(await async_leaf.options(delay_seconds=30 * 86_400).later_async(9))


def nothing_is_lost() -> None:
    pending = {each.id for each in shop.peek(1000)}
    failed = {str(each.item["id"]) for each in shop.errors()}
    assert not accepted - set(ended) - pending - failed
    assert len(pending) == 1


async def nothing_is_lost_async() -> None:
    pending = {each.id for each in await async_shop.peek(1000)}
    failed = {str(each.item["id"]) async for each in async_shop.errors()}
    assert not accepted - set(ended) - pending - failed
    assert len(pending) == 1


@pytest.mark.parametrize(
    ("instance", "begin", "check"),
    [(shop, start, nothing_is_lost), (async_shop, start_async, nothing_is_lost_async)],
    ids=["plain", "async"],
)
def test_accepted_call_is_completed_failed_or_pending_in_each_run(
    instance: Any, begin: Callable[[], Any], check: Callable[[], Any]
) -> None:
    simulated = simulate(instance, begin, check, seeds=SEEDS)

    assert simulated.runs == len(SEEDS)
    assert len(simulated.struck) >= 6


# Options of jobs.


@shop.deferrable(debounce_seconds=60)
def index(document: int) -> None:
    world["indexed"] = world["version"]


@shop.deferrable(error_classes=[BackendUnavailable])
def edit(document: int) -> None:
    world["version"] += 1
    index.later(document)


def start_edits() -> None:
    forget()
    world.update(version=0, indexed=0)
    for _ in range(3):
        edit.later(7)


def newest_is_indexed() -> None:
    assert world["indexed"] == world["version"], str(world)


def test_debounced_call_runs_after_the_last_change() -> None:
    assert simulate(shop, start_edits, newest_is_indexed, seeds=SEEDS).runs == len(SEEDS)


@contextmanager
def one_more_runs() -> Iterator[None]:
    world["running"] += 1
    try:
        yield
    finally:
        world["running"] -= 1


@shop.deferrable(unique=True)
def report(year: int) -> None:
    with one_more_runs():
        world["most"] = max(world["most"], world["running"])
        world["reported"] = world["version"]


@shop.deferrable(error_classes=[BackendUnavailable])
def change_books(number: int) -> None:
    world["version"] += 1
    report.later(2026)


def start_reports() -> None:
    forget()
    world.update(version=0, reported=0, running=0, most=0)
    for number in range(3):
        change_books.later(number)


def test_unique_call_that_is_pending_stands_for_the_others() -> None:
    def check() -> None:
        assert world["reported"], "it never ran"

    simulate(shop, start_reports, check, seeds=SEEDS)


def test_unique_job_may_run_twice_at_once_and_simulate_finds_it() -> None:
    def check() -> bool:
        return bool(world["most"] == 1)

    with pytest.raises(SimulationFailed, match="stood still"):
        simulate(shop, start_reports, check)


@shop.deferrable
def add(first: int, second: int) -> int:
    return first + second


def test_result_can_be_read_in_the_check_of_each_run() -> None:
    def begin() -> None:
        forget()
        world["receipt"] = add.later(1, 2)

    def check() -> None:
        assert world["receipt"].result(timeout_seconds=0) == 3

    simulate(shop, begin, check, seeds=12)


def test_item_of_a_run_is_signed_json() -> None:
    def begin() -> None:
        forget()
        signed.later({"a": [1]})

    def check() -> None:
        assert world["serializers"] == {("json", True)}
        assert world["arguments"] == {"a": [1]}

    simulate(shop, begin, check, seeds=12)


@shop.deferrable
def signed(argument: dict[str, list[int]]) -> None:
    item = current_attempt().item
    world.setdefault("serializers", set()).add((item["serializer"], bool(item["signature"])))
    world["arguments"] = argument


def test_calls_of_a_group_are_not_lost() -> None:
    def begin() -> None:
        forget()
        for number in range(3):
            accept(leaf.options(message_group_id="ada").later(number))

    def check() -> None:
        assert accepted == set(ended)

    simulate(shop, begin, check, seeds=range(0, 60, 4))


# Schedules.


def ticking() -> "deferrable.Deferrable":
    instance = deferrable.Deferrable(InMemoryBackendFactory().create_backend_for_group("ticks"))

    @instance.periodic(every_seconds=3600)
    @instance.deferrable(name="count_up")
    def count_up() -> None:
        world["ticks"] = world.get("ticks", 0) + 1

    return instance


def test_schedule_ticks_in_virtual_time() -> None:
    simulated = simulate(
        ticking(), forget, lambda: world["ticks"] >= 6, seeds=20, seconds=6 * 3600 + 60, ticks=True
    )

    assert simulated.struck["crash"] > 0


def test_fault_at_a_tick_is_found_and_its_seed_replays() -> None:
    instance = ticking()

    def check() -> bool:
        return bool(world["ticks"] == 2)

    with pytest.raises(SimulationFailed) as first:
        simulate(instance, forget, check, seconds=2 * 3600 + 60, ticks=True)
    with pytest.raises(SimulationFailed) as again:
        simulate(
            instance,
            forget,
            check,
            seconds=2 * 3600 + 60,
            ticks=True,
            seeds=[first.value.seed or 0],
        )

    assert str(again.value) == str(first.value)
    assert "count_up" in str(first.value)


def test_schedules_stand_still_unless_they_are_asked_to_tick() -> None:
    with pytest.raises(InvalidOptions, match=r"no job ran; pass ticks=True if the schedules"):
        simulate(ticking(), forget, lambda: True, seeds=1)
