"""Bugs of unique keys."""

from collections.abc import Sequence

from deferrable.aio.backend.memory import InMemoryQueue
from deferrable.aio.backend.memory._store import Lease, Now, Standing, Store, StoredItem
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Push, Queue
from deferrable.item import Item
from mutants.planting import mutant


@mutant("a_queue_that_keeps_no_keys_refuses_them_and_says_which_do")
class TakesKeysThatItDoesNotKeep(InMemoryQueue):
    SUPPORTS_UNIQUE = False

    def _check_unique(self, item: Item, is_new: bool) -> str | None:
        return None


@mutant(
    "an_item_whose_key_is_held_is_not_pushed",
    "an_item_that_leaves_the_error_queue_takes_its_key_if_it_is_free",
    "a_key_is_free_once_its_item_is_completed",
    "a_cancelled_item_frees_its_key_and_a_hastened_one_keeps_it",
    "a_delayed_item_holds_its_key",
    "a_key_that_was_let_go_is_never_held_again",
    "an_item_in_the_error_queue_holds_no_key",
    "an_item_that_is_delivered_too_often_frees_its_key",
    "an_item_that_is_given_back_keeps_its_key",
    "an_item_whose_lease_ends_keeps_its_key",
    "the_copy_that_replaces_an_item_has_its_key",
)
class NamesTheNewItemAsTheHolder(Store):
    def take_key(self, entry: StoredItem, key: str, item_id: str) -> str | None:
        holder_id = super().take_key(entry, key, item_id)
        return None if holder_id is None else item_id


@mutant(
    "a_key_is_free_once_its_item_is_completed",
    "a_delayed_item_holds_its_key",
    "an_item_that_is_given_back_keeps_its_key",
    "the_copy_that_replaces_an_item_has_its_key",
    "an_item_that_leaves_the_error_queue_takes_its_key_if_it_is_free",
)
class KeepsTheKeyOfACompletedItem(InMemoryQueue):
    async def _complete_batch(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        for envelope in envelopes:
            if isinstance(envelope.handle, Lease):
                envelope.handle.entry.unique_key = None
        return await super()._complete_batch(envelopes)


@mutant(
    "a_delayed_item_holds_its_key",
    "the_copy_that_replaces_an_item_has_its_key",
    "a_cancelled_item_frees_its_key_and_a_hastened_one_keeps_it",
    "an_item_that_is_given_back_keeps_its_key",
)
class ForgetsTheKeyOfADelayedItem(Store):
    def push(self, entry: StoredItem, now: Now, delay_seconds: float) -> None:
        super().push(entry, now, delay_seconds)
        if delay_seconds and delay_seconds < 1000:
            self.free_key(entry)


@mutant("an_item_that_is_given_back_keeps_its_key")
class FreesTheKeyOfWhatIsGivenBack(Store):
    def release(
        self, lease: Lease, now: Now, delay_seconds: float, *, to_front: bool, is_counted: bool
    ) -> None:
        if not is_counted:
            self.free_key(lease.entry)
        super().release(lease, now, delay_seconds, to_front=to_front, is_counted=is_counted)


@mutant("an_item_whose_lease_ends_keeps_its_key")
class FreesTheKeyForAStaleHolder(InMemoryQueue):
    async def _complete_batch(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        for envelope in envelopes:
            if isinstance(envelope.handle, Lease):
                self.store.free_key(envelope.handle.entry)
        return await super()._complete_batch(envelopes)


@mutant("the_copy_that_replaces_an_item_has_its_key")
class LeavesTheCopyWithoutTheKey(Store):
    def pass_key_on(self, old: StoredItem, new: StoredItem, key: str, item_id: str) -> None:
        pass


@mutant("an_item_in_the_error_queue_holds_no_key")
class KeepsTheKeyOfAFailedItem(InMemoryQueue):
    async def _replace(self, envelope: Envelope, push: Push, to: Queue) -> None:
        if to is not self and push.unique_key is None and isinstance(envelope.handle, Lease):
            envelope.handle.entry.unique_key = None
        await super()._replace(envelope, push, to)


@mutant("an_item_that_is_delivered_too_often_frees_its_key")
class KeepsTheKeyOfABuriedItem(Store):
    def bury(self, entry: StoredItem, error: Exception, now: float) -> None:
        super().bury(entry, error, now)
        self._unique["key"] = "one"


@mutant("an_item_that_leaves_the_error_queue_takes_its_key_if_it_is_free")
class RequeuesWithoutTheKey(InMemoryQueue):
    def _give_key(self, push: Push, entry: StoredItem, old: StoredItem, store: Store) -> str | None:
        return super()._give_key(push, entry, old, store) if store is self.store else None


@mutant("a_key_that_was_let_go_is_never_held_again")
class TakesTheKeyBackForTheCopy(Store):
    def pass_key_on(self, old: StoredItem, new: StoredItem, key: str, item_id: str) -> None:
        old.unique_key = None
        new.unique_key = key
        self._unique[key] = item_id


@mutant("a_cancelled_item_frees_its_key_and_a_hastened_one_keeps_it")
class FreesTheKeyOfAHastenedItem(Store):
    def hasten(self, standing: Standing, text: str) -> bool:
        self.free_key(standing.entry)
        return super().hasten(standing, text)


@mutant("flush_frees_all_keys")
class KeepsKeysThroughAFlush(Store):
    def flush(self) -> None:
        unique = self._unique
        super().flush()
        self._unique = unique
