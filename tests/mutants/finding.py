"""Bugs of finding items without taking them, and of cancelling them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from deferrable.aio.backend.memory import InMemoryQueue
from deferrable.aio.backend.memory._store import Standing, Store
from deferrable.aio.queue import Found, Push
from mutants.planting import mutant


@mutant("a_queue_that_cannot_find_items_refuses_and_says_which_can")
class FindsItemsThoughItSaysThatItCannot(InMemoryQueue):
    SUPPORTS_CANCEL = False
    SUPPORTS_INSPECTION = False

    def _check_inspects(self) -> None:
        pass


@mutant("an_item_is_found_where_it_is")
class ShowsAHeldItemAsQueued(InMemoryQueue):
    async def _find(self, item_id: str) -> Found | None:
        found = await super()._find(item_id)
        return found and replace(found, place="queued")


@mutant("a_delayed_item_is_found_with_its_moment")
class HidesTheMomentOfADelayedItem(InMemoryQueue):
    async def _find(self, item_id: str) -> Found | None:
        found = await super()._find(item_id)
        return found and replace(found, available_time=None)


@mutant("an_id_that_is_only_an_argument_of_another_item_is_not_found")
class FindsAnIdAnywhereInTheText(InMemoryQueue):
    async def _find(self, item_id: str) -> Found | None:
        with self._group.lock:
            now = self._catch_up()
            standing = next(self.store.standing_with(item_id), None)
        return None if standing is None else self._found(standing, now)


@mutant("a_strange_id_is_found")
class SearchesForTheIdAsItIs(InMemoryQueue):
    async def _find(self, item_id: str) -> Found | None:
        with self._group.lock:
            now = self._catch_up()
            standing = next(self.store.standing_with(f'"{item_id}"'), None)
        return None if standing is None else self._found(standing, now)


@mutant("every_item_is_shown_and_nothing_changes")
class ShowsWhatWaitsOnly(InMemoryQueue):
    async def _inspect(self, cursor: str, count: int) -> tuple[Sequence[Found], str]:
        page, cursor = await super()._inspect(cursor, count)
        return [found for found in page if found.place != "in flight"], cursor


@mutant("a_queue_that_cannot_cancel_refuses_and_says_which_can")
class CancelsThoughItSaysThatItCannot(InMemoryQueue):
    SUPPORTS_CANCEL = False

    async def cancel(self, found: Found) -> bool:
        return True


@mutant("a_cancelled_item_is_gone_and_others_keep_their_order")
class CancelsTheNextItem(InMemoryQueue):
    async def _cancel(self, found: Found, *, is_remembered: bool) -> bool:
        with self._group.lock:
            first = self.store.standing_from(0, 1)
            return self.store.take_out(first[0])


@mutant("a_delayed_item_is_cancelled")
class CancelsOnlyWhatIsAvailable(InMemoryQueue):
    async def _cancel(self, found: Found, *, is_remembered: bool) -> bool:
        return found.place == "delayed" or await super()._cancel(found, is_remembered=is_remembered)


@mutant("a_cancelled_item_is_remembered")
class ForgetsWhatWasCancelled(Store):
    def remember_cancelled(self, item_id: str, now: float) -> None:
        pass


@mutant("an_item_that_was_taken_meanwhile_is_neither_cancelled_nor_withdrawn")
class CancelsWhatAnotherConsumerHolds(InMemoryQueue):
    async def _cancel(self, found: Found, *, is_remembered: bool) -> bool:
        await super()._cancel(found, is_remembered=is_remembered)
        return True


@mutant("a_withdrawn_item_is_gone_and_was_not_cancelled")
class RemembersWhatWasWithdrawn(InMemoryQueue):
    async def _cancel(self, found: Found, *, is_remembered: bool) -> bool:
        return await super()._cancel(found, is_remembered=True)


@mutant("a_hastened_item_is_available_now")
class HastensNothing(InMemoryQueue):
    async def _hasten(self, found: Found, push: Push) -> bool:
        return True


@mutant("the_holder_of_an_item_learns_at_a_touch_that_its_job_is_to_stop")
class StopsEverythingThatIsHeld(InMemoryQueue):
    async def _ask_to_stop(self, found: Found) -> bool:
        for lease in self.store._held:
            lease.is_stop_wanted = True
        return True


@mutant("nobody_is_asked_to_stop_an_item_that_is_settled")
class AsksForASettledItem(InMemoryQueue):
    async def _ask_to_stop(self, found: Found) -> bool:
        lease = cast(Standing, found.key).lease
        assert lease is not None
        lease.is_stop_wanted = True
        return True
