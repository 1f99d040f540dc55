"""What a queue adapter implements.

Owns the hooks, which `deferrable.aio.Queue` calls, and their promises. The class `Queue` says how
they work together.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence

from deferrable._one_process import OneProcess
from deferrable.aio._contract.entries import Peeked, Push, Release, Touch
from deferrable.aio._contract.flags import QueueFlags
from deferrable.aio._contract.popping import Popped
from deferrable.aio.clock import Clock
from deferrable.aio.envelope import Envelope

__all__ = ["QueueHooks"]


class QueueHooks(QueueFlags, OneProcess, ABC):
    """The hooks of a queue, and what each adapter has. Only `deferrable.aio.Queue` inherits it."""

    lease_seconds: float
    max_lease_seconds: float | None
    max_redeliveries: float
    clock: Clock

    @property
    def identity(self) -> Hashable | None:
        """Equal for two queue objects with the same items; None: unknown.

        A worker refuses two objects of one queue. An adapter must answer without I/O.
        """
        return None

    async def locate(self) -> Hashable | None:
        """As `identity`, but also equal for two objects that were given different addresses.

        An adapter asks its broker for the name of the place, if the broker has one.

        Raises:
            BackendUnavailable: the broker could not be reached.
        """
        return self.identity

    @abstractmethod
    async def _push_batch(self, pushes: Sequence[Push]) -> Sequence[Exception | None]:
        """Store the items, each available after its own delay.

        They were checked against the flags. The item belongs to the caller: the hook must neither
        change nor keep it. It stores the text.
        """

    @abstractmethod
    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        """Take up to `count` items, waiting for the first one as long as the queue is set to.

        `count` is at most `MAX_POP_BATCH_SIZE` times `BATCHES_AT_ONCE`. Return an empty sequence
        when the wait ended without items. A caller that gives up does not cancel it, but asks it to
        end by `_interrupt_pop`. It is cancelled when its loop shuts down; its items must then come
        back after their lease.
        """

    @abstractmethod
    async def _touch_batch(self, touches: Sequence[Touch]) -> Sequence[Exception | None]:
        """Move the end of each lease to at least now + its seconds, never back.

        An item that no longer belongs to this consumer gets `LeaseLost`.
        """

    @abstractmethod
    async def _complete_batch(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        """Remove each item for good. Return `LeaseLost` for one that this consumer lost."""

    @abstractmethod
    async def _release_batch(self, releases: Sequence[Release]) -> Sequence[Exception | None]:
        """Give each item back as its `Release` says.

        They are in the order in which they were popped. Those that go to the front must be popped
        in that order again. One that no longer belongs to this consumer gets `LeaseLost`.
        """

    @abstractmethod
    async def _flush(self) -> None:
        """Empty the queue: available, delayed and in flight, without waiting."""

    @abstractmethod
    async def _stats(self) -> Mapping[str, float]:
        """Those numbers of `stats` that the broker knows, and further ones of the adapter."""

    async def _peek(self, cursor: str, count: int) -> tuple[Sequence[Peeked], str]:
        """See `peek`; called only if `SUPPORTS_PEEK`."""
        raise NotImplementedError

    async def _pop_keys(self, keys: Sequence[str]) -> Sequence[Popped | None]:
        """See `pop_keys`; called only if `SUPPORTS_PEEK`."""
        raise NotImplementedError

    async def _close(self) -> None:
        """Close the adapter's connections, on every loop. May be called several times."""
        return

    def _interrupt_pop(self) -> None:
        """Make a `_pop_batch` that waits on the running loop return soon. May do nothing."""
        return

    def _most_item_bytes(self) -> float:
        """The most bytes of an item as it is sent: `MAX_ITEM_BYTES`, or less if that is known.

        An adapter whose queues have their own limits overrides this.
        """
        return self.MAX_ITEM_BYTES

    def _travelling_bytes(self, text: str, *, is_new: bool) -> int:
        """How many bytes are sent for an item's text.

        An adapter that can make it shorter overrides this. An item that `replace` pushes is not
        new: its first push was accepted, and the data added since must not block it here.
        """
        return len(text)

    # What a worker calls.

    async def wait_for_items(self, seconds: float) -> None:
        """Return when a pop may find something, after `seconds` at the latest.

        A worker calls it between two pops of a queue whose pops do not wait. An adapter that learns
        of a push without asking its broker may return then.
        """
        await asyncio.sleep(seconds)

    async def end_pops(self) -> None:
        """Return once no pop has left a request running on this loop; its items are released.

        A worker calls it when it stops polling. An adapter whose pops leave nothing does nothing.
        """
        return
