"""Handles: where a call is, by its receipt or by its id, on every backend that can tell."""

import asyncio
import contextlib
from typing import Any

import pytest
from handle_shop import LEASE, Shop
from processes import run_program
from redis_server import RedisServer, unique_group

import deferrable
from deferrable import CallState, InvalidOptions, Receipt, Unsupported
from deferrable.aio import Deferrable
from deferrable.aio.backend import DocketsBackendFactory, InMemoryBackendFactory

pytestmark = pytest.mark.anyio


async def test_call_that_waits_is_queued(shop: Shop) -> None:
    receipt = await shop.later(1)

    assert await shop.state(receipt) == CallState("queued", attempt=1)


async def test_call_that_waits_for_its_time_is_delayed_until_then(shop: Shop) -> None:
    receipt = await shop.later(1, delay_seconds=60)

    state = await shop.state(receipt)

    assert (state.status, state.attempt) == ("delayed", 1)
    assert state.available_time == pytest.approx(shop.clock.time() + 60)
    shop.clock.advance(60)
    assert (await shop.state(receipt)).status == "queued"


async def test_call_in_a_consumer_is_running_with_the_end_of_its_lease(shop: Shop) -> None:
    receipt = await shop.later(1)
    envelope, _ = await shop.core.queue.pop()
    shop.clock.advance(5)

    state = await shop.state(receipt)

    assert (state.status, state.attempt) == ("running", 1)
    assert state.lease_until == pytest.approx(shop.clock.time() + LEASE - 5, abs=1)
    await shop.core.queue.complete(envelope)


async def test_call_whose_attempt_failed_is_retrying_with_the_next_attempt_and_its_time(
    shop: Shop,
) -> None:
    receipt = await shop.later("fail once")
    await shop.run_once()

    state = await shop.state(receipt)

    assert (state.status, state.attempt) == ("retrying", 2)
    assert state.available_time == pytest.approx(shop.clock.time() + 4)


async def test_call_in_the_error_queue_is_errored(shop: Shop) -> None:
    receipt = await shop.later("fail")
    await shop.run_once()

    assert (await shop.state(receipt)).status == "errored"


async def test_end_that_nothing_remembers_is_unknown(shop: Shop) -> None:
    receipt = await shop.later(1)
    await shop.run_once()

    assert await shop.state(receipt) == CallState("unknown")


async def test_looking_at_a_call_changes_nothing(shop: Shop) -> None:
    receipts = [await shop.later(number) for number in range(3)]
    before = await shop.core.queue.stats()

    for receipt in receipts:
        await shop.state(receipt)

    assert await shop.core.queue.stats() == before
    for _ in receipts:
        await shop.run_once()
    assert shop.ran == [0, 1, 2]


async def test_call_is_found_by_its_id_from_another_instance(shop: Shop, shop_backend: Any) -> None:
    receipt = await shop.later(1)
    other = type(shop.instance)(shop_backend)

    handle = other.call(receipt.id)

    assert await shop.state(handle) == CallState("queued", attempt=1)
    assert repr(handle) == f"<CallHandle {receipt.id}>"


async def test_receipt_of_a_skipped_call_names_the_call_that_serves_it_and_shows_its_state(
    shop: Shop,
) -> None:
    await shop.later(1, debounce_seconds=60)
    shop.clock.advance(10)
    pending = await shop.later(1, debounce_seconds=60)

    skipped = await shop.later(1, debounce_seconds=60)

    assert (pending.serves_id, skipped.id) == (None, None)
    assert skipped.serves_id == pending.id
    assert await shop.state(skipped) == await shop.state(pending)
    assert (await shop.state(skipped)).status == "delayed"


async def test_handle_refuses_what_is_no_id(shop: Shop) -> None:
    with pytest.raises(TypeError, match="a call's id is a text"):
        shop.instance.call(None)


async def test_copied_receipt_says_where_a_handle_comes_from(shop: Shop) -> None:
    copied = Receipt("1", "pushed", 0.0)

    with pytest.raises(TypeError, match=r"instance\.call\('1'\)"):
        copied.state()


async def test_blocking_verb_on_the_portal_names_the_one_to_await(shop: Shop) -> None:
    if not shop.is_blocking:
        return
    receipt = await shop.later(1)

    @shop.instance.deferrable(name="ask")
    async def ask() -> None:
        receipt.state()

    await shop.run_once()
    ask.later()
    outcome = await shop.run_once()

    assert "state_async" in str(outcome.error)


def test_handle_works_from_another_process(redis_server: RedisServer) -> None:
    group = unique_group()
    factory = deferrable.backend.DocketsBackendFactory(redis_server.url)
    shop = deferrable.Deferrable(factory.create_backend_for_group(group))
    receipt = shop.deferrable(name="nothing")(print).later()

    lines = run_program(
        f"""
        import deferrable
        from deferrable.backend import DocketsBackendFactory
        factory = DocketsBackendFactory({redis_server.url!r})
        shop = deferrable.Deferrable(factory.create_backend_for_group({group!r}))
        print(shop.call({receipt.id!r}).state().status)
        """
    )

    assert lines == ["queued"]
    shop.backend.queue.flush()
    shop.close()


async def test_large_queue_is_searched_in_pages_and_the_call_is_found(
    redis_server: RedisServer,
) -> None:
    factory = DocketsBackendFactory(redis_server.url, wait_time=0)
    async with factory.create_backend_for_group(unique_group()) as backend:
        instance = Deferrable(backend)
        job = instance.deferrable(name="note")(print)
        receipts = await job.later_many_async([(number,) for number in range(8000)])
        late = await job.options(delay_seconds=600).later_many_async([(1,)] * 4000)

        places = [0, 1, 3999, 7998, 7999]
        states = [await receipts[place].state_async() for place in places]
        delayed = [await late[place].state_async() for place in (0, 2000, 3999)]
        gone = await instance.call("nobody").state_async()
        await backend.queue.flush()

    assert {state.status for state in states} == {"queued"}
    assert {state.status for state in delayed} == {"delayed"}
    assert gone.status == "unknown"


async def test_call_that_a_consumer_of_the_old_library_holds_is_running(
    redis_server: RedisServer,
) -> None:
    group = unique_group()
    factory = DocketsBackendFactory(redis_server.url, wait_time=0)
    async with factory.create_backend_for_group(group) as backend:
        receipt = await Deferrable(backend).deferrable(name="note")(print).later_async(1)
        queue = f"queue.deferrable_{group}"
        with contextlib.closing(redis_server.client()) as client:
            client.lmove(queue, f"{queue}.old.working")

        state = await receipt.state_async()
        await backend.queue.flush()

    assert (state.status, state.worker) == ("running", "old")


async def test_queue_that_cannot_find_calls_refuses_and_names_those_that_can() -> None:
    class Plain(type(InMemoryBackendFactory().create_backend_for_group(None).queue)):  # type: ignore[misc]
        SUPPORTS_INSPECTION = False

    backend = InMemoryBackendFactory().create_backend_for_group(None)
    backend.queue.__class__ = Plain
    receipt = await Deferrable(backend).deferrable(name="note")(print).later_async(1)

    with pytest.raises(Unsupported, match=r"memory.*Dockets.*SQLite"):
        await receipt.state_async()


def test_ten_thousand_receipts_stay_small_values() -> None:
    instance = deferrable.Deferrable(
        deferrable.backend.InMemoryBackendFactory().create_backend_for_group(None)
    )
    receipts = instance.deferrable(name="note")(print).later_many([(1,)] * 100)

    assert not any(hasattr(receipt, "__dict__") for receipt in receipts)
    assert asyncio.run(receipts[0].state_async()).status == "queued"


async def test_a_call_is_described_while_a_queue_has_it_and_by_its_result(shop: Shop) -> None:
    receipt = await shop.later(
        "a", keep_results_seconds=60, keep_call=True, call_id="chosen-before"
    )
    before = await receipt.describe_async()
    await shop.run_once()
    after = await receipt.describe_async()

    assert receipt.id == "chosen-before"
    assert before is not None
    assert after is not None
    assert (before.job, before.call.args, before.state.status) == ("note", ("a",), "queued")
    assert before.ending == {}
    assert (after.job, after.call.args, after.state) == (
        "note",
        ("a",),
        CallState("completed", attempt=1),
    )
    assert after.ending["value"] == "a"
    assert after.ending["start_time"] <= after.ending["time"]


async def test_a_failed_call_is_described_with_its_error(shop: Shop) -> None:
    receipt = await shop.later("fail", keep_results_seconds=60, keep_call=True)
    await shop.run_once()

    described = await receipt.describe_async()

    assert described is not None
    assert (described.state, described.call.args) == (CallState("errored", attempt=1), ("fail",))
    assert described.ending["error"]["error_type"] == "KeyError"


async def test_a_result_without_its_call_describes_only_the_end(shop: Shop) -> None:
    receipt = await shop.later("a", keep_results_seconds=60)
    await shop.run_once()

    described = await receipt.describe_async()

    assert described is not None
    assert (described.item, described.ending["value"]) == ({}, "a")
    assert await shop.instance.call("unknown").describe_async() is None


@pytest.mark.parametrize("call_id", ["", "x" * 65, "ü", "a\nb", 7])
def test_an_id_that_no_call_can_have_is_refused(call_id: Any) -> None:
    instance = Deferrable(InMemoryBackendFactory().create_backend_for_group(None))
    job = instance.deferrable(_nothing)

    with pytest.raises(InvalidOptions, match="call_id"):
        job.options(call_id=call_id)


async def test_one_id_is_not_for_many_calls() -> None:
    instance = Deferrable(InMemoryBackendFactory().create_backend_for_group(None))
    job = instance.deferrable(_nothing).options(call_id="one")

    with pytest.raises(InvalidOptions, match="call_id"):
        await job.later_many_async([(), ()])


def _nothing() -> None: ...
