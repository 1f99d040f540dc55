"""What happens to an entry that leaves a working list.

Owns the choice: back to the queue, later, or into the errors hash, and with which text. It does no
I/O and reads no clock. Pushes, completions and the like are not decided here.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from deferrable.aio.backend.dockets._wire import GAP, Entry, Key, error_item, error_record, key_in
from deferrable.errors import UnreadableItem
from deferrable.item import new_id
from deferrable.lifecycle import TooManyDeliveries

__all__ = ["Move", "Where", "as_missing_payload", "as_redelivery", "as_unreadable"]


Where: TypeAlias = Literal["front", "back", "delayed", "errors"]


@dataclass(frozen=True, slots=True)
class Move:
    """A move of an entry.

    Attributes:
        raw: its bytes in the working list.
        where: to the front of the queue, to its back, among the delayed, into the errors hash.
        text: the text to store there.
        key: its id there: of a delayed item or of an error.
        unique_key: the unique key that its item names; it goes with the item.
    """

    raw: bytes
    where: Where
    text: str | bytes
    key: str = ""
    delay_seconds: float = 0.0
    unique_key: Key | None = None

    def args(self) -> tuple[bytes | str | float, ...]:
        key = ("", "") if self.unique_key is None else self.unique_key
        return self.raw, self.where, self.text, self.key, self.delay_seconds, *key


def as_redelivery(
    raw: bytes,
    now: float,
    max_redeliveries: float,
    where: Where = "back",
    delay_seconds: float = 0.0,
) -> Move:
    """One more delivery of the entry has ended without settlement."""
    if raw == GAP:
        return Move(raw, "back", raw)
    try:
        entry = Entry.read(raw).redelivered(now)
    except UnreadableItem as error:
        return as_unreadable(raw, error, now)
    unique_key = key_in(raw)
    if entry.attempts <= max_redeliveries:
        delayed_id = new_id() if unique_key is None else unique_key.item_id
        return Move(raw, where, entry.text(), delayed_id, delay_seconds, unique_key)
    error_id = new_id()
    reason = TooManyDeliveries(entry.attempts, max_redeliveries)
    record = error_record(type(reason).__name__, str(reason), now, error_id)
    text = entry.item_text_with(record)
    return Move(raw, "errors", text, error_id, unique_key=unique_key)


def as_unreadable(raw: bytes, error: UnreadableItem, now: float) -> Move:
    """Nobody can read the entry; its bytes are kept in the errors hash."""
    error_id = new_id()
    return Move(raw, "errors", error_item(raw, str(error), now, error_id), error_id)


def as_missing_payload(delayed_id: bytes, now: float) -> tuple[str, str]:
    """A delayed item became due, but its id had no payload: an error's id and text."""
    error_id = new_id()
    return error_id, error_item(
        delayed_id, "a delayed item had an id, but no payload", now, error_id
    )
