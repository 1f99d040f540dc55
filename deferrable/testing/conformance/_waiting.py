"""The promises of a queue whose pops wait.

Owns the tests of a pop that waits for its item. They are separate, because not every queue waits,
and because a queue that waits cannot quickly be seen to be empty.
"""

import asyncio
from typing import ClassVar, TypeAlias

import pytest

from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Item, Queue
from deferrable.errors import Unsupported
from deferrable.testing.clock import MovingClock
from deferrable.testing.conformance._suite import Items, NativeCalls, Suite, take
from deferrable.testing.waiting import wait_until

__all__ = ["WaitingQueueConformance"]

Popping: TypeAlias = asyncio.Task[tuple[Envelope, Item] | tuple[None, None]]


class WaitingQueueConformance(Suite):
    """Like `QueueConformance`, for the pops of a queue that waits.

    Its `make_backend` returns a backend whose pops wait, for `wait_seconds`.
    """

    wait_seconds: ClassVar[float] = 3

    async def test_a_waiting_pop_gets_what_is_pushed_meanwhile(
        self,
        queue: Queue,
        second: Queue,
        items: Items,
        clock: MovingClock,
        native_calls: NativeCalls,
    ) -> None:
        popping = await self._waiting_pop(queue, native_calls)

        await second.push(items(1)[0])

        envelope, item = await self._answer(popping, clock)
        assert (item, envelope is None) == (items(1)[0], False)

    async def test_a_waiting_pop_gets_what_its_own_consumer_pushes(
        self, queue: Queue, items: Items, clock: MovingClock, native_calls: NativeCalls
    ) -> None:
        popping = await self._waiting_pop(queue, native_calls)

        await queue.push(items(1)[0])

        assert (await self._answer(popping, clock))[1] == items(1)[0]

    async def test_waiting_pops_get_an_item_each(
        self,
        core: Queue,
        second: Queue,
        items: Items,
        clock: MovingClock,
        native_calls: NativeCalls,
    ) -> None:
        popping = [await self._waiting_pop(core, native_calls) for _ in range(3)]

        await second.push_batch(items(3))
        popped = [await self._answer(each, clock) for each in popping]
        served = [(envelope, item) for envelope, item in popped if envelope is not None and item]
        rest = await take(second, 3 - len(served)) if len(served) < 3 else []

        assert sorted(item["number"] for _, item in [*served, *rest]) == [1, 2, 3]

    async def test_a_waiting_pop_gets_what_becomes_due(
        self, queue: Queue, core: Queue, items: Items, clock: MovingClock, native_calls: NativeCalls
    ) -> None:
        item = {**items(1)[0], "delay": 1}
        if not core.SUPPORTS_DELAY:
            with pytest.raises(Unsupported):
                await queue.push(item)
            return
        await queue.push(item)
        popping = await self._waiting_pop(queue, native_calls)

        await self.pass_time(clock, 1)

        assert await self._first_of(popping, queue, clock) == item

    async def test_a_waiting_pop_gets_what_another_consumer_gives_back(
        self,
        queue: Queue,
        second: Queue,
        items: Items,
        clock: MovingClock,
        native_calls: NativeCalls,
    ) -> None:
        await queue.push(items(1)[0])
        ((envelope, _),) = await take(second, 1)
        popping = await self._waiting_pop(queue, native_calls)

        await second.release(envelope)

        assert await self._first_of(popping, queue, clock) == items(1)[0]

    async def test_a_waiting_pop_gets_what_another_consumer_abandons(
        self,
        queue: Queue,
        second: Queue,
        core: Queue,
        items: Items,
        clock: MovingClock,
        native_calls: NativeCalls,
    ) -> None:
        await queue.push(items(1)[0])
        await take(second, 1)
        await self.pass_time(clock, core.lease_seconds - 1)
        popping = await self._waiting_pop(queue, native_calls)

        await self.pass_time(clock, 1)

        assert await self._first_of(popping, queue, clock) == items(1)[0]

    async def test_a_wait_ends_without_an_item(
        self, queue: Queue, clock: MovingClock, native_calls: NativeCalls
    ) -> None:
        popping = await self._waiting_pop(queue, native_calls)

        await self.pass_time(clock, self.wait_seconds)

        assert await self._answer(popping, clock) == (None, None)

    async def test_a_waiting_pop_gets_nothing_that_is_pushed_after_a_pause(
        self,
        queue: Queue,
        second: Queue,
        items: Items,
        clock: MovingClock,
        native_calls: NativeCalls,
    ) -> None:
        if not queue.SUPPORTS_PAUSE:
            return
        popping = await self._waiting_pop(queue, native_calls)

        await second.pause()
        await second.push(items(1)[0])

        assert await self._answer(popping, clock) == (None, None)
        await second.resume()
        ((envelope, item),) = await take(queue, 1)
        assert item == items(1)[0]
        assert envelope.redeliveries == 0

    async def test_a_waiting_pop_of_a_paused_queue_ends_when_it_is_resumed(
        self,
        queue: Queue,
        second: Queue,
        core: Queue,
        items: Items,
        clock: MovingClock,
        native_calls: NativeCalls,
    ) -> None:
        if not queue.SUPPORTS_PAUSE:
            return
        await second.pause()
        await second.push(items(1)[0])
        popping = asyncio.create_task(queue.pop())
        await wait_until(lambda: core.seen_pause or popping.done(), "it has seen the pause")
        if popping.done():  # it waits from the second pop on
            popping = asyncio.create_task(queue.pop())

        await second.resume()

        assert await self._first_of(popping, queue, clock) == items(1)[0]

    @pytest.mark.parametrize("passes", range(8))
    async def test_a_cancelled_wait_loses_nothing(
        self,
        core: Queue,
        second: Queue,
        items: Items,
        clock: MovingClock,
        native_calls: NativeCalls,
        passes: int,
    ) -> None:
        popping = await self._waiting_pop(core, native_calls)
        pushing = asyncio.create_task(second.push(items(1)[0]))

        for _ in range(passes):
            await asyncio.sleep(0)
        popping.cancel()
        (outcome,) = await asyncio.gather(popping, return_exceptions=True)
        await pushing
        if not isinstance(outcome, BaseException) and outcome[0] is not None:
            await core.release(outcome[0])
        again = asyncio.create_task(core.pop())

        assert await self._first_of(again, core, clock) == items(1)[0]

    async def _waiting_pop(self, queue: Queue, native_calls: NativeCalls) -> Popping:
        popping = asyncio.create_task(queue.pop())
        await wait_until(lambda: native_calls.counts["_pop_batch"], "a pop is under way")
        for _ in range(5):
            await asyncio.sleep(0)
        return popping

    async def _answer(
        self, popping: Popping, clock: MovingClock
    ) -> tuple[Envelope, Item] | tuple[None, None]:
        try:
            await wait_until(popping.done, "the waiting pop ends", self.wait_seconds + 5)
        except TimeoutError:
            # A pop that still waits, perhaps in a thread, would outlive the test.
            await self.pass_time(clock, self.wait_seconds)
            raise
        return await popping

    async def _first_of(self, popping: Popping, queue: Queue, clock: MovingClock) -> Item:
        """The result of the pop, or of the next pop if the wait ended just then."""
        _, item = await self._answer(popping, clock)
        if item is None:
            # Not a plain pop: on a queue that breaks the promise it would wait for ever.
            _, item = await self._answer(asyncio.create_task(queue.pop()), clock)
        assert item is not None
        return item
