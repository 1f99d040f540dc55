"""What Python 2 consumers hold: they are in no set, and their lists may be a live one's."""

import json
from collections.abc import AsyncIterator

import pytest
from dockets_place import Place, envelope
from redis_server import RedisServer, start_redis

import deferrable.backend
from deferrable.aio.backend import InMemoryBackendFactory
from deferrable.aio.backend.dockets import DocketsBackendFactory
from deferrable.aio.backend.dockets._wire import Keys
from deferrable.errors import InvalidOptions, Unsupported

pytestmark = pytest.mark.anyio


@pytest.fixture
async def place(redis_server: RedisServer) -> AsyncIterator[Place]:
    place = Place(redis_server)
    yield place
    await place.close()


def old_consumer(place: Place, name: str, *raws: str) -> str:
    """One of Python 2 that has taken `raws`, and may be alive."""
    place.redis.lpush(place.keys.working(name), *raws)
    return name


async def test_what_old_consumers_hold_is_counted(place: Place) -> None:
    old_consumer(place, "a", envelope(), envelope())
    old_consumer(place, "b", envelope())
    queue = place.queue()
    await queue.push({"n": 1})
    await queue.pop()

    stats = await queue.stats()

    assert stats["in_flight"] == 4
    assert stats["held_by_old_consumers"] == 3
    assert await queue.old_consumers() == {"a": 2, "b": 1}


async def test_consumers_of_ours_are_no_old_ones(place: Place) -> None:
    place.dead_worker(envelope())
    queue = place.queue()
    await queue.push({"n": 1})

    before = await queue.stats()
    await queue.pop()

    assert "held_by_old_consumers" not in before
    assert await queue.old_consumers() == {}


async def test_lists_of_other_groups_are_not_counted(place: Place) -> None:
    for name in (f"{place.keys.queue}.other.x.working", f"{place.keys.queue}_x.y.working"):
        place.redis.lpush(name, envelope())
    queue = place.queue()

    assert await queue.old_consumers() == {}
    assert (await queue.stats())["in_flight"] == 0


async def test_a_group_may_hold_what_a_pattern_gives_a_meaning(redis_server: RedisServer) -> None:
    factory = DocketsBackendFactory(redis_server.url)
    place = Place(redis_server)
    for group in ("[ab]*", "a*", "a?"):
        async with factory.create_backend_for_group(group) as backend:
            keys = Keys(f"deferrable_{group}")
            place.redis.lpush(keys.working("old"), envelope())
            place.redis.lpush(Keys("deferrable_ab").working("other"), envelope())

            assert await backend.queue.old_consumers() == {"old": 1}
    await place.close()


async def test_nothing_is_taken_back_without_a_word(place: Place) -> None:
    old_consumer(place, "a", envelope())
    queue = place.queue()

    popped = await queue.pop()
    place.clock.advance(10_000)

    assert popped == (None, None)
    assert await queue.pop() == (None, None)
    assert await queue.old_consumers() == {"a": 1}


async def test_what_a_dead_one_held_comes_back_in_its_order(place: Place) -> None:
    raws = [envelope(json.dumps({"n": number})) for number in range(250)]
    old_consumer(place, "a", *raws)
    old_consumer(place, "b", envelope('{"n": "b"}'))
    queue = place.queue()

    count = await queue.take_back("a")

    assert count == 250
    assert [item["n"] for item in place.items()] == list(range(250))
    assert json.loads(place.listed()[0])["attempts"] == 1
    assert await queue.old_consumers() == {"b": 1}
    assert await queue.take_back("a") == 0


async def test_what_was_delivered_too_often_goes_to_the_errors(place: Place) -> None:
    old_consumer(place, "a", envelope(attempts=10))

    assert await place.queue().take_back("a") == 1

    (item,) = place.errors().values()
    assert item["error"]["error_type"] == "TooManyDeliveries"


async def test_a_consumer_of_ours_is_refused(place: Place) -> None:
    name = place.dead_worker(envelope())

    with pytest.raises(InvalidOptions, match="lease"):
        await place.queue().take_back(name)

    assert len(place.in_flight(name)) == 1


async def test_a_consumer_with_a_heartbeat_is_refused(place: Place) -> None:
    old_consumer(place, "a", envelope())
    place.redis.set(place.keys.active("a"), "1", px=60_000)

    with pytest.raises(InvalidOptions, match="heartbeat"):
        await place.queue().take_back("a")

    assert len(place.in_flight("a")) == 1


async def test_a_large_redis_is_looked_through_little_by_little() -> None:
    with start_redis() as server:
        place = Place(server)
        place.redis.mset({f"other:{number}": 1 for number in range(30_000)})
        old_consumer(place, "a", envelope())
        queue = place.queue()

        counts = [(await queue.stats())["in_flight"] for _ in range(8)]

        assert counts[-1] == 1
        assert await queue.old_consumers() == {"a": 1}
        await place.close()


async def test_who_may_not_look_through_the_keys_still_gets_the_other_numbers() -> None:
    with start_redis(config={"user default": "on nopass ~* +@all -scan"}) as server:
        place = Place(server)
        queue = place.queue()
        await queue.push({"n": 1})

        assert (await queue.stats())["available"] == 1
        await place.close()


async def test_the_blocking_api_takes_back_too(place: Place) -> None:
    old_consumer(place, "a", envelope('{"n": 1}'))
    factory = deferrable.backend.DocketsBackendFactory(place.server.url)
    backend = factory.create_backend_for_group(place.group)

    taken = [backend.queue.take_back(name) for name in backend.queue.old_consumers()]
    backend.close()

    assert taken == [1]
    assert place.items() == [{"n": 1}]


async def test_other_backends_have_no_old_consumers() -> None:
    queue = InMemoryBackendFactory().create_backend_for_group(None).queue

    assert await queue.old_consumers() == {}
    with pytest.raises(Unsupported):
        await queue.take_back("a")
