"""Bugs of what only some brokers do by themselves."""

import math
from collections import Counter
from collections.abc import Sequence

from deferrable.aio._contract.popping import Popped
from deferrable.aio.backend.memory import InMemoryQueue
from deferrable.aio.backend.memory._store import Lease, Now
from deferrable.aio.envelope import Envelope, InPlace
from deferrable.aio.queue import Push, Queue, Release
from deferrable.item import Item
from mutants.planting import mutant


@mutant("a_queue_that_drops_no_repeats_refuses_a_deduplication_id_and_says_which_do")
class TakesADeduplicationIdAndDropsNothing(InMemoryQueue):
    def _check_deduplication(self, item: Item) -> str | None:
        return None


@mutant("the_second_of_two_items_with_one_deduplication_id_is_dropped")
class SaysThatItDropsRepeats(InMemoryQueue):
    SUPPORTS_DEDUPLICATION = True


@mutant("no_copy_and_no_failed_item_is_dropped_for_its_deduplication_id")
class DropsACopyForItsDeduplicationId(InMemoryQueue):
    seen_id: str | None = None

    async def _replace(self, envelope: Envelope, push: Push, to: Queue) -> None:
        name = push.item.get("deduplication_id")
        if name is not None and name == self.seen_id:
            await self._complete_batch([envelope])
            return
        self.seen_id = name
        await super()._replace(envelope, push, to)


class _StaysForRetries(InMemoryQueue):
    """Its items stay for their retries. This consumer counts their attempts by itself."""

    def _read(self, lease: Lease, now: Now) -> Popped | None:
        popped = super()._read(lease, now)
        if popped is not None:
            envelope, item = popped
            ended = self._ended[item["id"]] if "id" in item else 0
            envelope.in_place = self._in_place(ended)
        return popped

    def _in_place(self, ended: int) -> InPlace:
        return InPlace(ended, ended >= self.max_redeliveries, False, math.inf)

    @property
    def _ended(self) -> Counter[str]:
        counts: Counter[str] = self.__dict__.setdefault("_counts", Counter())
        return counts

    async def _release_batch(self, releases: Sequence[Release]) -> Sequence[Exception | None]:
        for each in releases:
            if each.envelope.has_started and isinstance(each.envelope.handle, Lease):
                popped = super()._read(each.envelope.handle, self._catch_up())
                if popped is not None:
                    self._ended[popped[1].get("id", "")] += 1
        return await super()._release_batch(releases)


@mutant(
    "an_item_that_stays_for_its_retry_comes_back_in_time_with_its_attempts_counted",
    "an_item_that_stays_for_its_retries_says_which_delivery_is_its_last",
)
class CountsNoAttemptOfAnItemThatStays(_StaysForRetries):
    def _in_place(self, ended: int) -> InPlace:
        return super()._in_place(0)


@mutant("an_item_that_stays_for_its_retries_says_which_delivery_is_its_last")
class SaysOfNoDeliveryThatItIsTheLast(_StaysForRetries):
    def _in_place(self, ended: int) -> InPlace:
        return InPlace(ended, False, False, math.inf)


@mutant("a_queue_without_old_consumers_lists_none_and_takes_nothing_back")
class TakesBackWhatNobodyHolds(InMemoryQueue):
    async def take_back(self, consumer_id: str) -> int:
        return 0


@mutant("a_queue_that_reads_no_foreign_bodies_hands_them_on_unchanged")
class DropsABodyThatItDoesNotRead(InMemoryQueue):
    def _read(self, lease: Lease, now: Now) -> Popped | None:
        popped = super()._read(lease, now)
        if popped is not None and "error" not in popped[1]:
            popped[1].pop("raw", None)
        return popped


@mutant("a_queue_that_reads_foreign_bodies_hands_on_calls_and_puts_the_rest_aside")
class SaysThatItReadsForeignBodies(InMemoryQueue):
    READS_FOREIGN = True
