"""Retry a settlement that the broker refused.

Owns which refusals are final, how long the others are retried, and what the log says meanwhile.

The one rule: the item of a job that has run is settled while its lease lasts, whatever the broker
answers. A list of answers that are worth a retry would never be complete; the list of final
answers is short. An exception that is no `BackendError` is a mistake in a hook of the queue, which
may repeat for ever. So it is retried only until the lease ends that the item had at the first one.
"""

import asyncio
import logging
import math
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from deferrable.aio.clock import Clock
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Queue
from deferrable.aio.worker._polling import reconnect_seconds
from deferrable.errors import BackendError, DeferrableError, ItemTooLarge, LeaseLost, Unsupported

__all__ = ["Patience"]

T = TypeVar("T")

_logger = logging.getLogger("deferrable")


def _is_final(error: Exception) -> bool:
    """Whether the same settlement can never succeed."""
    if isinstance(error, BackendError):
        return isinstance(error, LeaseLost | ItemTooLarge | Unsupported)
    return isinstance(error, DeferrableError)  # the item cannot be written


class Patience:
    """The patience of one worker, on its own loop.

    Attributes:
        is_over: settlements that the broker refuses are not retried any more.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._pauses: set[asyncio.Event] = set()
        self._unsettled: dict[Queue, set[Envelope]] = {}

    def end(self) -> None:
        """Make all waiting settlements try once more now, and not again."""
        self.is_over = True
        for pause in self._pauses:
            pause.set()

    async def settle(
        self, queue: Queue, envelope: Envelope, start: Callable[[], Coroutine[Any, Any, T]]
    ) -> T:
        """Settle an item of `queue`, with as many tries as needed while its lease lasts.

        Args:
            start: begins one try.

        Raises:
            LeaseLost: the lease ended before the settlement succeeded.
            Exception: it can never succeed, or the patience is over.
        """
        failures, end_time = 0, math.inf
        try:
            while True:
                try:
                    return await start()
                except Exception as error:
                    now = queue.clock.monotonic()
                    if _is_final(error):
                        raise
                    if now >= envelope.lease_end_time:
                        raise LeaseLost(
                            f"{envelope!r} could not be settled before its lease ended: {error}"
                        ) from error
                    if not isinstance(error, BackendError):
                        end_time = min(end_time, envelope.lease_end_time)
                    if self.is_over or now >= end_time:
                        raise
                    self.note_refusal(queue, envelope, error)
                failures += 1
                await self.pause(queue.clock, failures)
        finally:
            self.forget(queue, envelope)

    async def pause(self, clock: Clock, failures: int) -> None:
        """Wait before the next try, longer after each failure, until the patience is over."""
        pause = asyncio.Event()
        timer = clock.call_later(reconnect_seconds(failures, random.random()), pause.set)
        self._pauses.add(pause)
        try:
            await pause.wait()
        finally:
            self._pauses.discard(pause)
            timer.cancel()

    def note_refusal(self, queue: Queue, envelope: Envelope, error: Exception) -> None:
        """It is retried. The log says so once for all items of a queue."""
        unsettled = self._unsettled.setdefault(queue, set())
        if not unsettled:
            _logger.error(
                "items of %r cannot be settled now; the worker retries while their leases last: %s",
                queue,
                error,
                exc_info=None if isinstance(error, BackendError) else error,
            )
        unsettled.add(envelope)

    def forget(self, queue: Queue, envelope: Envelope) -> None:
        """It is not retried any more. The log says when that is true of all items of a queue."""
        unsettled = self._unsettled.get(queue)
        if unsettled and envelope in unsettled:
            unsettled.discard(envelope)
            if not unsettled and envelope.settlement == "done":
                _logger.warning("items of %r are settled again", queue)
