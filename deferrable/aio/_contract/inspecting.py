"""Find items by their id, without taking them.

Owns the verbs of a queue that show where an item is, for backends that can. The rule: they change
no lease, no order and no attempt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from deferrable.aio._contract.flags import QueueFlags
from deferrable.errors import Unsupported
from deferrable.item import Item

__all__ = ["FINDERS", "Found", "Inspecting", "Place"]

Place: TypeAlias = Literal["queued", "delayed", "in flight", "cancelled"]

FINDERS = "the backends in memory, in Redis (Dockets) and in SQLite"
"""The backends whose queues find items, for errors."""


@dataclass(frozen=True, slots=True)
class Found:
    """An item, and where it was at one moment.

    Attributes:
        item: the item; empty if only the memory of its cancellation is left.
        place: ``queued`` (a pop may take it), ``delayed``, ``in flight`` (a consumer holds it), or
            ``cancelled`` (it was removed, and will not run).
        key: what the adapter needs to find it again; no other code reads it.
        available_time: when a delayed one becomes available, in epoch seconds.
        worker: the id of the consumer that holds it.
        running_since: when that consumer took it, in epoch seconds.
        lease_until: when its lease ends unless it is renewed, in epoch seconds.
    """

    item: Item
    place: Place
    key: object = None
    available_time: float | None = None
    worker: str | None = None
    running_since: float | None = None
    lease_until: float | None = None


class Inspecting(QueueFlags):
    """The verbs of a queue that finds items. An adapter with `SUPPORTS_INSPECTION` has
    the hooks.
    """

    async def _find(self, item_id: str) -> Found | None:
        """See `find`; called only if `SUPPORTS_INSPECTION`."""
        raise NotImplementedError

    async def _inspect(self, cursor: str, count: int) -> tuple[Sequence[Found], str]:
        """See `inspect`; called only if `SUPPORTS_INSPECTION`."""
        raise NotImplementedError

    async def find(self, item_id: str) -> Found | None:
        """The item with this id, and where it is now; None: it is not here.

        An item that moves while it is looked for may be missed in a large queue.

        Raises:
            Unsupported: this queue cannot find items.
        """
        self._check_inspects()
        return await self._find(item_id)

    async def inspect(self, cursor: str = "", count: int = 500) -> tuple[list[Found], str]:
        """All items and where they are, a page at a time, without taking them.

        An item that stays in its place from the first page to the last is shown at least once.

        Args:
            cursor: as the previous page returned it; empty: begin.
            count: about how many to look at.

        Returns:
            a page, which may be empty, and the cursor of the next page. An empty cursor means that
            this was the last page.

        Raises:
            Unsupported: this queue cannot show items without taking them.
        """
        self._check_inspects()
        found, cursor = await self._inspect(cursor, count)
        return list(found), cursor

    def _check_inspects(self) -> None:
        if not self.SUPPORTS_INSPECTION:
            raise Unsupported(
                f"{self!r} cannot find items without taking them; {FINDERS} can "
                "(SUPPORTS_INSPECTION says so)"
            )
