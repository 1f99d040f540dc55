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
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from deferrable.aio._contract.tasks import until_done
from deferrable.aio._engine.heartbeat import TOUCHES_PER_LEASE, touch_seconds
from deferrable.aio._engine.own_loop import run_on_own_loop
from deferrable.aio.clock import sleep
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Queue
from deferrable.errors import BackendError, LeaseLost

__all__ = ["Keeper", "Round", "plan_round"]

_logger = logging.getLogger("deferrable")


@dataclass(frozen=True, slots=True)
class Round:
    """What is to be done about the items held at one moment.

    Attributes:
        touches: the envelopes to be kept, by for how many seconds from now.
        ended: those whose lease ended unrenewed.
    """

    touches: Mapping[float, Sequence[Envelope]] = field(default_factory=dict)
    ended: Sequence[Envelope] = ()


def plan_round(
    held: Iterable[Envelope], now: float, lease_seconds: float, max_lease_seconds: float | None
) -> Round:
    """Decide about `held`: each is renewed for a lease, but not beyond the maximum after its pop.

    One that has reached the maximum is left to its end.
    """
    touches: dict[float, list[Envelope]] = {}
    ended: list[Envelope] = []
    for envelope in held:
        if now >= envelope.lease_end_time:
            ended.append(envelope)
            continue
        seconds = touch_seconds(envelope, now, lease_seconds, max_lease_seconds)
        if seconds > 0:
            touches.setdefault(seconds, []).append(envelope)
    return Round(touches, ended)


class Keeper:
    """Keeps leases from a thread of its own, from `start` to `stop`.

    Args:
        on_round: called in the keeper's thread after each round, with None, or why nothing could be
            renewed.
    """

    def __init__(self, on_round: Callable[[Queue, Exception | None], None]) -> None:
        self._on_round = on_round
        self._worker_loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._held: dict[Queue, dict[Envelope, Callable[[], None]]] = {}
        self._failing: set[Queue] = set()
        self._end: Callable[[], None] | None = None

    async def start(self, queues: Iterable[Queue]) -> None:
        """Begin to keep items of `queues`, called on the worker's loop."""
        self._worker_loop = loop = asyncio.get_running_loop()
        self._held = {queue: {} for queue in queues}
        is_ready: asyncio.Future[None] = loop.create_future()
        self._thread = threading.Thread(
            target=lambda: run_on_own_loop(self._serve(is_ready)),
            name="deferrable-keeper",
            daemon=True,
        )
        self._thread.start()
        cancellation = await until_done(is_ready)
        if cancellation is not None:
            await self.stop()
            raise cancellation

    def keep(self, queue: Queue, envelope: Envelope, on_lost: Callable[[], None]) -> None:
        """Renew the item's lease until it is let go. Replaces an earlier `on_lost` of it."""
        self._held[queue][envelope] = on_lost

    def let_go(self, queue: Queue, envelope: Envelope) -> None:
        """Touch the item no more. Harmless if it was let go before."""
        self._held[queue].pop(envelope, None)

    async def stop(self) -> None:
        """End the thread; called on the worker's loop. Harmless if it was not started."""
        if self._end is None or self._thread is None:
            return
        self._end()
        loop = asyncio.get_running_loop()
        try:
            joining = loop.run_in_executor(None, self._thread.join)
        except RuntimeError:  # the main thread has ended, and with it every executor
            self._thread.join()
        else:
            await until_done(joining)

    # In the keeper's thread.

    async def _serve(self, is_ready: "asyncio.Future[None]") -> None:
        loop, to_end = asyncio.get_running_loop(), asyncio.Event()

        def end() -> None:
            with suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(to_end.set)

        self._end = end
        keeping = [loop.create_task(self._keep(queue)) for queue in self._held]
        self._call_worker(partial(_set, is_ready))
        await to_end.wait()
        for task in keeping:
            task.cancel()
        await asyncio.wait(keeping)

    async def _keep(self, queue: Queue) -> None:
        while True:
            await sleep(queue.clock, self._rest_seconds(queue))
            error: Exception | None
            try:
                error = await self._go_round(queue)
            except Exception as unforeseen:  # an adapter's own mistake must not end it either
                error = unforeseen
            self._tell(queue, error)

    def _rest_seconds(self, queue: Queue) -> float:
        """Until the next round, or the first end of a lease if that comes before."""
        now = queue.clock.monotonic()
        # A copy in one step: the worker's thread adds and removes meanwhile.
        ends = (each.lease_end_time - now for each in list(self._held[queue]) if _is_open(each))
        return max(0.0, min(queue.lease_seconds / TOUCHES_PER_LEASE, min(ends, default=math.inf)))

    async def _go_round(self, queue: Queue) -> Exception | None:
        held = [envelope for envelope in list(self._held[queue]) if _is_open(envelope)]
        round_ = plan_round(
            held, queue.clock.monotonic(), queue.lease_seconds, queue.max_lease_seconds
        )
        for envelope in round_.ended:
            self._lose(queue, envelope)
        errors: list[Exception] = []
        is_answered = not round_.touches
        for seconds, envelopes in round_.touches.items():
            outcomes = await queue.touch_each(envelopes, seconds)
            for envelope, outcome in zip(envelopes, outcomes, strict=True):
                if outcome is None or isinstance(outcome, LeaseLost):
                    is_answered = True
                else:
                    errors.append(outcome)
                # One that is being settled meanwhile is not found, and not lost.
                if isinstance(outcome, LeaseLost) and _is_open(envelope):
                    self._lose(queue, envelope)
        return None if is_answered else errors[0]

    def _lose(self, queue: Queue, envelope: Envelope) -> None:
        on_lost = self._held[queue].pop(envelope, None)
        if on_lost is not None:
            _logger.warning(
                "lost the lease of %r after %.1f s (max_lease_seconds=%s); not completed here",
                envelope,
                queue.clock.monotonic() - envelope.pop_time,
                queue.max_lease_seconds,
            )
            self._call_worker(on_lost)

    def _tell(self, queue: Queue, error: Exception | None) -> None:
        if error is not None and queue not in self._failing:
            self._failing.add(queue)
            trace = None if isinstance(error, BackendError) else error
            _logger.error("cannot touch items of %r for now: %s", queue, error, exc_info=trace)
        elif error is None and queue in self._failing:
            self._failing.discard(queue)
            _logger.warning("items of %r are touched again", queue)
        self._on_round(queue, error)

    def _call_worker(self, callback: Callable[[], object]) -> None:
        assert self._worker_loop is not None
        with suppress(RuntimeError):  # the worker's loop has ended
            self._worker_loop.call_soon_threadsafe(callback)


def _set(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _is_open(envelope: Envelope) -> bool:
    return envelope.settlement == "open"
