"""What a consumer of a Dockets queue costs that finds nothing, and what it notices all the same."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from dockets_place import LEASE, Monitor, Place, envelope, is_blocked
from redis_server import RedisServer

from deferrable.aio.backend.dockets import DocketsQueue
from deferrable.testing import wait_until

pytestmark = pytest.mark.anyio

IDLE_POP = ["EVAL", "BLMOVE", "GET"]
"""GET looks whether the queue is paused."""
LONG = 1000.0


@pytest.fixture
async def place(redis_server: RedisServer) -> AsyncIterator[Place]:
    place = Place(redis_server)
    yield place
    await place.close()


async def idle_queue(place: Place) -> DocketsQueue:
    """A queue whose pops wait for long, and whose last one has just found nothing."""
    queue = place.queue(wait_time=LONG)
    popping = await begin_pop(place, queue)
    place.clock.advance(LONG)
    assert await asyncio.wait_for(popping, 30) == (None, None)
    return queue


async def pop_until_idle(queue: DocketsQueue) -> None:
    # The first one connects, which may take longer than it waits.
    for _ in range(3):
        await queue.pop()


async def begin_pop(place: Place, queue: DocketsQueue) -> "asyncio.Task[object]":
    popping = asyncio.create_task(queue.pop())
    await wait_until(lambda: is_blocked(place), "the pop waits")
    return popping


async def item_of(popping: "asyncio.Task[object]") -> object:
    _, item = await asyncio.wait_for(popping, 30)  # type: ignore[misc]
    return item


# What it costs.


@pytest.mark.parametrize("delayed", [[], [{"delay": LONG}]], ids=["nothing", "for long"])
async def test_an_idle_pop_is_three_commands_whatever_is_delayed(
    place: Place, delayed: Sequence[dict[str, float]]
) -> None:
    queue = place.queue(clock=None, wait_time=0.05)
    for item in delayed:
        await queue.push(item)
    await pop_until_idle(queue)

    with Monitor(place.server) as monitor:
        for _ in range(5):
            await queue.pop()

        assert monitor.names(place.group) == 5 * IDLE_POP


async def test_an_idle_pop_that_waits_for_long_sends_one_more_command_a_second(
    place: Place,
) -> None:
    queue = place.queue(clock=None, wait_time=0.05)
    await pop_until_idle(queue)
    queue._popper._wait_seconds = 2.5

    with Monitor(place.server) as monitor:
        await queue.pop()
        names = monitor.names(place.group)

    assert (names[:2], names.count("BLMOVE")) == (["EVAL", "BLMOVE"], 1)
    assert names.count("GET") == 3


async def test_a_periodic_look_ends_no_wait(place: Place) -> None:
    queue = await idle_queue(place)

    with Monitor(place.server) as monitor:
        popping = await begin_pop(place, queue)
        place.clock.advance(100)
        await place.queue().push({"n": 1})
        await popping
        names = monitor.names(place.group)

    assert names.count("BLMOVE") == 1


async def test_an_idle_consumer_looks_for_the_dead_less_often(place: Place) -> None:
    queue = await idle_queue(place)
    looks = []

    with Monitor(place.server) as monitor:
        for _ in range(5):
            popping = await begin_pop(place, queue)
            place.clock.advance(10)
            queue._interrupt_pop()
            await popping
            looks.append(monitor.names(place.group).count("SMEMBERS"))

    assert looks == [1, 0, 1, 0, 1]


# What it notices.


async def test_an_idle_consumer_takes_all_that_came_between_its_pops(place: Place) -> None:
    queue = await idle_queue(place)
    await place.queue().push_batch([{"n": number} for number in range(5)])

    popped = [*await queue.pop_batch(9), *await queue.pop_batch(9)]

    assert [item["n"] for _, item in popped] == [0, 1, 2, 3, 4]


async def test_an_item_delayed_between_two_idle_pops_comes_when_it_is_due(place: Place) -> None:
    queue = await idle_queue(place)
    await place.queue().push({"n": 1, "delay": 9})

    with Monitor(place.server) as monitor:
        popping = await begin_pop(place, queue)
        await wait_until(lambda: "EVALSHA" in monitor.names(place.group), "it looks for the item")
    await wait_until(lambda: is_blocked(place), "the pop waits again")
    place.clock.advance(9)

    assert await item_of(popping) == {"n": 1, "delay": 9}


async def test_an_item_delayed_during_an_idle_pop_comes_with_the_next_one(place: Place) -> None:
    queue = await idle_queue(place)
    popping = await begin_pop(place, queue)
    await place.queue().push({"n": 1, "delay": 9})
    place.clock.advance(LONG)
    nothing = await item_of(popping)

    _, item = await queue.pop()

    assert (nothing, item) == (None, {"n": 1, "delay": 9})


async def test_the_moment_of_a_delayed_item_is_asked_for_again_after_a_minute(
    place: Place,
) -> None:
    queue = place.queue(wait_time=0.05)
    await queue.push({"delay": LONG})
    await pop_until_idle(queue)

    with Monitor(place.server) as monitor:
        await queue.pop()
        believed = monitor.names(place.group)
        place.clock.advance(60)
        await queue.pop()
        asked = monitor.names(place.group)

    assert (believed.count("EVALSHA"), asked.count("EVALSHA")) == (0, 1)


async def test_an_idle_consumer_that_was_taken_for_dead_goes_on_under_a_new_id(
    place: Place,
) -> None:
    queue = await idle_queue(place)
    name = place.worker()
    place.redis.srem(place.keys.workers, name)

    popping = await begin_pop(place, queue)
    await place.queue().push({"n": 1})

    assert await item_of(popping) == {"n": 1}
    assert [len(place.in_flight(each)) for each in place.workers() - {name}] == [1]


async def test_a_waiting_consumer_takes_over_at_the_end_of_a_heartbeat_that_it_saw(
    place: Place,
) -> None:
    queue = place.queue(wait_time=LONG)
    dead = place.dead_worker(envelope())
    place.redis.set(place.keys.active(dead), repr(place.clock.time() + 50))
    popping = await begin_pop(place, queue)

    place.clock.advance(50)

    assert await item_of(popping) == {"n": 1}


async def test_a_waiting_consumer_takes_over_from_one_that_came_and_died_meanwhile(
    place: Place,
) -> None:
    queue = place.queue(wait_time=LONG)
    popping = await begin_pop(place, queue)
    place.dead_worker(envelope())

    place.clock.advance(LEASE + 1)

    assert await item_of(popping) == {"n": 1}
