"""Bugs of items that are not yet due."""

import heapq
import math
from collections.abc import Sequence

from deferrable.aio.backend.memory import InMemoryQueue
from deferrable.aio.backend.memory._store import Now, Store, StoredItem
from deferrable.aio.queue import Push
from mutants.planting import mutant


class _ChangesDelays(InMemoryQueue):
    """Has items wait for another time than they should."""

    def changed(self, seconds: float) -> float:
        return seconds

    async def _push_batch(self, pushes: Sequence[Push]) -> Sequence[Exception | None]:
        return await super()._push_batch(
            [Push(each.item, each.text, self.changed(each.delay_seconds)) for each in pushes]
        )


@mutant("a_delay_is_kept_or_refused_as_the_flag_says")
class ShortensLongDelays(_ChangesDelays):
    def changed(self, seconds: float) -> float:
        return seconds - 1.5 if seconds >= 10 else seconds


@mutant("an_item_without_a_delay_is_there_at_once")
class TakesFalseForASecond(InMemoryQueue):
    def _check_delay(self, delay: object) -> float:
        return 1.0 if delay is False else super()._check_delay(delay)


@mutant("delayed_items_come_in_the_order_of_their_due_times")
class ServesDelayedItemsAsTheyWerePushed(Store):
    def catch_up(self, now: Now) -> None:
        due = [each for each in self._delayed if each[0] <= now.time]
        if len(due) > 1:
            self._delayed = [each for each in self._delayed if each[0] > now.time]
            heapq.heapify(self._delayed)
            for _, _, entry in sorted(due, key=lambda each: each[1]):
                self._append(entry)
        super().catch_up(now)


@mutant("what_waits_already_is_not_overtaken_by_what_becomes_due")
class PutsDueItemsToTheFront(Store):
    def catch_up(self, now: Now) -> None:
        while self._delayed and self._delayed[0][0] <= now.time:
            entry: StoredItem = heapq.heappop(self._delayed)[2]
            entry.place = next(self._numbers)
            heapq.heappush(self._returned, (entry.place, entry))
        super().catch_up(now)


@mutant("a_fraction_of_a_second_is_never_cut_off")
class CutsFractionsOff(_ChangesDelays):
    def changed(self, seconds: float) -> float:
        return math.floor(seconds)


@mutant("a_delay_that_is_no_number_of_seconds_is_refused")
class TakesANumberInText(InMemoryQueue):
    def _check_delay(self, delay: object) -> float:
        return float(delay) if isinstance(delay, str) else super()._check_delay(delay)


@mutant("a_delay_over_the_brokers_own_maximum_is_refused")
class ShortensToTheMaximum(InMemoryQueue):
    def _check_delay(self, delay: object) -> float:
        if isinstance(delay, int | float) and delay > self.MAX_DELAY_SECONDS:
            return self.MAX_DELAY_SECONDS
        return super()._check_delay(delay)
