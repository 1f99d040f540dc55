"""Bugs of looking at items, and of taking chosen ones."""

import math
from collections.abc import Sequence

from deferrable.aio._contract.popping import Popped
from deferrable.aio.backend.memory import InMemoryQueue
from deferrable.aio.backend.memory._store import Lease
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Peeked
from deferrable.item import Item
from mutants.planting import mutant


@mutant("a_queue_that_cannot_show_items_refuses_to")
class ShowsItemsThoughItSaysThatItCannot(InMemoryQueue):
    SUPPORTS_PEEK = False

    def _check_peeks(self) -> None:
        pass


@mutant("looking_shows_every_item_and_changes_nothing")
class ShowsTheFirstPageOnly(InMemoryQueue):
    async def _peek(self, cursor: str, count: int) -> tuple[Sequence[Peeked], str]:
        page, _ = await super()._peek(cursor, count)
        return page, ""


@mutant(
    "chosen_items_are_leased_and_others_stay_available",
    "what_is_held_or_gone_is_not_taken",
)
class TakesOneMoreThanWasChosen(InMemoryQueue):
    async def _pop_keys(self, keys: Sequence[str]) -> Sequence[Popped | None]:
        popped = await super()._pop_keys(keys)
        await self._pop_batch(1)
        return popped


@mutant("what_is_held_or_gone_is_not_taken")
class TakesWhatItHasShown(InMemoryQueue):
    async def _peek(self, cursor: str, count: int) -> tuple[Sequence[Peeked], str]:
        page, cursor = await super()._peek(cursor, count)
        self.shown: dict[str, Item] = {each.key: each.item for each in page}
        return page, cursor

    async def _pop_keys(self, keys: Sequence[str]) -> Sequence[Popped | None]:
        popped = await super()._pop_keys(keys)
        shown = getattr(self, "shown", {})
        return [
            (Envelope(None, 0, math.inf), shown[key]) if each is None and key in shown else each
            for key, each in zip(keys, popped, strict=True)
        ]


@mutant("lease_of_a_chosen_item_ends_and_fences")
class KeepsChosenItemsForEver(InMemoryQueue):
    async def _pop_keys(self, keys: Sequence[str]) -> Sequence[Popped | None]:
        popped = await super()._pop_keys(keys)
        with self._group.lock:
            for each in popped:
                if each is not None and isinstance(each[0].handle, Lease):
                    self.store.touch(each[0].handle, 1e9, self._catch_up())
        return popped
