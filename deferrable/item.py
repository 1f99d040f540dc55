"""The item: a plain dict of JSON values.

Owns the names of the fields that all modules read or write, how an item is copied, and the name of
a group's queue.

The one rule: an item is never changed once lent. To change it, make a copy.
"""

import os
from typing import Any, TypeAlias

from deferrable._fork import on_fork

__all__ = ["CALL_FIELDS", "Item", "copy_item", "group_text", "id_text", "new_id", "queue_name"]

Item: TypeAlias = dict[str, Any]
"""A plain dict of JSON values (str keys; str, int, float, bool, None, lists and dicts of them)."""

CALL_FIELDS = frozenset({"method", "args", "kwargs"})
"""Every item of a call has them, whatever its serializer."""


_IDS_AT_ONCE = 256  # One at a time would cost a system call and six slices for each.
_FORM = b"xxxxxxxx-xxxx-4xxx-vxxx-xxxxxxxxxxxx "
"""A random uuid, its version 4; v is a digit with two bits of the variant. Source: RFC 9562."""
_RANDOM_COLUMNS = [column for column, mark in enumerate(_FORM) if mark in b"xv"]
_VARIANT_COLUMN = _FORM.index(b"v")
_VARIANTS = bytes.maketrans(b"0123456789abcdef", b"89ab" * 4)


class _Ids(list[str]):
    """Ids that were made ahead."""

    def forget(self) -> None:
        self.clear()


_ids = _Ids()
on_fork(_ids.forget)  # or parent and child would use the same ids


def new_id() -> str:
    """A fresh identifier: the text of a random uuid."""
    try:
        return _ids.pop()
    except IndexError:
        first, *others = _random_ids()
        _ids.extend(others)
        return first


def _random_ids() -> list[str]:
    digits = os.urandom(16 * _IDS_AT_ONCE).hex().encode()
    lines = bytearray(_FORM * _IDS_AT_ONCE)
    # One column of all of them at a time.
    for number, column in enumerate(_RANDOM_COLUMNS):
        lines[column :: len(_FORM)] = digits[number::32]
    variants = lines[_VARIANT_COLUMN :: len(_FORM)].translate(_VARIANTS)
    lines[_VARIANT_COLUMN :: len(_FORM)] = variants
    return lines.decode().split()


def id_text(item: Item) -> str:
    """The item's id for logs: one short line, whatever the field holds."""
    item_id = item.get("id")
    if not isinstance(item_id, str):
        return str(item_id) if item_id is None else f"<{type(item_id).__name__}>"
    return item_id if item_id.isprintable() and len(item_id) <= 100 else ascii(item_id[:100])


def queue_name(group: str | None) -> str:
    """The name of a group's queue: ``deferrable``, or ``deferrable_GROUP``."""
    return f"deferrable_{group}" if group else "deferrable"


def group_text(group: str | None) -> str:
    """The text for a group in a repr."""
    return f"group {group!r}" if group else "no group"


def copy_item(item: Item) -> Item:
    """A copy of `item` that shares no dict and no list with it."""
    # Without recursion: an item from a broker may be nested deeper than the stack allows.
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
