"""Which tick is proposed and which is admitted: the pure decisions, and every store alike."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis_server import unique_group

from deferrable._ticks import (
    ABANDONED_SECONDS,
    KEPT_SECONDS,
    RESERVED_SECONDS,
    Plan,
    Proposal,
    admit,
    confirm,
    due_time,
    is_superseded,
    next_proposal,
    renew,
)
from deferrable._timetables import timetable_of
from deferrable.aio import InMemoryScheduleStore, ScheduleStore
from deferrable.aio.backend import RedisScheduleStore, SQLiteBackendFactory
from deferrable.testing import MovingClock

pytestmark = pytest.mark.anyio

START = 1_000_000_000.0


def plan(cron: str | None = "* * * * *", **changes: Any) -> Plan:
    seconds = changes.pop("every_seconds", None)
    table = timetable_of(None if seconds else cron, seconds, None)
    return replace(Plan("name", table, 0.0, "skip", "1"), **changes)


def proposed(each: Plan, last_time: float, now: float) -> float:
    proposal = next_proposal(each, last_time, now)
    assert proposal is not None
    assert proposal.last_time == last_time
    return proposal.tick_time


def test_the_next_tick_is_proposed_when_it_is_due() -> None:
    assert proposed(plan(), START, START) == START + 20


def test_skip_leaves_out_what_was_missed_by_more_than_a_minute() -> None:
    first = START + 20

    assert proposed(plan(), START, first + 60) == first
    assert proposed(plan(), START, first + 61) == first + 60
    assert proposed(plan(), START, first + 3600 + 30) == first + 3600


def test_skip_waits_for_the_next_tick_if_all_were_missed() -> None:
    hourly = plan("0 * * * *")

    assert proposed(hourly, START, START + 10 * 3600) == START + 10 * 3600 + 800


def test_last_proposes_the_latest_missed_one() -> None:
    hourly = plan("0 * * * *", catch_up="last")

    assert proposed(hourly, START, START + 10 * 3600) == START + 800 + 9 * 3600
    assert proposed(hourly, START, START) == START + 800
    daily = plan("0 0 1 1 *", catch_up="last")
    assert proposed(daily, START, START + 400 * 86_400) == 1_009_843_200


def test_last_finds_it_among_very_many() -> None:
    each = plan(every_seconds=1, catch_up="last")

    assert proposed(each, START, START + 7 * 86_400 + 0.5) == START + 7 * 86_400


def test_all_proposes_one_after_the_other() -> None:
    each = plan(catch_up="all")

    assert proposed(each, START, START + 10_000) == START + 20
    assert proposed(each, START + 20, START + 10_000) == START + 80


def test_a_schedule_that_ends_proposes_nothing() -> None:
    class Ended:
        text, zone = "", None

        def next_after(self, moment: float) -> float:
            return math.inf

    for policy in ("skip", "last", "all"):
        assert next_proposal(plan(timetable=Ended(), catch_up=policy), START, START + 9) is None


def test_jitter_is_the_same_for_all_and_differs_by_tick() -> None:
    each = plan(jitter_seconds=20.0)
    dues = [due_time(each, START + 60 * number) - START - 60 * number for number in range(200)]

    assert dues == [due_time(each, START + 60 * n) - START - 60 * n for n in range(200)]
    assert all(0 <= due < 20 for due in dues)
    assert max(dues) - min(dues) > 15


@given(
    jitter=st.sampled_from([0.0, 20.0, 59.0]),
    catch_up=st.sampled_from(["skip", "last", "all"]),
    silence=st.floats(0, 100_000),
)
def test_what_is_proposed_always_comes_after_the_last_one(
    jitter: float, catch_up: Any, silence: float
) -> None:
    each = plan(jitter_seconds=jitter, catch_up=catch_up)
    last, now = START, START + silence
    for _ in range(20):
        proposal = next_proposal(each, last, now)
        assert proposal is not None
        assert proposal.tick_time > last
        if proposal.due_time > now:
            return
        last = proposal.tick_time


# What a store decides. The pure decisions and every store must agree.

VERSIONS = st.sampled_from(["1", "2"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.sampled_from([0.5, 20.0, 31.0, 301.0, 4000.0, 700_000.0])),
        st.tuples(st.just("back"), st.sampled_from([1.0, 4000.0])),
        st.tuples(st.just("renew"), VERSIONS, st.booleans()),
        st.tuples(st.just("reserve"), VERSIONS, st.integers(-1, 2), st.sampled_from("ab")),
        st.tuples(st.just("confirm"), st.sampled_from("ab")),
    ),
    max_size=25,
)


async def run_steps(steps: Any, clock: MovingClock, store: ScheduleStore, name: str) -> None:
    record, proposals = None, dict[str, Proposal]()
    for verb, *rest in steps:
        now = clock.time()
        if verb == "pass":
            clock.advance(rest[0])
        elif verb == "back":
            clock.step(-rest[0])
        elif verb == "renew":
            each, is_start = plan(version=rest[0]), rest[1]
            record = renew(record, now, rest[0], is_start=is_start)
            (standing,) = await store.renew(name, [each], is_start=is_start)
            assert standing.last_time == record.last_time
            assert standing.is_superseded == is_superseded(record, rest[0])
            assert standing.now == now
        elif verb == "reserve":
            version, moved, token = rest
            last = START if record is None else record.last_time
            tick = last + 20
            proposal = Proposal("name", version, last + min(moved, 0), tick, tick + moved)
            verdict, record = admit(record, now, proposal, token)
            admission = await store.reserve(name, proposal, token)
            assert (admission.verdict, admission.last_time) == (verdict, record.last_time)
            if verdict == "admitted":
                proposals[token] = proposal
        elif rest[0] in proposals:
            proposal = proposals[rest[0]]
            record = confirm(record, proposal.tick_time, rest[0])
            await store.confirm(name, proposal, rest[0])


@given(steps=STEPS)
async def test_the_store_in_memory_decides_like_the_pure_functions(steps: Any) -> None:
    clock = MovingClock()
    await run_steps(steps, clock, InMemoryScheduleStore(clock), "queue")


@given(steps=STEPS)
async def test_the_scripts_decide_like_the_pure_functions(redis_url: str, steps: Any) -> None:
    clock = MovingClock()
    store = RedisScheduleStore(redis_url, clock=clock)
    try:
        await run_steps(steps, clock, store, unique_group())
    finally:
        await store.close()


@given(steps=STEPS)
async def test_the_store_in_a_file_decides_like_the_pure_functions(
    tmp_path_factory: Any, steps: Any
) -> None:
    clock = MovingClock()
    path = tmp_path_factory.getbasetemp() / "ticks.db"
    backend = SQLiteBackendFactory(path, clock=clock).create_backend_for_group(None)
    assert backend.schedule_store is not None
    try:
        await run_steps(steps, clock, backend.schedule_store, unique_group())
    finally:
        await backend.close()


def test_a_tick_is_admitted_once_and_never_early() -> None:
    record = renew(None, START, "1", is_start=True)
    proposal = Proposal("name", "1", START, START + 20, START + 25)

    assert admit(record, START + 24.9, proposal, None)[0] == "early"
    verdict, record = admit(record, START + 25, proposal, None)
    assert (verdict, record.last_time) == ("admitted", START + 20)
    assert admit(record, START + 26, proposal, None)[0] == "taken"


def test_a_reservation_keeps_others_out_until_it_ends() -> None:
    record = renew(None, START, "1", is_start=True)
    proposal = Proposal("name", "1", START, START + 20, START + 20)

    verdict, record = admit(record, START + 20, proposal, "a")
    assert verdict == "admitted"
    assert record.last_time == START
    assert admit(record, START + 20, proposal, "b")[0] == "reserved"
    assert admit(record, START + 20, proposal, "a")[0] == "admitted"
    verdict, taken = admit(record, START + 20 + RESERVED_SECONDS, proposal, "b")
    assert verdict == "admitted"
    assert confirm(taken, START + 20, "a") == taken
    confirmed = confirm(taken, START + 20, "b")
    assert confirmed is not None
    assert confirmed.last_time == START + 20


def test_a_new_version_takes_over_when_its_worker_starts_and_the_old_one_if_that_is_gone() -> None:
    record = renew(None, START, "old", is_start=True)
    record = renew(record, START + 1, "new", is_start=True)
    proposal = Proposal("name", "old", START, START + 20, START + 20)

    assert admit(record, START + 20, proposal, None)[0] == "superseded"
    assert is_superseded(renew(record, START + 30, "old", is_start=False), "old")
    later = START + 1 + ABANDONED_SECONDS
    assert not is_superseded(renew(record, later, "old", is_start=False), "old")


def test_a_schedule_that_no_worker_had_for_a_week_starts_from_scratch() -> None:
    record = renew(None, START, "1", is_start=True)
    later = START + KEPT_SECONDS

    assert renew(record, later - 1, "1", is_start=False).last_time == START
    assert renew(record, later, "1", is_start=False).last_time == later


def test_a_clock_that_was_far_ahead_does_not_stop_a_schedule_for_ever() -> None:
    record = renew(None, START + 1e9, "1", is_start=True)

    assert renew(record, START, "1", is_start=False).last_time == START
