"""Bugs of who holds an item, and until when."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import replace

from deferrable.aio._contract.popping import Popped
from deferrable.aio.backend.memory import InMemoryQueue
from deferrable.aio.backend.memory._store import Lease, Now, Store, StoredItem
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Release
from mutants.planting import mutant

BURIED = "an_item_abandoned_too_often_goes_to_the_error_queue_and_says_so"


@mutant(
    "a_popped_item_is_hidden_until_its_lease_ends",
    "a_touch_keeps_an_item_hidden_for_longer",
    "a_touch_keeps_one_item_and_not_its_neighbour",
    "a_touched_item_returns_when_the_touch_wears_off",
    "a_touch_never_moves_the_end_of_a_lease_back",
    "a_waiting_pop_gets_what_another_consumer_abandons",
    "the_envelope_tells_when_its_lease_began_and_when_it_ends",
)
class EndsLeasesEarly(Store):
    def _lend(self, entry: StoredItem, now: float) -> Lease:
        return super()._lend(entry, now - 1)


class _Choosy(InMemoryQueue):
    """Serves what was abandoned to some consumers only."""

    def is_for_me(self, last_consumer: object) -> bool:
        raise NotImplementedError

    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        holders: dict[StoredItem, object] = vars(self._group).setdefault("holders", {})
        self._catch_up()
        waiting = self.store._waiting
        hidden = [each for each in waiting if each in holders and not self.is_for_me(holders[each])]
        for each in hidden:
            waiting.remove(each)
        popped = await super()._pop_batch(count)
        waiting.extend(hidden)
        for envelope, _ in popped:
            holders[envelope.handle.entry] = self  # type: ignore[attr-defined]
        return popped


@mutant(
    "abandoned_item_returns_after_visibility_timeout",
    "abandoned_items_return_to_the_end_of_the_queue_that_the_flag_names",
    "a_touched_item_returns_when_the_touch_wears_off",
    "a_stale_holder_gets_lease_lost_and_the_new_holder_keeps_its_delivery",
    "a_touch_keeps_one_item_and_not_its_neighbour",
    "a_waiting_pop_gets_what_another_consumer_abandons",
    "a_release_with_a_delay_is_kept_or_refused_as_the_flag_says",
)
class ReturnsItemsToTheirOwnConsumerOnly(_Choosy):
    def is_for_me(self, last_consumer: object) -> bool:
        return last_consumer is self


@mutant(
    "abandoned_item_can_return_to_its_own_consumer",
    "a_stale_holder_is_told_apart_from_the_same_consumers_new_delivery",
    BURIED,
    "an_item_of_the_error_queue_is_never_delivered_too_often",
    "completing_one_of_two_equal_items_leaves_the_other",
    "completing_one_of_two_popped_items_removes_the_right_one",
    "what_had_started_goes_to_the_back",
)
class ReturnsItemsToOtherConsumersOnly(_Choosy):
    def is_for_me(self, last_consumer: object) -> bool:
        return last_consumer is not self


@mutant("abandoned_items_return_to_the_end_of_the_queue_that_the_flag_names")
class SaysTheWrongEnd(InMemoryQueue):
    RECLAIMS_TO_BACK_OF_QUEUE = False


@mutant("the_envelope_tells_when_its_lease_began_and_when_it_ends")
class TellsAWrongPopTime(InMemoryQueue):
    def _read(self, lease: Lease, now: Now) -> Popped | None:
        return super()._read(lease, now._replace(monotonic=now.monotonic - 1))


@mutant("a_touch_keeps_an_item_hidden_for_longer", "a_touch_keeps_one_item_and_not_its_neighbour")
class TouchesInVain(Store):
    def touch(self, lease: Lease, seconds: float, now: Now) -> None:
        return


@mutant("a_touched_item_returns_when_the_touch_wears_off")
class TouchesForTooLong(Store):
    def touch(self, lease: Lease, seconds: float, now: Now) -> None:
        super().touch(lease, 10 * seconds, now)


@mutant("a_touch_never_moves_the_end_of_a_lease_back")
class MovesTheEndBack(Store):
    def touch(self, lease: Lease, seconds: float, now: Now) -> None:
        lease.end_time = now.monotonic + seconds
        heapq.heappush(self._lease_ends, (lease.end_time, next(self._numbers), lease))


@mutant("a_touch_keeps_one_item_and_not_its_neighbour")
class TouchesAllThatIsHeld(Store):
    def touch(self, lease: Lease, seconds: float, now: Now) -> None:
        for each in self._held:
            super().touch(each, seconds, now)


@mutant("a_lease_that_ended_is_refused_without_any_io")
class AsksTheBrokerAboutEndedLeases(InMemoryQueue):
    def _check_held(self, verb: str, envelope: Envelope) -> None:
        if isinstance(envelope, Envelope):
            end_time, envelope.lease_end_time = envelope.lease_end_time, math.inf
        try:
            super()._check_held(verb, envelope)
        finally:
            if isinstance(envelope, Envelope):
                envelope.lease_end_time = end_time


def _current(queue: InMemoryQueue, envelope: Envelope) -> Lease | None:
    """The lease of the present holder of a stale envelope's entry."""
    stale = envelope.handle
    assert isinstance(stale, Lease)
    return next((each for each in queue.store._held if each.entry is stale.entry), None)


@mutant("a_stale_holder_gets_lease_lost_and_the_new_holder_keeps_its_delivery")
class ReleasesWhatAnotherHolds(InMemoryQueue):
    async def _release_batch(self, releases: Sequence[Release]) -> Sequence[Exception | None]:
        for release in releases:
            current = _current(self, release.envelope)
            if current is not None:
                release.envelope.handle = current
        return await super()._release_batch(releases)


@mutant("a_stale_holder_is_told_apart_from_the_same_consumers_new_delivery")
class CompletesByItem(InMemoryQueue):
    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        popped = await super()._pop_batch(count)
        vars(self).setdefault("own", set()).update(each.handle for each, _ in popped)
        return popped

    async def _complete_batch(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        for envelope in envelopes:
            current = _current(self, envelope)
            if current in vars(self).get("own", ()):
                envelope.handle = current
        return await super()._complete_batch(envelopes)


@mutant(
    "a_stale_holder_leaves_a_later_item_alone",
    "a_stale_holder_gets_lease_lost_and_the_new_holder_keeps_its_delivery",
)
class CompletesWhatStandsInTheSamePlace(InMemoryQueue):
    async def _complete_batch(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        held = self.store._held
        for envelope in envelopes:
            if envelope.handle not in held and len(held) == 1:
                envelope.handle = next(iter(held))
        return await super()._complete_batch(envelopes)


class _Counting(Store):
    """Knows whether a delivery ended by a release."""

    is_releasing = False

    def release(
        self, lease: Lease, now: Now, delay_seconds: float, *, to_front: bool, is_counted: bool
    ) -> None:
        self.is_releasing = True
        super().release(lease, now, delay_seconds, to_front=to_front, is_counted=is_counted)
        self.is_releasing = False


@mutant(BURIED)
class DeliversForEver(_Counting):
    def _is_buried(self, entry: StoredItem, now: float) -> bool:
        return self.is_releasing and super()._is_buried(entry, now)


@mutant("a_counted_release_counts_like_a_crash")
class CountsNoRelease(_Counting):
    def _is_buried(self, entry: StoredItem, now: float) -> bool:
        return not self.is_releasing and super()._is_buried(entry, now)


@mutant("a_release_is_not_counted_unless_it_says_so")
class CountsEveryRelease(InMemoryQueue):
    async def _release_batch(self, releases: Sequence[Release]) -> Sequence[Exception | None]:
        return await super()._release_batch([replace(each, is_counted=True) for each in releases])


@mutant("an_item_of_the_error_queue_is_never_delivered_too_often")
class DropsErrorsThatComeBack(Store):
    def _is_buried(self, entry: StoredItem, now: float) -> bool:
        return super()._is_buried(entry, now) or (self._errors is None and entry.redeliveries > 10)
