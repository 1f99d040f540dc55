"""How the single calls of a queue are sent.

Owns the choice: gathered into batches on an event loop, or one by one where there is no loop.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Self

from deferrable.aio._contract.batching import Batcher, check_outcomes
from deferrable.aio._contract.entries import Push
from deferrable.aio._contract.hooks import QueueHooks
from deferrable.aio._contract.popping import Popper
from deferrable.aio._contract.replacing import Replacer
from deferrable.aio.envelope import Envelope

__all__ = ["OneByOne", "Traffic"]


class Traffic:
    """The running calls on one event loop."""

    def __init__(
        self,
        queue: QueueHooks,
        return_unasked: Callable[[Sequence[Envelope]], Awaitable[None]],
    ) -> None:
        self.push = Batcher(queue._push_batch, queue.MAX_PUSH_BATCH_SIZE)
        self.touch = Batcher(queue._touch_batch, queue.MAX_TOUCH_BATCH_SIZE)
        self.complete = Batcher(queue._complete_batch, queue.MAX_COMPLETE_BATCH_SIZE)
        self.replace = Replacer(queue)
        self.release = Batcher(queue._release_batch, queue.MAX_RELEASE_BATCH_SIZE)
        self.pop = Popper(
            queue._pop_batch,
            return_unasked,
            queue._interrupt_pop,
            queue.MAX_POP_BATCH_SIZE * queue.BATCHES_AT_ONCE,
        )


class OneByOne:
    """The calls of a queue that has no loop: each is sent alone."""

    def __init__(self, queue: QueueHooks) -> None:
        self._queue = queue

    def get(self) -> Self:
        return self

    async def push(self, push: Push) -> None:
        (outcome,) = check_outcomes([push], await self._queue._push_batch([push]))
        if outcome is not None:
            raise outcome
