"""What happens to an entry that leaves a working list.

Owns the choice: back to the queue, later, or into the errors hash, and with which text. It does no
I/O and reads no clock. Pushes, completions and the like are not decided here.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from deferrable.aio.backend.dockets._wire import Entry, error_item, error_record
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
    """

    raw: bytes
    where: Where
    text: str | bytes
    key: str = ""
    delay_seconds: float = 0.0


def as_redelivery(
    raw: bytes,
    now: float,
    max_redeliveries: float,
    where: Where = "back",
    delay_seconds: float = 0.0,
) -> Move:
    """One more delivery of the entry has ended without settlement."""
    try:
        entry = Entry.read(raw).redelivered(now)
    except UnreadableItem as error:
        return as_unreadable(raw, error, now)
    if entry.attempts <= max_redeliveries:
        return Move(raw, where, entry.text(), new_id(), delay_seconds)
    error_id = new_id()
    reason = TooManyDeliveries(entry.attempts, max_redeliveries)
    record = error_record(type(reason).__name__, str(reason), now, error_id)
    return Move(raw, "errors", entry.item_text_with(record), error_id)


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
