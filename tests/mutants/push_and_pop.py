"""Bugs of what goes in and what comes out."""

import json
import math
from collections.abc import Sequence
from typing import Any

from deferrable._codec.json import dump
from deferrable.aio._contract.popping import Popped
from deferrable.aio.backend.memory import InMemoryQueue
from deferrable.aio.backend.memory._store import Lease, Now, Store, StoredItem
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Item, Push
from deferrable.errors import SerializationError
from mutants.planting import is_used, mutant


@mutant("what_is_popped_equals_what_was_pushed")
class LosesTheSignOfZero(InMemoryQueue):
    async def _push_batch(self, pushes: Sequence[Push]) -> Sequence[Exception | None]:
        return await super()._push_batch(
            [
                Push(each.item, each.text.replace("-0.0", "0.0"), each.delay_seconds)
                for each in pushes
            ]
        )


@mutant("an_item_may_have_any_keys")
class KeepsAKeyForItself(InMemoryQueue):
    def _read(self, lease: Lease, now: Now) -> Popped | None:
        popped = super()._read(lease, now)
        if popped is not None:
            popped[1].pop("__proto__", None)
        return popped


@mutant("what_is_not_json_is_refused_and_not_pushed")
class TakesWhatIsNoNumber(InMemoryQueue):
    def prepare(self, item: Item, **options: bool) -> Push:
        try:
            return super().prepare(item, **options)
        except SerializationError as error:
            if not isinstance(error.__cause__, ValueError):
                raise
            return Push(item, json.dumps(item), 0.0)


@mutant("pushing_does_not_change_the_item")
class NormalizesTheDelayInPlace(InMemoryQueue):
    def prepare(self, item: Item, **options: bool) -> Push:
        if "delay" in item and not item["delay"]:
            item["delay"] = None
        return super().prepare(item, **options)


class _Kept(str):
    item: Item


@mutant("changing_an_item_after_its_push_changes_nothing")
class KeepsTheItemItself(InMemoryQueue):
    async def _push_batch(self, pushes: Sequence[Push]) -> Sequence[Exception | None]:
        kept = []
        for push in pushes:
            text = _Kept(push.text)
            text.item = push.item
            kept.append(Push(push.item, text, push.delay_seconds))
        return await super()._push_batch(kept)

    def _read(self, lease: Lease, now: Now) -> Popped | None:
        if isinstance(lease.entry.text, _Kept):
            lease.entry.text = dump(lease.entry.text.item)
        return super()._read(lease, now)


@mutant("changing_a_popped_item_changes_nothing_in_the_next_delivery")
class LendsTheSameItemAgain(InMemoryQueue):
    def _read(self, lease: Lease, now: Now) -> Popped | None:
        read: dict[StoredItem, Item] = vars(self._group).setdefault("read", {})
        popped = super()._read(lease, now)
        if popped is None:
            return None
        return popped[0], read.setdefault(lease.entry, popped[1])


@mutant(
    "a_pop_of_an_empty_queue_gives_nothing",
    "what_is_not_json_is_refused_and_not_pushed",
    "the_queue_and_its_error_queue_are_apart",
    "a_delay_that_is_no_number_of_seconds_is_refused",
    "a_delay_over_the_brokers_own_maximum_is_refused",
    "a_wait_ends_without_an_item",
)
class PopsAnEmptyItemFromANewQueue(InMemoryQueue):
    async def pop(self) -> Any:
        envelope, item = await super().pop()
        return (envelope, item) if item or is_used(self) else (None, {})


@mutant("a_batch_popped_from_an_empty_queue_is_empty")
class PopsABatchOfNothingFromANewQueue(InMemoryQueue):
    async def pop_batch(self, count: int) -> list[Any]:
        return await super().pop_batch(count) or ([] if is_used(self) else [(None, None)])


@mutant("items_come_in_the_order_in_which_they_were_pushed")
class ServesTheLastOfFiveFirst(Store):
    def pop(self, maximum: int, now: Now) -> list[Lease]:
        if maximum == 1 and len(self._waiting) == 5:
            self._waiting.rotate()
        return super().pop(maximum, now)


@mutant("a_batch_is_pushed_and_popped_in_order")
class PushesSomeBatchesBackwards(InMemoryQueue):
    async def _push_batch(self, pushes: Sequence[Push]) -> Sequence[Exception | None]:
        is_such = 5 < len(pushes) < 10
        return await super()._push_batch(pushes[::-1] if is_such else pushes)


@mutant("push_batch_answers_for_each_item_in_order")
class AnswersBackwards(InMemoryQueue):
    async def push_batch(self, items: Sequence[Item]) -> list[tuple[Item, bool]]:
        answers = await super().push_batch(items)
        return answers[::-1] if all(ok for _, ok in answers) else answers


@mutant("one_item_that_fails_does_not_stop_the_rest_of_its_batch")
class StopsAtTheFirstFailure(InMemoryQueue):
    async def push_each(self, items: Sequence[Item]) -> list[Exception | None]:
        for index, item in enumerate(items):
            try:
                self.check(item)
            except SerializationError as error:
                outcomes = await super().push_each(items[:index])
                return [*outcomes, *[error] * (len(items) - index)]
        return await super().push_each(items)


@mutant("any_number_of_items_can_be_pushed_and_each_has_its_outcome")
class ForgetsTheLastOutcomeOfMany(InMemoryQueue):
    async def push_each(self, items: Sequence[Item]) -> list[Exception | None]:
        outcomes = await super().push_each(items)
        if len(items) > 32:
            outcomes[-1] = None
        return outcomes


@mutant("a_batch_of_pops_gives_no_more_than_was_asked_for")
class PopsOneTooMany(InMemoryQueue):
    async def pop_batch(self, count: int) -> list[Popped]:
        is_such = count == 2 and (await self._stats())["available"] == 5
        return await super().pop_batch(count + is_such)


@mutant("a_batch_over_the_maximum_is_refused_before_any_io")
class CompletesAnyNumber(InMemoryQueue):
    async def complete_batch(self, envelopes: Sequence[Envelope]) -> list[tuple[Envelope, bool]]:
        answers: list[tuple[Envelope, bool]] = []
        for envelope in envelopes:
            answers += await super().complete_batch([envelope])
        return answers


@mutant("a_batch_of_no_pops_is_refused")
class PopsNothingWhenAskedForNothing(InMemoryQueue):
    async def pop_batch(self, count: int) -> list[Popped]:
        return await super().pop_batch(count) if count else []


@mutant("the_maxima_of_batches_are_positive_numbers")
class HasAnInfiniteMaximum(InMemoryQueue):
    MAX_POP_BATCH_SIZE = math.inf  # type: ignore[assignment] # that is the bug


@mutant("pops_made_at_once_get_different_items", "pops_made_at_once_share_the_brokers_answers")
class GivesOneItemToManyAtOnce(InMemoryQueue):
    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        popped = await super()._pop_batch(count)
        return [popped[0]] * len(popped) if 1 < count <= 10 and len(popped) > 7 else popped


@mutant("two_consumers_get_different_items")
class LendsToTwoConsumers(InMemoryQueue):
    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        held, waiting = self.store._held, self.store._waiting
        if len(held) == len(waiting) == 1 and vars(self._group).get("last") is not self:
            waiting.appendleft(next(iter(held)).entry)
        vars(self._group)["last"] = self
        return await super()._pop_batch(count)


@mutant(
    "the_queue_and_its_error_queue_are_apart",
    "the_new_item_can_go_to_the_other_queue",
)
class PopsFromTheMainQueueToo(InMemoryQueue):
    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        popped = await super()._pop_batch(count)
        if popped or self.store is self._group.main:
            return popped
        leases = self._group.main.pop(count, Now(0.0, self.clock.monotonic()))
        return [each for lease in leases if (each := self._read(lease, Now(0.0, 0.0))) is not None]


@mutant("a_cancelled_pop_loses_nothing", "a_cancelled_wait_loses_nothing")
class KeepsWhatNobodyAskedFor(InMemoryQueue):
    async def _return_unasked(self, envelopes: Sequence[Envelope]) -> None:
        return
