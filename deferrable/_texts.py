"""Items that stand for a text which holds no item of this library.

Owns which items these are. They are in the error queue, or were requeued from there, with the text
in ``raw``.

The one rule: another program's object may have a field ``raw``, too. It is one of these only if it
has no field that they do not have.
"""

from deferrable._durations import is_number
from deferrable.item import Item

__all__ = ["stands_for_text"]

_FIELDS = frozenset(
    {
        "attempts",
        "attributes",
        "error",
        "last_push_time",
        "message_group_id",
        "raw",
        "signature",
    }
)


def stands_for_text(item: Item) -> bool:
    """Whether all of `item` is ours, but the text in ``raw``, its attributes and group."""
    error = item.get("error", {"error_type": None})
    return (
        isinstance(item.get("raw"), str)
        and item.keys() <= _FIELDS
        and (isinstance(error, dict) and "error_type" in error)
        and is_number(item.get("last_push_time", 0.0))
    )
