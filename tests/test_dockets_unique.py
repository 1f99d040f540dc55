"""Unique keys in Redis: also a consumer that knows no keys leaves none behind for long."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from dockets_place import LEASE, Monitor, Place
from redis_server import RedisServer

import deferrable
import deferrable.sync.backend
from deferrable.aio import Deferrable
from deferrable.aio.backend.dockets import DocketsQueue
from deferrable.errors import DuplicateCall

pytestmark = pytest.mark.anyio


@pytest.fixture
async def place(redis_server: RedisServer) -> AsyncIterator[Place]:
    place = Place(redis_server)
    yield place
    await place.close()


def item(item_id: str, **fields: Any) -> dict[str, Any]:
    return {"id": item_id, "unique_key": "the key", **fields}


async def is_pushed(queue: DocketsQueue, item_id: str, **fields: Any) -> bool | str:
    """True, or the id of the item that holds the key."""
    try:
        await queue.push(item(item_id, **fields))
    except DuplicateCall as duplicate:
        return duplicate.holder_id
    return True


def take_as_python2(place: Place) -> bytes:
    """What a consumer of the Python 2 library does to take an entry."""
    raw = place.redis.rpoplpush(place.keys.queue, place.keys.working("old"))
    assert isinstance(raw, bytes)
    return raw


@pytest.mark.parametrize("others", [0, 1100])
async def test_key_of_a_call_that_python2_has_completed_is_free_after_a_second(
    place: Place, others: int
) -> None:
    queue = place.queue()
    await queue.push(item("one"))
    place.clock.advance(0.5)
    await queue.push_each([{"id": f"other {number}"} for number in range(others)])
    take_as_python2(place)
    place.redis.lpop(place.keys.working("old"))

    assert await is_pushed(queue, "two") == "one"
    place.clock.advance(1)
    assert await is_pushed(queue, "two") is True
    assert await is_pushed(queue, "three") == "two"


@pytest.mark.parametrize("others", [0, 1100])
async def test_key_of_a_call_that_python2_runs_or_retries_is_held(
    place: Place, others: int
) -> None:
    queue = place.queue()
    await queue.push(item("one"))
    place.clock.advance(1)
    await queue.push_each([{"id": f"other {number}"} for number in range(others)])
    raw = take_as_python2(place)

    place.clock.advance(2)
    assert await is_pushed(queue, "two") == "one"

    place.redis.hset(place.keys.payload, "another id", raw)
    place.redis.zadd(place.keys.delayed, {"another id": place.clock.time() + 4})
    place.redis.lpop(place.keys.working("old"))
    place.clock.advance(700)
    assert await is_pushed(queue, "two") == "one"

    place.redis.zrem(place.keys.delayed, "another id")
    place.redis.hdel(place.keys.payload, "another id")
    place.redis.lpush(place.keys.queue, raw)
    place.clock.advance(700)
    assert await is_pushed(queue, "two") == "one"

    place.redis.lrem(place.keys.queue, 0, raw)
    place.clock.advance(700)
    assert await is_pushed(queue, "two") is True


async def test_key_is_free_when_somebody_has_deleted_the_queue(place: Place) -> None:
    queue = place.queue()
    await queue.push(item("one", delay=60))
    place.clock.advance(2)
    assert await is_pushed(queue, "two") == "one"
    place.redis.delete(place.keys.delayed, place.keys.payload)

    place.clock.advance(2)
    assert await is_pushed(queue, "two") is True


async def test_blocking_later_looks_for_the_holder_without_an_event_loop(place: Place) -> None:
    backend = place.backend()
    instance = deferrable.Deferrable(deferrable.sync.backend.Backend(backend))

    @instance.deferrable(name="note", unique=True)
    def note() -> None: ...

    first = note.later()
    place.clock.advance(2)
    assert note.later().serves_id == first.id
    take_as_python2(place)
    place.clock.advance(2)
    assert note.later().serves_id == first.id
    place.redis.lpop(place.keys.working("old"))
    place.clock.advance(2)
    assert note.later().status == "pushed"


async def test_duplicate_in_a_long_queue_is_found_without_a_search(place: Place) -> None:
    queue = place.queue()
    await queue.push_each([{"id": f"other {number}"} for number in range(1100)])
    place.clock.advance(1)
    await queue.push(item("one"))
    place.clock.advance(2)

    with Monitor(place.server) as monitor:
        assert await is_pushed(queue, "two") == "one"
        assert await is_pushed(queue, "three") == "one"
        names = monitor.names(place.group)

    assert sorted({*names} - {"EVAL"}) == ["EVALSHA"]
    assert names.count("EVALSHA") == 3  # a push, a look, and a push that trusts the look


async def test_retried_call_in_a_long_queue_is_found_without_a_search(place: Place) -> None:
    queue = place.queue()
    await queue.push(item("one"))
    envelope, popped = await queue.pop()
    assert envelope is not None
    assert popped is not None
    await queue.push_each([{"id": f"other {number}"} for number in range(1100)])
    place.clock.advance(100)
    assert await is_pushed(queue, "two") == "one"  # a consumer holds it

    await queue.replace(envelope, {**popped, "attempts": 1})
    place.clock.advance(100)
    assert await is_pushed(queue, "two") == "one"


async def test_nothing_is_left_of_the_keys_when_all_calls_have_ended(place: Place) -> None:
    backend = place.backend()
    instance = Deferrable(backend)

    @instance.deferrable(name="note", unique=True, error_classes=[ValueError], max_attempts=2)
    async def note(how: str) -> None:
        if how != "fine":
            raise {"retry": ValueError, "fail": KeyError}[how](how)

    for how in ("fine", "retry", "fail"):
        await note.later_async(how)
    assert place.redis.hlen(place.keys.unique) == 3
    for _ in range(4):
        place.clock.advance(20)
        await instance.run_once()

    assert place.redis.exists(place.keys.unique) == 0


async def test_item_of_a_consumer_that_died_keeps_its_key_until_it_is_buried(
    place: Place,
) -> None:
    first = place.queue(max_redeliveries=1)
    await first.push(item("one"))
    for number in range(2):
        dying = place.queue(max_redeliveries=1)
        assert (await dying.pop())[0] is not None
        place.clock.advance(LEASE + 10)
        assert await is_pushed(first, f"probe {number}") == "one"
        await first.touch_each([], 1)

    await first.pop()

    assert place.redis.hlen(place.keys.errors) == 1
    assert await is_pushed(first, "two") is True


async def test_consumer_does_not_free_a_key_that_has_passed_to_another_call(place: Place) -> None:
    queue = place.queue()
    await queue.push(item("one"))
    envelope, _ = await queue.pop()
    assert envelope is not None
    place.redis.delete(place.keys.unique)
    await queue.push(item("two"))

    await queue.complete(envelope)

    assert await is_pushed(queue, "three") == "two"


async def test_error_whose_key_was_left_behind_takes_it_back(place: Place) -> None:
    backend = place.backend()
    queue, errors = backend.queue, backend.error_queue
    await queue.push(item("one"))
    take_as_python2(place)
    place.redis.lpop(place.keys.working("old"))
    await errors.push(item("one", error={"id": "e"}))
    ((envelope, failed),) = await errors.pop_batch(1)
    place.clock.advance(2)

    await errors.replace(envelope, {k: v for k, v in failed.items() if k != "error"}, queue)

    assert isinstance(queue, DocketsQueue)
    assert await is_pushed(queue, "two") == "one"
    assert await errors.pop() == (None, None)


async def test_keys_work_by_the_clock_of_the_server(place: Place) -> None:
    queue = place.queue(clock=None)
    await queue.push(item("one"))
    assert await is_pushed(queue, "two") == "one"
    till = place.redis.hget(place.keys.unique, "the key").split()[1]
    seconds, microseconds = place.redis.time()

    assert float(till) == pytest.approx(seconds + microseconds / 1e6 + 1, abs=60)
    place.redis.hset(place.keys.unique, "the key", "1.0 1.0 one")  # long ago
    assert await is_pushed(queue, "two") == "one"
    place.redis.delete(place.keys.queue)
    place.redis.hset(place.keys.unique, "the key", "1.0 1.0 one")
    assert await is_pushed(queue, "two") is True


async def test_holder_that_ends_while_it_is_looked_for_makes_no_duplicate(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = place.queue()
    await queue.push(item("one"))
    envelope, _ = await queue.pop()
    assert envelope is not None
    place.clock.advance(2)
    look = queue._unique._look

    async def look_late(*args: Any, **kwargs: Any) -> str:
        monkeypatch.undo()
        await queue.complete(envelope)
        return await look(*args, **kwargs)

    monkeypatch.setattr(queue._unique, "_look", look_late)

    assert await is_pushed(queue, "two") is True
    assert await is_pushed(queue, "three") == "two"


async def test_holder_is_found_among_thousands_in_flight(place: Place) -> None:
    queue = place.queue()
    await queue.push_each([{"id": f"other {number}"} for number in range(1100)])
    await queue.push(item("one"))
    popped = await queue.pop_up_to(1101)
    envelopes = {popped_item["id"]: envelope for envelope, popped_item in popped}
    place.clock.advance(2)

    assert await is_pushed(queue, "two") == "one"
    place.clock.advance(100)
    assert await is_pushed(queue, "two") == "one"

    await queue.complete(envelopes["one"])
    assert await is_pushed(queue, "two") is True
