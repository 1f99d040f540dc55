"""The promises about what only some brokers do by themselves.

Owns the tests of repeated items that a broker drops, of items that stay in their broker for a
retry, of consumers of the Python 2 library, and of messages that somebody else wrote. Each ability
has a test for a queue without it, where a queue can show that.
"""

import pytest

from deferrable.aio.queue import Queue
from deferrable.errors import Unsupported
from deferrable.item import Item
from deferrable.lifecycle import requeued
from deferrable.testing.clock import MovingClock
from deferrable.testing.conformance._suite import Items, Suite, empty, take
from deferrable.testing.waiting import wait_until

__all__ = ["SomeBrokers"]

_BODY = 'a "body" \u2603'
_ERROR = {"id": "error-1", "error_type": "ValueError", "error_text": "why", "ts": 1.5}


async def _first_of(queue: Queue, other_queue: Queue) -> Item:
    """The item in one of both queues, once there is one."""
    found: list[Item] = []

    async def has_come() -> bool:
        for each in (queue, other_queue):
            found.extend(item for _, item in await each.pop_batch(1))
        return bool(found)

    await wait_until(has_come, "the body came, to be run or among the errors")
    (item,) = found
    return item


async def _requeue_body(queue: Queue, errors: Queue) -> None:
    """Have `queue` hold the body of a message that was no item, and was put aside before."""
    await errors.push({"raw": _BODY, "error": _ERROR})
    ((envelope, item),) = await take(errors, 1)
    await errors.replace(envelope, requeued(item, 0.0), queue)


class SomeBrokers(Suite):
    # Repeated items.

    async def test_a_queue_that_drops_no_repeats_refuses_a_deduplication_id_and_says_which_do(
        self, queue: Queue, role: str
    ) -> None:
        if queue.SUPPORTS_DEDUPLICATION or role == "error_queue":
            return

        with pytest.raises(Unsupported, match=r"SQS.*SUPPORTS_DEDUPLICATION"):
            await queue.push({"id": "one", "deduplication_id": "x"})
        (outcome,) = await queue.push_each([{"id": "one", "deduplication_id": "x"}])
        assert isinstance(outcome, Unsupported)
        assert await empty(queue)

    async def test_the_second_of_two_items_with_one_deduplication_id_is_dropped(
        self, queue: Queue, role: str
    ) -> None:
        if not queue.SUPPORTS_DEDUPLICATION or role == "error_queue":
            return

        await queue.push({"id": "one", "deduplication_id": "x"})
        await queue.push({"id": "two", "deduplication_id": "x"})
        await queue.push_each(
            [
                {"id": "three", "deduplication_id": "x"},
                {"id": "four", "deduplication_id": "y"},
                {"id": "five"},
                {"id": "six"},
            ]
        )

        ids = []
        for _ in range(4):  # one by one: while one is in flight, its group may wait
            ((envelope, item),) = await take(queue, 1)
            ids.append(item["id"])
            await queue.complete(envelope)
        assert sorted(ids) == ["five", "four", "one", "six"]
        assert await empty(queue)

    async def test_no_copy_and_no_failed_item_is_dropped_for_its_deduplication_id(
        self, queue: Queue, other_queue: Queue, role: str
    ) -> None:
        if role == "error_queue":
            return
        repeated: Item = {"id": "one", "deduplication_id": "x"}
        await queue.push(repeated if queue.SUPPORTS_DEDUPLICATION else {"id": "one"})

        for attempts in (1, 2):
            ((envelope, _),) = await take(queue, 1)
            await queue.replace(envelope, {**repeated, "attempts": attempts})
        ((envelope, item),) = await take(queue, 1)
        assert item["attempts"] == 2
        await other_queue.push({**repeated, "error": _ERROR})
        another = {**_ERROR, "id": "another"}
        await queue.replace(envelope, {**item, "error": another}, other_queue)
        failed = await take(other_queue, 2)
        for envelope, item in failed:
            await other_queue.replace(envelope, requeued(item, 0.0), queue)

        for _ in failed:
            ((envelope, item),) = await take(queue, 1)
            assert item["deduplication_id"] == "x"
            await queue.complete(envelope)
        assert await empty(queue)

    # Items that stay in their broker for a retry.

    async def test_an_item_that_stays_for_its_retry_comes_back_in_time_with_its_attempts_counted(
        self, queue: Queue, second: Queue, items: Items, clock: MovingClock
    ) -> None:
        await queue.push_each(items(1))
        ((envelope, pushed),) = await take(queue, 1)

        for attempts in range(3):
            if envelope.in_place is None:
                return
            assert envelope.in_place.attempts == attempts
            assert envelope.in_place.latest_time >= clock.monotonic() + 50
            envelope.has_started = True
            await queue.release(envelope, 50)
            await self.pass_time(clock, 30)
            assert await empty(second)
            await self.pass_time(clock, 21)
            ((envelope, item),) = await take(queue, 1)
            assert item == pushed

    async def test_an_item_that_stays_for_its_retries_says_which_delivery_is_its_last(
        self, queue: Queue, other_queue: Queue, items: Items
    ) -> None:
        await queue.push_each(items(1))

        for redeliveries in range(self.max_redeliveries + 1):
            ((envelope, _),) = await take(queue, 1)
            if envelope.in_place is None:
                return
            assert envelope.in_place.is_last == (redeliveries == self.max_redeliveries)
            envelope.has_started = True
            await queue.release(envelope)

        assert await empty(queue)
        ((_, item),) = await take(other_queue, 1)
        assert item["id"] == "item-1"
        assert "error" in item

    # Consumers of the Python 2 library.

    async def test_a_queue_without_old_consumers_lists_none_and_takes_nothing_back(
        self, queue: Queue
    ) -> None:
        if queue.HAS_OLD_CONSUMERS:
            return

        assert await queue.old_consumers() == {}
        with pytest.raises(Unsupported, match="HAS_OLD_CONSUMERS"):
            await queue.take_back("nobody")

    # Messages that somebody else wrote.

    async def test_a_queue_that_reads_no_foreign_bodies_hands_them_on_unchanged(
        self, queue: Queue, other_queue: Queue, role: str
    ) -> None:
        if queue.READS_FOREIGN or role == "error_queue":
            return

        await _requeue_body(queue, other_queue)

        item = await _first_of(queue, other_queue)
        assert item["raw"] == _BODY
        assert "method" not in item

    async def test_a_queue_that_reads_foreign_bodies_hands_on_calls_and_puts_the_rest_aside(
        self, queue: Queue, other_queue: Queue, role: str
    ) -> None:
        if not queue.READS_FOREIGN or role == "error_queue":
            return

        await _requeue_body(queue, other_queue)

        item = await _first_of(queue, other_queue)
        if "error" in item:
            assert item["raw"] == _BODY
        else:
            assert "method" in item
