"""Bugs of finishing with an item: complete, release, replace."""

from collections.abc import Sequence
from typing import Any

from deferrable.aio._contract.popping import Popped
from deferrable.aio.backend.memory import InMemoryQueue
from deferrable.aio.backend.memory._store import Lease, Now, Store
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Item, Push, Queue, Release
from deferrable.errors import LeaseLost, SerializationError
from mutants.planting import mutant


@mutant(
    "a_completed_item_never_comes_back",
    "completing_one_of_two_popped_items_removes_the_right_one",
    "completing_one_of_two_equal_items_leaves_the_other",
    "complete_batch_answers_for_each_envelope_in_order",
    "a_stale_holder_gets_lease_lost_and_the_new_holder_keeps_its_delivery",
    "a_replaced_item_is_gone_and_the_new_one_is_there",
    "stats_follow_a_completion",
    "stats_see_what_became_due_or_was_abandoned",
)
class HidesWhatIsCompleted(InMemoryQueue):
    async def _complete_batch(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        leases = [lease for each in envelopes if (lease := self._held(each)) is not None]
        outcomes = await super()._complete_batch(envelopes)
        for lease in leases:
            self.store.push(lease.entry, self._catch_up(), 1)
        return outcomes


@mutant(
    "completing_one_of_two_popped_items_removes_the_right_one",
    "complete_batch_answers_for_each_envelope_in_order",
    "stats_follow_a_completion",
    "a_queue_can_be_used_from_two_loops_at_once",
)
class CompletesWhatWasPoppedFirst(Store):
    def remove(self, lease: Lease) -> None:
        oldest = min(self._held, key=lambda each: each.number)
        super().remove(oldest if len(self._held) > 1 else lease)


@mutant("completing_one_of_two_equal_items_leaves_the_other")
class CompletesAllThatAreEqual(InMemoryQueue):
    async def _complete_batch(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        texts = {lease.entry.text for each in envelopes if (lease := self._held(each))}
        outcomes = await super()._complete_batch(envelopes)
        for lease in [each for each in self.store._held if each.entry.text in texts]:
            self.store.remove(lease)
        return outcomes


@mutant("complete_batch_answers_for_each_envelope_in_order")
class SaysThatAllAreCompleted(InMemoryQueue):
    async def complete_batch(self, envelopes: Sequence[Envelope]) -> list[tuple[Envelope, bool]]:
        return [(envelope, True) for envelope, _ in await super().complete_batch(envelopes)]


@mutant("an_envelope_is_refused_after_its_settlement_without_any_io")
class AsksTheBrokerAboutSettledEnvelopes(InMemoryQueue):
    async def complete(self, envelope: Envelope) -> None:
        await super().complete(envelope)
        envelope.settlement = "open"


@mutant("of_two_settlements_at_once_one_is_refused")
class IgnoresASecondSettlementAtOnce(InMemoryQueue):
    async def complete(self, envelope: Envelope) -> None:
        if not isinstance(envelope, Envelope) or envelope.settlement != "under way":
            await super().complete(envelope)


@mutant("what_is_no_envelope_is_refused")
class TakesAnythingForAnEnvelope(InMemoryQueue):
    def _check_held(self, verb: str, envelope: Envelope) -> None:
        if not isinstance(envelope, Envelope):
            raise LeaseLost(f"{envelope!r} is not held")
        super()._check_held(verb, envelope)


@mutant(
    "what_had_not_started_goes_back_to_the_front_in_its_old_order",
    "a_cancelled_pop_loses_nothing",
)
class PutsEachReleaseBeforeTheOnesBefore(Store):
    def release(
        self, lease: Lease, now: Now, delay_seconds: float, *, to_front: bool, is_counted: bool
    ) -> None:
        super().release(lease, now, delay_seconds, to_front=to_front, is_counted=is_counted)
        if self._returned:
            self._waiting.appendleft(self._returned.pop()[1])


@mutant("a_single_release_goes_back_to_the_front")
class ReleasesSingleItemsToTheBack(InMemoryQueue):
    async def _release_batch(self, releases: Sequence[Release]) -> Sequence[Exception | None]:
        if len(releases) == 1:
            releases[0].envelope.has_started = True
        return await super()._release_batch(releases)


@mutant("what_had_started_goes_to_the_back")
class ReleasesAllToTheFront(InMemoryQueue):
    async def _release_batch(self, releases: Sequence[Release]) -> Sequence[Exception | None]:
        for release in releases:
            release.envelope.has_started = False
        return await super()._release_batch(releases)


@mutant(
    "a_released_item_is_there_at_once_for_any_consumer",
    "a_waiting_pop_gets_what_another_consumer_gives_back",
)
class OffersReleasedItemsToTheirConsumerOnly(InMemoryQueue):
    async def _release_batch(self, releases: Sequence[Release]) -> Sequence[Exception | None]:
        vars(self._group)["releaser"] = self
        return await super()._release_batch(releases)

    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        if self.store._returned and vars(self._group).get("releaser") is not self:
            return []
        return await super()._pop_batch(count)


@mutant("releasing_one_of_two_popped_items_keeps_the_other")
class ReleasesItsNeighbourToo(InMemoryQueue):
    async def _release_batch(self, releases: Sequence[Release]) -> Sequence[Exception | None]:
        is_such = len(releases) == 1 and len(self.store._held) == 2
        outcomes = await super()._release_batch(releases)
        for lease in list(self.store._held) if is_such else []:
            self.store.release(lease, self._catch_up(), 0, to_front=True, is_counted=False)
        return outcomes


@mutant("a_release_with_a_delay_is_kept_or_refused_as_the_flag_says")
class ReleasesAtOnce(Store):
    def release(
        self, lease: Lease, now: Now, delay_seconds: float, *, to_front: bool, is_counted: bool
    ) -> None:
        super().release(lease, now, 0, to_front=to_front, is_counted=is_counted)


@mutant("a_replaced_item_is_gone_and_the_new_one_is_there")
class ForgetsToCompleteWhatIsReplaced(InMemoryQueue):
    async def _replace(self, envelope: Envelope, push: Push, to: Queue) -> None:
        if to is self and self._held(envelope) is not None and not push.delay_seconds:
            await to._push_batch([push])
        else:
            await super()._replace(envelope, push, to)


@mutant("the_new_item_can_go_to_the_other_queue")
class ReplacesInItsOwnQueueOnly(InMemoryQueue):
    async def _replace(self, envelope: Envelope, push: Push, to: Queue) -> None:
        await super()._replace(envelope, push, self)


@mutant("a_new_item_that_is_refused_leaves_the_old_one_held")
class CompletesBeforeItLooks(InMemoryQueue):
    async def replace(
        self, envelope: Envelope, item: Item, to: Any = None, **options: bool
    ) -> None:
        try:
            await super().replace(envelope, item, to, **options)
        except SerializationError:
            await self.complete(envelope)
            raise


@mutant("the_new_item_keeps_its_delay_or_is_refused_as_the_flag_says")
class ReplacesAtOnce(InMemoryQueue):
    async def _replace(self, envelope: Envelope, push: Push, to: Queue) -> None:
        await super()._replace(envelope, Push(push.item, push.text, 0), to)
