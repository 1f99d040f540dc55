"""Prefetching: what a worker takes beyond its slots, and how it gives that back."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from faces import Face, until_in_flight
from redis_server import unique_group

from deferrable import pickling
from deferrable.aio import Backend, Deferrable, Queue, Worker
from deferrable.aio.backend import DocketsBackendFactory
from deferrable.testing import MovingClock, wait_until

pytestmark = pytest.mark.anyio

LONG = 40
"""The number of the job that is not quick."""
COUNT = 100
PREFETCH = 10


class Site:
    """An instance with many jobs, all of them quick but for one, and the worker of the test.

    Attributes:
        started: their numbers, in the order in which they began.
        most_in_flight: of the queue, whenever a job began.
        seconds: what each of the quick ones takes.
    """

    def __init__(self, backend: Backend, clock: MovingClock) -> None:
        self.queue, self.clock = backend.queue, clock
        self.instance = Deferrable(backend)
        self.job = self.instance.deferrable(name="job")(self._run)
        self.started: list[int] = []
        self.opened = asyncio.Event()
        self.seconds = 0.0

    async def _run(self, number: int) -> None:
        self.started.append(number)
        if number == LONG:
            await self.opened.wait()
        self.clock.advance(self.seconds)

    async def defer(self) -> None:
        await self.job.later_many_async([(number,) for number in range(COUNT)])

    def worker(self, prefetch: int = PREFETCH) -> Worker:
        return self.instance.worker(concurrency=1, prefetch=prefetch)

    async def in_flight(self) -> int:
        return int((await self.queue.stats())["in_flight"])

    async def until_prefetched(self) -> None:
        """Until the long job runs, and more than half of what may be held behind it is."""

        async def is_so() -> bool:
            held = await self.in_flight() - 1
            return self.started[-1:] == [LONG] and held > PREFETCH // 2

        await wait_until(is_so, "items wait behind the long job")

    async def until_alone(self) -> None:
        """Until nothing but the long job's item is in flight."""
        await wait_until(until_in_flight(self.queue, 1), "all others were given back")


@pytest.fixture
def face() -> Face:
    # One that is counted is buried.
    return Face("awaiting", max_redeliveries=0)


@pytest.fixture
async def site(face: Face) -> Site:
    site = Site(face.backend, face.clock)
    await site.defer()
    return site


@pytest.fixture(params=["memory", "dockets"])
async def each_site(
    request: pytest.FixtureRequest, face: Face, redis_url: str
) -> AsyncIterator[Site]:
    backend, clock = face.backend, face.clock
    if request.param == "dockets":
        factory = DocketsBackendFactory(redis_url, clock=clock, max_redeliveries=0)
        backend = factory.create_backend_for_group(unique_group("prefetch-"))
    site = Site(backend, clock)
    await site.defer()
    yield site
    await backend.queue.flush()
    await backend.close()


async def read_all(worker: Worker) -> list[str]:
    return [outcome.status async for outcome in worker]


def read_beside(worker: Worker) -> "asyncio.Task[list[str]]":
    return asyncio.create_task(read_all(worker))


@asynccontextmanager
async def prefetched(site: Site) -> AsyncIterator[Worker]:
    """A worker that holds items behind the long job; it is stopped, and then that job ends."""
    async with site.worker() as worker:
        reading = read_beside(worker)
        await site.until_prefetched()
        await wait_until(lambda: is_at_rest(worker), "nothing else is under way")
        try:
            yield worker
        finally:
            worker.stop()
            site.opened.set()
        await reading


@asynccontextmanager
async def paused(site: Site, prefetch: int = PREFETCH) -> AsyncIterator[Worker]:
    """A worker that runs the long job, and polls no more."""
    async with site.worker(prefetch) as worker:
        reading = read_beside(worker)
        await wait_until(lambda: LONG in site.started, "the long job runs")
        await wait_until(lambda: has_paused(worker, site), "the worker waits for a slot")
        try:
            yield worker
        finally:
            worker.stop()
            site.opened.set()
        await reading


def is_at_rest(worker: Worker) -> bool:
    """Whether no poll and no settlement is under way."""
    return worker._slots.polling == worker._slots.settling == 0


def has_paused(worker: Worker, site: Site) -> bool:
    """Whether no poll is under way: a poll's age grows with the time."""
    site.clock.advance(0.001)
    (queue,) = worker.health.queues().values()
    return queue.poll_age_seconds == 0


async def passes() -> None:
    """Let everything run that needs no time to pass."""
    for _ in range(20):
        await asyncio.sleep(0)


async def numbers_in(queue: Queue) -> list[int]:
    """Those of the items that are available, in their order; takes them."""
    return [pickling.loads(str(item["args"]))[0] for _, item in await queue.pop_up_to(COUNT)]


async def test_items_are_prefetched_once_jobs_end_quickly(each_site: Site) -> None:
    async with prefetched(each_site):
        held = await each_site.in_flight()

    assert held <= 1 + PREFETCH
    assert each_site.started == list(range(LONG + 1))


async def test_nothing_is_prefetched_unless_it_was_asked_for(site: Site) -> None:
    async with paused(site, prefetch=0):
        await site.until_alone()


async def test_jobs_that_take_long_prefetch_nothing(site: Site) -> None:
    site.seconds = 0.021

    async with paused(site):
        await site.until_alone()


async def test_what_waits_behind_a_long_job_goes_back_within_a_second_in_its_order(
    each_site: Site,
) -> None:
    async with prefetched(each_site):
        each_site.clock.advance(1)
        await each_site.until_alone()

        # A counted delivery would have buried it.
        assert await numbers_in(each_site.queue) == list(range(LONG + 1, COUNT))


async def test_what_was_prefetched_stays_for_less_than_a_second(site: Site) -> None:
    async with prefetched(site):
        held = await site.in_flight()

        site.clock.advance(0.9)
        await passes()

        assert await site.in_flight() == held


async def test_another_worker_runs_what_was_given_back(site: Site) -> None:
    async with prefetched(site), site.worker(prefetch=0) as other:
        reading = read_beside(other)

        site.clock.advance(1)
        await wait_until(lambda: len(site.started) == COUNT, "all other jobs ran")

        other.stop()
        await reading

    assert sorted(site.started) == list(range(COUNT))


async def test_a_worker_that_gave_items_back_takes_no_others_until_a_job_has_ended(
    site: Site,
) -> None:
    async with prefetched(site) as worker:
        site.clock.advance(1)
        await site.until_alone()

        # As a poll does that was under way.
        landing = await site.queue.pop_batch(3)
        assert worker._attempts is not None
        worker._attempts.take(site.instance, site.queue, landing)
        await site.until_alone()

        site.opened.set()
        await wait_until(lambda: len(site.started) == COUNT, "all jobs ran")

    assert site.started == list(range(COUNT))


async def test_a_queue_that_counts_releases_keeps_what_was_prefetched(
    face: Face, site: Site
) -> None:
    face.backend.queue.COUNTS_RELEASES = True  # type: ignore[misc]

    async with prefetched(site) as worker:
        held = await site.in_flight()
        site.clock.advance(2)
        await passes()
        seen = await site.in_flight()
        worker.stop()
        await site.until_alone()

    assert seen == held


async def test_stopping_gives_back_what_was_prefetched_in_its_order(each_site: Site) -> None:
    async with prefetched(each_site) as worker:
        worker.stop()
        await each_site.until_alone()

    assert await numbers_in(each_site.queue) == list(range(LONG + 1, COUNT))


async def test_what_the_broker_did_not_take_back_is_given_back_again(
    face: Face, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    async with prefetched(site):
        face.faults.drop("release", times=2)
        site.clock.advance(1)
        for count in (1, 2):
            await wait_until(lambda count=count: len(face.faults.injected) >= count, "it failed")  # type: ignore[misc]
            site.clock.advance(1)
        await site.until_alone()

    assert await numbers_in(face.broker.queue) == list(range(LONG + 1, COUNT))
    told = [each.getMessage() for each in caplog.records if "release" in each.getMessage()]
    assert [each for each in told if "cannot be settled now" in each] == told
    assert len(told) == 1


async def test_a_worker_that_stops_while_it_gives_back_waits_for_that(
    face: Face, site: Site
) -> None:
    async with site.worker() as worker:
        reading = read_beside(worker)
        await site.until_prefetched()
        # What the broker counts may still be on its way to the worker.
        await wait_until(lambda: worker._slots.buffered > PREFETCH // 2, "it has them")
        face.faults.delay("release", 0.5)
        site.clock.advance(1)
        await wait_until(lambda: face.faults.injected, "the release travels")
        unsettled = worker._slots.settling

        worker.stop()
        site.opened.set()
        await passes()

        assert not reading.done()
        site.clock.advance(0.5)
        await reading

    assert unsettled > PREFETCH // 2
    assert worker._slots.settling == worker._slots.buffered == 0
    assert await face.stats() == (COUNT - LONG - 1, 0, 0)


async def test_an_item_whose_lease_ended_before_it_went_back_is_somebody_else_s(
    face: Face, site: Site
) -> None:
    face.faults.drop("touch", times=None)

    async with site.worker() as worker:
        reading = read_beside(worker)
        await site.until_prefetched()
        face.faults.drop("release", times=None)
        site.clock.advance(1)
        await wait_until(lambda: face.faults.injected, "it failed")
        site.clock.advance(face.backend.queue.lease_seconds)
        worker.stop()
        site.opened.set()
        while not reading.done():
            site.clock.advance(1)
            await asyncio.sleep(0)

    assert site.started == list(range(LONG + 1))


def test_a_loop_that_is_shut_down_while_items_go_back_leaves_none_in_flight(face: Face) -> None:
    site = Site(face.backend, face.clock)

    async def shut_down_at_a_release() -> None:
        await site.defer()
        worker = site.instance.worker(concurrency=1, prefetch=PREFETCH, grace_seconds=0)
        await worker.__aenter__()
        read_beside(worker)
        await site.until_prefetched()
        # What the broker counts may still be on its way to the worker.
        await wait_until(lambda: worker._slots.buffered > PREFETCH // 2, "it has them")
        face.faults.delay("release", 0.5)
        site.clock.advance(1)
        await wait_until(lambda: face.faults.injected, "the release travels")

    asyncio.run(shut_down_at_a_release())

    assert asyncio.run(face.stats()) == (COUNT - LONG, 0, 0)


async def test_jobs_that_never_wait_leave_turns_to_others(face: Face) -> None:
    ticks: list[int] = []
    count = 0

    async def tick() -> None:
        nonlocal count
        while True:
            count += 1
            await asyncio.sleep(0)

    async def hold_the_loop(number: int) -> None:
        if number >= LONG:
            ticks.append(count)
            time.sleep(0.011)  # noqa: ASYNC251

    job = face.job(hold_the_loop, name="job")
    await job.later_many_async([(number,) for number in range(LONG + 5)])
    ticking = asyncio.create_task(tick())
    async with face.instance.worker(concurrency=1, prefetch=PREFETCH) as worker:
        for _ in range(LONG + 5):
            await worker.next_outcome()
    ticking.cancel()

    assert len(set(ticks)) == len(ticks)
