"""The promises about a queue as a whole: flush, stats, close, batching, event loops."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import anyio.to_thread
import pytest

from deferrable.aio.backend.base import Backend
from deferrable.aio.queue import Item, Queue
from deferrable.errors import LeaseLost
from deferrable.testing.clock import MovingClock
from deferrable.testing.conformance._suite import Items, NativeCalls, Suite, empty, numbers, take
from deferrable.testing.waiting import wait_until

__all__ = ["QueueUpkeep"]

T = TypeVar("T")


class Identity(Suite):
    async def test_objects_of_one_queue_are_told_from_those_of_another(
        self, queue: Queue, second: Queue, other_queue: Queue
    ) -> None:
        same, other = queue.identity == second.identity, queue.identity == other_queue.identity

        # If they are not known, all are None.
        assert (same, other) == (True, queue.identity is None)


class Flushing(Suite):
    async def test_flush_removes_what_is_available_delayed_and_in_flight(
        self, queue: Queue, second: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        first, *rest, last = items(5)
        await queue.push(first)
        await take(queue, 1)
        await queue.push_batch(rest)
        await queue.push({**last, "delay": 5 if core.SUPPORTS_DELAY else 0})

        await queue.flush()

        assert await empty(queue)
        await self.pass_time(clock, core.lease_seconds + 5)
        assert await empty(queue)
        assert await empty(second)

    async def test_what_was_held_is_lost_by_a_flush(self, queue: Queue, items: Items) -> None:
        if not self.fences_stale_holders:
            pytest.skip("this broker does not notice")
        await queue.push(items(1)[0])
        ((envelope, _),) = await take(queue, 1)

        await queue.flush()

        with pytest.raises(LeaseLost):
            await queue.complete(envelope)

    async def test_a_flushed_queue_goes_on(self, queue: Queue, items: Items) -> None:
        await queue.flush()

        await queue.push(items(1)[0])

        assert numbers(queue, await take(queue, 1)) == [1]

    async def test_flush_leaves_the_other_queue_alone(
        self, queue: Queue, other_queue: Queue
    ) -> None:
        item = {"number": 1, "error": {"id": "error-1"}}
        await other_queue.push(item)

        await queue.flush()

        assert [popped for _, popped in await take(other_queue, 1)] == [item]


class Counting(Suite):
    async def test_stats_count_what_the_broker_knows(
        self, queue: Queue, core: Queue, items: Items
    ) -> None:
        held, first, second, delayed = items(4)
        await queue.push(held)
        await take(queue, 1)
        await queue.push_batch([first, second])
        expected = {"available": 2, "in_flight": 1, "delayed": 0}
        if core.SUPPORTS_DELAY:
            await queue.push({**delayed, "delay": 10})
            expected["delayed"] = 1

        await self._stats_become(queue, expected)

    async def test_stats_of_an_empty_queue_are_zero(self, queue: Queue) -> None:
        await self._stats_become(queue, {"available": 0, "in_flight": 0, "delayed": 0})

    async def test_stats_follow_a_completion(self, queue: Queue, items: Items) -> None:
        await queue.push_batch(items(3))
        _, (second, _), _ = await take(queue, 3)

        await queue.complete(second)

        await self._stats_become(queue, {"available": 0, "in_flight": 2, "delayed": 0})

    async def test_stats_see_what_became_due_or_was_abandoned(
        self, queue: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        held, delayed = items(2)
        await queue.push(held)
        ((envelope, _),) = await take(queue, 1)
        if core.SUPPORTS_DELAY:
            await queue.push({**delayed, "delay": 5})

        available = 1 if core.SUPPORTS_DELAY else 0
        await self.pass_time(clock, 5)

        await self._stats_become(queue, {"available": available, "in_flight": 1, "delayed": 0})
        await queue.complete(envelope)
        await self._stats_become(queue, {"available": available, "in_flight": 0, "delayed": 0})

    async def test_stats_tell_the_age_of_the_oldest_available_item_or_nothing_of_it(
        self, queue: Queue, items: Items, clock: MovingClock
    ) -> None:
        first, second = items(2)
        await queue.push(first)
        await self.pass_time(clock, 5)
        await queue.push(second)
        age = (await queue.stats()).get("oldest_age_seconds")
        if age is None:
            pytest.skip("this broker does not know")

        taken = await take(queue, 2)
        after = await queue.stats()

        assert age >= 5
        assert len(taken) == 2
        assert "oldest_age_seconds" not in after

    async def _stats_become(self, queue: Queue, expected: Mapping[str, float]) -> None:
        """Brokers may count late, and may lack some numbers, but no number stays wrong."""
        seen: list[Mapping[str, float]] = []

        async def are_as_expected() -> bool:
            seen.append(await queue.stats())
            known = {key: count for key, count in seen[-1].items() if key in expected}
            return known == {key: expected[key] for key in known} and bool(known)

        try:
            await wait_until(are_as_expected, f"the stats are {expected}")
        except TimeoutError as error:
            pytest.fail(f"{error}; they are {seen[-1]}")


class ClosingQueues(Suite):
    async def test_closing_leaves_the_items_to_other_consumers(
        self, queue: Queue, second: Queue, items: Items
    ) -> None:
        await queue.push(items(1)[0])

        await queue.close()

        assert numbers(second, await take(second, 1)) == [1]

    async def test_closing_twice_is_harmless(self, queue: Queue, items: Items) -> None:
        await queue.push(items(1)[0])

        await queue.close()
        await queue.close()

    async def test_closing_a_queue_that_was_never_used_is_harmless(self, queue: Queue) -> None:
        await queue.close()

    async def test_a_backend_closes_both_of_its_queues_twice(self, backend: Backend) -> None:
        await backend.queue.stats()

        await backend.close()
        await backend.close()


class Batching(Suite):
    async def test_pushes_made_at_once_travel_together(
        self, core: Queue, items: Items, native_calls: NativeCalls
    ) -> None:
        await asyncio.gather(*(core.push(item) for item in items(21)))

        assert native_calls.counts["_push_batch"] == 1 + -(-20 // core.MAX_PUSH_BATCH_SIZE)
        assert numbers(core, sorted(await take(core, 21), key=_number)) == list(range(1, 22))

    @pytest.mark.parametrize("verb", ["touch", "complete", "release"])
    async def test_uses_of_envelopes_made_at_once_travel_together(
        self, core: Queue, items: Items, native_calls: NativeCalls, verb: str
    ) -> None:
        await core.push_each(items(21))
        envelopes = [envelope for envelope, _ in await take(core, 21)]
        maximum = getattr(core, f"MAX_{verb.upper()}_BATCH_SIZE")

        await asyncio.gather(*(getattr(core, verb)(envelope) for envelope in envelopes))

        assert native_calls.counts[f"_{verb}_batch"] == 1 + -(-20 // maximum)

    async def test_pops_made_at_once_share_the_brokers_answers(
        self, core: Queue, items: Items, native_calls: NativeCalls
    ) -> None:
        await core.push_each(items(10))

        popped = await asyncio.gather(*(core.pop() for _ in range(10)))

        served = [item for _, item in popped if item is not None]
        assert native_calls.counts["_pop_batch"] < 10
        assert len(served) == len({item["number"] for item in served})

    async def test_a_lone_call_is_one_native_call(
        self, core: Queue, items: Items, native_calls: NativeCalls
    ) -> None:
        await core.push(items(1)[0])

        assert native_calls.total == 1


class Loops(Suite):
    async def test_a_queue_can_be_used_from_two_loops_at_once(
        self, core: Queue, items: Items
    ) -> None:
        both_run = threading.Barrier(2)

        async def work(items: Sequence[Item]) -> list[int]:
            await anyio.to_thread.run_sync(both_run.wait, 5)
            await asyncio.gather(*(core.push(item) for item in items))
            popped = [(await take(core, 1))[0] for _ in items]
            await asyncio.gather(*(core.complete(envelope) for envelope, _ in popped))
            return [item["number"] for _, item in popped]

        halves = await asyncio.gather(
            _on_a_fresh_loop(lambda: work(items(20)[:10])),
            _on_a_fresh_loop(lambda: work(items(20)[10:])),
        )

        assert sorted(halves[0] + halves[1]) == list(range(1, 21))
        assert await empty(core)

    async def test_a_queue_can_be_used_from_a_fresh_loop_after_another_was_closed(
        self, core: Queue, items: Items
    ) -> None:
        first, second = items(2)

        await _on_a_fresh_loop(lambda: core.push(first))
        await _on_a_fresh_loop(lambda: core.push(second))
        popped = await _on_a_fresh_loop(lambda: take(core, 2))

        assert numbers(core, popped) == [1, 2]

    async def test_an_item_popped_on_one_loop_can_be_settled_on_another(
        self, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        await core.push_batch(items(3))
        popped = await _on_a_fresh_loop(lambda: take(core, 3))
        (touched, _), (released, _), (completed, _) = popped

        await core.touch(touched, 60)
        await core.release(released)
        await _on_a_fresh_loop(lambda: core.complete(completed))

        assert [item for _, item in await take(core, 1)] == [popped[1][1]]
        assert await empty(core)

    async def test_closing_on_one_loop_closes_on_the_others(
        self, core: Queue, items: Items
    ) -> None:
        is_used, is_closed = asyncio.Event(), threading.Event()
        here = asyncio.get_running_loop()

        async def use_and_wait() -> list[int]:
            await core.push(items(1)[0])
            here.call_soon_threadsafe(is_used.set)
            await anyio.to_thread.run_sync(is_closed.wait, 5)
            return numbers(core, await take(core, 1))

        using = asyncio.create_task(_on_a_fresh_loop(use_and_wait))
        await is_used.wait()
        try:
            await core.close()
        finally:
            is_closed.set()

        assert await using == [1]


class QueueUpkeep(Identity, Flushing, Counting, ClosingQueues, Batching, Loops):
    pass


def _number(popped: tuple[object, Mapping[str, int]]) -> int:
    return popped[1]["number"]


async def _on_a_fresh_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return await anyio.to_thread.run_sync(lambda: asyncio.run(work()))
