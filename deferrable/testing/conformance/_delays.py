"""The promises about items that are not yet due.

Owns the tests of delays, for queues that keep them and for queues that refuse them.
"""

from typing import Any

import pytest

from deferrable.aio.queue import Queue
from deferrable.errors import Unsupported
from deferrable.testing.clock import MovingClock
from deferrable.testing.conformance._suite import Items, Suite, empty, numbers, take

__all__ = ["Delays"]


async def keeps_delays(queue: Queue, core: Queue, items: Items) -> bool:
    """Whether the queue keeps delays; a queue that does not must refuse them."""
    if core.SUPPORTS_DELAY:
        return True
    with pytest.raises(Unsupported):
        await queue.push({**items(1)[0], "delay": 10})
    assert await empty(queue)
    return False


class Delays(Suite):
    async def test_a_delay_is_kept_or_refused_as_the_flag_says(
        self, queue: Queue, second: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        if not await keeps_delays(queue, core, items):
            return
        item = {**items(1)[0], "delay": 10}

        await queue.push(item)
        await self.pass_time(clock, 9)
        is_hidden = await empty(queue) and await empty(second)
        await self.pass_time(clock, 1)

        assert is_hidden
        assert [popped for _, popped in await take(second, 1)] == [item]
        assert await empty(queue)

    @pytest.mark.parametrize("delay", [0, 0.0, None, False])
    async def test_an_item_without_a_delay_is_there_at_once(
        self, queue: Queue, items: Items, delay: Any
    ) -> None:
        item = {**items(1)[0], "delay": delay}

        await queue.push(item)

        assert [popped for _, popped in await take(queue, 1)] == [item]

    async def test_delayed_items_come_in_the_order_of_their_due_times(
        self, queue: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        if not await keeps_delays(queue, core, items):
            return
        first, second, third, fourth = items(4)

        await queue.push_batch(
            [{**third, "delay": 30}, {**first, "delay": 10}, {**second, "delay": 20}]
        )
        await self.pass_time(clock, 30)
        popped = await take(queue, 3)
        await queue.push(fourth)

        assert numbers(core, popped) == [1, 2, 3]
        assert numbers(core, await take(queue, 1)) == [4]

    async def test_what_waits_already_is_not_overtaken_by_what_becomes_due(
        self, queue: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        if not await keeps_delays(queue, core, items):
            return
        first, second = items(2)

        await queue.push({**second, "delay": 10})
        await queue.push(first)
        await self.pass_time(clock, 10)

        assert numbers(core, await take(queue, 2)) == [1, 2]

    async def test_a_fraction_of_a_second_is_never_cut_off(
        self, queue: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        if not await keeps_delays(queue, core, items):
            return
        await queue.push({**items(1)[0], "delay": 1.5})

        await self.pass_time(clock, 1.25)
        is_hidden = await empty(queue)
        await self.pass_time(clock, 0.75)

        assert is_hidden
        assert numbers(queue, await take(queue, 1)) == [1]

    @pytest.mark.parametrize("delay", [-1, "10", True, [1], {"seconds": 1}])
    async def test_a_delay_that_is_no_number_of_seconds_is_refused(
        self, queue: Queue, items: Items, delay: Any
    ) -> None:
        with pytest.raises(Unsupported):
            await queue.push({**items(1)[0], "delay": delay})

        assert await empty(queue)

    async def test_a_delay_over_the_brokers_own_maximum_is_refused(
        self, queue: Queue, core: Queue, items: Items, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(core, "MAX_DELAY_SECONDS", min(core.MAX_DELAY_SECONDS, 900))

        with pytest.raises(Unsupported):
            await queue.push({**items(1)[0], "delay": 901})

        assert await empty(queue)
