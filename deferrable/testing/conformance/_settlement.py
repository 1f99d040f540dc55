"""The promises about finishing with an item: complete, release, replace.

Owns the tests of settlement: what goes, what stays, in which order, and that there is only one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from deferrable.aio.backend.base import Backend
from deferrable.aio.queue import Queue
from deferrable.errors import LeaseLost, SerializationError, Unsupported
from deferrable.testing.clock import MovingClock
from deferrable.testing.conformance._leases import USES, Use, each_use
from deferrable.testing.conformance._suite import (
    Face,
    Items,
    NativeCalls,
    Suite,
    empty,
    numbers,
    take,
)

__all__ = ["Settlement"]

SETTLEMENTS = {verb: use for verb, use in USES.items() if verb != "touch"}

each_settlement = pytest.mark.parametrize("settle", SETTLEMENTS.values(), ids=SETTLEMENTS)


class Completion(Suite):
    async def test_a_completed_item_never_comes_back(
        self, queue: Queue, second: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        await queue.push(items(1)[0])
        ((envelope, _),) = await take(queue, 1)

        await queue.complete(envelope)
        await self.pass_time(clock, core.lease_seconds)

        assert await empty(queue)
        assert await empty(second)

    @pytest.mark.parametrize("index", [0, 1])
    async def test_completing_one_of_two_popped_items_removes_the_right_one(
        self, queue: Queue, core: Queue, items: Items, clock: MovingClock, index: int
    ) -> None:
        await queue.push_batch(items(2))
        popped = await take(queue, 2)
        (_, other) = popped[1 - index]

        await queue.complete(popped[index][0])
        await self.pass_time(clock, core.lease_seconds)

        assert [item for _, item in await take(queue, 1)] == [other]
        assert await empty(queue)

    async def test_completing_one_of_two_equal_items_leaves_the_other(
        self, backend: Backend, face: Face, clock: MovingClock
    ) -> None:
        queue = face(backend, "queue")
        await queue.push_batch([{"number": 1}, {"number": 1}])
        (first, _), _ = await take(queue, 2)

        await queue.complete(first)
        await self.pass_time(clock, backend.queue.lease_seconds)

        assert [item for _, item in await take(queue, 1)] == [{"number": 1}]
        assert await empty(queue)

    async def test_complete_batch_answers_for_each_envelope_in_order(
        self, queue: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        await queue.push_batch(items(3))
        first, second, third = [envelope for envelope, _ in await take(queue, 3)]
        await queue.complete(second)

        answers = await queue.complete_batch([first, second, third])

        assert answers == [(first, True), (second, False), (third, True)]
        await self.pass_time(clock, core.lease_seconds)
        assert await empty(queue)


class SingleSettlement(Suite):
    @each_use
    @each_settlement
    async def test_an_envelope_is_refused_after_its_settlement_without_any_io(
        self, queue: Queue, items: Items, native_calls: NativeCalls, settle: Use, use: Use
    ) -> None:
        await queue.push(items(1)[0])
        ((envelope, _),) = await take(queue, 1)
        await settle(queue, envelope)
        calls_before = native_calls.total

        with pytest.raises(LeaseLost):
            await use(queue, envelope)

        assert native_calls.total == calls_before

    @each_settlement
    async def test_of_two_settlements_at_once_one_is_refused(
        self, core: Queue, items: Items, native_calls: NativeCalls, settle: Use
    ) -> None:
        await core.push(items(1)[0])
        ((envelope, _),) = await take(core, 1)

        outcomes = await asyncio.gather(
            settle(core, envelope), core.complete(envelope), return_exceptions=True
        )

        assert [type(outcome) for outcome in outcomes] == [type(None), LeaseLost]

    @pytest.mark.parametrize("verb", ["touch", "complete", "release"])
    async def test_what_is_no_envelope_is_refused(self, queue: Queue, verb: str) -> None:
        call = cast(Callable[[object], Awaitable[None]], getattr(queue, verb))

        with pytest.raises(TypeError):
            await call(("a", "tuple"))


class Releasing(Suite):
    async def test_what_had_not_started_goes_back_to_the_front_in_its_old_order(
        self, queue: Queue, items: Items
    ) -> None:
        await queue.push_batch(items(5))
        first, second, third = [envelope for envelope, _ in await take(queue, 3)]

        answers = await queue.release_batch([third, first, second])

        assert answers == [(third, True), (first, True), (second, True)]
        assert numbers(queue, await take(queue, 5)) == [1, 2, 3, 4, 5]

    async def test_a_single_release_goes_back_to_the_front(
        self, queue: Queue, items: Items
    ) -> None:
        await queue.push_batch(items(3))
        ((envelope, _),) = await take(queue, 1)

        await queue.release(envelope)

        assert numbers(queue, await take(queue, 3)) == [1, 2, 3]

    async def test_what_had_started_goes_to_the_back(self, queue: Queue, items: Items) -> None:
        await queue.push_batch(items(3))
        ((envelope, item),) = await take(queue, 1)
        envelope.has_started = True
        rest = [number for number in (1, 2, 3) if number != item["number"]]

        await queue.release(envelope)
        popped = await take(queue, 3)

        assert numbers(queue, popped) == ([*rest, item["number"]] if queue.FIFO else [1, 2, 3])

    async def test_a_released_item_is_there_at_once_for_any_consumer(
        self, queue: Queue, second: Queue, items: Items
    ) -> None:
        await queue.push(items(1)[0])
        ((envelope, _),) = await take(queue, 1)

        await queue.release(envelope)
        ((again, item),) = await take(second, 1)

        assert item == items(1)[0]
        await second.complete(again)
        assert await empty(queue)

    async def test_releasing_one_of_two_popped_items_keeps_the_other(
        self, queue: Queue, items: Items
    ) -> None:
        await queue.push_batch(items(2))
        (first, first_item), (other, _) = await take(queue, 2)

        await queue.release(first)

        assert [item for _, item in await take(queue, 1)] == [first_item]
        assert await empty(queue)
        await queue.complete(other)

    async def test_a_release_with_a_delay_is_kept_or_refused_as_the_flag_says(
        self, queue: Queue, second: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        await queue.push(items(1)[0])
        ((envelope, _),) = await take(queue, 1)

        if not core.SUPPORTS_RELEASE_DELAY:
            with pytest.raises(Unsupported):
                await queue.release(envelope, 5)
            await queue.complete(envelope)
            return
        await queue.release(envelope, 5)
        await self.pass_time(clock, 4)
        is_hidden = await empty(queue) and await empty(second)
        await self.pass_time(clock, 1)

        assert is_hidden
        assert [item for _, item in await take(second, 1)] == items(1)
        assert await empty(queue)


class Replacing(Suite):
    async def test_a_replaced_item_is_gone_and_the_new_one_is_there(
        self, queue: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        old, new = items(2)
        await queue.push(old)
        ((envelope, _),) = await take(queue, 1)

        await queue.replace(envelope, new)
        popped = await take(queue, 1)
        await queue.complete(popped[0][0])
        await self.pass_time(clock, core.lease_seconds)

        assert [item for _, item in popped] == [new]
        assert await empty(queue)

    async def test_the_new_item_can_go_to_the_other_queue(
        self, queue: Queue, other_queue: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        old, new = items(2)
        await queue.push(old)
        ((envelope, _),) = await take(queue, 1)

        await queue.replace(envelope, {**new, "error": {"id": "error-2"}}, other_queue)
        await self.pass_time(clock, core.lease_seconds)

        assert await empty(queue)
        assert numbers(other_queue, await take(other_queue, 1)) == [2]

    async def test_a_new_item_that_is_refused_leaves_the_old_one_held(
        self, queue: Queue, items: Items
    ) -> None:
        await queue.push(items(1)[0])
        ((envelope, _),) = await take(queue, 1)

        with pytest.raises(SerializationError):
            await queue.replace(envelope, {"value": {1}})

        assert await empty(queue)
        await queue.complete(envelope)

    async def test_the_new_item_keeps_its_delay_or_is_refused_as_the_flag_says(
        self, queue: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        old, new = items(2)
        await queue.push(old)
        ((envelope, _),) = await take(queue, 1)

        if not core.SUPPORTS_DELAY:
            with pytest.raises(Unsupported):
                await queue.replace(envelope, {**new, "delay": 5})
            await queue.complete(envelope)
            return
        await queue.replace(envelope, {**new, "delay": 5})
        await self.pass_time(clock, 4)
        is_hidden = await empty(queue)
        await self.pass_time(clock, 1)

        assert is_hidden
        assert numbers(queue, await take(queue, 1)) == [2]


class Settlement(Completion, SingleSettlement, Releasing, Replacing):
    pass
