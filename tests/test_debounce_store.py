"""What every debounce store promises: in memory, in a file, and in Redis with both kinds of keys.

Random traces compare the stores with the pure transitions; a trace that deserves a name has its own
test.
"""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deferrable.aio.backend._redis.debounce import RedisDebounceStore
from deferrable.aio.backend.sqlite import SQLiteBackendFactory
from deferrable.aio.debounce import DebounceKey, DebounceStore, InMemoryDebounceStore, Reservation
from deferrable.debounce import (
    RESERVATION_SECONDS,
    PushDelayed,
    PushNow,
    Skip,
    Window,
    confirm,
    identity,
    reserve,
    restore,
    withdraw,
)
from deferrable.testing import MovingClock

pytestmark = pytest.mark.anyio

KINDS = ["memory", "sqlite", "redis", "redis, with the old library"]

_numbers = itertools.count()


def fresh_key(kind: str) -> DebounceKey:
    """A window that no other test uses."""
    number = next(_numbers)
    text = identity("store", "f", (number,), {})
    if kind != "redis, with the old library":
        return DebounceKey(text)
    return DebounceKey(text, (f"debounce.M.{number}.K", f"last_push.M.{number}.K"))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture
async def store(
    kind: str, clock: MovingClock, request: pytest.FixtureRequest
) -> AsyncIterator[DebounceStore]:
    async with make_store(kind, clock, request) as made:
        yield made


@pytest.fixture
def key(kind: str) -> DebounceKey:
    return fresh_key(kind)


def make_store(
    kind: str, clock: MovingClock | None, request: pytest.FixtureRequest
) -> DebounceStore:
    if kind == "memory":
        return InMemoryDebounceStore(clock)
    if kind == "sqlite":
        path = request.getfixturevalue("tmp_path_factory").mktemp("store") / "jobs.db"
        factory = SQLiteBackendFactory(path, durability="process", clock=clock)
        backend = factory.create_backend_for_group(None)
        assert backend.debounce_store is not None
        return backend.debounce_store
    return RedisDebounceStore(request.getfixturevalue("redis_url"), clock=clock)


async def push(
    store: DebounceStore, key: DebounceKey, token: str, window_seconds: float = 60
) -> Reservation:
    """A whole push: reserved, pushed, confirmed."""
    reservation = await store.reserve(key, window_seconds, False, token)
    await store.confirm(key, token)
    return reservation


async def test_first_call_is_pushed_now(
    store: DebounceStore, key: DebounceKey, clock: MovingClock
) -> None:
    assert await push(store, key, "1") == Reservation(PushNow(), clock.time())


async def test_second_call_is_delayed_to_the_end_of_the_window(
    store: DebounceStore, key: DebounceKey, clock: MovingClock
) -> None:
    await push(store, key, "1")
    clock.advance(12.5)

    assert await push(store, key, "2") == Reservation(PushDelayed(48), clock.time() + 48)


async def test_calls_are_skipped_until_the_delayed_item_is_available_and_no_longer(
    store: DebounceStore, key: DebounceKey, clock: MovingClock
) -> None:
    await push(store, key, "1")
    clock.advance(50)
    await push(store, key, "2")
    available_time = clock.time() + 10
    clock.advance(9.75)
    before = await push(store, key, "3")
    clock.advance(0.25)
    after = await push(store, key, "4")

    assert before.decision == Skip(available_time)
    assert before.available_time == available_time
    assert after == Reservation(PushDelayed(60), clock.time() + 60)


async def test_windows_of_different_keys_have_nothing_to_do_with_each_other(
    store: DebounceStore, key: DebounceKey, kind: str
) -> None:
    await push(store, key, "1")

    assert (await push(store, fresh_key(kind), "2")).decision == PushNow()


async def test_a_fractional_window_is_kept(
    store: DebounceStore, key: DebounceKey, clock: MovingClock
) -> None:
    await push(store, key, "1", 12.75)
    clock.advance(0.5)

    assert (await push(store, key, "2", 12.75)).decision == PushDelayed(12.75)


async def test_always_delay_delays_the_first_call_too(
    store: DebounceStore, key: DebounceKey
) -> None:
    first = await store.reserve(key, 60, True, "1")

    assert first.decision == PushDelayed(60)


async def test_a_failed_push_puts_the_window_back(store: DebounceStore, key: DebounceKey) -> None:
    await store.reserve(key, 60, False, "fails")
    await store.restore(key, "fails")

    assert (await store.reserve(key, 60, False, "next")).decision == PushNow()


async def test_a_failed_delayed_push_puts_the_push_before_back(
    store: DebounceStore, key: DebounceKey, clock: MovingClock
) -> None:
    await push(store, key, "1")
    clock.advance(5)
    await store.reserve(key, 60, False, "fails")
    await store.restore(key, "fails")

    assert (await push(store, key, "2")).decision == PushDelayed(55)


async def test_a_failed_push_leaves_the_window_of_a_later_one_alone(
    store: DebounceStore, key: DebounceKey, clock: MovingClock
) -> None:
    await store.reserve(key, 60, False, "fails")
    clock.advance(1)
    await push(store, key, "works")
    await store.restore(key, "fails")

    assert isinstance((await push(store, key, "3")).decision, Skip)


async def test_a_dead_producer_silences_calls_for_ten_seconds_at_most(
    store: DebounceStore, key: DebounceKey, clock: MovingClock
) -> None:
    await store.reserve(key, 60, True, "dies")
    clock.advance(RESERVATION_SECONDS - 0.25)
    silenced = await store.reserve(key, 60, True, "2")
    clock.advance(0.25)
    heard = await store.reserve(key, 60, True, "3")

    assert isinstance(silenced.decision, Skip)
    assert heard.decision == PushDelayed(60)


async def test_a_dead_producer_leaves_the_push_before_in_force(
    store: DebounceStore, key: DebounceKey, clock: MovingClock
) -> None:
    await push(store, key, "1")
    clock.advance(5)
    await store.reserve(key, 60, False, "dies")
    clock.advance(RESERVATION_SECONDS)

    assert (await push(store, key, "2")).decision == PushDelayed(45)


async def test_a_confirmed_push_counts_beyond_its_reservation(
    store: DebounceStore, key: DebounceKey, clock: MovingClock
) -> None:
    await store.reserve(key, 60, True, "1")
    clock.advance(RESERVATION_SECONDS - 1)
    await store.confirm(key, "1")
    clock.advance(2)

    assert isinstance((await push(store, key, "2")).decision, Skip)


async def test_asking_twice_with_one_token_reserves_once(
    store: DebounceStore, key: DebounceKey
) -> None:
    first = await store.reserve(key, 60, True, "1")

    assert await store.reserve(key, 60, True, "1") == first


async def test_confirm_and_restore_of_what_was_never_reserved_do_nothing(
    store: DebounceStore, key: DebounceKey
) -> None:
    await store.confirm(key, "nobody")
    await store.restore(key, "nobody")

    assert (await push(store, key, "1")).decision == PushNow()


async def test_of_fifty_producers_at_once_one_pushes_now_and_one_delayed(
    store: DebounceStore, key: DebounceKey
) -> None:
    reservations = await asyncio.gather(
        *(store.reserve(key, 60, False, f"{number}") for number in range(50))
    )

    assert sorted(type(each.decision).__name__ for each in reservations) == [
        "PushDelayed",
        "PushNow",
        *["Skip"] * 48,
    ]


def test_producers_on_eight_event_loops_share_a_window(
    kind: str, clock: MovingClock, request: pytest.FixtureRequest
) -> None:
    store, key = make_store(kind, clock, request), fresh_key(kind)
    decisions: list[Any] = []
    start = threading.Barrier(8)

    async def produce(producer: int) -> None:
        start.wait(30)
        for number in range(20):
            reservation = await store.reserve(key, 60, False, f"{producer} {number}")
            decisions.append(reservation.decision)

    threads = [threading.Thread(target=lambda n=n: asyncio.run(produce(n))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sum(isinstance(each, PushNow) for each in decisions) == 1
    assert sum(isinstance(each, PushDelayed) for each in decisions) == 1
    assert len(decisions) == 160


async def test_closing_twice_is_harmless(store: DebounceStore) -> None:
    await store.close()
    await store.close()


# The twin: every store against the pure transitions.


@dataclass(frozen=True)
class Step:
    """What one producer does after some time."""

    after_seconds: float
    verb: Literal["reserve", "confirm", "restore", "withdraw"]
    token: str
    always_delay: bool = False


def steps(gaps: st.SearchStrategy[float]) -> st.SearchStrategy[list[Step]]:
    tokens = st.sampled_from("abcdef")
    verbs = st.sampled_from(["reserve", "reserve", "confirm", "restore", "withdraw"])
    return st.lists(st.builds(Step, gaps, verbs, tokens, st.booleans()), max_size=25)


ANY_WINDOW = st.one_of(st.floats(0.001, 1000), st.integers(1, 100), st.just(0.1))
ANY_GAPS = st.one_of(st.just(0.0), st.floats(0, 20), st.integers(0, 60).map(float))

# A key of the old library lives as long as its value says, by the clock of Redis, which a test
# does not move; so these windows are longer than a test.
LONG_WINDOW = st.one_of(st.floats(30, 1000), st.integers(30, 100))


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_store_decides_as_the_pure_transitions_do_to_the_last_digit(
    kind: str, data: st.DataObject, runner: asyncio.Runner, request: pytest.FixtureRequest
) -> None:
    has_old_keys = kind == "redis, with the old library"
    window_seconds = data.draw(LONG_WINDOW if has_old_keys else ANY_WINDOW)
    trace = data.draw(steps(ANY_GAPS))
    start = data.draw(st.floats(1_700_000_000, 1_800_000_000))

    runner.run(follow(kind, window_seconds, trace, MovingClock(start), request))


async def follow(
    kind: str,
    window_seconds: float,
    trace: list[Step],
    clock: MovingClock,
    request: pytest.FixtureRequest,
) -> None:
    window: Window | None = None
    key, has_old_keys = fresh_key(kind), kind == "redis, with the old library"
    async with make_store(kind, clock, request) as store:
        for step in trace:
            clock.advance(step.after_seconds)
            now = clock.time()
            match step.verb:
                case "reserve":
                    reservation = await store.reserve(
                        key, window_seconds, step.always_delay, step.token
                    )
                    decision, window = reserve(
                        window, now, window_seconds, step.always_delay, step.token
                    )
                    assert window is not None
                    pending_id = window.pending_id if isinstance(decision, Skip) else None
                    if has_old_keys and window.token is None:
                        pending_id = None  # the old library's keys have no place for it
                    is_pushed = window.token is None or not isinstance(decision, Skip)
                    assert reservation == Reservation(
                        decision, window.available_time, pending_id, is_pushed
                    )
                case "withdraw" if has_old_keys:
                    pass  # they do not know the time before, either
                case "withdraw":
                    await store.withdraw(key, step.token, None)
                    window = withdraw(window, now, step.token)
                case "confirm":
                    await store.confirm(key, step.token)
                    window = confirm(window, now, step.token)
                case "restore":
                    await store.restore(key, step.token)
                    window = restore(window, now, step.token)


# In memory.


async def test_windows_in_memory_that_cannot_matter_any_more_are_dropped(
    clock: MovingClock,
) -> None:
    store = InMemoryDebounceStore(clock)
    for number in range(5000):
        await push(store, DebounceKey(f"{number}"), "1", 10)
        clock.advance(1)

    assert len(store) < 300


async def test_windows_in_memory_never_outnumber_their_maximum(clock: MovingClock) -> None:
    store = InMemoryDebounceStore(clock, max_windows=100)
    for number in range(1000):
        await push(store, DebounceKey(f"{number}"), "1")

    assert len(store) == 100


async def test_the_windows_dropped_early_are_those_reserved_longest_ago(
    clock: MovingClock,
) -> None:
    store = InMemoryDebounceStore(clock, max_windows=2)
    for text in ("reserved again", "once", "reserved again", "last"):
        await push(store, DebounceKey(text), text)

    assert isinstance((await push(store, DebounceKey("reserved again"), "x")).decision, Skip)
    assert (await push(store, DebounceKey("once"), "x")).decision == PushNow()
