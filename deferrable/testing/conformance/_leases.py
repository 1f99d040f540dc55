"""The promises about who holds an item, and until when.

Owns the tests of leases: redelivery, touch, old holders, too many deliveries.
"""

import math
from collections.abc import Awaitable, Callable

import pytest

from deferrable.aio.backend.base import Backend
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Item, Queue
from deferrable.errors import LeaseLost
from deferrable.testing.clock import MovingClock
from deferrable.testing.conformance._suite import (
    Face,
    Items,
    NativeCalls,
    Suite,
    empty,
    numbers,
    take,
)

__all__ = ["Leases"]

NEW_NUMBER = 99
Use = Callable[[Queue, Envelope], Awaitable[None]]


async def _replace(queue: Queue, envelope: Envelope) -> None:
    await queue.replace(envelope, {"number": NEW_NUMBER, "error": {"id": "error-new"}})


USES: dict[str, Use] = {
    "touch": lambda queue, envelope: queue.touch(envelope, 60),
    "complete": lambda queue, envelope: queue.complete(envelope),
    "release": lambda queue, envelope: queue.release(envelope),
    "replace": _replace,
}

each_use = pytest.mark.parametrize("use", USES.values(), ids=USES)


class Leases(Suite):
    async def test_a_popped_item_is_hidden_until_its_lease_ends(
        self, queue: Queue, second: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        await queue.push(items(1)[0])
        await take(queue, 1)

        await self.pass_time(clock, core.lease_seconds - 1)

        assert await empty(queue)
        assert await empty(second)

    async def test_abandoned_item_returns_after_visibility_timeout(
        self, queue: Queue, second: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        await queue.push(items(1)[0])
        await take(queue, 1)

        await self.pass_time(clock, core.lease_seconds)

        assert [item for _, item in await take(second, 1)] == items(1)
        assert await empty(second)

    async def test_abandoned_item_can_return_to_its_own_consumer(
        self, queue: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        await queue.push(items(1)[0])
        await take(queue, 1)

        await self.pass_time(clock, core.lease_seconds)

        assert [item for _, item in await take(queue, 1)] == items(1)
        assert await empty(queue)

    async def test_abandoned_items_return_to_the_end_of_the_queue_that_the_flag_names(
        self, queue: Queue, second: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        await queue.push_batch(items(4))
        abandoned = [item["number"] for _, item in await take(queue, 2)]
        waiting = [number for number in (1, 2, 3, 4) if number not in abandoned]

        await self.pass_time(clock, core.lease_seconds)
        popped = await take(second, 4)

        order = waiting + abandoned if core.RECLAIMS_TO_BACK_OF_QUEUE else abandoned + waiting
        assert numbers(core, popped) == (order if core.FIFO else [1, 2, 3, 4])

    async def test_the_envelope_tells_when_its_lease_began_and_when_it_ends(
        self, queue: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        clock.step(3600)
        await queue.push(items(1)[0])

        ((envelope, _),) = await take(queue, 1)

        assert envelope.pop_time == clock.monotonic()
        assert envelope.lease_end_time == clock.monotonic() + core.lease_seconds

    async def test_a_touch_keeps_an_item_hidden_for_longer(
        self, queue: Queue, second: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        await queue.push(items(1)[0])
        ((envelope, _),) = await take(queue, 1)

        await self.pass_time(clock, core.lease_seconds - 1)
        await queue.touch(envelope, core.lease_seconds)
        await self.pass_time(clock, core.lease_seconds - 1)

        assert await empty(second)
        await queue.complete(envelope)

    async def test_a_touched_item_returns_when_the_touch_wears_off(
        self, queue: Queue, second: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        await queue.push(items(1)[0])
        ((envelope, _),) = await take(queue, 1)

        await self.pass_time(clock, core.lease_seconds - 1)
        await queue.touch(envelope, core.lease_seconds)
        await self.pass_time(clock, core.lease_seconds)

        assert numbers(second, await take(second, 1)) == [1]

    async def test_a_touch_never_moves_the_end_of_a_lease_back(
        self, queue: Queue, second: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        await queue.push(items(1)[0])
        ((envelope, _),) = await take(queue, 1)
        end_time = envelope.lease_end_time

        await queue.touch(envelope, 1)
        await self.pass_time(clock, core.lease_seconds - 1)

        assert envelope.lease_end_time == end_time
        assert await empty(second)
        await queue.complete(envelope)

    async def test_a_touch_keeps_one_item_and_not_its_neighbour(
        self, queue: Queue, second: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        await queue.push_batch(items(2))
        (kept, kept_item), (_, other_item) = await take(queue, 2)

        await self.pass_time(clock, core.lease_seconds - 1)
        await queue.touch(kept, core.lease_seconds)
        await self.pass_time(clock, 1)
        returned = await queue.pop_batch(2) + await second.pop_batch(2)

        assert [item["number"] for _, item in returned] == [other_item["number"]]
        assert kept_item["number"] != other_item["number"]

    @each_use
    async def test_a_lease_that_ended_is_refused_without_any_io(
        self,
        queue: Queue,
        core: Queue,
        items: Items,
        clock: MovingClock,
        native_calls: NativeCalls,
        use: Use,
    ) -> None:
        await queue.push(items(1)[0])
        ((envelope, _),) = await take(queue, 1)
        await self.pass_time(clock, core.lease_seconds + 1)
        calls_before = native_calls.total

        with pytest.raises(LeaseLost):
            await use(queue, envelope)

        assert native_calls.total == calls_before

    @each_use
    async def test_a_stale_holder_gets_lease_lost_and_the_new_holder_keeps_its_delivery(
        self,
        queue: Queue,
        second: Queue,
        core: Queue,
        items: Items,
        clock: MovingClock,
        use: Use,
    ) -> None:
        await queue.push(items(1)[0])
        ((stale, _),) = await take(queue, 1)
        await self.pass_time(clock, core.lease_seconds)
        ((current, _),) = await take(second, 1)

        await self._use_in_vain(queue, stale, use, clock)

        await second.complete(current)
        await self.pass_time(clock, core.lease_seconds)
        assert await empty(second)

    @each_use
    async def test_a_stale_holder_leaves_a_later_item_alone(
        self,
        queue: Queue,
        second: Queue,
        core: Queue,
        items: Items,
        clock: MovingClock,
        use: Use,
    ) -> None:
        """Also where the broker gives the place of an item that has gone to a later one."""
        await queue.push(items(1)[0])
        ((stale, _),) = await take(queue, 1)
        await self.pass_time(clock, core.lease_seconds)
        ((taken_over, _),) = await take(second, 1)
        await second.complete(taken_over)
        await queue.push(items(2)[1])
        ((current, later),) = await take(second, 1)

        await self._use_in_vain(queue, stale, use, clock)

        assert later["number"] == items(2)[1]["number"]
        await second.complete(current)
        await self.pass_time(clock, core.lease_seconds)
        assert await empty(second)

    async def _use_in_vain(
        self, queue: Queue, stale: Envelope, use: Use, clock: MovingClock
    ) -> None:
        """Use an envelope whose item another consumer has; only the broker can know that now."""
        if self.fences_stale_holders:
            stale.lease_end_time = math.inf  # as if its clock were behind
        else:
            await self.pass_time(clock, 1)
        with pytest.raises(LeaseLost):
            await use(queue, stale)
        # A broker without an atomic replace has pushed the new item by then.
        for envelope, item in await queue.pop_batch(1):
            assert (use, item["number"]) == (_replace, NEW_NUMBER)
            await queue.complete(envelope)

    async def test_a_stale_holder_is_told_apart_from_the_same_consumers_new_delivery(
        self, queue: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        await queue.push(items(1)[0])
        ((stale, _),) = await take(queue, 1)
        await self.pass_time(clock, core.lease_seconds)
        ((current, _),) = await take(queue, 1)
        if self.fences_stale_holders:
            stale.lease_end_time = math.inf
        else:
            await self.pass_time(clock, 1)

        with pytest.raises(LeaseLost):
            await queue.complete(stale)

        await queue.complete(current)

    async def test_an_item_abandoned_too_often_goes_to_the_error_queue_and_says_so(
        self, backend: Backend, face: Face, clock: MovingClock
    ) -> None:
        queue, error_queue = face(backend, "queue"), face(backend, "error_queue")
        await queue.push({"number": 1, "args": "[]"})

        for _ in range(self.max_redeliveries + 1):
            await take(queue, 1)
            await self.pass_time(clock, backend.queue.lease_seconds)

        assert await empty(queue)
        ((_, buried),) = await take(error_queue, 1)
        _check_buried(buried, {"number": 1, "args": "[]"})

    async def test_a_counted_release_counts_like_a_crash(
        self, backend: Backend, face: Face
    ) -> None:
        queue, error_queue = face(backend, "queue"), face(backend, "error_queue")
        await queue.push({"number": 1, "args": "[]"})

        for _ in range(self.max_redeliveries + 1):
            ((envelope, _),) = await take(queue, 1)
            await queue.release(envelope, is_counted=True)

        assert await empty(queue)
        ((_, buried),) = await take(error_queue, 1)
        _check_buried(buried, {"number": 1, "args": "[]"})

    async def test_a_release_is_not_counted_unless_it_says_so(
        self, queue: Queue, items: Items
    ) -> None:
        if not self.tells_releases_from_crashes:
            pytest.skip("this broker cannot distinguish a release from a crash")
        await queue.push(items(1)[0])

        for _ in range(self.max_redeliveries + 2):
            ((envelope, _),) = await take(queue, 1)
            await queue.release(envelope)

        assert [item for _, item in await take(queue, 1)] == items(1)

    async def test_an_item_of_the_error_queue_is_never_delivered_too_often(
        self, backend: Backend, face: Face, clock: MovingClock
    ) -> None:
        error_queue = face(backend, "error_queue")
        item = {"number": 1, "error": {"id": "error-1"}}
        await error_queue.push(item)

        for _ in range(self.max_redeliveries + 2):
            await take(error_queue, 1)
            await self.pass_time(clock, backend.error_queue.lease_seconds)

        assert [popped for _, popped in await take(error_queue, 1)] == [item]


def _check_buried(buried: Item, item: Item) -> None:
    error = buried["error"]
    assert item.items() <= buried.items()
    assert set(error) >= {"error_type", "error_text", "traceback", "hostname", "ts", "id"}
    assert "max_redeliveries" in error["error_text"]
