"""What an item becomes on its way from one broker to another.

Owns the decisions of a move, and its count. The rule: an item stays as it is, so that it needs no
key, stays signed, and is never decoded. Two things may be added to an unsigned one: the attempts
that its old broker has counted, and the moment at which it is due.
"""

import re
from collections import Counter
from dataclasses import dataclass, field

from deferrable._codec.json import dump
from deferrable.errors import DeferrableError, Unsupported
from deferrable.item import Item
from deferrable.lifecycle import counted, seconds_until_due

__all__ = ["Tally", "call_of", "outgoing", "wait_seconds"]

_MOST_IDS = 5
_VARYING = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d[\d.,]*")
"""What differs between the reasons of two items: ids, sizes, seconds."""


@dataclass(slots=True)
class Tally:
    """What a move has done.

    Attributes:
        moved: pushed to the target, and removed from the source.
        found: removed from the source only, because the target had them from an earlier move.
        doubled: pushed to the target, and still in the source or run from there.
        unsure: of those moved, how many the target may have had already, because their earlier
            delivery ended without a settlement and the target cannot show its items.
        refused: how many the target does not take, by the reason; they stay in the source. Reasons
            that differ in ids and numbers only are one, in the words of the first.
        refused_ids: of the first few for each reason.
    """

    moved: int = 0
    found: int = 0
    doubled: int = 0
    unsure: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    refused_ids: dict[str, list[str]] = field(default_factory=dict)
    _reasons: dict[str, str] = field(default_factory=dict)

    def refuse(self, item: Item, error: DeferrableError) -> None:
        """Note an item that stays, and why."""
        text = f"{type(error).__name__}: {error}"
        reason = self._reasons.setdefault(_VARYING.sub("#", text), text)
        self.refused[reason] += 1
        ids = self.refused_ids.setdefault(reason, [])
        if len(ids) < _MOST_IDS:
            ids.append(str(item.get("id")))

    @property
    def refused_count(self) -> int:
        """How many items stay because the target does not take them."""
        return self.refused.total()


def call_of(item: Item) -> str:
    """What tells the item of a call from others, on its whole way.

    A producer may have given a later call the same id, so it is the id and when it was deferred. An
    item of the Python 2 library has no id: its whole text.
    """
    item_id = item.get("id")
    if isinstance(item_id, str):
        return f"{item_id} {item.get('first_push_time')}"
    error = item.get("error")
    error_id = error.get("id") if isinstance(error, dict) else None
    return f"error {error_id}" if isinstance(error_id, str) else f"text {dump(item)}"


def wait_seconds(item: Item, now: float, *, is_due: bool) -> float:
    """How long a popped item must still wait.

    Args:
        is_due: its queue has kept the whole delay.
    """
    return 0.0 if is_due else seconds_until_due(item, now)


def outgoing(item: Item, attempts: int, seconds: float, now: float, most_seconds: float) -> Item:
    """The item as it is pushed to its new queue, to be due in `seconds`.

    Args:
        attempts: those that its old broker has counted, beyond those that the item says.
        most_seconds: the longest delay of the new queue; longer ones hop.

    Raises:
        Unsupported: it is signed, and would have to be changed.
        UnreadableItem: its number of attempts is no whole number.
    """
    is_signed = "signature" in item
    if attempts and not is_signed:
        item = counted(item, attempts)
    if seconds > most_seconds and item.get("due_time") is None:
        if is_signed:
            raise Unsupported(
                f"it is due in {seconds:.0f} s, its new queue delays by at most "
                f"{most_seconds:.0f} s, and its moment cannot be added because it is signed; "
                "move it later"
            )
        item = {**item, "due_time": now + seconds}
    return item
