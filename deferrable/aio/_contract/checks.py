"""What an item must be before it is pushed.

Owns these checks, which make an item a `Push`. They do no I/O.
"""

from deferrable._codec.json import dump
from deferrable._durations import is_number
from deferrable.aio._contract.entries import Push
from deferrable.aio._contract.hooks import QueueHooks
from deferrable.aio._contract.uniqueness import KEEPERS, unique_key_of
from deferrable.errors import ItemTooLarge, Unsupported
from deferrable.item import Item

__all__ = ["Checks"]


class Checks(QueueHooks):
    """The checks of a queue, by its flags and limits."""

    def check(self, item: Item) -> None:
        """Raise what `push` would raise for `item` without any I/O; do nothing otherwise."""
        self.prepare(item)

    def excess_bytes(self, item: Item) -> int:
        """By how many bytes `item` exceeds the limit of `push`; 0: it fits."""
        return int(
            max(0, self._travelling_bytes(dump(item), is_new=True) - self._most_item_bytes())
        )

    def prepare(
        self, item: Item, *, is_delayed: bool = True, is_new: bool = True, is_plain: bool = False
    ) -> Push:
        """What `push` would store for `item`.

        Args:
            is_delayed: False: it is available at once, whatever its ``delay`` says.
            is_new: it does not replace an item that is stored already.
            is_plain: it is known to hold JSON values only, and is not checked for others.

        Raises:
            SerializationError, Unsupported, ItemTooLarge: see `push`.
        """
        text = dump(item, is_plain=is_plain)
        size = self._travelling_bytes(text, is_new=is_new)
        if size > self._most_item_bytes():
            raise self._too_large(size)
        delay_seconds = self._check_delay(item.get("delay") if is_delayed else None)
        if "unique_key" not in item and "deduplication_id" not in item:
            return Push(item, text, delay_seconds)
        deduplication_id = self._check_deduplication(item) if is_new else None
        return Push(item, text, delay_seconds, self._check_unique(item, is_new), deduplication_id)

    def _check_unique(self, item: Item, is_new: bool) -> str | None:
        key = unique_key_of(item)
        if self.SUPPORTS_UNIQUE or key is None:
            return key
        if is_new:
            raise Unsupported(
                f"{self!r} keeps no unique keys, so an item cannot be unique; {KEEPERS} do "
                "(SUPPORTS_UNIQUE says so)"
            )
        return None

    def _check_deduplication(self, item: Item) -> str | None:
        # A copy and a failed item have none: the broker would drop them, and they would be lost.
        name: str | None = item.get("deduplication_id")
        if name is None or "error" in item or self.SUPPORTS_DEDUPLICATION:
            return None if "error" in item else name
        raise Unsupported(
            f"{self!r} drops no repeated items, so deduplication_id={name!r:.200} does nothing; "
            "FIFO queues in SQS drop them (SUPPORTS_DEDUPLICATION says so)"
        )

    def _too_large(self, size: int) -> ItemTooLarge:
        return ItemTooLarge(
            f"the item is {size} bytes, {self!r} takes at most {self._most_item_bytes()}; "
            "pass a reference to the data instead of the data"
        )

    def _check_delay(self, delay: object) -> float:
        if not delay:
            return 0.0
        if not self.SUPPORTS_DELAY:
            raise Unsupported(
                f"{self!r} cannot delay an item, got delay={delay!r}; push it without one "
                "(SUPPORTS_DELAY says so)"
            )
        if not is_number(delay) or delay < 0:
            raise Unsupported(
                f"an item's delay must be a number of seconds of at least 0; got {delay!r}"
            )
        if delay > self.MAX_DELAY_SECONDS:
            raise Unsupported(
                f"{self!r} delays an item by at most {self.MAX_DELAY_SECONDS} seconds, got "
                f"{delay!r}; `later` takes any delay and hops"
            )
        return delay

    def _check_peeks(self) -> None:
        if not self.SUPPORTS_PEEK:
            raise Unsupported(
                f"{self!r} cannot show items without taking them; pop them and release them "
                "(SUPPORTS_PEEK says so)"
            )
