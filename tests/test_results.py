"""Results: what a job returned comes back, or why it returned nothing."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from handle_shop import LEASE, Shop, echo
from redis_server import RedisServer, unique_group
from sizes import sized

import deferrable
from deferrable import (
    EndedCall,
    InMemoryResults,
    InvalidOptions,
    JobFailed,
    Receipt,
    ResultExpired,
    ResultStore,
    SerializationError,
    Unsupported,
)
from deferrable.aio import Deferrable, gather_results, results_as_they_end
from deferrable.aio._engine import calls
from deferrable.aio.backend import (
    DocketsBackendFactory,
    InMemoryBackendFactory,
    RedisResults,
    SQLiteBackendFactory,
    SQSBackendFactory,
)
from deferrable.aio.backend.base import Backend
from deferrable.aio.results import KeptResult
from deferrable.errors import BackendError, BackendUnavailable, ItemTooLarge
from deferrable.testing import MovingClock, wait_until

pytestmark = pytest.mark.anyio


async def result_of(shop: Shop, handle: Any, **options: Any) -> Any:
    return await shop.do(handle.result if shop.is_blocking else handle.result_async, **options)


async def test_what_the_job_returned_comes_back_and_can_be_read_twice(shop: Shop) -> None:
    receipt = await shop.later({"a": [1, (2, 3)]}, keep_results_seconds=60)
    await shop.run_once()

    results = [await result_of(shop, receipt) for _ in range(2)]

    assert results == [{"a": [1, (2, 3)]}] * 2
    assert (await shop.state(receipt)).status == "completed"


async def test_result_of_none_is_a_result(shop: Shop) -> None:
    receipt = await shop.later(None, keep_results_seconds=60)
    await shop.run_once()

    assert await result_of(shop, receipt) is None


async def test_error_of_the_job_comes_back_as_type_text_and_traceback(shop: Shop) -> None:
    receipt = await shop.later("fail", keep_results_seconds=60)
    await shop.run_once()

    with pytest.raises(JobFailed, match="is errored: KeyError: 'fail'") as caught:
        await result_of(shop, receipt)

    failure = caught.value
    assert (failure.call_id, failure.status) == (receipt.id, "errored")
    assert (failure.error_type, failure.error_text) == ("KeyError", "'fail'")
    assert 'raise {"fail": KeyError' in failure.traceback
    assert (await shop.state(receipt)).status == "errored"


async def test_retried_call_has_no_result_until_it_has_ended(shop: Shop) -> None:
    receipt = await shop.later("fail once", keep_results_seconds=60)
    await shop.run_once()

    with pytest.raises(TimeoutError, match="no result within 0 seconds"):
        await result_of(shop, receipt, timeout_seconds=0)


async def test_call_that_expired_or_was_cancelled_has_failed(shop: Shop) -> None:
    expired = await shop.later(1, ttl_seconds=5, keep_results_seconds=60)
    shop.clock.advance(6)
    await shop.run_once()
    cancelled = await shop.later(1, keep_results_seconds=60)
    await shop.cancel(cancelled)

    for receipt, status in ((expired, "expired"), (cancelled, "cancelled")):
        with pytest.raises(JobFailed, match=f"is {status}"):
            await result_of(shop, receipt)
        assert (await shop.state(receipt)).status == status


async def test_results_are_off_by_default(shop: Shop) -> None:
    receipt = await shop.later(1)
    outcome = await shop.run_once()

    assert "keep_results_seconds" not in outcome.item
    with pytest.raises(ResultExpired, match="keep_results_seconds"):
        await result_of(shop, receipt, timeout_seconds=0)


async def test_instance_keeps_results_of_all_jobs_but_those_that_say_no(
    shop_backend: Any, shop_clock: MovingClock
) -> None:
    shop = Shop("awaiting", shop_backend, shop_clock, keep_results_seconds=60)
    kept = await shop.later(1)
    not_kept = await shop.later(2, keep_results_seconds=0)
    for _ in range(2):
        await shop.run_once()

    assert await kept.result_async() == 1
    with pytest.raises(ResultExpired):
        await not_kept.result_async(timeout_seconds=0)


async def test_results_end_after_their_time(redis_server: RedisServer) -> None:
    clock = MovingClock()
    memory = InMemoryResults(clock)
    await memory.put([KeptResult("1", "text", 60)])
    clock.advance(59)
    assert await memory.get("1") == "text"
    clock.advance(1)
    assert await memory.get("1") is None

    name = unique_group()
    async with RedisResults(redis_server.url) as results:
        await results.put([KeptResult(name, "text", 60)])
        with contextlib.closing(redis_server.client()) as client:
            assert 59_000 < client.pttl(f"deferrable.result.{name}") <= 60_000
            client.pexpire(f"deferrable.result.{name}", 1)
        await wait_until(lambda: _is_gone(results, name), "the result has expired")


async def _is_gone(results: ResultStore, name: str) -> bool:
    return await results.get(name) is None


async def test_what_a_job_returned_but_cannot_be_sent_is_told(shop: Shop) -> None:
    lock = shop.instance.deferrable(name="lock")(lambda: threading.Lock())
    receipt = await lock.options(keep_results_seconds=60).later_async()
    outcome = await shop.run_once()

    assert outcome.status == "completed"
    with pytest.raises(SerializationError, match="is completed, but what its job returned"):
        await result_of(shop, receipt)


async def test_second_run_replaces_the_result(shop: Shop) -> None:
    numbers = iter([1, 2])
    job = shop.instance.deferrable(name="number", keep_results_seconds=60)(lambda: next(numbers))
    receipt = await job.later_async()
    envelope, item = await shop.core.queue.pop()
    await shop.core.queue.push(item)
    await shop.core.queue.release(envelope)
    for _ in range(2):
        await shop.run_once()

    assert await result_of(shop, receipt) == 2


async def test_handle_of_another_process_gets_the_result(shop: Shop, shop_backend: Any) -> None:
    receipt = await shop.later(5, keep_results_seconds=60)
    await shop.run_once()

    other = Deferrable(shop_backend)

    assert await other.call(receipt.id or "").result_async() == 5


# Protection.


@pytest.mark.parametrize("serializer", ["pickle", "json", "classic"])
async def test_result_travels_by_the_serializer_of_the_instance(
    shop_backend: Any, serializer: str
) -> None:
    instance = Deferrable(shop_backend, serializer=serializer)
    receipt = await instance.deferrable(keep_results_seconds=60)(echo).later_async("ü")
    await instance.run_once()

    assert await receipt.result_async() == "ü"


class Reverse:
    """No encryption, but it can be seen to be used."""

    def encrypt(self, data: bytes) -> bytes:
        return data[::-1]

    def decrypt(self, data: bytes) -> bytes:
        return data[::-1]


async def test_result_is_signed_and_encrypted_like_an_item(shop_backend: Any) -> None:
    options: dict[str, Any] = {"serializer": "json", "encryption": Reverse()}
    instance = Deferrable(shop_backend, signing_keys=["k" * 16], **options)
    receipt = await instance.deferrable(keep_results_seconds=60)(echo).later_async("secret")
    await instance.run_once()
    assert receipt.id is not None
    text = await shop_backend.result_store.get(receipt.id)

    assert await receipt.result_async() == "secret"
    assert "signature" in text
    assert "secret" not in text
    other = Deferrable(shop_backend, signing_keys=["o" * 16], **options)
    with pytest.raises(deferrable.UnreadableItem, match="signature is wrong"):
        await other.call(receipt.id).result_async()


async def test_result_of_one_call_cannot_be_passed_off_as_that_of_another(
    shop_backend: Any,
) -> None:
    instance = Deferrable(shop_backend, signing_keys=["k" * 16], keep_results_seconds=60)
    receipt = await instance.deferrable()(echo).later_async(1)
    await instance.run_once()
    assert receipt.id is not None
    text = await shop_backend.result_store.get(receipt.id)
    await shop_backend.result_store.put([KeptResult("other", text, 60)])

    with pytest.raises(deferrable.UnreadableItem, match="not its result"):
        await instance.call("other").result_async()


# The order, and failures.


class Recording(ResultStore):
    """A store that notes what was in flight when it was used, and may fail."""

    def __init__(self, store: ResultStore, backend: Any) -> None:
        self._store = store
        self._backend = backend
        self.in_flight: list[float] = []
        self.failures = 0

    async def put(self, results: Any) -> None:
        self.in_flight.append((await self._backend.queue.stats())["in_flight"])
        if self.failures:
            self.failures -= 1
            raise BackendUnavailable("injected")
        await self._store.put(results)

    async def get(self, call_id: str) -> str | None:
        return await self._store.get(call_id)

    async def wait(self, call_id: str) -> str:
        return await self._store.wait(call_id)


async def test_result_is_stored_before_the_item_is_completed(
    shop_backend: Any, shop_clock: MovingClock
) -> None:
    store = Recording(shop_backend.result_store, shop_backend)
    options: dict[str, Any] = {"results": store, "keep_results_seconds": 60}
    shop = Shop("awaiting", shop_backend, shop_clock, **options)
    for value in (1, "fail"):
        await shop.later(value)
        await shop.run_once()
    await shop.later(2)
    async with shop.awaiting.worker() as worker:
        await anext(worker)

    assert store.in_flight == [1, 1, 1]


async def test_item_is_not_completed_without_its_result(
    shop_backend: Any, shop_clock: MovingClock
) -> None:
    store = Recording(shop_backend.result_store, shop_backend)
    store.failures = 1
    options: dict[str, Any] = {"results": store, "keep_results_seconds": 60}
    shop = Shop("awaiting", shop_backend, shop_clock, **options)
    receipt = await shop.later(1)

    with pytest.raises(BackendUnavailable):
        await shop.run_once()

    assert (await shop_backend.queue.stats())["in_flight"] == 1
    shop_clock.advance(LEASE + 1)
    await shop.run_once()
    assert await receipt.result_async() == 1


async def test_worker_retries_the_result_and_completes_the_item_after_it() -> None:
    backend = InMemoryBackendFactory(timeout=0.2).create_backend_for_group(None)
    assert backend.result_store is not None
    store = Recording(backend.result_store, backend)
    store.failures = 2
    instance = Deferrable(backend, results=store, keep_results_seconds=60)
    ran: list[int] = []
    job = instance.deferrable(name="once")(ran.append)
    receipt = await job.later_async(1)

    async with instance.worker() as worker:
        outcome = await anext(worker)

    assert outcome.status == "completed"
    assert ran == [1]
    assert await receipt.result_async() is None


async def test_consumer_without_a_store_says_so_once_and_completes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = InMemoryBackendFactory().create_backend_for_group(None)
    producer = Deferrable(made)
    consumer = Deferrable(Backend(None, made.queue, made.error_queue))
    consumer.deferrable(name="echo")(echo)
    job = producer.deferrable(name="echo", keep_results_seconds=60)(echo)

    for _ in range(2):
        await job.later_async(1)
        outcome = await consumer.run_once()
        assert outcome is not None
        assert outcome.status == "completed"

    assert caplog.text.count("has no store") == 1


async def test_backend_without_a_store_refuses_the_option_and_takes_any_store() -> None:
    made = InMemoryBackendFactory().create_backend_for_group(None)
    backend = Backend(None, made.queue, made.error_queue)

    with pytest.raises(InvalidOptions, match="RedisResults"):
        Deferrable(backend, keep_results_seconds=60)
    with pytest.raises(InvalidOptions, match="RedisResults"):
        Deferrable(backend).deferrable(keep_results_seconds=60)(echo)
    receipt = await Deferrable(backend).deferrable(name="echo")(echo).later_async(1)
    with pytest.raises(Unsupported, match="RedisResults"):
        await receipt.result_async()
    await backend.queue.flush()
    instance = Deferrable(backend, results=InMemoryResults(), keep_results_seconds=60)
    receipt = await instance.deferrable(name="echo")(echo).later_async(1)
    await instance.run_once()
    assert await receipt.result_async() == 1


async def test_on_sqs_the_store_of_results_is_all_that_is_known() -> None:
    store = InMemoryResults()
    factory = InMemoryBackendFactory()
    local = Deferrable(
        factory.create_backend_for_group(None), results=store, keep_results_seconds=60
    )
    receipt = await local.deferrable(name="echo")(echo).later_async(1)
    await local.run_once()
    async with SQSBackendFactory().create_backend_for_group(None) as backend:
        handle = Deferrable(backend, results=store).call(receipt.id or "")

        assert (await handle.state_async()).status == "completed"
        assert await handle.result_async() == 1
        unknown = Deferrable(backend, results=store).call("unknown")
        for verb in (unknown.state_async, handle.cancel_async, handle.run_now_async):
            with pytest.raises(Unsupported, match="SQLite"):
                await verb()


@pytest.mark.parametrize("value", [-1, "a minute", float("nan")])
async def test_wrong_times_are_refused(value: Any) -> None:
    backend = InMemoryBackendFactory().create_backend_for_group(None)

    with pytest.raises(InvalidOptions, match="keep_results_seconds"):
        Deferrable(backend, keep_results_seconds=value)
    with pytest.raises(InvalidOptions, match="keep_results_seconds"):
        Deferrable(backend).deferrable(keep_results_seconds=value)(echo)


# Waiting.


@pytest.fixture(params=["memory", "dockets", "sqlite"])
async def waiting(request: pytest.FixtureRequest) -> Any:
    """An instance on the real clock that keeps results."""
    if request.param == "memory":
        factory: Any = InMemoryBackendFactory(timeout=0.5)
    elif request.param == "sqlite":
        path = request.getfixturevalue("tmp_path") / "queue"
        factory = SQLiteBackendFactory(path, 0.5, durability="process")
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        factory = DocketsBackendFactory(server.url, wait_time=0.5)
    async with factory.create_backend_for_group(unique_group()) as backend:
        instance = Deferrable(backend, keep_results_seconds=60)
        instance.deferrable(name="echo")(echo)
        yield instance
        await backend.queue.flush()
        await backend.error_queue.flush()


def echo_job(instance: Deferrable) -> Any:
    return instance.deferrable(name="echo")(echo)


async def test_one_who_waits_is_woken(waiting: Deferrable) -> None:
    receipt = await echo_job(waiting).later_async("late")
    task = asyncio.create_task(receipt.result_async(timeout_seconds=30))
    await asyncio.sleep(0.05)
    assert not task.done()

    await waiting.run_once()

    assert await task == "late"


async def test_many_wait_on_one_connection(redis_server: RedisServer) -> None:
    count = sized(2_000, 10_000)
    factory = DocketsBackendFactory(redis_server.url, wait_time=0.5)
    async with factory.create_backend_for_group(unique_group()) as backend:
        instance = Deferrable(backend, keep_results_seconds=60)
        job = echo_job(instance)
        receipts = await job.later_many_async([(number,) for number in range(count)])
        tasks = [asyncio.create_task(receipt.result_async()) for receipt in receipts]
        with contextlib.closing(redis_server.client()) as client:

            def subscribers() -> list[int]:
                return [int(each["sub"]) for each in client.client_list() if int(each["sub"])]

            await wait_until(lambda: sum(subscribers()) == count, "all are subscribed")
            assert len(subscribers()) == 1
            async with instance.worker() as worker:
                consuming = asyncio.create_task(_consume(worker, count))
                assert await asyncio.gather(*tasks) == list(range(count))
                await consuming
        assert await instance.call(receipts[0].id).result_async() == 0


async def _consume(worker: Any, count: int) -> None:
    for _ in range(count):
        await anext(worker)


async def test_waiter_whose_connection_breaks_still_gets_the_result(
    redis_server: RedisServer,
) -> None:
    factory = DocketsBackendFactory(redis_server.url, wait_time=0.5)
    async with factory.create_backend_for_group(unique_group()) as backend:
        instance = Deferrable(backend, keep_results_seconds=60)
        receipt = await echo_job(instance).later_async("kept")
        task = asyncio.create_task(receipt.result_async(timeout_seconds=30))
        with contextlib.closing(redis_server.client()) as client:

            def is_subscribed() -> bool:
                return any(
                    str(name).rstrip("'").endswith(receipt.id or "-")
                    for name in client.pubsub_channels("deferrable.result.*")
                )

            await wait_until(is_subscribed, "it waits")
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await instance.run_once()

            assert await task == "kept"


async def test_one_who_waits_hears_of_an_end_that_nobody_tells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "_CHECK_SECONDS", 0.01)
    backend = InMemoryBackendFactory().create_backend_for_group(None)
    instance = Deferrable(backend, keep_results_seconds=60)
    receipt = await echo_job(instance).later_async(1)
    looks, find = 0, backend.queue.find

    async def find_at_first(item_id: str) -> object:
        nonlocal looks
        looks += 1
        if looks == 2:
            await backend.queue.flush()
        return await find(item_id)

    monkeypatch.setattr(backend.queue, "find", find_at_first)

    with pytest.raises(ResultExpired):
        await receipt.result_async(timeout_seconds=30)


async def test_a_user_of_redis_without_the_channels_is_told(redis_server: RedisServer) -> None:
    with contextlib.closing(redis_server.client()) as client:
        client.execute_command(
            "ACL", "SETUSER", "few", "on", ">secret", "~*", "+@all", "resetchannels"
        )
    url = redis_server.url.replace("redis://", "redis://few:secret@")
    async with RedisResults(url) as results:
        with pytest.raises(BackendError, match="channel"):
            await asyncio.wait_for(results.wait("none"), 60)


class Flaky(RedisResults):
    """Fails the first look."""

    is_down = True

    async def get(self, call_id: str) -> str | None:
        if self.is_down:
            self.is_down = False
            raise BackendUnavailable("injected")
        return await super().get(call_id)


async def test_one_who_waits_survives_a_store_that_is_away_for_a_moment(
    redis_server: RedisServer,
) -> None:
    name = unique_group()
    async with Flaky(redis_server.url) as results:
        waiting = asyncio.create_task(results.wait(name))
        await wait_until(lambda: not results.is_down, "the first look has failed")
        await results.put([KeptResult(name, "text", 60)])

        assert await waiting == "text"


async def test_call_that_keeps_no_result_is_not_waited_for(waiting: Deferrable) -> None:
    receipt = await echo_job(waiting).options(keep_results_seconds=0).later_async(1)

    with pytest.raises(ResultExpired, match="keep_results_seconds"):
        await receipt.result_async(timeout_seconds=50)


async def test_no_result_is_missed_between_the_look_and_the_wait(waiting: Deferrable) -> None:
    job = echo_job(waiting)
    async with waiting.worker() as worker:
        consuming = asyncio.create_task(_consume(worker, 200))
        for number in range(200):
            receipt = await job.later_async(number)
            assert await receipt.result_async(timeout_seconds=20) == number
        await consuming


async def test_wait_ends_after_its_time(waiting: Deferrable) -> None:
    receipt = await echo_job(waiting).later_async(1)

    with pytest.raises(TimeoutError, match=r"within 0\.01 seconds"):
        await receipt.result_async(timeout_seconds=0.01)


async def test_call_that_nobody_knows_is_not_waited_for(waiting: Deferrable) -> None:
    start_time = time.monotonic()

    with pytest.raises(ResultExpired):
        await waiting.call("nobody").result_async(timeout_seconds=50)

    assert time.monotonic() - start_time < 20


async def test_cancelled_wait_leaves_nothing_behind(waiting: Deferrable) -> None:
    receipt = await echo_job(waiting).later_async(1)
    task = asyncio.create_task(receipt.result_async())
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait([task])
    await waiting.run_once()

    assert task.cancelled()
    assert await receipt.result_async() == 1


def test_blocking_callers_wait_in_their_threads() -> None:
    backend = deferrable.backend.InMemoryBackendFactory(timeout=5).create_backend_for_group(None)
    instance = deferrable.Deferrable(backend, keep_results_seconds=60)
    job = instance.deferrable(name="echo")(echo)
    receipts = job.later_many([(number,) for number in range(3)])
    consumer = threading.Thread(target=lambda: [instance.run_once() for _ in range(3)])

    threading.Timer(0.05, consumer.start).start()

    assert [receipt.result(timeout_seconds=30) for receipt in receipts] == [0, 1, 2]
    assert deferrable.gather_results(receipts) == [0, 1, 2]
    ended = list(deferrable.results_as_they_end(receipts))
    assert sorted(each.value for each in ended) == [0, 1, 2]
    consumer.join()


async def test_results_are_gathered_in_their_order_and_the_first_error_is_raised(
    shop: Shop,
) -> None:
    receipts = [await shop.later(value, keep_results_seconds=60) for value in (1, 2, "fail")]
    for _ in receipts:
        await shop.run_once()

    gather: Callable[..., Any] = deferrable.gather_results if shop.is_blocking else gather_results
    assert await shop.do(gather, receipts[1::-1]) == [2, 1]
    with pytest.raises(JobFailed):
        await shop.do(gather, receipts)


async def test_calls_are_given_as_they_end(waiting: Deferrable) -> None:
    job = echo_job(waiting)
    slow = await job.options(delay_seconds=600).later_async("slow")
    fast = await job.later_async("fast")
    seen: list[EndedCall] = []

    async def collect() -> None:
        async for ended in results_as_they_end([slow, fast], timeout_seconds=30):
            seen.append(ended)

    collecting = asyncio.create_task(collect())
    await waiting.run_once()
    await wait_until(lambda: len(seen) == 1, "the first one has ended")
    assert await slow.cancel_async() == "cancelled"
    await collecting

    assert (seen[0].call, seen[0].value) == (fast, "fast")
    assert seen[1].call is slow
    assert isinstance(seen[1].error, JobFailed)


async def test_skipped_call_whose_other_is_unknown_has_no_result(shop: Shop) -> None:
    skipped = Receipt(None, "skipped", 0.0, source=getattr(shop.instance, "_core", shop.instance))

    with pytest.raises(ResultExpired, match="was skipped"):
        await result_of(shop, skipped)


async def test_result_of_a_skipped_call_is_that_of_the_call_that_serves_it(shop: Shop) -> None:
    options: dict[str, Any] = {"debounce_seconds": 60, "debounce_always_delay": True}
    await shop.later(1, keep_results_seconds=60, **options)
    skipped = await shop.later(1, keep_results_seconds=60, **options)
    shop.clock.advance(60)
    await shop.run_once()

    assert await result_of(shop, skipped) == 1


class Small(InMemoryResults):
    """Takes no large results."""

    async def put(self, results: Sequence[KeptResult]) -> None:
        if any(len(each.text) > 10_000 for each in results):
            raise ItemTooLarge("the store takes at most 10,000 bytes")
        await super().put(results)


@pytest.mark.parametrize("is_in_worker", [True, False], ids=["worker", "run_once"])
async def test_job_whose_result_is_too_large_is_completed_once(is_in_worker: bool) -> None:
    backend = InMemoryBackendFactory(timeout=0.2).create_backend_for_group(None)
    instance = Deferrable(backend, results=Small(), keep_results_seconds=60)
    ran: list[int] = []

    def make(size: int) -> str:
        ran.append(size)
        return "x" * size

    job = instance.deferrable(name="make")(make)
    receipts = [await job.later_async(size) for size in (10, 100_000, 20)]

    if is_in_worker:
        async with instance.worker(concurrency=3) as worker:
            outcomes = [await anext(worker) for _ in range(3)]
    else:
        outcomes = [await instance.run_once() for _ in range(3)]  # type: ignore[misc]

    assert [each.status for each in outcomes] == ["completed"] * 3
    assert sorted(ran) == [10, 20, 100_000]
    assert await receipts[0].result_async() == "x" * 10
    with pytest.raises(SerializationError, match="at most 10,000 bytes"):
        await receipts[1].result_async()


async def test_requeued_call_is_waited_for_again(shop: Shop) -> None:
    receipt = await shop.later("fail", keep_results_seconds=60)
    await shop.run_once()
    with pytest.raises(JobFailed):
        await result_of(shop, receipt)

    async with shop.awaiting.errors() as errors:
        async for error in errors:
            await error.requeue()

    with pytest.raises(TimeoutError):
        await result_of(shop, receipt, timeout_seconds=0)
    assert (await shop.state(receipt)).status == "queued"


@pytest.mark.parametrize("call_id", ["\ud800", ""])
async def test_id_that_no_call_can_have_is_refused(shop: Shop, call_id: Any) -> None:
    with pytest.raises(InvalidOptions, match="the id of a call"):
        shop.instance.call(call_id)


async def test_a_failing_wait_does_not_make_the_others_miss_their_results(
    redis_server: RedisServer,
) -> None:
    async with RedisResults(redis_server.url) as results:
        name = unique_group()
        waiting = [asyncio.ensure_future(results.wait(each)) for each in (name, "\ud800")]
        with pytest.raises(UnicodeEncodeError):
            await waiting[1]
        await results.put([KeptResult(name, "text", 60)])

        again = asyncio.ensure_future(results.wait(name))
        done, _ = await asyncio.wait([again], timeout=60)
        assert done
        waiting[0].cancel()
        await asyncio.wait(waiting)
