"""Item fields for people to read.

Owns the names and numbers of items in logs and tables. An item may come from anywhere: nothing
here raises because of an item's content, and nothing runs it.
"""

from deferrable._codec.serializers import serializer_for
from deferrable.errors import UnreadableItem
from deferrable.item import Item

__all__ = ["attempt_number", "job_name"]


def job_name(item: Item) -> str:
    """The name of the item's job; a phrase if the item has none."""
    if "object" in item:
        return f"method {_one_line(str(item.get('method')))}"
    try:
        name = serializer_for(item).load_name(item)
    except UnreadableItem:
        return "unreadable item"
    return _one_line(name)


def _one_line(name: str) -> str:
    """A name, escaped if it would look like another log line or control a terminal."""
    return (name if name.isprintable() else ascii(name))[:200]


def attempt_number(item: Item) -> int:
    """The number of the attempt for the consumer that popped the item, counted from 1."""
    attempts = item.get("attempts")
    return attempts + 1 if isinstance(attempts, int) else 1
