"""Calls that stand for messages which somebody else wrote.

Owns what a queue needs of such a call: the item for it. ``job.call(...)`` returns one.
"""

from collections.abc import Mapping
from typing import Protocol

from deferrable.item import Item

__all__ = ["ItemMaker"]


class ItemMaker(Protocol):
    """A call of a job, with its arguments and options."""

    def make_item(
        self, call_id: str, sent_time: float, attributes: Mapping[str, str], group_id: str | None
    ) -> Item:
        """A new item for the call, signed if its instance signs.

        Args:
            call_id: the id of the item.
            sent_time: when the message was sent; a delay and a ttl count from then.
            attributes: of the message; options of the call may add some, or override them.
            group_id: the message group of the item, unless the options of the call give one.

        Raises:
            DeferrableError: there is no item for it.
        """
        ...
