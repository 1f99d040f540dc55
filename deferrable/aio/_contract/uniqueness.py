"""Unique keys: of all items that hold one key, a queue has one at most.

Owns when an item has a key, and the verb that ends its hold before the item ends.

The rules: the item itself holds its key, in every state, from the step that pushes it to the step
that settles it. A step that fails for a lost lease frees nothing. The items of an error queue hold
no keys.
"""

from deferrable.aio._contract.settlement import Settling
from deferrable.aio.envelope import Envelope
from deferrable.errors import Unsupported
from deferrable.item import Item

__all__ = ["KEEPERS", "Unique", "unique_key_of"]

KEEPERS = "the backends in memory, in Redis (Dockets) and in SQLite"
"""The backends whose queues keep unique keys, for errors."""


def unique_key_of(item: Item) -> str | None:
    """The unique key that an item holds in the main queue; None: it has none.

    An item with an error belongs to the error queue, where no keys are held.
    """
    key = item.get("unique_key")
    if isinstance(key, str) and isinstance(item.get("id"), str) and "error" not in item:
        return key
    return None


class Unique(Settling):
    """The verb of a queue that keeps unique keys. An adapter with `SUPPORTS_UNIQUE` has the hook,
    and a `_replace` of one step, in which the new item takes over the key that the old one holds.
    """

    async def _free_key(self, envelope: Envelope) -> None:
        """See `free_key`; called only if `SUPPORTS_UNIQUE`.

        Raises:
            LeaseLost: the item no longer belongs to this consumer; the key stays.
        """
        raise NotImplementedError

    async def free_key(self, envelope: Envelope) -> None:
        """Let go of the unique key of a popped item, which stays popped. It never gets it back.

        Nothing happens if the item holds no key.

        Raises:
            LeaseLost: the item no longer belongs to this consumer; the key stays.
            Unsupported: this queue keeps no unique keys.
            BackendUnavailable: it may or may not have been freed; calling again is allowed.
        """
        if not self.SUPPORTS_UNIQUE:
            raise Unsupported(
                f"{self!r} keeps no unique keys; {KEEPERS} do (SUPPORTS_UNIQUE says so)"
            )
        self._check_held("free the key of", envelope)
        await self._free_key(envelope)
