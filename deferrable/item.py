"""What travels: an item, a plain dict of JSON values.

Owns the names of the fields that every room reads or writes, how an item is copied, and the name
of a group's queue. It may not know how a call is serialized, or where an item is kept.

The one rule: an item is never changed once lent. Who needs another one makes a copy.
"""

import os
from typing import Any, TypeAlias

__all__ = ["Item", "copy_item", "new_id", "queue_name"]

Item: TypeAlias = dict[str, Any]
"""A plain dict of JSON values (str keys; str, int, float, bool, None, lists and dicts of them)."""


_IDS_AT_ONCE = 64  # A system call for each id would be half of its cost.
_digits: list[str] = []
os.register_at_fork(after_in_child=_digits.clear)  # or parent and child would make the same


def new_id() -> str:
    """A fresh identifier: the text of a random uuid."""
    try:
        digits = _digits.pop()
    except IndexError:
        text = os.urandom(16 * _IDS_AT_ONCE).hex()
        digits = text[:32]
        _digits.extend(text[start : start + 32] for start in range(32, len(text), 32))
    # The bits that tell a random uuid: its version, 4, and its variant, 10 in binary.
    variant = "89ab"[int(digits[16], 16) % 4]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def queue_name(group: str | None) -> str:
    """The name of a group's queue: ``deferrable``, or ``deferrable_GROUP``."""
    return f"deferrable_{group}" if group else "deferrable"


def copy_item(item: Item) -> Item:
    """A copy of `item` that shares no dict and no list with it."""
    # Without recursion: what a broker holds may be nested deeper than the stack is.
    copy = dict(item)
    to_copy: list[Any] = [copy]
    while to_copy:
        container = to_copy.pop()
        members = container.items() if isinstance(container, dict) else enumerate(container)
        for place, member in list(members):
            if isinstance(member, dict | list):
                container[place] = member.copy()
                to_copy.append(container[place])
    return copy
