"""Looking through an error queue.

Owns the iteration over error items: each once, leased while it lasts, and given back at its end
unless it was requeued or discarded. It may not know the broker, nor run any job. Nothing of an item
is decoded before it is asked for.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from deferrable.aio._closing import Closing
from deferrable.aio.backend.base import Backend
from deferrable.aio.clock import Clock, sleep
from deferrable.aio.envelope import Envelope
from deferrable.aio.heartbeat import TOUCHES_PER_LEASE
from deferrable.errors import BackendError
from deferrable.item import Item
from deferrable.lifecycle import requeued
from deferrable.serialization import DecodedCall, serializer_for

__all__ = ["ErrorItem", "ErrorItems"]

_logger = logging.getLogger("deferrable")


class ErrorItem:
    """One item of an error queue.

    Attributes:
        item: the item, with its ``error``.
    """

    def __init__(self, backend: Backend, clock: Clock, envelope: Envelope, item: Item) -> None:
        self._backend = backend
        self._clock = clock
        self._envelope = envelope
        self.item = item

    @property
    def id(self) -> str | None:
        """The item's id; None for items of the Python 2 library."""
        item_id = self.item.get("id")
        return item_id if isinstance(item_id, str) else None

    @property
    def error(self) -> Mapping[str, Any]:
        """``error_type``, ``error_text``, ``traceback``, ``hostname``, ``ts``, ``id``."""
        error = self.item.get("error")
        return error if isinstance(error, dict) else {}

    @property
    def call(self) -> DecodedCall:
        """The call that failed, decoded now.

        Raises:
            UnreadableItem: it does not decode.
        """
        return serializer_for(self.item).load_call(self.item)

    async def requeue(self) -> None:
        """Have it run again, as if it were new: its attempts and its ttl begin anew.

        Raises:
            UnreadableItem: it names no job at all; it stays in the error queue.
            LeaseLost: it is no longer held: the iteration has ended, or another one has it.
        """
        if "object" not in self.item:
            serializer_for(self.item).load_name(self.item)
        item = requeued(self.item, self._clock.time())
        await self._backend.error_queue.replace(self._envelope, item, self._backend.queue)

    async def discard(self) -> None:
        """Remove it for good.

        Raises:
            LeaseLost: it is no longer held: the iteration has ended, or another one has it.
        """
        await self._backend.error_queue.complete(self._envelope)

    def __repr__(self) -> str:
        return f"<ErrorItem {self.id} {self.error.get('error_type')}>"


class ErrorItems(Closing):
    """An iteration over an error queue; ``async for``, once."""

    def __init__(self, backend: Backend, clock: Clock) -> None:
        self._backend = backend
        self._clock = clock
        self._held: list[Envelope] = []
        self._seen_ids: set[str] = set()
        self._keeper: asyncio.Task[None] | None = None

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
            popped = await queue.pop_batch(min(count, queue.MAX_POP_BATCH_SIZE))
            if not popped:
                break
            self._held = [*self._unsettled(), *(envelope for envelope, _ in popped)]
            if self._keeper is None:
                self._keeper = asyncio.get_running_loop().create_task(self._keep())
            for envelope, item in popped:
                # One that was requeued and has failed again meanwhile is left for another time.
                entry = ErrorItem(self._backend, self._clock, envelope, item)
                if entry.id is None or entry.id not in self._seen_ids:
                    self._seen_ids.update(filter(None, [entry.id]))
                    entries.append(entry)
        return entries

    async def close(self) -> None:
        """Give back what was neither requeued nor discarded. Twice is harmless."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        held, self._held = self._unsettled(), []
        if held:
            await self._backend.error_queue.release_batch(held)

    def _unsettled(self) -> list[Envelope]:
        return [envelope for envelope in self._held if envelope.settlement == "open"]

    async def _keep(self) -> None:
        queue = self._backend.error_queue
        while True:
            await sleep(queue.clock, queue.lease_seconds / TOUCHES_PER_LEASE)
            touches = (queue.touch(each, queue.lease_seconds) for each in self._unsettled())
            for outcome in await asyncio.gather(*touches, return_exceptions=True):
                if isinstance(outcome, BackendError):
                    _logger.warning("cannot keep an error item: %s", outcome)
