"""How long an item is worth running.

Owns the two fields of a time to live and what follows from them. It may not know a clock. A ttl
counts from ``later``: it survives retries, and a delay eats into it.
"""

from deferrable._fields import read_seconds
from deferrable.item import Item

__all__ = ["add_ttl", "expiry_time", "is_expired"]


def add_ttl(item: Item, ttl_seconds: float, now: float) -> None:
    """Note in a new item that it expires `ttl_seconds` from `now`."""
    item["ttl_seconds"] = ttl_seconds
    item["item_queued_timestamp"] = now


def expiry_time(item: Item) -> float | None:
    """The last moment at which the item may start, or None if it never expires.

    Raises:
        UnreadableItem: the fields are no numbers.
    """
    ttl_seconds = read_seconds(item, "ttl_seconds")
    queued_time = read_seconds(item, "item_queued_timestamp")
    if not ttl_seconds or queued_time is None:
        return None
    return queued_time + ttl_seconds


def is_expired(item: Item, now: float) -> bool:
    """Whether the item must not be run any more.

    Raises:
        UnreadableItem: the fields are no numbers.
    """
    expiry = expiry_time(item)
    return expiry is not None and now > expiry
