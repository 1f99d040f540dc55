"""Replace items in two steps, where the broker has no atomic one.

Owns which copies are pushed together, and which originals are then completed together.

The one rule: an original is completed only after its own copy was accepted. A copy that was
accepted is not pushed again, however often the completion of its original is retried.

A lone replacement waits for nobody. An original waits only while copies of other items are being
pushed, so that all of them are completed in one batch, and no longer than the queue allows.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

from deferrable.aio._contract.batching import Batcher, check_outcomes
from deferrable.aio._contract.entries import Push
from deferrable.aio._contract.hooks import QueueHooks
from deferrable.aio._contract.settlement import LOST_ADVICE
from deferrable.aio.envelope import Envelope
from deferrable.errors import LeaseLost

__all__ = ["Replacer"]


class _Copy(NamedTuple):
    """`push`, to be performed on `to` in the place of an item."""

    envelope: Envelope
    push: Push
    to: QueueHooks

    @property
    def mark(self) -> object:
        """What its envelope remembers of it."""
        return self.to, self.push.text


class Replacer:
    """Replaces items of `queue`, on one event loop."""

    def __init__(self, queue: QueueHooks) -> None:
        self._queue = queue
        # By their target. A target that goes takes its entry along: the batcher does not hold it.
        self._copies: WeakKeyDictionary[QueueHooks, Batcher[_Copy]] = WeakKeyDictionary()
        self._originals = Batcher(
            queue._complete_batch, queue.MAX_COMPLETE_BATCH_SIZE, gathers=True
        )
        self._copying = 0
        self._waiting = 0
        self._copied: asyncio.Event | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __call__(self, envelope: Envelope, push: Push, to: QueueHooks) -> None:
        """Perform `push` on `to`, then complete `envelope`."""
        copy = _Copy(envelope, push, to)
        if envelope.replacement != copy.mark:
            self._copying += 1
            try:
                await self._batcher(to)(copy)
            finally:
                self._copying -= 1
                if not self._copying:
                    self._wait_no_longer()
        if self._copying and self._queue.COMPLETE_GATHER_SECONDS:
            await self._wait_for_others()
        await self._originals(envelope)

    # The copies.

    def _batcher(self, to: QueueHooks) -> Batcher[_Copy]:
        batcher = self._copies.get(to)
        if batcher is None:
            batcher = Batcher(self._push, to.MAX_PUSH_BATCH_SIZE, gathers=True)
            self._copies[to] = batcher
        return batcher

    async def _push(self, copies: Sequence[_Copy]) -> Sequence[Exception | None]:
        # They may have waited for the batch before them.
        now = self._queue.clock.monotonic()
        outcomes: list[Exception | None] = [
            None if now <= each.envelope.lease_end_time else _lost(each.envelope) for each in copies
        ]
        held = [index for index, outcome in enumerate(outcomes) if outcome is None]
        if held:
            pushes = [copies[index].push for index in held]
            pushed = check_outcomes(held, await copies[0].to._push_batch(pushes))
            for index, outcome in zip(held, pushed, strict=True):
                outcomes[index] = outcome
                if outcome is None:
                    # Otherwise each further try to complete the original would push another one.
                    copies[index].envelope.replacement = copies[index].mark
        return outcomes

    # The originals.

    async def _wait_for_others(self) -> None:
        """Return when no copy is being pushed, or a batch is full, or the time is over."""
        copied = self._copied
        if copied is None:
            copied = self._copied = asyncio.Event()
            self._timer = asyncio.get_running_loop().call_later(
                self._queue.COMPLETE_GATHER_SECONDS, self._wait_no_longer
            )
        self._waiting += 1
        if self._waiting >= self._queue.MAX_COMPLETE_BATCH_SIZE:
            self._wait_no_longer()
        await copied.wait()

    def _wait_no_longer(self) -> None:
        if self._copied is not None:
            self._copied.set()
        if self._timer is not None:
            self._timer.cancel()
        self._copied = self._timer = None
        self._waiting = 0


def _lost(envelope: Envelope) -> LeaseLost:
    return LeaseLost(
        f"cannot replace {envelope!r}: its lease ended before its copy was pushed; {LOST_ADVICE}"
    )
