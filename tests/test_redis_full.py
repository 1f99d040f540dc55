"""A Redis that has reached its maxmemory and evicts nothing: only pushes are refused."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from dockets_place import LEASE, Place, check_kept, envelope, is_blocked
from redis_server import RedisServer

from deferrable.aio import Deferrable
from deferrable.aio.backend._redis.debounce import RedisDebounceStore
from deferrable.aio.debounce import DebounceKey, PushDelayed, PushNow, Skip
from deferrable.errors import BackendError
from deferrable.testing import wait_until

pytestmark = pytest.mark.anyio

ERROR = {"id": "e", "error_type": "KeyError", "error_text": "", "traceback": "", "ts": 1.0}


@pytest.fixture
async def place(each_redis: RedisServer) -> AsyncIterator[Place]:
    place = Place(each_redis)
    yield place
    make_room(place)
    await place.close()


def nothing(group: str) -> None:
    """Deferred only."""


def fill(place: Place) -> None:
    place.redis.config_set("maxmemory", place.redis.info("memory")["used_memory"] // 2)


def make_room(place: Place) -> None:
    place.redis.config_set("maxmemory", 0)


# What is refused.


@pytest.mark.parametrize("item", [{"n": 1}, {"n": 1, "delay": 60}], ids=["now", "delayed"])
async def test_a_push_is_refused_with_advice(place: Place, item: dict[str, int]) -> None:
    queue = place.queue()
    fill(place)

    with pytest.raises(BackendError, match=r"maxmemory.*consumers go on.*push again later"):
        await queue.push(item)

    assert (await queue.stats())["available"] == 0
    make_room(place)
    await queue.push(item)


@pytest.mark.parametrize("serializer", ["pickle", "classic"])
async def test_a_debounced_push_is_refused_and_leaves_no_window(
    place: Place, serializer: str
) -> None:
    instance = Deferrable(
        place.backend(clock=None), redis_client=place.server.url, serializer=serializer
    )

    job = instance.deferrable(debounce_seconds=60)(nothing)
    fill(place)
    with pytest.raises(BackendError, match="maxmemory"):
        await job.later_async(place.group)
    make_room(place)

    assert (await job.later_async(place.group)).status == "pushed"
    assert (await job.later_async(place.group)).status == "delayed"


# What goes on.


async def test_everything_that_a_consumer_does_goes_on(place: Place) -> None:
    queue = place.queue()
    errors = place.made[0].error_queue
    await queue.push_batch([{"n": number} for number in range(6)])
    await queue.push({"n": 6, "delay": 5})
    fill(place)

    popped = await queue.pop_batch(6)
    await queue.touch(popped[0][0], 2 * LEASE)
    place.clock.advance(5)
    ((due, _),) = await queue.pop_batch(6)
    await queue.complete(due)
    envelopes = [each for each, _ in popped]
    for each in envelopes:
        each.has_started = True
    await queue.complete(envelopes[0])
    await queue.release(envelopes[1])
    await queue.release(envelopes[2], 60)
    await queue.replace(envelopes[3], {"n": 3, "attempts": 1})
    await queue.replace(envelopes[4], {"n": 4, "attempts": 1, "delay": 60})
    await queue.replace(envelopes[5], {"n": 5, "error": ERROR}, errors)

    assert place.items() == [{"n": 1}, {"n": 3, "attempts": 1}]
    assert place.redis.zcard(place.keys.delayed) == 2
    assert place.errors() == {"e": {"n": 5, "error": ERROR}}
    assert place.in_flight() == []


async def test_a_full_queue_is_paused_and_resumed(place: Place) -> None:
    queue = place.queue()
    await queue.push({"n": 1})
    fill(place)

    for seconds in (None, 60):
        await queue.pause(for_seconds=seconds)
        assert await queue.pop() == (None, None)
    assert await queue.resume()

    assert (await queue.pop())[1] == {"n": 1}


async def test_what_a_dead_consumer_held_is_taken_over(place: Place) -> None:
    place.dead_worker(envelope('{"n":1}'), envelope('{"n":2}'))
    queue = place.queue()
    fill(place)

    popped = await queue.pop_batch(5)

    assert [item["n"] for _, item in popped] == [1, 2]


async def test_what_was_delivered_too_often_goes_to_the_errors(place: Place) -> None:
    place.dead_worker(envelope(attempts=10))
    queue = place.queue()
    fill(place)

    assert await queue.pop() == (None, None)

    assert len(place.errors()) == 1
    assert place.in_flight() == []


async def test_what_a_dead_consumer_of_the_old_library_held_is_taken_back(place: Place) -> None:
    place.redis.lpush(place.keys.working("old"), envelope('{"n":1}'))
    queue = place.queue()
    fill(place)

    assert await queue.take_back("old") == 1

    assert place.items() == [{"n": 1}]


async def test_what_cannot_be_read_goes_to_the_errors(place: Place) -> None:
    place.put("nonsense")
    queue = place.queue()
    fill(place)

    assert await queue.pop() == (None, None)

    check_kept(place, b"nonsense")


async def test_a_delayed_item_without_payload_goes_to_the_errors(place: Place) -> None:
    place.redis.zadd(place.keys.delayed, {"lone": 1.0})
    queue = place.queue()
    fill(place)

    assert await queue.pop() == (None, None)

    assert len(place.errors()) == 1


async def test_a_wait_ends_with_what_comes_back_meanwhile(place: Place) -> None:
    holder, waiter = place.queue(), place.queue(clock=None, wait_time=300)
    await holder.push({"n": 1})
    held, _ = await holder.pop()
    assert held is not None
    fill(place)

    popping = asyncio.create_task(waiter.pop())
    await wait_until(lambda: len(place.workers()) == 2, "the pop is under way")
    await holder.release(held)

    _, item = await asyncio.wait_for(popping, 30)
    assert item == {"n": 1}


async def test_a_wait_that_finds_nothing_ends_without_an_error(place: Place) -> None:
    queue = place.queue(clock=None, wait_time=0.2)
    fill(place)

    assert await queue.pop() == (None, None)


async def test_a_consumer_waits_on_the_server_again_once_there_is_room(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    queue = place.queue(clock=None, wait_time=300)
    fill(place)
    popping = asyncio.create_task(queue.pop())
    await wait_until(lambda: "accepts no new items" in caplog.text, "it has found Redis full")
    assert not is_blocked(place)

    make_room(place)
    await wait_until(lambda: is_blocked(place), "it waits on the server")
    await place.queue().push({"n": 1})

    _, item = await asyncio.wait_for(popping, 30)
    assert item == {"n": 1}
    assert caplog.text.count("accepts no new items") == 1
    assert caplog.text.count("accepts new items again") == 1


async def test_a_consumer_that_is_taken_for_dead_while_it_waits_goes_on_under_a_new_id(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    queue = place.queue(clock=None, wait_time=300)
    fill(place)
    popping = asyncio.create_task(queue.pop())
    await wait_until(lambda: "accepts no new items" in caplog.text, "it has found Redis full")
    name = place.worker()

    place.redis.srem(place.keys.workers, name)
    await wait_until(lambda: place.workers() - {name}, "it has a new id")

    queue._interrupt_pop()
    assert await asyncio.wait_for(popping, 30) == (None, None)


# The error queue.


async def test_errors_can_be_leased_kept_given_back_and_settled(place: Place) -> None:
    errors = place.backend().error_queue
    queue = place.made[0].queue
    for name in "abcd":
        await errors.push({"n": name, "error": {**ERROR, "id": name}})
    fill(place)

    popped = {item["n"]: found for found, item in await errors.pop_batch(9)}
    await errors.touch(popped["a"], 2 * LEASE)
    await errors.release(popped["b"], 60)
    await errors.complete(popped["c"])
    await errors.replace(popped["d"], {"n": "d"}, queue)

    assert set(place.errors()) == {"a", "b"}
    assert place.items() == [{"n": "d"}]
    place.clock.advance(LEASE + 1)
    assert [item["n"] for _, item in await errors.pop_batch(9)] == ["b"]


async def test_chosen_errors_can_be_leased_and_settled(place: Place) -> None:
    errors = place.backend().error_queue
    queue = place.made[0].queue
    for name in "abc":
        await errors.push({"n": name, "error": {**ERROR, "id": name}})
    fill(place)

    page, _ = await errors.peek()
    keys = {each.item["n"]: each.key for each in page}
    popped = await errors.pop_keys([keys["a"], keys["b"]])
    (a, b) = [found[0] for found in popped if found is not None]
    await errors.complete(a)
    await errors.replace(b, {"n": "b"}, queue)

    assert set(place.errors()) == {"c"}
    assert place.items() == [{"n": "b"}]


async def test_an_error_that_cannot_be_read_is_kept_as_valid_json(place: Place) -> None:
    errors = place.backend().error_queue
    place.redis.hset(place.keys.errors, "x", "nonsense")
    fill(place)

    _, item = await errors.pop()

    assert item is not None
    assert item["raw"] == "nonsense"


async def test_an_error_can_be_pushed(place: Place) -> None:
    errors = place.backend().error_queue
    fill(place)

    await errors.push({"n": 1, "error": ERROR})

    assert set(place.errors()) == {"e"}


# Debounce windows that were reserved before.


@pytest.fixture
async def store(each_redis: RedisServer) -> AsyncIterator[RedisDebounceStore]:
    store = RedisDebounceStore(each_redis.url)
    yield store
    await store.close()


KEYS: dict[str, Callable[[str], DebounceKey]] = {
    "ours": lambda name: DebounceKey(name),
    "classic": lambda name: DebounceKey(name, (f"debounce.{name}", f"last_push.{name}")),
}


@pytest.mark.parametrize("kind", KEYS)
async def test_a_window_is_confirmed(place: Place, store: RedisDebounceStore, kind: str) -> None:
    key = KEYS[kind](place.group)
    await reserve(store, key, "first", PushNow)
    fill(place)

    await store.confirm(key, "first")

    make_room(place)
    await reserve(store, key, "second", PushDelayed)


@pytest.mark.parametrize("kind", KEYS)
async def test_a_window_is_put_back(place: Place, store: RedisDebounceStore, kind: str) -> None:
    key = KEYS[kind](place.group)
    await reserve(store, key, "first", PushNow)
    await store.confirm(key, "first")
    await reserve(store, key, "second", PushDelayed)
    fill(place)

    await store.restore(key, "second")

    make_room(place)
    await reserve(store, key, "third", PushDelayed)


@pytest.mark.parametrize("kind", KEYS)
async def test_a_call_is_skipped_while_one_is_pending(
    place: Place, store: RedisDebounceStore, kind: str
) -> None:
    key = KEYS[kind](place.group)
    await reserve(store, key, "first", PushNow)
    await store.confirm(key, "first")
    await reserve(store, key, "second", PushDelayed)
    await store.confirm(key, "second")
    fill(place)

    await reserve(store, key, "third", Skip)


async def test_a_call_is_skipped_by_the_one_step_that_would_push_it(place: Place) -> None:
    instance = Deferrable(place.backend(clock=None))
    job = instance.deferrable(debounce_seconds=60)(nothing)
    pushed = [(await job.later_async(place.group)).status for _ in range(2)]
    fill(place)

    assert (await job.later_async(place.group)).status == "skipped"

    assert pushed == ["pushed", "delayed"]


async def reserve(
    store: RedisDebounceStore, key: DebounceKey, token: str, expected: type[Any]
) -> None:
    reservation = await store.reserve(key, 60, False, token)
    assert isinstance(reservation.decision, expected)


# All of it.


async def test_jobs_run_once_each_and_are_retried_and_buried(place: Place) -> None:
    instance = Deferrable(place.backend(clock=None, wait_time=1, timeout=5))
    ran: list[str] = []

    @instance.deferrable(
        error_classes=[KeyError], use_exponential_backoff=False, max_attempts=2, name="job"
    )
    async def job(what: str) -> None:
        ran.append(what)
        if what == "fails":
            raise KeyError(what)
        if what == "is long":
            await asyncio.sleep(8)  # longer than the lease

    await job.later_many_async([("fails",), ("is long",), ("works",)])
    fill(place)
    async with instance.worker() as worker:
        statuses = sorted([(await anext(worker)).status for _ in range(4)])

    assert statuses == ["completed", "completed", "errored", "retried"]
    assert sorted(ran) == ["fails", "fails", "is long", "works"]
