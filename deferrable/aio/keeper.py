"""The keeper: every lease of a worker, renewed from a thread of its own.

Owns when held items are touched, in batches, and what a failed touch means. It may not know jobs or
attempts: it calls back, on the worker's loop, when a lease is lost. Its thread has its own event
loop and so its own broker connections, because a job may hold the worker's loop for as long as it
likes.

The one rule: a broker that cannot be reached does not end a lease. Only the broker's word, or the
moment at which the lease ends unrenewed, does.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from deferrable.aio.clock import sleep
from deferrable.aio.envelope import Envelope
from deferrable.aio.heartbeat import TOUCHES_PER_LEASE, has_run_out
from deferrable.aio.queue import Queue
from deferrable.errors import LeaseLost

__all__ = ["Keeper"]

_logger = logging.getLogger("deferrable")


@dataclass(eq=False, slots=True)
class _Kept:
    envelope: Envelope
    on_lost: Callable[[], None]


class Keeper:
    """Keeps leases from a thread of its own, from `start` to `stop`.

    Args:
        on_touched: called in the keeper's thread after each round in which the broker answered.
    """

    def __init__(self, on_touched: Callable[[Queue], None]) -> None:
        self._on_touched = on_touched
        self._worker_loop: asyncio.AbstractEventLoop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._rounds: dict[Queue, dict[Envelope, _Kept]] = {}
        self._tasks: dict[Queue, asyncio.Task[None]] = {}
        self._stopped: asyncio.Event | None = None

    def start(self, queues: Sequence[Queue]) -> None:
        """Begin to keep items of `queues`; called on the worker's loop."""
        self._worker_loop = asyncio.get_running_loop()
        self._rounds = {queue: {} for queue in queues}
        is_ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(is_ready)), name="deferrable-keeper", daemon=True
        )
        self._thread.start()
        is_ready.wait()

    def keep(self, queue: Queue, envelope: Envelope, on_lost: Callable[[], None]) -> None:
        """Renew the item's lease until it is let go. Replaces an earlier `on_lost` of it."""
        self._rounds[queue][envelope] = _Kept(envelope, on_lost)

    def let_go(self, queue: Queue, envelope: Envelope) -> None:
        """Touch the item no more. Harmless if it was let go before."""
        self._rounds[queue].pop(envelope, None)

    async def stop(self) -> None:
        """End the thread; called on the worker's loop."""
        loop, stopped, thread = self._loop, self._stopped, self._thread
        if loop is None or stopped is None or thread is None:
            return
        with suppress(RuntimeError):  # its loop has ended by itself
            loop.call_soon_threadsafe(stopped.set)
        await asyncio.get_running_loop().run_in_executor(None, thread.join)

    async def _serve(self, is_ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        tasks = [asyncio.create_task(self._go_round(queue)) for queue in self._rounds]
        is_ready.set()
        await self._stopped.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _go_round(self, queue: Queue) -> None:
        while True:
            await sleep(queue.clock, queue.lease_seconds / TOUCHES_PER_LEASE)
            # A copy in one step: the worker's thread adds and removes meanwhile.
            kept = list(self._rounds[queue].values())
            due = [each for each in kept if self._is_to_be_kept(queue, each)]
            if due:
                try:
                    await self._touch(queue, due)
                except Exception:
                    _logger.exception("the keeper of %r failed; it goes on", queue)

    def _is_to_be_kept(self, queue: Queue, kept: _Kept) -> bool:
        if kept.envelope.settlement != "open":
            return False
        if not has_run_out(queue, kept.envelope):
            return True
        self.let_go(queue, kept.envelope)
        return False

    async def _touch(self, queue: Queue, kept: Sequence[_Kept]) -> None:
        envelopes = [each.envelope for each in kept]
        outcomes = await queue.touch_each(envelopes, queue.lease_seconds)
        is_answered = False
        for each, outcome in zip(kept, outcomes, strict=True):
            if outcome is None or isinstance(outcome, LeaseLost):
                is_answered = True
            if isinstance(outcome, LeaseLost) and each.envelope.settlement == "open":
                self._lose(queue, each)
        if is_answered:
            self._on_touched(queue)

    def _lose(self, queue: Queue, kept: _Kept) -> None:
        if self._rounds[queue].pop(kept.envelope, None) is None:
            return
        _logger.warning("lost the lease of %r; it is not completed here", kept.envelope)
        if self._worker_loop is not None:
            with suppress(RuntimeError):  # the worker's loop has ended
                self._worker_loop.call_soon_threadsafe(kept.on_lost)
