"""Pausing the queue of an instance: what goes on, what stops, and who says so."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from dockets_place import Monitor, Place, is_blocked
from handle_shop import Shop
from redis_server import RedisServer, unique_group

from deferrable import Pause, Unsupported
from deferrable.aio import Deferrable, Worker
from deferrable.aio.backend import (
    DocketsBackendFactory,
    InMemoryBackendFactory,
    SQLiteBackendFactory,
    SQSBackendFactory,
)
from deferrable.errors import BackendError
from deferrable.testing import FaultyQueue, MovingClock, wait_until

pytestmark = pytest.mark.anyio

WAIT = 600


# An instance, in both APIs.


async def test_a_paused_instance_starts_no_call_and_takes_new_ones(shop: Shop) -> None:
    assert not await shop.do(shop.instance.is_paused)
    await shop.later(1)

    await shop.do(shop.instance.pause, reason="deploy")
    await shop.later(2)

    assert await shop.run_once() is None
    assert shop.ran == []
    assert await shop.do(shop.instance.is_paused)
    assert (await shop.do(shop.instance.find_pause)).reason == "deploy"
    assert await shop.do(shop.instance.resume)
    assert [(await shop.run_once()).status for _ in range(2)] == ["completed"] * 2
    assert shop.ran == [1, 2]
    assert not await shop.do(shop.instance.is_paused)
    assert not await shop.do(shop.instance.resume)


async def test_a_pause_ends_by_itself(shop: Shop) -> None:
    await shop.later(1)
    await shop.do(shop.instance.pause, for_seconds=60)
    assert await shop.run_once() is None

    shop.clock.advance(61)

    assert (await shop.run_once()).status == "completed"


async def test_a_queue_may_be_paused_before_anything_was_pushed_to_it(shop: Shop) -> None:
    await shop.do(shop.instance.pause)
    await shop.later(1)

    assert await shop.run_once() is None
    await shop.do(shop.instance.resume)
    assert (await shop.run_once()).status == "completed"


async def test_an_item_that_was_taken_before_the_pause_is_run_and_retried_after_it(
    shop: Shop,
) -> None:
    await shop.later("fail once")
    envelope, item = await shop.core.queue.pop()
    await shop.do(shop.instance.pause)

    outcome = await shop.do(shop.instance.process, envelope, item)
    shop.clock.advance(3600)

    assert outcome.status == "retried"
    assert await shop.run_once() is None
    await shop.do(shop.instance.resume)
    assert (await shop.run_once()).item["attempts"] == 1


async def test_a_failed_call_that_is_requeued_meanwhile_runs_after_the_pause(shop: Shop) -> None:
    await shop.later("fail")
    await shop.run_once()
    await shop.do(shop.instance.pause)

    async for entry in shop.awaiting.errors():
        await entry.requeue()

    assert await shop.run_once() is None
    await shop.do(shop.instance.resume)
    assert (await shop.run_once()).status == "errored"


async def test_waiting_calls_of_a_paused_queue_are_found_and_cancelled(shop: Shop) -> None:
    await shop.do(shop.instance.pause)
    waiting, delayed = await shop.later(1), await shop.later(2, delay_seconds=60)

    assert (await shop.state(waiting)).status == "queued"
    assert await shop.do(delayed.run_now if shop.is_blocking else delayed.run_now_async)
    assert await shop.cancel(waiting) == "cancelled"

    assert await shop.run_once() is None
    await shop.do(shop.instance.resume)
    assert (await shop.run_once()).item["id"] == delayed.id


async def test_sqs_refuses_and_says_what_can_be_paused() -> None:
    instance = Deferrable(SQSBackendFactory().create_backend_for_group("shop"))

    for verb in (instance.pause, instance.resume, instance.is_paused, instance.find_pause):
        with pytest.raises(Unsupported, match=r"memory.*Dockets.*SQLite"):
            await verb()


# Workers, whose pops wait.


class Group:
    """Two consumers of one queue, as two processes have them, and a job that notes its calls."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.instance, self.other = (Deferrable(make()) for _ in range(2))
        self.make = make
        self.ran: list[int] = []
        self.started, self.go_on = asyncio.Event(), asyncio.Event()

        async def note(number: int) -> None:
            self.started.set()
            if number < 0:
                await self.go_on.wait()
            self.ran.append(number)

        self.job = self.instance.deferrable(name="note")(note)
        self.other_job = self.other.deferrable(name="note")(note)

    def health(self, worker: Worker) -> Pause | None:
        (health,) = worker.health.queues().values()
        assert health.is_healthy
        return health.pause

    async def until_seen(self, worker: Worker) -> None:
        await wait_until(lambda: self.health(worker) is not None, "the worker sees the pause")

    async def until_ran(self, *numbers: int) -> None:
        await wait_until(lambda: sorted(self.ran) == sorted(numbers), f"{numbers} have run")


@pytest.fixture(params=["memory", "sqlite", "dockets"])
async def group(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    name = unique_group()
    memory = InMemoryBackendFactory(WAIT)

    def make() -> Any:
        if request.param == "memory":
            return memory.create_backend_for_group(name)
        if request.param == "sqlite":
            factory: Any = SQLiteBackendFactory(tmp_path / "q", WAIT, durability="process")
        else:
            factory = DocketsBackendFactory(request.getfixturevalue("redis_url"), wait_time=WAIT)
        return factory.create_backend_for_group(name)

    group = Group(make)
    yield group
    await group.other.resume()
    await group.instance.close()
    await group.other.close()


async def test_workers_that_wait_for_items_start_none_from_the_pause_on(
    group: Group, caplog: pytest.LogCaptureFixture
) -> None:
    async with group.instance.worker() as worker:
        await group.job.later_async(0)
        await group.until_ran(0)

        await group.other.pause(reason="deploy\nnow")
        await group.other_job.later_many_async([(number,) for number in range(1, 6)])

        await group.until_seen(worker)
        stats = await group.other.backend.queue.stats()
        assert (stats["available"], stats["in_flight"], group.ran) == (5, 0, [0])
        assert stats["paused_seconds"] >= 0
        await group.other.resume()
        await group.until_ran(*range(6))
        assert group.ran == list(range(6))
        await wait_until(lambda: group.health(worker) is None, "the worker sees that it goes on")
    said = [each.getMessage() for each in caplog.records if "paused" in each.getMessage()]
    assert [" is paused (reason: 'deploy\\nnow'), so" in each for each in said] == [True, False]
    assert said[1].endswith("is not paused any more")


async def test_a_worker_learns_of_a_pause_and_its_end_while_nothing_is_there(
    group: Group,
) -> None:
    async with group.instance.worker() as worker:
        for _ in range(2):
            await group.other.pause()
            await group.until_seen(worker)
            await group.other.resume()
            await wait_until(lambda: group.health(worker) is None, "the worker sees its end")
        await group.other_job.later_async(1)
        await group.until_ran(1)


async def test_a_job_that_runs_goes_on_through_a_pause(group: Group) -> None:
    async with group.instance.worker() as worker:
        await group.job.later_async(-1)
        await group.started.wait()
        await group.other.pause()
        await group.until_seen(worker)
        group.go_on.set()
        await group.until_ran(-1)

        stats = await group.other.backend.queue.stats()
        assert (stats["available"], stats["in_flight"]) == (0, 0)


async def test_a_worker_that_starts_later_is_paused_too(group: Group) -> None:
    await group.other.pause(reason="until tomorrow")
    await group.other_job.later_async(1)
    await group.other.close()  # Nobody who knew of it is left.

    async with group.instance.worker() as worker:
        await group.until_seen(worker)
        assert group.ran == []
        fresh = Deferrable(group.make())
        assert (await fresh.find_pause()).reason == "until tomorrow"  # type: ignore[union-attr]
        await fresh.resume()
        await group.until_ran(1)
        await fresh.close()


async def test_a_burst_ends_when_its_queue_is_paused_and_says_what_stays(
    group: Group, caplog: pytest.LogCaptureFixture
) -> None:
    await group.job.later_many_async([(1,), (2,)])
    await group.other.pause()

    summary = await group.instance.worker().run(until_empty=True)

    assert summary.counts == {}
    assert any("2 available items stay in it" in each.getMessage() for each in caplog.records)
    assert (await group.other.backend.queue.stats())["available"] == 2


@pytest.mark.parametrize("order", ["fair", "strict"])
async def test_a_paused_queue_holds_up_no_other_one_of_its_worker(group: Group, order: Any) -> None:
    free = Deferrable(InMemoryBackendFactory(WAIT).create_backend_for_group(None))
    done = asyncio.Event()

    async def finish() -> None:
        done.set()

    job = free.deferrable(name="finish")(finish)
    await group.other.pause()
    await group.job.later_async(1)

    worker = Worker([group.instance, free], concurrency=1, order=order)
    working = asyncio.create_task(worker.run())
    await job.later_async()
    await asyncio.wait_for(done.wait(), 30)
    assert group.ran == []
    await group.other.resume()
    await group.until_ran(1)
    worker.stop()
    await working


async def test_an_instance_keeps_the_last_known_answer_while_the_store_is_away() -> None:
    queue = FaultyQueue(InMemoryBackendFactory().create_backend_for_group(None).queue)
    await queue.pause()
    assert await queue.pop() == (None, None)

    queue.faults.fail_before("pop")

    with pytest.raises(BackendError, match="injected"):
        await queue.pop()
    assert queue.seen_pause is not None


# SQLite.


async def test_the_statement_that_takes_items_from_a_file_refuses_by_itself(tmp_path: Any) -> None:
    backend = SQLiteBackendFactory(tmp_path / "q", 0).create_backend_for_group(None)
    async with backend:
        queue: Any = backend.queue
        await queue.push({"n": 1})
        await queue.pause()

        # A pop takes without a look if it shares its transaction with a push.
        taken = await queue.run(lambda store: store.take(queue.lane, 5, queue.now(), 30))

        assert taken == []


# Dockets.


@pytest.fixture
async def place(redis_server: RedisServer) -> Any:
    place = Place(redis_server)
    yield place
    await place.close()


async def test_an_item_that_a_waiting_pop_got_after_the_pause_goes_back_uncounted(
    place: Place,
) -> None:
    queue, other = place.queue(wait_time=WAIT), place.queue()
    popping = asyncio.create_task(queue.pop())
    await wait_until(lambda: is_blocked(place), "the pop waits")

    # As one command, so that the pop cannot learn of the pause in another way.
    pipeline = place.redis.pipeline()
    pipeline.set(place.keys.paused, "{}")
    pipeline.lpush(place.keys.queue, '{"item": {"n": 1}}', '{"item": {"n": 2}}')
    pipeline.execute()

    assert await popping == (None, None)
    await wait_until(lambda: len(place.listed()) == 2, "it has gone back")
    assert place.items() == [{"n": 1}, {"n": 2}]
    assert b'"attempts"' not in place.listed()[0]
    await other.resume()
    assert [item["n"] for _, item in await other.pop_batch(2)] == [1, 2]


async def test_a_pause_that_somebody_wrote_by_hand_counts(place: Place) -> None:
    queue = place.queue()
    await queue.push({"n": 1})
    for text in ("yes", "[]", '{"until_time": "soon", "reason": 7}', b"\xff"):
        place.redis.set(place.keys.paused, text)

        assert await queue.pop() == (None, None)
        pause = await queue.find_pause()
        assert pause is not None
        assert (pause.until_time, pause.reason) == (None, "")
        assert (await queue.stats())["paused_seconds"] == pytest.approx(0, abs=1)

    assert await queue.resume()
    assert (await queue.pop())[1] == {"n": 1}


async def test_the_server_ends_a_pause_by_its_own_clock(place: Place) -> None:
    ahead = MovingClock()
    ahead.advance(1_000_000)
    queue = place.queue(clock=None, wait_time=WAIT)
    await queue.push({"n": 1})
    await queue.pause(for_seconds=0.2)

    _, item = await queue.pop()
    while item is None:
        _, item = await queue.pop()

    assert item == {"n": 1}
    assert place.redis.exists(place.keys.paused) == 0


async def test_a_pop_of_a_paused_queue_asks_seldom(place: Place) -> None:
    queue = place.queue(clock=None, wait_time=1.2)
    await queue.pause()
    await queue.pop()  # which ends at once, because it learns of the pause

    with Monitor(place.server) as monitor:
        assert await queue.pop() == (None, None)
        names = monitor.names(place.group)

    assert names.count("GET") <= 3
    assert names.count("EVALSHA") == 1
    assert "BLMOVE" not in names


async def test_an_interrupted_pop_of_a_paused_queue_ends_at_once(place: Place) -> None:
    queue = place.queue(wait_time=WAIT)
    await queue.pause()
    await queue.pop()
    popping = asyncio.create_task(queue.pop())
    await wait_until(lambda: queue._popper._waits, "the pop waits")
    await asyncio.wait([popping], timeout=0.1)

    popping.cancel()

    with pytest.raises(asyncio.CancelledError):
        await popping


async def test_consumers_of_dead_workers_are_reclaimed_during_a_pause(place: Place) -> None:
    queue = place.queue()
    await queue.pause()
    place.dead_worker('{"item": {"n": 1}}')

    assert await queue.pop() == (None, None)

    assert place.items() == [{"n": 1}]


async def test_stats_of_a_paused_queue_count_what_old_consumers_hold(place: Place) -> None:
    queue = place.queue()
    place.redis.lpush(place.keys.working("old"), '{"item": {"n": 1}}')

    await queue.pause()
    await queue.old_consumers()

    assert (await queue.stats())["held_by_old_consumers"] == 1


# The log of a worker that polls.


async def test_a_pause_is_logged_once_by_a_queue_whose_pops_do_not_wait(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    instance = Deferrable(InMemoryBackendFactory().create_backend_for_group(None))
    await instance.pause()

    async with instance.worker() as worker:
        await wait_until(lambda: instance.backend.queue.seen_pause, "it was polled")
        await asyncio.wait([asyncio.create_task(worker.next_outcome())], timeout=0.3)

    paused = [each for each in caplog.records if "is paused" in each.getMessage()]
    assert len(paused) == 1
