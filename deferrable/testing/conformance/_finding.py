"""The promises about finding items without taking them, and about cancelling them.

Owns the tests of `find` and `inspect`, and of `cancel` and what belongs to it. All queues without
them refuse in the same way.
"""

import pytest

from deferrable.aio._contract.inspecting import each_found
from deferrable.aio.queue import Found, Queue
from deferrable.errors import Unsupported
from deferrable.testing.clock import MovingClock
from deferrable.testing.conformance._suite import Items, Suite, empty, take

__all__ = ["Cancelling", "Finding"]


async def _each(queue: Queue, count: int) -> list[Found]:
    """Every page of what a queue holds."""
    return [found async for found in each_found(queue, count)]


class Finding(Suite):
    async def test_a_queue_that_cannot_find_items_refuses_and_says_which_can(
        self, queue: Queue
    ) -> None:
        if queue.SUPPORTS_INSPECTION:
            assert await queue.find("nobody") is None
            assert await _each(queue, 500) == []
            return

        with pytest.raises(Unsupported, match=r"SQLite.*SUPPORTS_INSPECTION"):
            await queue.find("nobody")
        with pytest.raises(Unsupported, match=r"SQLite.*SUPPORTS_INSPECTION"):
            await queue.inspect()

    async def test_an_item_is_found_where_it_is(
        self, queue: Queue, second: Queue, items: Items, clock: MovingClock
    ) -> None:
        if not queue.SUPPORTS_INSPECTION:
            return
        held, waiting = ({**item, "id": f"id {item['number']}"} for item in items(2))
        await queue.push(held)
        ((envelope, _),) = await take(second, 1)
        await queue.push(waiting)

        found = [await queue.find(f"id {number}") for number in (1, 2, 3)]

        assert [each and each.place for each in found] == ["in flight", "queued", None]
        assert [each and each.item for each in found[:2]] == [held, waiting]
        assert found[0] is not None
        assert found[0].lease_until == pytest.approx(clock.time() + second.lease_seconds, abs=2)
        await second.complete(envelope)
        assert await queue.find("id 1") is None

    async def test_a_delayed_item_is_found_with_its_moment(
        self, queue: Queue, items: Items, clock: MovingClock
    ) -> None:
        if not queue.SUPPORTS_INSPECTION or not queue.SUPPORTS_DELAY:
            return
        await queue.push({**items(1)[0], "id": "late", "delay": 50})

        found = await queue.find("late")
        assert found is not None
        assert found.place == "delayed"
        assert found.available_time == pytest.approx(clock.time() + 50, abs=2)

        await self.pass_time(clock, 51)
        found = await queue.find("late")
        assert found is not None
        assert (found.place, found.available_time) == ("queued", None)

    async def test_an_id_that_is_only_an_argument_of_another_item_is_not_found(
        self, queue: Queue, items: Items
    ) -> None:
        if not queue.SUPPORTS_INSPECTION:
            return
        await queue.push({**items(1)[0], "id": "one", "args": [{"id": "two"}, "two"]})

        assert await queue.find("two") is None

    async def test_a_strange_id_is_found(self, queue: Queue, items: Items) -> None:
        if not queue.SUPPORTS_INSPECTION:
            return
        for strange in ('a "quoted" one', "back\\slash", "snow ☃", "%d[a-z]*"):
            await queue.push({**items(1)[0], "id": strange})

            found = await queue.find(strange)

            assert found is not None
            assert found.item["id"] == strange

    async def test_every_item_is_shown_and_nothing_changes(
        self, queue: Queue, second: Queue, items: Items, clock: MovingClock
    ) -> None:
        if not queue.SUPPORTS_INSPECTION:
            return
        await queue.push_each(items(700))
        held = await take(second, 3)
        if queue.SUPPORTS_DELAY:
            await queue.push({**items(1)[0], "number": 701, "delay": 50})
        before = await queue.stats()

        shown = await _each(queue, 100)

        places = {each.item["number"]: each.place for each in shown}
        in_flight = {item["number"] for _, item in held}
        assert {number for number, place in places.items() if place == "in flight"} == in_flight
        assert sorted(places) == list(range(1, 701 + queue.SUPPORTS_DELAY))
        assert places.get(701, "delayed") == "delayed"
        after = await queue.stats()
        assert {name: after.get(name) for name in ("available", "in_flight", "delayed")} == {
            name: before.get(name) for name in ("available", "in_flight", "delayed")
        }
        await second.complete_each([envelope for envelope, _ in held])


class Cancelling(Suite):
    async def test_a_queue_that_cannot_cancel_refuses_and_says_which_can(
        self, queue: Queue, items: Items
    ) -> None:
        found = Found({**items(1)[0], "id": "one"}, "queued")
        if queue.SUPPORTS_CANCEL:
            assert queue.SUPPORTS_INSPECTION
            return

        for verb in (queue.cancel, queue.withdraw, queue.ask_to_stop):
            with pytest.raises(Unsupported, match=r"SQLite.*SUPPORTS_CANCEL"):
                await verb(found)
        with pytest.raises(Unsupported, match=r"SQLite.*SUPPORTS_CANCEL"):
            await queue.hasten(found, found.item)
        with pytest.raises(Unsupported, match=r"SQLite.*SUPPORTS_CANCEL"):
            await queue.note_cancelled("one")

    async def test_a_cancelled_item_is_gone_and_others_keep_their_order(
        self, queue: Queue, items: Items
    ) -> None:
        if not queue.SUPPORTS_CANCEL:
            return
        await queue.push_each([{**item, "id": str(item["number"])} for item in items(5)])

        for number in ("3", "1", "5"):
            assert await queue.cancel(await _found(queue, number))

        assert [item["number"] for _, item in await take(queue, 2)] == [2, 4]
        assert await empty(queue)

    async def test_a_delayed_item_is_cancelled(
        self, queue: Queue, items: Items, clock: MovingClock
    ) -> None:
        if not queue.SUPPORTS_CANCEL or not queue.SUPPORTS_DELAY:
            return
        await queue.push({**items(1)[0], "id": "late", "delay": 50})

        assert await queue.cancel(await _found(queue, "late"))

        await self.pass_time(clock, 51)
        assert await empty(queue)

    async def test_a_cancelled_item_is_remembered(self, queue: Queue, items: Items) -> None:
        if not queue.SUPPORTS_CANCEL:
            return
        await queue.push({**items(1)[0], "id": "one"})
        await queue.cancel(await _found(queue, "one"))
        await queue.note_cancelled("another")

        assert [(await _found(queue, name)).place for name in ("one", "another")] == [
            "cancelled",
            "cancelled",
        ]

    async def test_an_item_that_was_taken_meanwhile_is_neither_cancelled_nor_withdrawn(
        self, queue: Queue, second: Queue, items: Items
    ) -> None:
        if not queue.SUPPORTS_CANCEL:
            return
        await queue.push({**items(1)[0], "id": "one"})
        found = await _found(queue, "one")
        ((envelope, _),) = await take(second, 1)

        for verb in (queue.cancel, queue.withdraw):
            assert not await verb(found)
            assert not await verb(await _found(queue, "one"))

        await second.complete(envelope)

    async def test_a_withdrawn_item_is_gone_and_was_not_cancelled(
        self, queue: Queue, items: Items, clock: MovingClock
    ) -> None:
        if not queue.SUPPORTS_CANCEL:
            return
        waiting, late = ({**item, "id": str(item["number"])} for item in items(2))
        await queue.push(waiting)
        if queue.SUPPORTS_DELAY:
            late["delay"] = 50
        await queue.push(late)

        for number in ("1", "2"):
            assert await queue.withdraw(await _found(queue, number))

        assert [await queue.find(number) for number in ("1", "2")] == [None, None]
        await self.pass_time(clock, 51)
        assert await empty(queue)

    async def test_a_hastened_item_is_available_now(
        self, queue: Queue, items: Items, clock: MovingClock
    ) -> None:
        if not queue.SUPPORTS_CANCEL or not queue.SUPPORTS_DELAY:
            return
        await queue.push({**items(1)[0], "id": "late", "delay": 50})
        found = await _found(queue, "late")

        hastened = {**found.item, "delay": 0, "is_hastened": True}
        assert await queue.hasten(found, hastened)

        assert [item for _, item in await take(queue, 1)] == [hastened]
        assert not await queue.hasten(found, hastened)
        await self.pass_time(clock, 51)

    async def test_the_holder_of_an_item_learns_at_a_touch_that_its_job_is_to_stop(
        self, queue: Queue, second: Queue, items: Items
    ) -> None:
        if not queue.SUPPORTS_CANCEL:
            return
        await queue.push_each([{**item, "id": str(item["number"])} for item in items(2)])
        (stopped, _), (other, _) = await take(second, 2)
        await second.touch(stopped)
        assert not stopped.is_stop_wanted

        assert await queue.ask_to_stop(await _found(queue, "1"))

        await second.touch_each([stopped, other], 10)
        assert (stopped.is_stop_wanted, other.is_stop_wanted) == (True, False)
        await second.complete_each([stopped, other])

    async def test_nobody_is_asked_to_stop_an_item_that_is_settled(
        self, queue: Queue, second: Queue, items: Items
    ) -> None:
        if not queue.SUPPORTS_CANCEL:
            return
        await queue.push({**items(1)[0], "id": "one"})
        ((envelope, _),) = await take(second, 1)
        found = await _found(queue, "one")
        await second.complete(envelope)

        assert not await queue.ask_to_stop(found)


async def _found(queue: Queue, item_id: str) -> Found:
    found = await queue.find(item_id)
    assert found is not None
    return found
