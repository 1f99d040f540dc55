"""Unique calls: while one is pending, an equal one is not pushed."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from handle_shop import LEASE, Shop

from deferrable import Call, DuplicateCall, InvalidOptions, Retry, Unsupported
from deferrable.aio import Deferrable, current_attempt
from deferrable.aio.backend import InMemoryBackendFactory, SQLiteBackendFactory, SQSBackendFactory
from deferrable.aio.worker._proposing import proposers
from deferrable.errors import BackendError
from deferrable.testing import MovingClock

pytestmark = pytest.mark.anyio


async def test_equal_call_is_a_duplicate_and_its_receipt_follows_the_pending_one(
    shop: Shop,
) -> None:
    first = await shop.later(1, unique=True)
    again = await shop.later(1, unique=True)
    other = await shop.later(2, unique=True)

    assert [each.status for each in (first, again, other)] == ["pushed", "duplicate", "pushed"]
    assert (again.id, again.serves_id) == (None, first.id)
    assert (await shop.state(again)).status == "queued"
    assert shop.events == ["push", "duplicate", "push"]
    assert await shop.cancel(again) == "cancelled"
    assert [await shop.run_once() is None for _ in range(2)] == [False, True]
    assert shop.ran == [2]


async def test_key_is_held_through_the_run_and_its_retries_and_free_at_the_end(shop: Shop) -> None:
    async def status() -> str:
        return (await shop.later("fail once", unique=True)).status

    assert await status() == "pushed"
    envelope, _ = await shop.core.queue.pop()
    assert await status() == "duplicate"
    await shop.core.queue.release(envelope)
    assert await status() == "duplicate"

    for _ in range(4):
        assert (await shop.run_once()).status == "retried"
        assert await status() == "duplicate"
        shop.clock.advance(1000)
        assert await status() == "duplicate"
    assert (await shop.run_once()).status == "errored"
    assert await status() == "pushed"


async def test_key_is_free_after_each_way_in_which_a_call_ends(shop: Shop) -> None:
    async def status(**options: Any) -> str:
        return (await shop.later("same", unique=True, **options)).status

    assert await status(ttl_seconds=10) == "pushed"
    assert (await shop.run_once()).status == "completed"
    assert await status(ttl_seconds=10) == "pushed"
    shop.clock.advance(20)
    assert (await shop.run_once()).status == "expired"
    last = await shop.later("same", unique=True)
    assert await shop.cancel(last) == "cancelled"
    assert await status() == "pushed"
    await shop.core.queue.flush()
    assert await status() == "pushed"


async def test_consumer_that_lost_its_lease_does_not_free_the_key(shop: Shop) -> None:
    await shop.later(1, unique=True)
    stale, _ = await shop.core.queue.pop()
    shop.clock.advance(LEASE + 1)
    envelope, _ = await shop.core.queue.pop()
    assert envelope is not None

    with pytest.raises(BackendError):
        await shop.core.queue.complete(stale)

    assert (await shop.later(1, unique=True)).status == "duplicate"
    await shop.core.queue.complete(envelope)
    assert (await shop.later(1, unique=True)).status == "pushed"


async def test_call_may_free_its_key_at_its_first_start(shop: Shop) -> None:
    receipts = []

    @shop.instance.deferrable(
        name="again", unique=True, unique_until="start", error_classes=[ValueError]
    )
    async def again(value: int) -> None:
        receipts.append(await later(value))
        raise ValueError("retry")

    async def later(value: int) -> str:
        return (await again.later_async(value)).status

    assert await later(1) == "pushed"
    assert await later(1) == "duplicate"
    envelope, _ = await shop.core.queue.pop()
    assert await later(1) == "duplicate"  # it was popped, and has not started
    await shop.core.queue.release(envelope)

    assert (await shop.run_once()).status == "retried"

    assert receipts == ["pushed"]
    assert await later(1) == "duplicate"  # of the second one; the retry of the first holds nothing
    assert (await shop.core.queue.stats())["delayed"] == 1
    await shop.run_once()
    assert receipts == ["pushed", "pushed"]


async def test_callable_makes_the_key_of_the_arguments(shop: Shop) -> None:
    def key(value: dict[str, int]) -> object:
        return value["customer"]

    calls = [{"customer": 1, "n": 1}, {"customer": 1, "n": 2}, {"customer": 2, "n": 3}]

    receipts = [await shop.later(call, unique=key) for call in calls]

    assert [each.status for each in receipts] == ["pushed", "duplicate", "pushed"]
    with pytest.raises(InvalidOptions, match="returned None"):
        await shop.later(1, unique=lambda value: None)


async def test_calls_are_equal_whatever_the_order_of_their_keywords(shop: Shop) -> None:
    @shop.instance.deferrable(name="two", unique=True)
    async def two(**values: object) -> None: ...

    @shop.instance.deferrable(name="three", unique=True)
    async def three(**values: object) -> None: ...

    receipts = [
        await two.later_async(a=1, b={"x": 1, "y": 2}),
        await two.later_async(b={"y": 2, "x": 1}, a=1),
        await three.later_async(a=1, b={"x": 1, "y": 2}),
    ]

    assert [each.status for each in receipts] == ["pushed", "duplicate", "pushed"]


async def test_many_calls_at_once_are_compared_with_each_other(shop: Shop) -> None:
    await shop.later(3, unique=True)
    job = shop.job.options(unique=True)
    many = job.later_many if shop.is_blocking else job.later_many_async

    receipts = await shop.do(many, [(1,), (2,), (1,), (3,), (4,), Call((2,), {})])

    assert [each.status for each in receipts] == [
        "pushed",
        "pushed",
        "duplicate",
        "duplicate",
        "pushed",
        "duplicate",
    ]
    assert receipts[2].serves_id == receipts[0].id
    assert receipts[5].serves_id == receipts[1].id
    assert (await shop.core.queue.stats())["available"] == 4


async def test_delayed_unique_call_holds_its_key_and_keeps_it_when_it_is_run_now(
    shop: Shop,
) -> None:
    late = await shop.later(1, unique=True, delay_seconds=60)
    assert late.status == "delayed"
    assert (await shop.later(1, unique=True)).serves_id == late.id

    assert await shop.do(late.run_now if shop.is_blocking else late.run_now_async)

    assert (await shop.later(1, unique=True)).serves_id == late.id
    await shop.run_once()
    assert (await shop.later(1, unique=True)).status == "pushed"


async def test_debounced_call_may_be_unique_and_leaves_no_window_when_it_is_a_duplicate(
    shop: Shop,
) -> None:
    options: dict[str, Any] = {"unique": True, "debounce_seconds": 60}
    first = await shop.later(1, **options)
    envelope, _ = await shop.core.queue.pop()
    shop.clock.advance(10)

    assert (await shop.later(1, **options)).serves_id == first.id
    assert (await shop.later(1, **options)).status == "duplicate"  # not skipped: nothing waits

    await shop.core.queue.complete(envelope)
    delayed = await shop.later(1, **options)
    assert delayed.status == "delayed"
    assert delayed.available_time == pytest.approx(first.available_time + 60)
    assert (await shop.later(1, **options)).status == "skipped"
    assert (await shop.later(1, unique=True)).serves_id == delayed.id


async def test_requeued_error_takes_its_key_and_waits_while_another_call_holds_it(
    shop: Shop,
) -> None:
    failed = await shop.later("fail", unique=True)
    await shop.run_once()
    other = await shop.later("fail", unique=True)
    assert other.status == "pushed"

    async for error in shop.awaiting.errors():
        with pytest.raises(DuplicateCall, match=str(other.id)):
            await error.requeue()
    assert await shop.cancel(other) == "cancelled"
    async for error in shop.awaiting.errors():
        assert error.item["id"] == failed.id
        await error.requeue()

    assert (await shop.later("fail", unique=True)).serves_id == failed.id


async def test_item_whose_delivery_fails_too_often_frees_its_key(shop: Shop) -> None:
    await shop.later(1, unique=True)

    for _ in range(11):
        assert (await shop.later(1, unique=True)).status == "duplicate"
        envelope, _ = await shop.core.queue.pop()
        await shop.core.queue.release(envelope, is_counted=True)

    assert (await shop.later(1, unique=True)).status == "pushed"


async def test_running_call_that_is_stopped_frees_its_key(shop: Shop) -> None:
    started = asyncio.Event()

    @shop.instance.deferrable(name="wait", unique=True)
    async def wait() -> None:
        started.set()
        await asyncio.Event().wait()

    receipt = await wait.later_async()
    async with shop.awaiting.worker() as worker:
        running = asyncio.ensure_future(anext(worker))
        while not started.is_set():
            await asyncio.sleep(0)
            if shop.is_blocking:
                break
        assert (await wait.later_async()).status == "duplicate"
        await receipt.cancel_async(stop=True)
        shop.clock.advance(LEASE / 3 + 1)
        outcome = await running

    assert outcome.status == "cancelled"
    assert (await wait.later_async()).status == "pushed"


async def test_key_goes_with_the_users_transaction(tmp_path: Path) -> None:
    path = tmp_path / "queue"
    factory = SQLiteBackendFactory(path, 0, durability="process")
    async with factory.create_backend_for_group(None) as backend:
        instance = Deferrable(backend)

        @instance.deferrable(name="note", unique=True)
        async def note(value: int) -> None: ...

        connection = sqlite3.connect(path)
        statuses = []
        for options in ({}, {"debounce_seconds": 60}):
            with instance.using(connection):
                statuses += [(await note.options(**options).later_async(1)).status for _ in "ab"]
            connection.rollback()
        with instance.using(connection):
            statuses += [each.status for each in await note.later_many_async([(1,), (2,), (1,)])]
        connection.commit()
        statuses.append((await note.later_async(2)).status)
        connection.close()

    assert statuses[:2] == ["pushed", "duplicate"]
    assert statuses[2:4] == ["pushed", "duplicate"]
    assert statuses[4:] == ["pushed", "pushed", "duplicate", "duplicate"]


async def test_ticks_of_a_unique_job_are_pushed_each() -> None:
    clock = MovingClock(1_000_000_000.0)
    async with InMemoryBackendFactory(clock=clock).create_backend_for_group(None) as backend:
        instance = Deferrable(backend, clock=clock)

        @instance.periodic(every_seconds=60)
        @instance.deferrable(name="tick", unique=True)
        async def tick() -> None: ...

        (worker,) = proposers([instance])
        await worker.propose_due()
        for _ in range(2):
            clock.advance(60)
            await worker.propose_due()

        assert (await backend.queue.stats())["available"] == 2


def test_wrong_options_are_refused() -> None:
    instance = Deferrable(InMemoryBackendFactory().create_backend_for_group(None))

    for options in ({"unique": "yes"}, {"unique": 1}, {"unique_until": "start"}):
        with pytest.raises(InvalidOptions, match="unique"):
            instance.deferrable(**options)
    with pytest.raises(InvalidOptions, match="'end' or 'start'"):
        instance.deferrable(unique=True, unique_until="never")


def test_backend_that_keeps_no_keys_refuses_and_names_those_that_do() -> None:
    instance = Deferrable(SQSBackendFactory().create_backend_for_group(None))

    with pytest.raises(Unsupported, match=r"memory.*Redis.*SQLite"):
        instance.deferrable(unique=True)

    @instance.deferrable(name="plain")
    def plain() -> None: ...

    with pytest.raises(Unsupported, match=r"memory.*Redis.*SQLite"):
        plain.options(unique=True)


# What went wrong in other libraries.


async def test_result_that_is_kept_blocks_no_new_call(shop: Shop) -> None:
    options: dict[str, Any] = {"unique": True, "keep_results_seconds": 3600}
    first = await shop.later(1, **options)
    await shop.run_once()

    again = await shop.later(1, **options)

    assert again.status == "pushed"
    assert (await shop.state(first)).status == "completed"
    assert (await shop.state(again)).status == "queued"


async def test_calls_that_have_freed_their_keys_come_back_at_once_and_all_run(shop: Shop) -> None:
    runs = []

    @shop.instance.deferrable(
        name="early", unique=True, unique_until="start", error_classes=[ValueError]
    )
    async def early() -> None:
        runs.append(current_attempt().item["id"])
        if len(runs) <= 3:
            raise ValueError("retry")

    ids = []
    for _ in range(3):
        ids.append((await early.later_async()).id)
        assert (await shop.run_once()).status == "retried"
    held, _ = await shop.core.queue.pop()
    assert held is None
    shop.clock.advance(10)
    ids.append((await early.later_async()).id)
    taken = [await shop.core.queue.pop() for _ in range(2)]
    assert all(envelope is not None for envelope, _ in taken)
    shop.clock.advance(LEASE + 1)  # two more deliveries end without settlement

    statuses = [(await shop.run_once()).status for _ in range(4)]

    assert statuses == ["completed"] * 4
    assert sorted(runs[3:]) == sorted(ids)
    assert (await early.later_async()).status == "pushed"


async def test_cancelled_retry_that_has_freed_its_key_leaves_that_of_the_next_call(
    shop: Shop,
) -> None:
    options: dict[str, Any] = {"unique": True, "unique_until": "start"}
    first = await shop.later("fail once", **options)
    assert (await shop.run_once()).status == "retried"
    second = await shop.later("fail once", **options)

    assert await shop.cancel(first) == "cancelled"

    assert (await shop.later("fail once", **options)).serves_id == second.id


async def test_call_from_inside_its_own_job_is_a_duplicate_and_a_retry_is_not(shop: Shop) -> None:
    statuses = []

    @shop.instance.deferrable(name="again", unique=True)
    async def again() -> None:
        statuses.append((await again.later_async()).status)
        if len(statuses) == 1:
            raise Retry(after_seconds=5)

    await again.later_async()
    assert (await shop.run_once()).status == "retried"
    shop.clock.advance(6)
    assert (await shop.run_once()).status == "completed"

    assert statuses == ["duplicate", "duplicate"]


async def test_duplicate_of_a_call_whose_transaction_is_rolled_back_is_pushed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "queue"
    factory = SQLiteBackendFactory(path, 0, durability="process")
    async with factory.create_backend_for_group(None) as backend:
        instance = Deferrable(backend)

        @instance.deferrable(name="note", unique=True)
        async def note() -> None: ...

        connection = sqlite3.connect(path)
        with instance.using(connection):
            assert (await note.later_async()).status == "pushed"
        waiting = asyncio.ensure_future(note.later_async())
        await asyncio.sleep(0)
        assert not waiting.done()
        connection.rollback()
        connection.close()

        assert (await waiting).status == "pushed"
