"""What the batch hooks of a queue take, and what `peek` returns.

Owns these values, and how often an item is touched. `deferrable.aio.queue` exports the values.
"""

from dataclasses import dataclass

import msgspec

from deferrable.aio.envelope import Envelope
from deferrable.item import Item

__all__ = ["TOUCHES_PER_LEASE", "Peeked", "Push", "Release", "Touch"]

TOUCHES_PER_LEASE = 3
"""How often a held item is touched within a lease: first after a third of it."""


class Push(msgspec.Struct, frozen=True, gc=False):
    """Store an item: `text` is its JSON (ASCII), to be available `delay_seconds` from now.

    With a `unique_key` it is stored only if no item of the queue holds that key, and then holds it.
    The `deduplication_id` of a new item is for a broker that drops repeated ones.
    """

    # No dataclass: that would take ten times as long to make, for each push. No item refers to its
    # push, so the garbage collector need not look for a cycle here.
    item: Item
    text: str
    delay_seconds: float
    unique_key: str | None = None
    deduplication_id: str | None = None

    def __repr__(self) -> str:
        # Without item and text: arguments have no place in logs.
        return f"Push(delay_seconds={self.delay_seconds!r})"


@dataclass(frozen=True, slots=True)
class Touch:
    """Keep an item for at least `seconds` from now."""

    envelope: Envelope
    seconds: float


@dataclass(frozen=True, slots=True)
class Release:
    """Give an item back.

    An item that has not started goes to the front, any other to the back. With a delay it becomes
    available `delay_seconds` from now. A counted release counts towards the queue's maximum of
    redeliveries, like a crash.
    """

    envelope: Envelope
    delay_seconds: float = 0.0
    is_counted: bool = False


@dataclass(frozen=True, slots=True)
class Peeked:
    """An item that was shown without a lease. `pop_keys` takes its `key`."""

    key: str
    item: Item
