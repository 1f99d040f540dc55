"""The promises about push and pop.

Owns their tests: equality, order, batches, refusals, cancellation.
"""

import asyncio
import json
import sys
from typing import Any

import pytest

from deferrable.aio.queue import Item, Queue
from deferrable.errors import SerializationError
from deferrable.testing.conformance._suite import Items, NativeCalls, Suite, empty, numbers, take

__all__ = ["PushAndPop"]


def _nested(depth: int) -> Any:
    value: Any = []
    for level in range(depth):
        value = [value] if level % 2 else {"in": value}
    return value


VALUES: dict[str, Any] = {
    "null": None,
    "truth": [True, False, 1, 0, 1.0, 0.0, "1", ""],
    "big integers": [2**31, 2**53 + 1, 2**64, -(2**200), 10**300],
    "floats": [0.1, -0.0, 1e308, 5e-324, 1 / 3, 1e22, 123456789.123456789],
    "empty": [[], {}, "", [[]], [{}], {"": {"": []}}],
    "keys": {"": 1, " ": 2, "a.b": 3, "$": 4, "\x00": 5, "é": 6, "__proto__": 7, "0": 8},
    "nested": _nested(100),
    "wide": list(range(2000)),
    "unicode": ["é", "漢字", "🎉", "\u2028", "\ufeff", "e\u0301"],
    "lone surrogates": ["\ud800", "\udfff", "\udc00\ud800", "a\ud83d"],
    "control characters": ["\x00", "\x1f\x7f\x80", "\r\n\t\b\f", "\\ \" ' / </script>"],
    "looks like JSON": ['{"a": 1}', "null", "[]", "\\u0000", "%s %(a)s {0} $x"],
    "long text": "x" * 10_000,
}

NOT_JSON: dict[str, Any] = {
    "a tuple": (1, 2),
    "a number as a key": {"a": [{1: 2}]},
    "bytes": b"bytes",
    "set": {1},
    "object": object(),
    "nan": float("nan"),
    "infinity": [float("-inf")],
}


class PushAndPop(Suite):
    @pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
    async def test_what_is_popped_equals_what_was_pushed(
        self, queue: Queue, items: Items, value: object
    ) -> None:
        item = {**items(1)[0], "value": value}

        await queue.push(item)
        ((_, popped),) = await take(queue, 1)

        assert _exactly(popped) == _exactly(item)

    async def test_an_item_may_have_any_keys(self, queue: Queue, items: Items) -> None:
        item = {**items(1)[0], **VALUES["keys"]}

        await queue.push(item)
        ((_, popped),) = await take(queue, 1)

        assert _exactly(popped) == _exactly(item)

    @pytest.mark.parametrize("value", NOT_JSON.values(), ids=NOT_JSON)
    async def test_what_is_not_json_is_refused_and_not_pushed(
        self, queue: Queue, items: Items, value: object
    ) -> None:
        item = {**items(1)[0], "value": value}

        with pytest.raises(SerializationError):
            await queue.push(item)

        assert await empty(queue)

    async def test_pushing_does_not_change_the_item(self, queue: Queue, items: Items) -> None:
        item = {**items(1)[0], "args": [{"a": [1]}], "delay": 0}
        before = _exactly(item)

        await queue.push(item)

        assert _exactly(item) == before

    async def test_changing_an_item_after_its_push_changes_nothing(
        self, queue: Queue, items: Items
    ) -> None:
        item = {**items(1)[0], "args": [1]}

        await queue.push(item)
        item["args"].append(2)
        item["more"] = True
        ((_, popped),) = await take(queue, 1)

        assert popped == {**items(1)[0], "args": [1]}

    async def test_changing_a_popped_item_changes_nothing_in_the_next_delivery(
        self, queue: Queue, items: Items
    ) -> None:
        await queue.push({**items(1)[0], "args": [1]})
        ((envelope, popped),) = await take(queue, 1)

        popped["args"].append(2)
        popped["more"] = True
        await queue.release(envelope)
        ((_, again),) = await take(queue, 1)

        assert again == {**items(1)[0], "args": [1]}

    async def test_a_pop_of_an_empty_queue_gives_nothing(self, queue: Queue) -> None:
        assert await queue.pop() == (None, None)

    async def test_a_batch_popped_from_an_empty_queue_is_empty(self, queue: Queue) -> None:
        assert await queue.pop_batch(2) == []

    async def test_items_come_in_the_order_in_which_they_were_pushed(
        self, queue: Queue, items: Items
    ) -> None:
        for item in items(5):
            await queue.push(item)

        popped = [(await take(queue, 1))[0] for _ in range(5)]

        assert numbers(queue, popped) == [1, 2, 3, 4, 5]

    async def test_a_batch_is_pushed_and_popped_in_order(self, queue: Queue, items: Items) -> None:
        await queue.push_batch(items(7))

        popped = await take(queue, 7)

        assert numbers(queue, popped) == [1, 2, 3, 4, 5, 6, 7]

    async def test_push_batch_answers_for_each_item_in_order(
        self, queue: Queue, items: Items
    ) -> None:
        batch = items(3)

        assert await queue.push_batch(batch) == [(item, True) for item in batch]

    async def test_one_item_that_fails_does_not_stop_the_rest_of_its_batch(
        self, queue: Queue, items: Items
    ) -> None:
        first, last = items(2)
        bad = {"value": {1, 2}}

        answers = await queue.push_batch([first, bad, last])

        assert answers == [(first, True), (bad, False), (last, True)]
        assert numbers(queue, await take(queue, 2)) == [1, 2]
        assert await empty(queue)

    async def test_any_number_of_items_can_be_pushed_and_each_has_its_outcome(
        self, queue: Queue, items: Items
    ) -> None:
        outcomes = await queue.push_each([*items(35), {"value": {1}}])

        assert outcomes[:35] == [None] * 35
        assert isinstance(outcomes[35], SerializationError)
        assert numbers(queue, await take(queue, 35)) == list(range(1, 36))

    async def test_a_batch_of_pops_gives_no_more_than_was_asked_for(
        self, queue: Queue, items: Items
    ) -> None:
        await queue.push_batch(items(5))

        popped = await queue.pop_batch(2)
        rest = await take(queue, 5 - len(popped))

        assert len(popped) <= 2
        assert numbers(queue, [*popped, *rest]) == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize("verb", ["push", "pop", "complete"])
    async def test_a_batch_over_the_maximum_is_refused_before_any_io(
        self,
        queue: Queue,
        core: Queue,
        items: Items,
        native_calls: NativeCalls,
        monkeypatch: pytest.MonkeyPatch,
        verb: str,
    ) -> None:
        await queue.push_batch(items(3))
        envelopes = [envelope for envelope, _ in await take(queue, 3)]
        calls_before = native_calls.total
        monkeypatch.setattr(core, f"MAX_{verb.upper()}_BATCH_SIZE", 2)
        call, argument = {
            "push": (queue.push_batch, items(3)),
            "pop": (queue.pop_batch, 3),
            "complete": (queue.complete_batch, envelopes),
        }[verb]

        with pytest.raises(ValueError, match="3"):
            await call(argument)  # type: ignore[operator]

        assert native_calls.total == calls_before

    async def test_a_batch_of_no_pops_is_refused(self, queue: Queue) -> None:
        with pytest.raises(ValueError, match="0"):
            await queue.pop_batch(0)

    async def test_the_maxima_of_batches_are_positive_numbers(self, core: Queue) -> None:
        maxima = [
            getattr(core, f"MAX_{verb}_BATCH_SIZE")
            for verb in ("PUSH", "POP", "TOUCH", "COMPLETE", "RELEASE")
        ]

        assert all(isinstance(each, int) and 0 < each <= sys.maxsize for each in maxima)

    async def test_pops_made_at_once_get_different_items(self, queue: Queue, items: Items) -> None:
        await queue.push_each(items(10))

        popped = await asyncio.gather(*(take(queue, 1) for _ in range(10)))

        assert sorted(item["number"] for ((_, item),) in popped) == list(range(1, 11))
        assert await empty(queue)

    async def test_two_consumers_get_different_items(
        self, queue: Queue, second: Queue, items: Items
    ) -> None:
        await queue.push_batch(items(2))

        popped = await take(queue, 1) + await take(second, 1)

        assert sorted(item["number"] for _, item in popped) == [1, 2]
        assert await empty(queue)
        assert await empty(second)

    async def test_the_queue_and_its_error_queue_are_apart(
        self, queue: Queue, other_queue: Queue, items: Items
    ) -> None:
        await queue.push(items(1)[0])

        assert await empty(other_queue)
        assert numbers(queue, await take(queue, 1)) == [1]

    @pytest.mark.parametrize("passes", range(12))
    async def test_a_cancelled_pop_loses_nothing(
        self, core: Queue, items: Items, passes: int
    ) -> None:
        await core.push_batch(items(3))

        popping = asyncio.create_task(core.pop_batch(2))
        for _ in range(passes):
            await asyncio.sleep(0)
        popping.cancel()
        (outcome,) = await asyncio.gather(popping, return_exceptions=True)
        if not isinstance(outcome, BaseException):
            await core.release_batch([envelope for envelope, _ in outcome])

        assert numbers(core, await take(core, 3)) == [1, 2, 3]
        assert await empty(core)


def _exactly(item: Item) -> str:
    """Distinguishes 1 from True and 1.0, and 0.0 from -0.0; the order of keys does not matter."""
    return json.dumps(item, sort_keys=True)
