"""Cancel a call: only one that no consumer ever starts is said to be cancelled."""

import asyncio
import contextlib
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from handle_shop import LEASE, Shop, echo
from redis_server import RedisServer, unique_group
from sizes import sized

import deferrable
from deferrable import Receipt
from deferrable.aio import Deferrable, current_attempt
from deferrable.aio._engine.keeper import keeper
from deferrable.aio.backend import (
    DocketsBackendFactory,
    InMemoryBackendFactory,
    SQLiteBackendFactory,
)
from deferrable.testing import MovingClock, wait_until

pytestmark = pytest.mark.anyio


async def test_call_that_waits_is_cancelled_and_never_runs(shop: Shop) -> None:
    receipts = [await shop.later(number) for number in range(3)]

    answer = await shop.cancel(receipts[1])

    assert answer == "cancelled"
    assert (await shop.state(receipts[1])).status == "cancelled"
    assert [await shop.run_once() is None for _ in range(3)] == [False, False, True]
    assert shop.ran == [0, 2]
    assert shop.events.count("cancel") == 1
    assert ("cancel", receipts[1].id) in shop.recorder.events


async def test_delayed_call_and_one_that_waits_for_its_retry_are_cancelled(shop: Shop) -> None:
    delayed = await shop.later(1, delay_seconds=60)
    retrying = await shop.later("fail once")
    await shop.run_once()

    assert await shop.cancel(delayed) == await shop.cancel(retrying) == "cancelled"

    shop.clock.advance(1000)
    assert await shop.run_once() is None
    assert await shop.core.queue.stats() == {"available": 0, "in_flight": 0, "delayed": 0}


async def test_cancelling_again_gives_the_same_answer_and_no_second_event(shop: Shop) -> None:
    receipt = await shop.later(1)

    answers = [await shop.cancel(receipt) for _ in range(2)]

    assert answers == ["cancelled", "cancelled"]
    assert shop.events.count("cancel") == 1


async def test_call_that_a_consumer_holds_is_running_and_stays_so(shop: Shop) -> None:
    receipt = await shop.later(1)
    envelope, _ = await shop.core.queue.pop()

    assert await shop.cancel(receipt) == "running"

    await shop.core.queue.release(envelope)
    assert (await shop.run_once()).status == "completed"


async def test_call_that_nobody_has_is_ended(shop: Shop) -> None:
    done, failed = await shop.later(1), await shop.later("fail")
    for _ in range(2):
        await shop.run_once()

    assert await shop.cancel(done) == await shop.cancel(failed) == "ended"
    assert await shop.cancel(shop.instance.call("nobody")) == "ended"
    assert (await shop.state(failed)).status == "errored"


async def test_cancellation_is_forgotten_after_a_day(shop: Shop, request: Any) -> None:
    receipt = await shop.later(1)
    await shop.cancel(receipt)

    if "dockets" not in request.node.name:
        shop.clock.advance(86_400)
        await shop.cancel(await shop.later(2))

        assert (await shop.state(receipt)).status == "unknown"
    else:
        client = shop.core.queue._commands.link
        key = shop.core.queue._commands.keys.cancelled(receipt.id)
        ((seconds,),) = [await client.call(("TTL", key))]

        assert 86_000 < seconds <= 86_400


async def test_later_call_is_not_skipped_in_favour_of_a_cancelled_one(shop: Shop) -> None:
    await shop.later(1, debounce_seconds=60)
    shop.clock.advance(10)
    pending = await shop.later(1, debounce_seconds=60)
    assert (await shop.later(1, debounce_seconds=60)).status == "skipped"

    assert await shop.cancel(pending) == "cancelled"

    again = await shop.later(1, debounce_seconds=60)
    assert again.status == "delayed"
    assert again.available_time == pytest.approx(pending.available_time)
    assert (await shop.later(1, debounce_seconds=60)).serves_id == again.id


async def test_call_that_was_skipped_is_cancelled_with_the_one_that_serves_it(shop: Shop) -> None:
    pending = await shop.later(1, debounce_seconds=60, debounce_always_delay=True)
    skipped = await shop.later(1, debounce_seconds=60, debounce_always_delay=True)

    assert await shop.cancel(skipped) == "cancelled"

    assert (await shop.state(pending)).status == "cancelled"


@pytest.mark.parametrize("serializer", ["classic", "json"])
async def test_window_of_every_serializer_is_freed(
    shop_backend: Any,
    shop_clock: MovingClock,
    serializer: str,
) -> None:
    shop = Shop("awaiting", shop_backend, shop_clock)
    keys = [] if serializer == "classic" else ["k" * 16]
    instance = Deferrable(shop_backend, serializer=serializer, signing_keys=keys)
    job = instance.deferrable()(echo).options(debounce_seconds=60)
    value = unique_group()
    await job.later_async(value)
    pending = await job.later_async(value)
    assert (pending.status, (await job.later_async(value)).status) == ("delayed", "skipped")

    assert await shop.cancel(pending) == "cancelled"

    assert (await job.later_async(value)).status != "skipped"


# Stop a running job.


async def test_running_async_job_is_stopped_at_the_next_heartbeat_and_its_call_is_cancelled(
    shop: Shop,
) -> None:
    reasons: list[object] = []
    started = asyncio.Event()

    @shop.instance.deferrable(name="sleep", error_classes=[Exception])
    async def sleep() -> None:
        asyncio.get_running_loop()
        loop.call_soon_threadsafe(started.set)
        try:
            await asyncio.Event().wait()
        finally:
            reasons.append(current_attempt().stop_reason)

    loop = asyncio.get_running_loop()
    receipt = await sleep.later_async()
    running = asyncio.create_task(shop.awaiting.run_once())
    await started.wait()

    assert await receipt.cancel_async(stop=True) == "running"
    shop.clock.advance(LEASE / 3)
    outcome = await running

    assert outcome.status == "cancelled"
    assert reasons == ["call cancelled"]
    assert (await shop.state(receipt)).status == "cancelled"
    assert shop.events[-3:] == ["pop", "cancel", "complete"]
    assert await shop.core.queue.stats() == {"available": 0, "in_flight": 0, "delayed": 0}


async def test_wish_to_stop_is_for_one_delivery_and_not_for_a_later_run_of_the_call(
    shop: Shop,
) -> None:
    receipt = await shop.later(1)
    envelope, item = await shop.core.queue.pop()
    assert await receipt.cancel_async(stop=True) == "running"
    await shop.core.queue.replace(envelope, {**item, "is_again": True})

    again, _ = await shop.core.queue.pop()
    await shop.core.queue.touch(again)

    assert not again.is_stop_wanted
    await shop.core.queue.complete(again)


async def test_without_stop_a_running_job_runs_to_its_end(shop: Shop) -> None:
    started, goes_on = asyncio.Event(), asyncio.Event()

    @shop.instance.deferrable(name="wait")
    async def wait() -> str:
        started.set()
        await goes_on.wait()
        return "done"

    receipt = await wait.later_async()
    running = asyncio.create_task(shop.awaiting.run_once())
    await started.wait()
    assert await receipt.cancel_async() == "running"
    shop.clock.advance(LEASE / 3)
    await asyncio.sleep(0)
    goes_on.set()

    assert (await running).status == "completed"


async def test_plain_job_is_told_to_stop_and_ends_as_it_likes(shop: Shop) -> None:
    started = asyncio.Event()
    loop = asyncio.get_running_loop()
    goes_on = threading.Event()

    @shop.instance.deferrable(name="plain")
    def plain() -> object:
        loop.call_soon_threadsafe(started.set)
        assert goes_on.wait(30)
        return current_attempt().stop_reason

    receipt = await plain.later_async()
    running = asyncio.create_task(shop.awaiting.run_once())
    await started.wait()
    assert await receipt.cancel_async(stop=True) == "running"
    shop.clock.advance(LEASE / 3)
    await wait_until(lambda: _is_told(shop), "the keeper has touched the item")
    goes_on.set()
    outcome = await running

    assert (outcome.status, outcome.result) == ("completed", "call cancelled")


def _is_told(shop: Shop) -> bool:
    lines = keeper(asyncio.get_running_loop())._lines
    held = lines[id(shop.core.queue)].held
    return any(getattr(each.stopper, "reason", None) for each in held)


async def test_stop_reaches_a_job_in_a_worker_and_the_worker_goes_on(shop: Shop) -> None:
    started = asyncio.Event()

    @shop.instance.deferrable(name="sleep")
    async def sleep() -> None:
        started.set()
        await asyncio.Event().wait()

    receipt = await sleep.later_async()
    async with shop.awaiting.worker() as worker:
        first = asyncio.create_task(anext(worker))
        await started.wait()
        assert await receipt.cancel_async(stop=True) == "running"
        shop.clock.advance(LEASE / 3)
        outcomes = [await first]
        await shop.job.later_async("next")
        outcomes.append(await anext(worker))

    assert [outcome.status for outcome in outcomes] == ["cancelled", "completed"]


async def test_item_that_waits_in_the_worker_is_cancelled_before_it_starts(shop: Shop) -> None:
    goes_on = asyncio.Event()
    started = asyncio.Event()

    @shop.instance.deferrable(name="wait")
    async def wait() -> None:
        started.set()
        await goes_on.wait()

    await wait.later_async()
    buffered = await shop.job.later_async("buffered")
    async with shop.awaiting.worker(1, prefetch=5) as worker:
        await started.wait()
        if (await shop.state(buffered)).status == "running":
            assert await buffered.cancel_async(stop=True) == "running"
            shop.clock.advance(LEASE / 3)
            await wait_until(lambda: _is_wanted(shop), "the keeper has touched the item")
        else:
            assert await buffered.cancel_async(stop=True) == "cancelled"
        goes_on.set()
        await anext(worker)
        await shop.job.later_async("next")
        while shop.ran == []:
            await anext(worker)

    assert shop.ran == ["next"]
    assert (await shop.state(buffered)).status == "cancelled"


def _is_wanted(shop: Shop) -> bool:
    held = keeper(asyncio.get_running_loop())._lines[id(shop.core.queue)].held
    return any(each.is_stop_wanted for each in held)


# Races.


@pytest.mark.parametrize("kind", ["memory", "dockets", "sqlite"])
async def test_no_cancelled_call_starts_in_a_race_against_a_worker(
    kind: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    factory: Any = InMemoryBackendFactory(timeout=0.2)
    if kind == "dockets":
        factory = DocketsBackendFactory(redis_server.url, wait_time=0.2)
    if kind == "sqlite":
        factory = SQLiteBackendFactory(tmp_path / "queue", 0.2, durability="process")
    async with factory.create_backend_for_group(unique_group()) as backend:
        for _ in range(sized(1, 20)):
            await _race(backend, 500)


async def _race(backend: Any, count: int) -> None:
    """Cancel that many calls, from the front and then from the back, while a worker runs them."""
    ran: Counter[int] = Counter()
    instance = Deferrable(backend)

    @instance.deferrable(name="count")
    async def job(number: int) -> None:
        ran[number] += 1
        await asyncio.sleep(0.001)

    receipts = await job.later_many_async([(number,) for number in range(count)])
    async with instance.worker(2) as worker:

        async def consume() -> None:
            async for _ in worker:
                pass

        consuming = asyncio.create_task(consume())
        order = [*range(0, count, 2), *range(count - 1, 0, -2)]
        given = await _in_groups([receipts[number] for number in order])
        answers = dict(zip(order, given, strict=True))
        await wait_until(lambda: _is_empty(backend), "the worker is done")
        worker.stop()
        await consuming

    cancelled = {number for number, answer in answers.items() if answer == "cancelled"}
    assert cancelled
    assert cancelled.isdisjoint(ran)
    assert cancelled | set(ran) == set(range(count))
    assert set(ran.values()) <= {1}


async def _in_groups(receipts: list[Receipt]) -> list[str]:
    answers: list[str] = []
    for start in range(0, len(receipts), 5):
        group = receipts[start : start + 5]
        answers += await asyncio.gather(*(receipt.cancel_async() for receipt in group))
    return answers


async def _is_empty(backend: Any) -> bool:
    stats = await backend.queue.stats()
    return not any(stats[name] for name in ("available", "in_flight", "delayed"))


async def test_two_who_cancel_one_call_both_hear_so_and_one_event_is_emitted(
    shop_backend: Any, shop_clock: MovingClock
) -> None:
    shop = Shop("awaiting", shop_backend, shop_clock)
    for number in range(20):
        receipt = await shop.later(number)

        answers = await asyncio.gather(*(receipt.cancel_async() for _ in range(3)))

        assert answers == ["cancelled"] * 3
    assert shop.events.count("cancel") == 20


async def test_large_queue_is_cancelled_from_at_both_ends_and_in_the_middle(
    redis_server: RedisServer,
) -> None:
    factory = DocketsBackendFactory(redis_server.url, wait_time=0)
    async with factory.create_backend_for_group(unique_group()) as backend:
        job = Deferrable(backend).deferrable(name="note")(print)
        receipts = await job.later_many_async([(number,) for number in range(9000)])
        chosen = [receipts[place] for place in (0, 4500, 8999)]

        answers = [await receipt.cancel_async() for receipt in chosen]
        stats = await backend.queue.stats()
        await backend.queue.flush()

    assert answers == ["cancelled"] * 3
    assert stats["available"] == 8997


async def test_item_of_a_python_2_consumer_is_running(redis_server: RedisServer) -> None:
    group = unique_group()
    factory = DocketsBackendFactory(redis_server.url, wait_time=0)
    async with factory.create_backend_for_group(group) as backend:
        receipt = await Deferrable(backend).deferrable(name="note")(print).later_async(1)
        queue = f"queue.deferrable_{group}"
        with contextlib.closing(redis_server.client()) as client:
            client.lmove(queue, f"{queue}.old.working")

        answer = await receipt.cancel_async()
        await backend.queue.flush()

    assert answer == "running"


def test_event_consumer_may_call_the_library_when_a_call_is_cancelled() -> None:
    instance = deferrable.Deferrable(
        deferrable.backend.InMemoryBackendFactory().create_backend_for_group(None)
    )
    job = instance.deferrable(name="note")(print)
    seen: list[Any] = []

    class Consumer:
        def on_cancel(self, item: Any) -> None:
            seen.append(dict(instance.backend.queue.stats()))

    instance.register_event_consumer(Consumer())
    receipt = job.later(1)

    assert receipt.cancel() == "cancelled"
    assert seen == [{"available": 0, "in_flight": 0, "delayed": 0}]
