"""Find items by their id, without taking them, and remove those that wait.

Owns the verbs of a queue that show where an item is, and that cancel it, for backends that can.

The rules: a look changes no lease, no order and no attempt. An item is removed in one step, against
every pop, so that what was removed is never delivered.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from deferrable.aio._contract.checks import Checks
from deferrable.aio._contract.entries import Push
from deferrable.errors import Unsupported
from deferrable.item import Item

__all__ = ["FINDERS", "REMEMBERED_SECONDS", "Found", "Inspecting", "Place", "each_found"]

REMEMBERED_SECONDS = 86_400
"""How long a queue remembers that an item was cancelled: one day."""

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


class Inspecting(Checks):
    """The verbs of a queue that finds items. An adapter with `SUPPORTS_INSPECTION` has
    the hooks.
    """

    async def _find(self, item_id: str) -> Found | None:
        """See `find`; called only if `SUPPORTS_INSPECTION`."""
        raise NotImplementedError

    async def _inspect(self, cursor: str, count: int) -> tuple[Sequence[Found], str]:
        """See `inspect`; called only if `SUPPORTS_INSPECTION`."""
        raise NotImplementedError

    async def _cancel(self, found: Found, *, is_remembered: bool) -> bool:
        """See `cancel` and `withdraw`; called only if `SUPPORTS_CANCEL`.

        Args:
            is_remembered: note, in the same step, that the item was cancelled.
        """
        raise NotImplementedError

    async def _hasten(self, found: Found, push: Push) -> bool:
        """See `hasten`; called only if `SUPPORTS_CANCEL`."""
        raise NotImplementedError

    async def _ask_to_stop(self, found: Found) -> bool:
        """See `ask_to_stop`; called only if `SUPPORTS_CANCEL`.

        From then on, a touch of the item by the consumer that holds it must set its envelope's
        ``is_stop_wanted``.
        """
        raise NotImplementedError

    async def _note_cancelled(self, item_id: str) -> None:
        """See `note_cancelled`; called only if `SUPPORTS_CANCEL`."""
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

    async def cancel(self, found: Found) -> bool:
        """Remove an item that no consumer holds, for good, and remember this for a day.

        Args:
            found: as `find` or `inspect` showed it, ``queued`` or ``delayed``.

        Returns:
            whether it was removed. False: it is not there any more; find it again.

        Raises:
            Unsupported: this queue cannot cancel items.
            BackendUnavailable: it may or may not have been removed; find it again.
        """
        return await self._take_out(found, is_remembered=True)

    async def withdraw(self, found: Found) -> bool:
        """Remove an item that no consumer holds, because another queue has it now.

        It works like `cancel`, but nothing says later that the item was cancelled.

        Args:
            found: as `find` or `inspect` showed it, ``queued`` or ``delayed``.

        Returns:
            whether it was removed. False: it is not there any more; find it again.

        Raises:
            Unsupported: this queue cannot cancel items.
            BackendUnavailable: it may or may not have been removed; find it again.
        """
        return await self._take_out(found, is_remembered=False)

    async def _take_out(self, found: Found, *, is_remembered: bool) -> bool:
        self._check_cancels()
        is_waiting = found.place in ("queued", "delayed")
        return is_waiting and await self._cancel(found, is_remembered=is_remembered)

    async def hasten(self, found: Found, item: Item) -> bool:
        """Make a delayed item available now, at the back of the queue.

        Args:
            found: as `find` or `inspect` showed it, ``delayed``.
            item: what replaces it, without a ``due_time``.

        Returns:
            whether it was done. False: it is not delayed any more.

        Raises:
            Unsupported: this queue cannot do so.
        """
        self._check_cancels()
        push = self.prepare(item, is_delayed=False, is_new=False)
        return found.place == "delayed" and await self._hasten(found, push)

    async def ask_to_stop(self, found: Found) -> bool:
        """Ask the consumer that holds an item to stop its job, at its next heartbeat.

        Args:
            found: as `find` or `inspect` showed it, ``in flight``.

        Returns:
            whether it was asked. False: that consumer does not hold it any more; find it again.

        Raises:
            Unsupported: this queue cannot do so.
        """
        self._check_cancels()
        return found.place == "in flight" and await self._ask_to_stop(found)

    async def note_cancelled(self, item_id: str) -> None:
        """Remember for a day that an item was cancelled, which was completed for that.

        Raises:
            Unsupported: this queue cannot cancel items.
        """
        self._check_cancels()
        await self._note_cancelled(item_id)

    def _check_cancels(self) -> None:
        if not self.SUPPORTS_CANCEL:
            raise Unsupported(
                f"{self!r} cannot cancel items; {FINDERS} can (SUPPORTS_CANCEL says so)"
            )

    def _check_inspects(self) -> None:
        if not self.SUPPORTS_INSPECTION:
            raise Unsupported(
                f"{self!r} cannot find items without taking them; {FINDERS} can "
                "(SUPPORTS_INSPECTION says so)"
            )


async def each_found(queue: Inspecting, count: int = 500) -> AsyncIterator[Found]:
    """All items of a queue and where they are, one by one; see `Inspecting.inspect`.

    Args:
        count: about how many to look at together.
    """
    cursor = ""
    while True:
        page, cursor = await queue.inspect(cursor, count)
        for found in page:
            yield found
        if not cursor:
            return
