"""The promises about looking at items without taking them.

Owns the tests of `peek` and `pop_keys`. All queues without them refuse in the same way.
"""

import pytest

from deferrable.aio.queue import Peeked, Queue
from deferrable.errors import LeaseLost, Unsupported
from deferrable.testing.clock import MovingClock
from deferrable.testing.conformance._suite import Items, Suite, empty, take

__all__ = ["Looking"]


async def _look(queue: Queue, count: int = 500) -> list[Peeked]:
    """Every page of a queue that shows its items."""
    cursor, seen = "", list[Peeked]()
    while True:
        page, cursor = await queue.peek(cursor, count)
        seen += page
        if not cursor:
            return seen


def _in_order(peeked: list[Peeked]) -> list[Peeked]:
    return sorted(peeked, key=lambda each: each.item["number"])


class Looking(Suite):
    async def test_a_queue_that_cannot_show_items_refuses_to(self, queue: Queue) -> None:
        if queue.SUPPORTS_PEEK:
            assert await queue.peek() == ([], "")
            assert await queue.pop_keys([]) == []
            return

        with pytest.raises(Unsupported, match="SUPPORTS_PEEK"):
            await queue.peek()
        with pytest.raises(Unsupported, match="SUPPORTS_PEEK"):
            await queue.pop_keys([])

    async def test_looking_shows_every_item_and_changes_nothing(
        self, queue: Queue, second: Queue, items: Items
    ) -> None:
        if not queue.SUPPORTS_PEEK:
            return
        await queue.push_each(items(700))
        await take(second, 2)
        before = await queue.stats()

        shown = {each.key: each.item["number"] for each in await _look(queue, 100)}

        assert sorted(shown.values()) == list(range(1, 701))
        after = await queue.stats()
        assert [after[name] for name in ("available", "in_flight")] == [
            before[name] for name in ("available", "in_flight")
        ]

    async def test_chosen_items_are_leased_and_others_stay_available(
        self, queue: Queue, second: Queue, items: Items
    ) -> None:
        if not queue.SUPPORTS_PEEK:
            return
        await queue.push_each(items(3))
        first, chosen, third = _in_order(await _look(queue))

        (popped,) = await queue.pop_keys([chosen.key])

        assert popped is not None
        assert popped[1] == chosen.item == items(3)[1]
        left = [item["number"] for _, item in await take(second, 2)]
        assert sorted(left) == [first.item["number"], third.item["number"]]
        assert await empty(second)
        await queue.complete(popped[0])

    async def test_what_is_held_or_gone_is_not_taken(
        self, queue: Queue, second: Queue, items: Items
    ) -> None:
        if not queue.SUPPORTS_PEEK:
            return
        await queue.push_each(items(3))
        gone, held, free = _in_order(await _look(queue))
        popped = await second.pop_keys([gone.key, held.key])
        assert popped[0] is not None
        await second.complete(popped[0][0])

        taken = await queue.pop_keys([gone.key, free.key, held.key])

        assert [each and each[1]["number"] for each in taken] == [None, 3, None]

    async def test_lease_of_a_chosen_item_ends_and_fences(
        self, queue: Queue, second: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        if not queue.SUPPORTS_PEEK:
            return
        await queue.push_each(items(1))
        (popped,) = await queue.pop_keys([each.key for each in await _look(queue)])
        assert popped is not None

        await self.pass_time(clock, core.lease_seconds)

        assert [item["number"] for _, item in await take(second, 1)] == [1]
        with pytest.raises(LeaseLost):
            await queue.complete(popped[0])
