"""Look through an error queue.

Owns the iteration over error items: each once, leased during the iteration, and given back at its
end unless it was requeued or discarded. Owns also the look at them without a lease, for callers
that only show them or take a few of many. No job runs here, and a call is decoded only on request.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from deferrable._codec.serializers import DecodedCall
from deferrable._wrong_api import AsyncFor
from deferrable.aio._contract.closing import Closing
from deferrable.aio._engine.instance import Instance
from deferrable.aio._engine.keeper import Keeper, keeper
from deferrable.aio.backend.base import Backend
from deferrable.aio.envelope import Envelope
from deferrable.errors import LeaseLost
from deferrable.item import Item
from deferrable.lifecycle import requeued

__all__ = ["ErrorItem", "ErrorItems"]


class ErrorItem:
    """One item of an error queue.

    Attributes:
        item: the item, with its ``error``.
    """

    def __init__(
        self,
        instance: Instance,
        backend: Backend,
        envelope: Envelope | None,
        item: Item,
        key: str | None = None,
    ) -> None:
        self._instance = instance
        self._backend = backend
        self._envelope = envelope
        self._key = key
        self.item = item

    @property
    def id(self) -> str | None:
        """The item's id; None for items of the Python 2 library."""
        item_id = self.item.get("id")
        return item_id if isinstance(item_id, str) else None

    @property
    def error(self) -> Mapping[str, Any]:
        """``error_type``, ``error_text``, ``traceback``, ``hostname``, ``ts``, ``id``.

        And ``reason``, why it was not retried, if one was recorded.
        """
        error = self.item.get("error")
        return error if isinstance(error, dict) else {}

    @property
    def call(self) -> DecodedCall:
        """The call that failed, decoded now.

        Raises:
            UnreadableItem: it cannot be decoded, or the instance must not read it.
        """
        self._instance.protection.check(self.item, self._backend.group)
        return self._instance.registry.decode(self.item)

    async def requeue(self) -> None:
        """Run it again, as if it were new: its attempts and its ttl start again.

        Raises:
            UnreadableItem: it names no job at all, or the instance must not read it; it stays in
                the error queue.
            LeaseLost: it is no longer held: the iteration has ended, or another one has it.
        """
        protection, group = self._instance.protection, self._backend.group
        if not self._is_foreign:  # nobody has signed such a message, and it names no job
            protection.check(self.item, group)
            if "object" not in self.item:
                protection.serializer_for(self.item).load_name(self.item)
        item = protection.signed(requeued(self.item, self._instance.clock.time()), group)
        held, store = self._held, self._instance.results
        if store is not None and self.item.get("keep_results_seconds") and self.id is not None:
            # Before it is there again: a new run may end at once, and its result is to stay.
            await store.forget(self.id)
        await self._backend.error_queue.replace(held, item, self._backend.queue)

    async def discard(self) -> None:
        """Remove it for good.

        Raises:
            LeaseLost: it is no longer held: the iteration has ended, or another one has it.
        """
        await self._backend.error_queue.complete(self._held)

    @property
    def _is_foreign(self) -> bool:
        """Whether it holds the body of a message of somebody else, which its queue can read."""
        is_raw = isinstance(self.item.get("raw"), str) and "method" not in self.item
        return is_raw and self._backend.queue.READS_FOREIGN

    @property
    def _held(self) -> Envelope:
        if self._envelope is None:
            raise LeaseLost(f"{self!r} was only shown, not leased; take it first")
        return self._envelope

    def __repr__(self) -> str:
        return f"<ErrorItem {self.id} {self.error.get('error_type')}>"


class ErrorItems(Closing, AsyncFor):
    """An iteration over an error queue; ``async for``, once."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._backend = instance.backend
        self._held: list[Envelope] = []
        self._seen_ids: set[str] = set()
        self._keeper: Keeper | None = None
        self._cursor: str | None = ""

    async def __aiter__(self) -> AsyncGenerator[ErrorItem, None]:
        try:
            while (entry := await self.next_item()) is not None:
                yield entry
        finally:
            await self.close()

    async def next_item(self) -> ErrorItem | None:
        """The next one that was not seen yet; None at the end."""
        return next(iter(await self.next_items(1)), None)

    async def next_items(self, count: int) -> list[ErrorItem]:
        """The next ones that were not seen yet, up to `count` of them; none at the end."""
        queue = self._backend.error_queue
        entries: list[ErrorItem] = []
        while not entries:
            popped = await queue.pop_at_once(min(count, queue.MAX_POP_BATCH_SIZE))
            if not popped:
                break
            self._hold([envelope for envelope, _ in popped])
            entries = [
                entry
                for envelope, item in popped
                if self._is_new(entry := ErrorItem(self._instance, self._backend, envelope, item))
            ]
        return entries

    async def peek_items(self, count: int) -> list[ErrorItem]:
        """The next ones that were not seen yet, about `count`; none at the end.

        Nothing is leased if the queue can show items without a lease. Otherwise they are leased
        until the iteration is closed, as by `next_items`.
        """
        queue = self._backend.error_queue
        if not queue.SUPPORTS_PEEK:
            return await self.next_items(count)
        entries: list[ErrorItem] = []
        while not entries and self._cursor is not None:
            page, cursor = await queue.peek(self._cursor, count)
            self._cursor = cursor or None
            entries = [
                entry
                for each in page
                if self._is_new(
                    entry := ErrorItem(self._instance, self._backend, None, each.item, each.key)
                )
            ]
        return entries

    async def take(self, entries: Sequence[ErrorItem]) -> list[ErrorItem]:
        """Lease items that were only shown. Return those that still exist and that nobody else
        holds.
        """
        taken = [entry for entry in entries if entry._envelope is not None]
        wanted = {entry._key: entry for entry in entries if entry._envelope is None}
        keys = [key for key in wanted if key is not None]
        popped = await self._backend.error_queue.pop_keys(keys) if keys else []
        for key, each in zip(keys, popped, strict=True):
            if each is not None:
                entry = wanted[key]
                entry._envelope, entry.item = each
                taken.append(entry)
        self._hold([each[0] for each in popped if each is not None])
        return taken

    async def give_back(self) -> None:
        """Give held items back before the end, if the queue can show them without a lease."""
        if self._backend.error_queue.SUPPORTS_PEEK:
            await self.close()

    async def close(self) -> None:
        """Give back items that were neither requeued nor discarded. May be called twice."""
        leases, self._keeper = self._keeper, None
        held, self._held = self._unsettled(), []
        if leases is None:
            return
        queue = self._backend.error_queue
        for envelope in held:
            leases.let_go(queue, envelope)
        try:
            if held:
                await queue.release_batch(held)
        finally:
            await leases.tidy()

    def _is_new(self, entry: ErrorItem) -> bool:
        """Whether it was not seen yet. An item that failed again meanwhile is left for later."""
        # An item without an id may come again, too: its lease can be lost during the iteration.
        known_by = entry.id or entry._key or entry.error.get("id")
        if not isinstance(known_by, str):
            return True
        if known_by in self._seen_ids:
            return False
        self._seen_ids.add(known_by)
        return True

    def _hold(self, envelopes: Sequence[Envelope]) -> None:
        self._held = [*self._unsettled(), *envelopes]
        self._keeper = leases = keeper(asyncio.get_running_loop())
        for envelope in envelopes:
            leases.keep(self._backend.error_queue, envelope, _note_nothing)

    def _unsettled(self) -> list[Envelope]:
        return [envelope for envelope in self._held if envelope.settlement == "open"]


def _note_nothing() -> None:
    """Do nothing: the settlement of the item will raise `LeaseLost`."""
