"""The promises about pausing a queue for all its consumers.

Owns the tests of `pause`, `resume` and `find_pause`. All queues without them refuse in the same
way.
"""

from typing import Any

import pytest

from deferrable.aio.queue import Queue
from deferrable.errors import InvalidOptions, Unsupported
from deferrable.testing.clock import MovingClock
from deferrable.testing.conformance._suite import Items, Suite, empty, take

__all__ = ["Pausing"]


class Pausing(Suite):
    async def test_a_queue_that_cannot_be_paused_refuses_and_says_which_can(
        self, queue: Queue
    ) -> None:
        if queue.SUPPORTS_PAUSE:
            assert await queue.find_pause() is None
            assert not await queue.resume()
            return

        for verb in (queue.pause, queue.resume, queue.find_pause):
            with pytest.raises(Unsupported, match=r"SQLite.*SUPPORTS_PAUSE"):
                await verb()

    async def test_a_paused_queue_gives_no_consumer_an_item_until_it_is_resumed(
        self, queue: Queue, second: Queue, items: Items
    ) -> None:
        if not queue.SUPPORTS_PAUSE:
            return
        before, after = items(2)
        await queue.push(before)

        await queue.pause()
        await queue.push(after)

        assert await empty(queue)
        assert await empty(second)
        assert await second.pop_at_once(5) == []
        assert await queue.resume()
        assert [item["number"] for _, item in await take(second, 2)] == [1, 2]

    async def test_items_that_come_back_or_become_due_stay_in_a_paused_queue(
        self, queue: Queue, second: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        if not queue.SUPPORTS_PAUSE or not queue.SUPPORTS_DELAY:
            return
        abandoned, released, replaced = items(3)
        await queue.push_each([abandoned, released, replaced])
        _, (to_release, _), (to_replace, _) = await take(second, 3)
        await queue.push({**items(4)[3], "delay": 50})

        await queue.pause()
        await second.release(to_release)
        await second.replace(to_replace, {**replaced, "is_copy": True})
        assert await empty(queue)
        await self.pass_time(clock, max(core.lease_seconds, 50) + 1)

        assert await empty(queue)
        assert await empty(second)
        await queue.resume()
        numbers = [item["number"] for _, item in await take(queue, 4)]
        assert sorted(numbers) == [1, 2, 3, 4]

    async def test_the_holder_of_an_item_goes_on_while_the_queue_is_paused(
        self, queue: Queue, second: Queue, core: Queue, items: Items, clock: MovingClock
    ) -> None:
        if not queue.SUPPORTS_PAUSE:
            return
        await queue.push_each(items(2))
        (kept, _), (done, _) = await take(second, 2)

        await queue.pause()
        await second.complete(done)
        await second.touch(kept, 3 * core.lease_seconds)
        await self.pass_time(clock, 2 * core.lease_seconds)
        await second.complete(kept)

        await queue.resume()
        assert await empty(queue)

    async def test_a_pause_says_since_when_and_why(
        self, queue: Queue, second: Queue, items: Items, clock: MovingClock
    ) -> None:
        if not queue.SUPPORTS_PAUSE:
            return
        await queue.push_each(items(3))
        since = clock.time()

        await queue.pause(reason='a "deploy" \u2603')
        await self.pass_time(clock, 10)

        pause = await second.find_pause()
        assert pause is not None
        assert (pause.until_time, pause.reason) == (None, 'a "deploy" \u2603')
        assert pause.since_time == pytest.approx(since, abs=2)
        stats = await second.stats()
        assert stats["paused_seconds"] == pytest.approx(10, abs=2)
        assert stats["available"] == 3
        await second.resume()
        assert await queue.find_pause() is None
        assert "paused_seconds" not in await queue.stats()

    async def test_a_pause_ends_by_itself_at_its_time(
        self, queue: Queue, second: Queue, items: Items, clock: MovingClock
    ) -> None:
        if not queue.SUPPORTS_PAUSE:
            return
        await queue.push_each(items(1))

        await queue.pause(for_seconds=20)

        pause = await second.find_pause()
        assert pause is not None
        assert pause.until_time == pytest.approx(clock.time() + 20, abs=2)
        await self.pass_time(clock, 10)
        assert await empty(second)
        await self.pass_time(clock, 11)
        assert await second.find_pause() is None
        assert not await second.resume()
        assert [item["number"] for _, item in await take(second, 1)] == [1]

    async def test_a_pause_replaces_another_one(
        self, queue: Queue, second: Queue, items: Items, clock: MovingClock
    ) -> None:
        if not queue.SUPPORTS_PAUSE:
            return
        await queue.push_each(items(1))
        await queue.pause(for_seconds=20, reason="one")

        await second.pause(reason="two")
        await self.pass_time(clock, 30)

        pause = await queue.find_pause()
        assert pause is not None
        assert pause.reason == "two"
        assert await empty(queue)
        assert await queue.resume()
        assert not await second.resume()

    async def test_a_pop_of_a_paused_queue_notes_the_pause(self, core: Queue, items: Items) -> None:
        if not core.SUPPORTS_PAUSE:
            return
        await core.push_each(items(1))

        await core.pause(reason="why")
        assert await empty(core)
        assert core.seen_pause is not None
        assert core.seen_pause.reason == "why"

        await core.resume()
        await take(core, 1)
        assert core.seen_pause is None

    async def test_a_flush_leaves_a_queue_paused(self, queue: Queue, items: Items) -> None:
        if not queue.SUPPORTS_PAUSE:
            return
        await queue.pause()
        await queue.push_each(items(1))

        await queue.flush()

        await queue.push_each(items(1))
        assert await empty(queue)
        await queue.resume()
        await take(queue, 1)

    async def test_a_pause_that_makes_no_sense_is_refused(self, queue: Queue) -> None:
        if not queue.SUPPORTS_PAUSE:
            return

        refused: Any = [0, -1, "soon", float("nan")]
        for seconds in refused:
            with pytest.raises(InvalidOptions, match="for_seconds"):
                await queue.pause(for_seconds=seconds)
        with pytest.raises(InvalidOptions, match="reason"):
            await queue.pause(reason=refused)

        assert await queue.find_pause() is None
