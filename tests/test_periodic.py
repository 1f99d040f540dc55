"""Periodic jobs: the decorator, and what workers push at each tick."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis.asyncio
from redis_server import unique_group
from sqs_server import SQSServer

import deferrable
from deferrable._ticks import KEPT_SECONDS
from deferrable.aio import Deferrable, InMemoryScheduleStore, Job, Schedule
from deferrable.aio.backend import (
    DocketsBackendFactory,
    InMemoryBackendFactory,
    RedisScheduleStore,
    SQLiteBackendFactory,
    SQSBackendFactory,
)
from deferrable.aio.backend.base import Backend
from deferrable.aio.schedules import Admission, Proposal
from deferrable.aio.worker._proposing import RENEW_SECONDS, proposers
from deferrable.errors import ArgumentMismatch, BackendUnavailable, InvalidOptions
from deferrable.item import Item
from deferrable.testing import MovingClock, wait_until

pytestmark = pytest.mark.anyio

START = 1_000_000_000.0


@asynccontextmanager
async def backend_of(
    kind: str, clock: MovingClock, redis_url: str, folder: Path
) -> AsyncIterator[Backend]:
    factory: Any
    if kind == "memory":
        factory = InMemoryBackendFactory(clock=clock)
    elif kind == "sqlite":
        factory = SQLiteBackendFactory(folder / "periodic.db", 0, durability="process", clock=clock)
    else:
        factory = DocketsBackendFactory(redis_url, wait_time=0.1, clock=clock)
    backend = factory.create_backend_for_group(unique_group())
    try:
        yield backend
    finally:
        await backend.queue.flush()
        await backend.close()


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock(START)


@pytest.fixture(params=["memory", "sqlite", "dockets"])
async def backend(
    request: pytest.FixtureRequest, clock: MovingClock, redis_url: str, tmp_path: Path
) -> AsyncIterator[Backend]:
    """A backend of each kind that keeps schedules."""
    async with backend_of(request.param, clock, redis_url, tmp_path) as made:
        yield made


class Site:
    """An instance whose job nobody runs, and its proposers, one for each worker."""

    def __init__(self, backend: Backend, clock: MovingClock, **options: Any) -> None:
        self.backend = backend
        self.clock = clock
        self.instance = Deferrable(backend, clock=clock, **options)

        @self.instance.deferrable(name="job")
        async def job(number: int = 0) -> None: ...

        self.job = job

    def workers(self, count: int = 1) -> list[Any]:
        return [each for _ in range(count) for each in proposers([self.instance])]

    async def ticks(self) -> list[float]:
        """The ticks whose items were pushed and not popped before, each relative to the start."""
        found = []
        while (popped := await self.backend.queue.pop_at_once(10)) != []:
            for envelope, item in popped:
                found.append(item["tick_time"] - START)
                await self.backend.queue.complete(envelope)
        return found

    async def items(self) -> list[Item]:
        """What was pushed and not popped before."""
        return [item for _, item in await self.backend.queue.pop_at_once(100)]


class Lossy(InMemoryScheduleStore):
    """A store in memory that takes two steps and fails on demand.

    Attributes:
        failing: the verbs that raise, after their effect if they end with a ``+``.
    """

    def __init__(self, clock: MovingClock) -> None:
        super().__init__(clock)
        self.failing: set[str] = set()

    @contextmanager
    def _perhaps(self, verb: str) -> Iterator[None]:
        if verb in self.failing:
            raise BackendUnavailable("the store is away")
        yield
        if f"{verb}+" in self.failing:
            raise BackendUnavailable("the answer was lost")

    async def renew(self, *args: Any, **kwargs: Any) -> Any:
        with self._perhaps("renew"):
            return await super().renew(*args, **kwargs)

    async def reserve(self, name: str, proposal: Proposal, token: str) -> Admission:
        with self._perhaps("reserve"):
            return await super().reserve(name, proposal, token)

    async def confirm(self, name: str, proposal: Proposal, token: str) -> None:
        with self._perhaps("confirm"):
            await super().confirm(name, proposal, token)


# The decorator.


@pytest.fixture(params=["awaiting", "blocking"])
def shop(request: pytest.FixtureRequest, clock: MovingClock) -> Any:
    """An instance of each API, in memory."""
    backend = InMemoryBackendFactory(clock=clock).create_backend_for_group(None)
    make: Any = Deferrable if request.param == "awaiting" else deferrable.Deferrable
    return make(backend)


def plain(number: int = 1) -> int:
    return number


def test_it_makes_a_job_of_a_plain_function_and_keeps_a_job(shop: Any) -> None:
    made = shop.periodic(every_seconds=30)(plain)
    same = shop.periodic("0 * * * *", args=(2,))(made)

    assert isinstance(made, Job)
    assert made(5) == 5
    assert same is made
    assert [each.timetable for each in shop.schedules()] == ["every 30 s", "0 * * * * UTC"]
    assert [each.job_name for each in shop.schedules()] == [made.name] * 2


def test_it_stands_above_deferrable_and_the_other_order_is_refused(shop: Any) -> None:
    job = shop.periodic(every_seconds=30)(shop.deferrable(max_attempts=3)(plain))

    assert job.settings.max_attempts == 3
    with pytest.raises(TypeError, match="is a job already"):
        shop.deferrable(shop.periodic(every_seconds=60)(plain))


def test_a_schedule_is_named_by_job_and_timetable_or_as_given(shop: Any) -> None:
    job = shop.deferrable(name="job")(plain)
    shop.periodic("0  6 * * *", timezone="Europe/Berlin")(job)
    shop.periodic("0 6 * * *", timezone="Europe/Berlin", name="mine")(job)

    assert [each.name for each in shop.schedules()] == ["job 0 6 * * * Europe/Berlin", "mine"]


def test_two_schedules_of_one_name_are_refused_and_the_same_twice_is_one(shop: Any) -> None:
    job = shop.deferrable(name="job")(plain)
    shop.periodic(every_seconds=30)(job)
    shop.periodic(every_seconds=30)(job)

    assert len(shop.schedules()) == 1
    with pytest.raises(InvalidOptions, match="another name="):
        shop.periodic(every_seconds=30, args=(2,))(job)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, InvalidOptions, "neither"),
        ({"cron": "* * *"}, InvalidOptions, "no cron expression"),
        ({"cron": "* * * * *", "timezone": "Mars/Olympus"}, InvalidOptions, "Mars/Olympus"),
        ({"every_seconds": 30, "jitter_seconds": 30}, InvalidOptions, "overtake"),
        ({"every_seconds": 30, "catch_up": "some"}, InvalidOptions, "'skip', 'last', 'all'"),
        ({"every_seconds": 30, "args": "ab"}, InvalidOptions, "args="),
        ({"every_seconds": 30, "kwargs": ["a"]}, InvalidOptions, "kwargs"),
        ({"every_seconds": 30, "name": ""}, InvalidOptions, "name"),
        ({"every_seconds": 30, "args": (1, 2)}, ArgumentMismatch, "cannot defer"),
    ],
)
def test_what_is_no_schedule_is_refused_at_decoration(
    shop: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        shop.periodic(**options)(plain)
    assert shop.schedules() == []


def test_a_job_of_another_instance_is_refused(shop: Any) -> None:
    other = deferrable.Deferrable(InMemoryBackendFactory().create_backend_for_group("other"))

    with pytest.raises(TypeError, match="another instance"):
        shop.periodic(every_seconds=30)(other.deferrable(plain))


def test_a_backend_without_a_store_needs_one(clock: MovingClock) -> None:
    backend = InMemoryBackendFactory(clock=clock).create_backend_for_group(None)
    backend.schedule_store = None

    with pytest.raises(InvalidOptions, match="schedule_store="):
        Deferrable(backend).periodic(every_seconds=30)(plain)
    given = Deferrable(backend, schedule_store=InMemoryScheduleStore())
    given.periodic(every_seconds=30)(plain)
    assert len(given.schedules()) == 1


def test_the_next_times_are_in_the_schedules_zone(shop: Any) -> None:
    shop.periodic("0 6 * * *", timezone="Europe/Berlin")(plain)
    (schedule,) = shop.schedules()
    berlin = ZoneInfo("Europe/Berlin")
    after = datetime(2026, 3, 28, 12, tzinfo=berlin)

    assert isinstance(schedule, Schedule)
    assert schedule.next_times(2, after=after) == [
        datetime(2026, 3, 29, 6, tzinfo=berlin),
        datetime(2026, 3, 30, 6, tzinfo=berlin),
    ]
    assert schedule.next_times()[0].timestamp() > START


async def test_a_run_outside_of_the_schedule_is_an_ordinary_call(
    backend: Backend, clock: MovingClock
) -> None:
    site = Site(backend, clock)
    site.instance.periodic(every_seconds=30, args=(7,))(site.job)
    (schedule,) = site.instance.schedules()

    receipts = [await schedule.later_async(), await asyncio.to_thread(schedule.later)]

    items = await site.items()
    assert [each["id"] for each in items] == [receipt.id for receipt in receipts]
    assert "tick_time" not in items[0]


# What workers push.


async def test_each_tick_is_pushed_once_whatever_the_number_of_workers(
    backend: Backend, clock: MovingClock
) -> None:
    site = Site(backend, clock)
    site.instance.periodic(every_seconds=30)(site.job)
    workers = site.workers(4)

    for _ in range(12):
        await asyncio.gather(*[each.propose_due() for each in workers])
        clock.advance(10)

    assert await site.ticks() == [20, 50, 80, 110]


async def test_the_item_has_an_id_made_from_the_tick_and_says_which_it_is(
    backend: Backend, clock: MovingClock
) -> None:
    site = Site(backend, clock)
    site.instance.periodic(every_seconds=30, kwargs={"number": 3}, name="mine")(site.job)
    (worker,) = site.workers()

    await worker.propose_due()
    clock.advance(50)
    await worker.propose_due()

    first, second = await site.items()
    assert (first["schedule"], first["tick_time"]) == ("mine", START + 20)
    assert first["id"] != second["id"]
    assert site.instance.serializer.load_call(first).kwargs == {"number": 3}


async def test_a_worker_whose_clock_is_wrong_pushes_at_the_stores_time(
    backend: Backend, clock: MovingClock
) -> None:
    site = Site(backend, clock)
    site.instance.periodic(every_seconds=30)(site.job)
    ahead, behind = site.workers(2)
    ahead._clock, behind._clock = MovingClock(START + 500), MovingClock(START - 500)

    for _ in range(6):
        for each in (ahead, behind):
            await each.propose_due()
        for moved in (clock, ahead._clock, behind._clock):
            moved.advance(10)

    assert await site.ticks() == [20, 50]


async def test_a_proposal_that_comes_too_early_is_refused_until_the_stores_clock_is_there(
    backend: Backend, clock: MovingClock
) -> None:
    site = Site(backend, clock)
    site.instance.periodic(every_seconds=30)(site.job)
    (worker,) = site.workers()
    await worker.propose_due()

    worker._clock = MovingClock(START + 25)  # it was set since the last answer
    worker._renew_time = float("inf")
    assert await worker.propose_due() == pytest.approx(20)
    assert await site.ticks() == []
    clock.advance(20)
    worker._clock.advance(20)
    await worker.propose_due()
    assert await site.ticks() == [20]


@pytest.mark.parametrize(
    ("catch_up", "pushed"), [("skip", [3600]), ("last", [3600]), ("all", [0, 1200, 2400, 3600])]
)
async def test_missed_ticks_are_caught_up_by_policy(
    backend: Backend, clock: MovingClock, catch_up: Any, pushed: list[float]
) -> None:
    site = Site(backend, clock)
    site.instance.periodic(every_seconds=1200, catch_up=catch_up)(site.job)
    (before,) = site.workers()
    await before.propose_due()
    clock.advance(4400 + (50 if catch_up == "skip" else 900))  # the first is at 800

    (after,) = site.workers()
    await after.propose_due()

    assert await site.ticks() == [800 + each for each in pushed]


async def test_skip_pushes_nothing_that_is_late_by_more_than_a_minute(
    backend: Backend, clock: MovingClock
) -> None:
    site = Site(backend, clock)
    site.instance.periodic(every_seconds=1200)(site.job)
    await site.workers()[0].propose_due()
    clock.advance(4400 + 61)

    (after,) = site.workers()
    await after.propose_due()
    assert await site.ticks() == []
    clock.advance(1200 - 61)
    await after.propose_due()
    assert await site.ticks() == [5600]


async def test_a_changed_schedule_takes_over_and_the_old_worker_falls_silent(
    backend: Backend, clock: MovingClock
) -> None:
    old, new = Site(backend, clock), Site(backend, clock)
    old.instance.periodic(every_seconds=30, name="mine")(old.job)
    new.instance.periodic(every_seconds=50, name="mine")(new.job)
    (old_worker,) = old.workers()
    await old_worker.propose_due()
    clock.advance(20)
    await old_worker.propose_due()

    (new_worker,) = new.workers()
    for _ in range(10):
        await new_worker.propose_due()
        await old_worker.propose_due()
        clock.advance(10)

    assert await old.ticks() == [20, 50, 100]


async def test_a_schedule_of_the_old_version_goes_on_when_the_new_workers_are_gone(
    backend: Backend, clock: MovingClock
) -> None:
    old, new = Site(backend, clock), Site(backend, clock)
    old.instance.periodic(every_seconds=600, name="mine")(old.job)
    new.instance.periodic(every_seconds=500, name="mine")(new.job)
    (old_worker,), (new_worker,) = old.workers(), new.workers()
    await old_worker.propose_due()
    await new_worker.propose_due()

    for _ in range(20):
        clock.advance(RENEW_SECONDS)
        await old_worker.propose_due()

    assert await old.ticks() == [800]


async def test_no_task_and_no_key_for_an_instance_without_schedules(
    backend: Backend, clock: MovingClock
) -> None:
    site = Site(backend, clock)
    site.instance.worker()

    assert site.workers() == []


async def test_run_once_pushes_no_tick(shop: Any, clock: MovingClock) -> None:
    shop.periodic(every_seconds=30)(plain)
    clock.advance(100)

    outcome = shop.run_once()
    assert (await outcome if asyncio.iscoroutine(outcome) else outcome) is None


async def test_a_worker_runs_the_job_at_each_tick_until_it_is_left(
    shop: Any, clock: MovingClock
) -> None:
    ran = list[float]()

    @shop.periodic(every_seconds=30)
    @shop.deferrable(name="job")
    def job() -> None:
        ran.append(clock.time() - START)

    core = getattr(shop, "_core", shop)
    store = core.backend.schedule_store
    async with core.worker() as worker:
        await wait_until(lambda: store._records, "the schedule is known")
        for tick in (20, 50, 80):
            clock.advance(START + tick - clock.time())
            outcome = await worker.next_outcome()
            assert outcome is not None
            assert outcome.item["tick_time"] == START + tick
    clock.advance(300)
    await asyncio.sleep(0)

    assert ran == [20, 50, 80]
    assert (await core.backend.queue.stats())["available"] == 0


# What goes wrong.


async def test_a_store_that_is_away_is_logged_once_and_caught_up(
    clock: MovingClock, caplog: pytest.LogCaptureFixture
) -> None:
    backend = InMemoryBackendFactory(clock=clock).create_backend_for_group(None)
    store = Lossy(clock)
    site = Site(backend, clock, schedule_store=store)
    site.instance.periodic(every_seconds=30, catch_up="all")(site.job)
    site.instance.periodic(every_seconds=30, catch_up="all", name="other")(site.job)
    (worker,) = site.workers()
    running = asyncio.create_task(worker.run())
    try:
        await wait_until(lambda: clock.pending == 1, "it sleeps")
        store.failing = {"renew", "reserve"}
        with caplog.at_level(logging.WARNING, "deferrable"):
            for _ in range(20):
                clock.advance(5)
                await wait_until(lambda: clock.pending == 1, "it sleeps")
            store.failing = set()
            clock.advance(5)
            await wait_until(lambda: len(caplog.records) > 1, "it is back")
    finally:
        running.cancel()
        await asyncio.wait([running])

    assert [each.levelname for each in caplog.records] == ["ERROR", "WARNING"]
    assert "the store is away" in caplog.text
    assert "can be pushed again after" in caplog.text
    assert sorted(await site.ticks()) == [20, 20, 50, 50, 80, 80]


async def test_a_call_that_cannot_be_sent_stops_no_other_schedule(
    clock: MovingClock, caplog: pytest.LogCaptureFixture
) -> None:
    backend = InMemoryBackendFactory(clock=clock).create_backend_for_group(None)
    site = Site(backend, clock)
    broken = site.job.options(delay_seconds=lambda: -1)
    site.instance.periodic(every_seconds=30, name="broken")(broken)
    site.instance.periodic(every_seconds=30)(site.job)
    (worker,) = site.workers()

    with caplog.at_level(logging.WARNING, "deferrable"):
        for _ in range(6):
            await worker.propose_due()
            clock.advance(10)

    assert await site.ticks() == [20, 50]
    assert len(caplog.records) == 1
    assert "'broken'" in caplog.text


async def test_a_reservation_whose_push_failed_is_pushed_by_another_worker(
    clock: MovingClock,
) -> None:
    backend = InMemoryBackendFactory(clock=clock).create_backend_for_group(None)
    site = Site(backend, clock, schedule_store=Lossy(clock))
    site.instance.periodic(every_seconds=60)(site.job)
    dead, other = site.workers(2)
    for each in (dead, other):
        await each.propose_due()
    clock.advance(20)
    queue = backend.queue

    async def fail(push: Any) -> None:
        raise BackendUnavailable("the queue is away")

    queue.push = fail  # type: ignore[method-assign]
    with pytest.raises(BackendUnavailable):
        await dead.propose_due()
    del queue.push  # type: ignore[method-assign]
    await other.propose_due()
    assert await site.ticks() == []  # it is reserved
    clock.advance(31)
    await other.propose_due()

    assert await site.ticks() == [20]


@pytest.mark.parametrize("lost", ["confirm", "reserve+"])
async def test_a_second_push_of_a_tick_is_the_same_item(clock: MovingClock, lost: str) -> None:
    backend = InMemoryBackendFactory(clock=clock).create_backend_for_group(None)
    store = Lossy(clock)
    site = Site(backend, clock, schedule_store=store)
    site.instance.periodic(every_seconds=60)(site.job)
    first, second = site.workers(2)
    for each in (first, second):
        await each.propose_due()
    clock.advance(20)
    store.failing = {lost}
    if lost == "confirm":
        await first.propose_due()
    else:
        with pytest.raises(BackendUnavailable):
            await first.propose_due()
    store.failing = set()
    clock.advance(31)
    await second.propose_due()
    await first.propose_due()

    items = await site.items()
    assert len(items) == (2 if lost == "confirm" else 1)
    assert len({each["id"] for each in items}) == 1


async def test_a_push_that_failed_is_tried_again_under_its_own_reservation(
    clock: MovingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = InMemoryBackendFactory(clock=clock).create_backend_for_group(None)
    site = Site(backend, clock, schedule_store=Lossy(clock))
    site.instance.periodic(every_seconds=60)(site.job)
    (worker,) = site.workers(1)
    await worker.propose_due()
    clock.advance(20)
    push_batch, failures = backend.queue._push_batch, [BackendUnavailable("injected")]

    async def fail_once(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return await push_batch(*args)

    monkeypatch.setattr(backend.queue, "_push_batch", fail_once)
    with pytest.raises(BackendUnavailable):
        await worker.propose_due()
    await worker.propose_due()

    assert len(await site.items()) == 1


async def test_metadata_signature_and_the_push_event_are_those_of_any_item(
    backend: Backend, clock: MovingClock
) -> None:
    site = Site(backend, clock, signing_keys=["0123456789abcdef"])
    pushed, consumed = list[Item](), list[object]()

    class Producer(deferrable.MetadataProducerConsumer):
        NAMESPACE = "request"

        def produce_metadata(self) -> str:
            return "from a worker"

        def consume_metadata(self, value: object) -> None:
            consumed.append(value)

    class Consumer:
        async def on_push(self, item: Item) -> None:
            pushed.append(item)

    site.instance.register_metadata_producer_consumer(Producer())
    site.instance.register_event_consumer(Consumer())
    site.instance.periodic(every_seconds=30)(site.job)
    workers = site.workers(2)
    for _ in range(2):
        for each in workers:
            await each.propose_due()
        clock.advance(20)

    outcome = await site.instance.run_once()
    assert outcome is not None
    assert outcome.status == "completed"
    assert [each["id"] for each in pushed] == [outcome.item["id"]]
    assert consumed == ["from a worker"]


async def test_the_ticks_of_a_debounced_job_are_not_debounced(
    backend: Backend, clock: MovingClock
) -> None:
    site = Site(backend, clock)
    job = site.job.options(debounce_seconds=100)
    site.instance.periodic(every_seconds=30)(job)
    (worker,) = site.workers()
    for _ in range(9):
        await worker.propose_due()
        clock.advance(10)

    assert await site.ticks() == [20, 50, 80]


async def test_a_delay_of_the_job_counts_from_the_tick(
    backend: Backend, clock: MovingClock
) -> None:
    site = Site(backend, clock)
    site.instance.periodic(every_seconds=100)(site.job.options(delay_seconds=50))
    (worker,) = site.workers()
    await worker.propose_due()
    clock.advance(100)
    await worker.propose_due()

    assert await site.ticks() == []
    clock.advance(50)
    assert await site.ticks() == [100]


async def test_a_store_elsewhere_serves_any_queue(redis_url: str, clock: MovingClock) -> None:
    backend = InMemoryBackendFactory(clock=clock).create_backend_for_group(unique_group())
    async with RedisScheduleStore(redis_url, clock=clock) as store:
        site = Site(backend, clock, schedule_store=store)
        site.instance.periodic(every_seconds=30)(site.job)
        workers = site.workers(3)
        for _ in range(6):
            await asyncio.gather(*[each.propose_due() for each in workers])
            clock.advance(10)

    assert await site.ticks() == [20, 50]


async def test_on_sqs_a_store_elsewhere_keeps_the_schedules(
    sqs_server: SQSServer, sqs_group: str, clock: MovingClock
) -> None:
    connection = sqs_server.connection(sqs_server.url)
    factory = SQSBackendFactory(connection, wait_time=0)
    async with factory.create_backend_for_group(sqs_group) as backend:
        site = Site(backend, clock, schedule_store=InMemoryScheduleStore(clock))
        site.instance.periodic(every_seconds=30)(site.job)
        workers = site.workers(3)
        for each in workers:
            each._clock = clock
        for _ in range(6):
            await asyncio.gather(*[each.propose_due() for each in workers])
            clock.advance(10)
        found = list[float]()
        await wait_until(lambda: _all_found(site, found, 2), "both have arrived")

    assert sorted(found) == [20, 50]


async def _all_found(site: Site, found: list[float], count: int) -> bool:
    found += await site.ticks()
    return len(found) >= count


async def test_without_schedules_redis_has_no_key_and_with_them_one_that_expires(
    redis_url: str, clock: MovingClock
) -> None:
    factory = DocketsBackendFactory(redis_url, wait_time=0.1)
    async with (
        factory.create_backend_for_group(unique_group()) as backend,
        redis.asyncio.from_url(redis_url) as client,
    ):
        site = Site(backend, clock)
        key = f"queue.deferrable_{backend.group}.schedules"
        async with site.instance.worker():
            await wait_until(lambda: client.exists(f"{key[:-10]}.workers"), "it polls")
        assert await client.exists(key) == 0

        site.instance.periodic(every_seconds=3600)(site.job)
        async with site.instance.worker():
            await wait_until(lambda: client.exists(key), "the schedule is known")
        assert 0 < await client.ttl(key) <= 2 * KEPT_SECONDS
        await client.delete(key)


async def test_by_the_servers_clock_a_tick_comes_within_its_second(redis_url: str) -> None:
    factory = DocketsBackendFactory(redis_url, wait_time=0.1)
    async with factory.create_backend_for_group(unique_group()) as backend:
        shop = Deferrable(backend)

        @shop.periodic(every_seconds=1)
        @shop.deferrable(name="job")
        async def job() -> None: ...

        async with shop.worker() as worker:
            outcome = await worker.next_outcome()

    assert outcome is not None
    assert outcome.item["tick_time"] == int(outcome.item["tick_time"])
