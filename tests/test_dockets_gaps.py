"""Cancelling an item far from both ends of a queue in Redis, which leaves a gap there."""

import asyncio
import re
from typing import Any

import pytest
from dockets_place import Place, is_blocked
from processes import ROOT
from redis_server import RedisServer

from deferrable.aio.backend.dockets import _finding
from deferrable.aio.backend.dockets._wire import GAP, delivery_in
from deferrable.lifecycle import is_expired
from deferrable.testing import wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def place(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(_finding, "FAR", 3)
    monkeypatch.setattr(_finding, "_MOST_IN_ONE_STEP", 0)  # which does not tell places
    place = Place(redis_server)
    yield place
    await place.close()


async def fill(queue: Any, count: int = 20) -> None:
    await queue.push_each([{"id": str(number), "n": number} for number in range(count)])


async def cancel(queue: Any, number: int) -> bool:
    found = await queue.find(str(number))
    assert found is not None
    cancelled: bool = await queue.cancel(found)
    return cancelled


async def numbers(queue: Any, count: int) -> list[int]:
    return [item["n"] for _, item in await queue.pop_batch(count)]


async def test_a_cancelled_item_is_gone_and_others_keep_their_order(place: Place) -> None:
    queue = place.queue()
    await fill(queue)

    for number in (10, 11, 1, 19):
        assert await cancel(queue, number)

    assert place.listed().count(GAP) == 2
    assert (await queue.stats())["available"] == 16
    assert (await queue.find("10")).place == "cancelled"  # type: ignore[union-attr]
    shown = [each.item["n"] for each in (await queue.inspect("queued "))[0]]
    assert 10 not in shown
    assert len(shown) == 16
    rest = [number for number in range(20) if number not in (10, 11, 1, 19)]
    assert await numbers(queue, 30) == rest
    assert place.listed() == []
    assert (await queue.stats())["available"] == 0
    assert int(place.redis.get(place.keys.gaps) or 0) == 0


async def test_an_item_is_found_again_wherever_it_has_moved(place: Place) -> None:
    queue = place.queue()
    await fill(queue, 3000)
    found = [await queue.find(str(number)) for number in (1400, 1500)]
    await fill(queue, 2500)
    await numbers(queue, 50)

    assert [await queue.cancel(each) for each in found if each is not None] == [True, True]

    assert place.listed().count(GAP) == 2


async def test_an_item_that_was_taken_meanwhile_is_not_cancelled(place: Place) -> None:
    queue, other = place.queue(), place.queue()
    await fill(queue)
    found = await queue.find("10")
    assert found is not None
    await numbers(other, 12)

    assert not await queue.cancel(found)


async def test_a_call_is_cancelled_or_taken_whatever_comes_first(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_finding, "FAR", 0)
    queue, consumers = place.queue(), [place.queue() for _ in range(3)]
    await fill(queue, 300)
    found = [await queue.find(str(number)) for number in range(0, 300, 3)]
    taken: list[int] = []

    async def consume(consumer: Any) -> None:
        while popped := await consumer.pop_batch(2):
            taken.extend(item["n"] for _, item in popped)
            await consumer.complete_each([envelope for envelope, _ in popped])

    async def cancel_all() -> list[int]:
        each = [one for one in reversed(found) if one is not None]
        return [one.item["n"] for one in each if await queue.cancel(one)]

    cancelled, *_ = await asyncio.gather(cancel_all(), *map(consume, consumers))

    assert sorted([*taken, *cancelled]) == list(range(300))
    assert cancelled
    assert (await queue.stats())["available"] == 0
    assert int(place.redis.get(place.keys.gaps)) == 0


async def test_a_waiting_pop_passes_over_a_gap(place: Place) -> None:
    queue = place.queue(wait_time=600)
    popping = asyncio.create_task(queue.pop())
    await wait_until(lambda: is_blocked(place), "the pop waits")

    place.redis.set(place.keys.gaps, 1)
    place.put(GAP)
    await wait_until(lambda: not place.listed() and not place.in_flight(), "the gap is gone")
    await wait_until(lambda: int(place.redis.get(place.keys.gaps)) == 0, "it was counted")
    await place.queue().push({"n": 1})

    assert (await popping)[1] == {"n": 1}


async def test_a_gap_that_a_dead_consumer_held_goes_back_as_it_is(place: Place) -> None:
    queue = place.queue()
    place.redis.set(place.keys.gaps, 1)
    place.dead_worker(GAP)

    for _ in range(2):
        assert await queue.pop() == (None, None)

    assert place.listed() == []
    assert place.errors() == {}
    assert int(place.redis.get(place.keys.gaps)) == 0


@pytest.mark.parametrize("counted", [-3, 0, 1, 50])
async def test_stats_never_say_that_a_queue_with_an_item_is_empty(
    place: Place, counted: int
) -> None:
    queue = place.queue()
    await queue.push({"n": 1})
    place.redis.set(place.keys.gaps, counted)

    assert (await queue.stats())["available"] == 1


async def test_a_flush_forgets_the_gaps(place: Place) -> None:
    queue = place.queue()
    await fill(queue)
    await cancel(queue, 10)

    await queue.flush()
    await queue.push({"n": 1})

    assert (await queue.stats())["available"] == 1


def test_a_gap_is_an_expired_item_to_who_does_not_know_it() -> None:
    item, _ = delivery_in(GAP)

    assert is_expired(item, 1e9)
    folder = ROOT / "deferrable" / "aio" / "backend" / "_redis" / "lua"
    text = (folder / "dockets_gap.lua").read_text()
    assert "".join(re.findall(r"'(.*?)'", text)).encode() == GAP
