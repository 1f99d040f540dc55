"""The promises about unique keys.

Owns the tests of who holds a key, from the push to the settlement. The items of an error queue hold
no keys, so these tests are about the main queue.
"""

import pytest

from deferrable.aio.queue import Queue
from deferrable.errors import DuplicateCall, LeaseLost, Unsupported
from deferrable.item import Item
from deferrable.lifecycle import requeued
from deferrable.testing.clock import MovingClock
from deferrable.testing.conformance._suite import Suite, empty, take

__all__ = ["UniqueKeys"]

_ERROR = {"id": "error-1", "error_type": "ValueError", "error_text": "why", "ts": 1.5}


def _item(item_id: str, key: str = "key", **fields: object) -> Item:
    return {"id": item_id, "unique_key": key, **fields}


async def _holder(queue: Queue, key: str = "key") -> str | None:
    """The id of the item that holds a key; if none does, an item is pushed and taken out again."""
    (outcome,) = await queue.push_each([_item("probe", key, delay=1000)])
    if outcome is None:
        found = await queue.find("probe")
        assert found is not None
        assert await queue.cancel(found)
        return None
    assert isinstance(outcome, DuplicateCall), outcome
    return outcome.holder_id


class UniqueKeys(Suite):
    @pytest.fixture
    def keeps_keys(self, queue: Queue, role: str) -> bool:
        """Whether the queue under test keeps unique keys. One that does has all other verbs."""
        return queue.SUPPORTS_UNIQUE and role == "queue"

    async def test_a_queue_that_keeps_no_keys_refuses_them_and_says_which_do(
        self, queue: Queue, role: str
    ) -> None:
        if queue.SUPPORTS_UNIQUE:
            assert queue.SUPPORTS_CANCEL
            assert queue.SUPPORTS_DELAY
            return
        if role == "error_queue":
            return

        with pytest.raises(Unsupported, match=r"SQLite.*SUPPORTS_UNIQUE"):
            await queue.push(_item("one"))
        assert await empty(queue)

    async def test_an_item_whose_key_is_held_is_not_pushed(
        self, queue: Queue, keeps_keys: bool
    ) -> None:
        if not keeps_keys:
            return
        await queue.push(_item("one"))

        with pytest.raises(DuplicateCall) as caught:
            await queue.push(_item("two"))
        outcomes = await queue.push_each(
            [_item("three", "other"), _item("four"), {"id": "five"}, _item("six", "other")]
        )

        assert caught.value.holder_id == "one"
        assert [each and getattr(each, "holder_id", each) for each in outcomes] == [
            None,
            "one",
            None,
            "three",
        ]
        assert [item["id"] for _, item in await take(queue, 3)] == ["one", "three", "five"]
        assert await empty(queue)

    async def test_a_key_is_free_once_its_item_is_completed(
        self, queue: Queue, second: Queue, keeps_keys: bool
    ) -> None:
        if not keeps_keys:
            return
        await queue.push_each([_item("one"), _item("two", "other")])
        ((envelope, _), _) = await take(second, 2)
        assert await _holder(queue) == "one"

        await second.complete(envelope)

        assert await _holder(queue) is None
        assert await _holder(queue, "other") == "two"

    async def test_a_delayed_item_holds_its_key(
        self, queue: Queue, second: Queue, keeps_keys: bool, clock: MovingClock
    ) -> None:
        if not keeps_keys:
            return
        await queue.push(_item("one", delay=50))
        assert await _holder(queue) == "one"

        await self.pass_time(clock, 51)
        assert await _holder(queue) == "one"

        ((envelope, _),) = await take(second, 1)
        assert await _holder(queue) == "one"
        await second.complete(envelope)
        assert await _holder(queue) is None

    async def test_an_item_that_is_given_back_keeps_its_key(
        self, queue: Queue, second: Queue, keeps_keys: bool, clock: MovingClock
    ) -> None:
        if not keeps_keys:
            return
        await queue.push(_item("one"))

        for has_started, delay_seconds in ((False, 0), (True, 0), (True, 50)):
            ((envelope, _),) = await take(second, 1)
            envelope.has_started = has_started
            await second.release(envelope, delay_seconds)
            assert await _holder(queue) == "one"
            await self.pass_time(clock, 51)

        ((envelope, _),) = await take(second, 1)
        await second.complete(envelope)
        assert await _holder(queue) is None

    async def test_an_item_whose_lease_ends_keeps_its_key(
        self, queue: Queue, second: Queue, keeps_keys: bool, clock: MovingClock
    ) -> None:
        if not keeps_keys:
            return
        await queue.push(_item("one"))
        ((stale, _),) = await take(queue, 1)
        await self.pass_time(clock, queue.lease_seconds + 1)
        assert await queue.pop_batch(1) or await second.pop_batch(1)

        for settle in (queue.complete, queue.free_key):
            stale.settlement, stale.lease_end_time = "open", clock.monotonic() + 1000
            with pytest.raises(LeaseLost):
                await settle(stale)

        assert await _holder(queue) == "one"

    async def test_the_copy_that_replaces_an_item_has_its_key(
        self, queue: Queue, second: Queue, keeps_keys: bool, clock: MovingClock
    ) -> None:
        if not keeps_keys:
            return
        await queue.push(_item("one"))

        for delay in (0, 50):
            ((envelope, item),) = await take(second, 1)
            await second.replace(envelope, {**item, "attempts": 1, "delay": delay})
            assert await _holder(queue) == "one"
            await self.pass_time(clock, 51)

        ((envelope, _),) = await take(second, 1)
        await second.complete(envelope)
        assert await _holder(queue) is None

    async def test_an_item_in_the_error_queue_holds_no_key(
        self, queue: Queue, second: Queue, other_queue: Queue, keeps_keys: bool
    ) -> None:
        if not keeps_keys:
            return
        await queue.push_each([_item("one"), _item("two", "other")])
        ((envelope, item), _) = await take(second, 2)

        await second.replace(envelope, {**item, "error": _ERROR}, other_queue)

        assert await _holder(queue) is None
        assert await _holder(queue, "other") == "two"
        assert len(await take(other_queue, 1)) == 1

    async def test_an_item_that_is_delivered_too_often_frees_its_key(
        self, queue: Queue, second: Queue, keeps_keys: bool
    ) -> None:
        if not keeps_keys:
            return
        await queue.push(_item("one"))

        for _ in range(self.max_redeliveries + 1):
            assert await _holder(queue) == "one"
            ((envelope, _),) = await take(second, 1)
            await second.release(envelope, is_counted=True)

        assert await empty(second)
        assert await _holder(queue) is None

    async def test_an_item_that_leaves_the_error_queue_takes_its_key_if_it_is_free(
        self, queue: Queue, other_queue: Queue, keeps_keys: bool
    ) -> None:
        if not keeps_keys:
            return
        await other_queue.push(_item("one", error=_ERROR))
        await queue.push(_item("two"))
        ((failed, item),) = await take(other_queue, 1)

        with pytest.raises(DuplicateCall) as caught:
            await other_queue.replace(failed, requeued(item, 0.0), queue)
        assert caught.value.holder_id == "two"
        ((envelope, _),) = await take(queue, 1)
        await queue.complete(envelope)
        await other_queue.replace(failed, requeued(item, 0.0), queue)

        assert await _holder(queue) == "one"
        assert [item["id"] for _, item in await take(queue, 1)] == ["one"]
        assert await empty(other_queue)

    async def test_a_key_that_was_let_go_is_never_held_again(
        self, queue: Queue, second: Queue, keeps_keys: bool
    ) -> None:
        if not keeps_keys:
            return
        await queue.push(_item("one"))
        ((envelope, item),) = await take(second, 1)

        await second.free_key(envelope)
        await second.free_key(envelope)
        assert await _holder(queue) is None
        await second.replace(envelope, {**item, "attempts": 1})
        assert await _holder(queue) is None
        await queue.push(_item("two"))
        ((envelope, item),) = await take(second, 1)
        await second.free_key(envelope)
        await second.complete(envelope)

        assert item["id"] == "one"
        assert await _holder(queue) == "two"

    async def test_a_cancelled_item_frees_its_key_and_a_hastened_one_keeps_it(
        self, queue: Queue, keeps_keys: bool
    ) -> None:
        if not keeps_keys:
            return
        await queue.push_each([_item("one", delay=50), _item("two", "other")])
        for item_id in ("one", "two"):
            found = await queue.find(item_id)
            assert found is not None
            if item_id == "one":
                assert await queue.hasten(found, {**found.item, "delay": 0})
            else:
                assert await queue.cancel(found)

        assert await _holder(queue) == "one"
        assert await _holder(queue, "other") is None

    async def test_flush_frees_all_keys(
        self, queue: Queue, second: Queue, keeps_keys: bool
    ) -> None:
        if not keeps_keys:
            return
        await queue.push_each([_item("one"), _item("two", "other"), _item("three", "3", delay=9)])
        await take(second, 1)

        await queue.flush()

        assert [await _holder(queue, key) for key in ("key", "other", "3")] == [None] * 3
