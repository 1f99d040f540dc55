"""Reading fields that came from elsewhere.

Owns the check that a field of a popped item is of the kind that the rooms reckon with. It may not
know what the field is for. Anything else is an `UnreadableItem` that names the field and its value.
"""

import sys

from deferrable._codec.refusals import short_repr
from deferrable.errors import UnreadableItem
from deferrable.item import Item

__all__ = ["read_count", "read_seconds"]


def read_seconds(item: Item, field: str) -> float | None:
    """A number of seconds or a moment; None when it is absent or null.

    Raises:
        UnreadableItem: it is something else, or more than a float can be.
    """
    value = item.get(field)
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not abs(value) <= sys.float_info.max
    ):
        raise UnreadableItem(
            f"the item's {field} is {short_repr(value)}, which is no number of seconds"
        )
    return value


def read_count(item: Item, field: str, default: int) -> int:
    """A whole number; `default` when it is absent or null.

    Raises:
        UnreadableItem: it is something else.
    """
    value = item.get(field)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise UnreadableItem(f"the item's {field} is {short_repr(value)}, which is no whole number")
    return value
