"""When the held items of a queue are touched.

Owns the rounds: which items are touched together, when the next round is due, and what a failed
touch means. When a lease is lost, it calls back on the loop of the item's holder.

The one rule: a broker that cannot be reached does not end a lease. A lease ends only when the
broker says so, or at its end if it was not renewed.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias
from weakref import ref

from deferrable.aio._contract.entries import TOUCHES_PER_LEASE
from deferrable.aio.clock import Timer, call_at
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Queue
from deferrable.errors import BackendError, LeaseLost

__all__ = ["LEAD", "Holder", "Line", "OnRound", "Round", "plan_round"]

_logger = logging.getLogger("deferrable")

LEAD = 1 - 1 / TOUCHES_PER_LEASE
"""The part of a lease that is left when an item is touched first."""
_MOST_TOUCHES_PER_LEASE = 30  # while the broker cannot be reached
_EARLY = 1 / 6
"""Items that are due within this part of a lease are touched together with those due now."""

OnRound: TypeAlias = Callable[[Queue, Exception | None], None]


@dataclass(frozen=True, slots=True)
class Round:
    """What to do with the held items at one moment.

    Attributes:
        touches: the envelopes to renew, keyed by the extension in seconds.
        ended: those whose lease ended without a renewal.
        run_out: those that were held for the maximum; their leases are not renewed any more.
    """

    touches: Mapping[float, Sequence[Envelope]] = field(default_factory=dict)
    ended: Sequence[Envelope] = ()
    run_out: Sequence[Envelope] = ()


def plan_round(
    held: Iterable[Envelope], now: float, lease_seconds: float, max_lease_seconds: float | None
) -> Round:
    """Decide about `held`. A lease is renewed up to the maximum after the pop, not beyond."""
    touches: dict[float, list[Envelope]] = {}
    ended: list[Envelope] = []
    run_out: list[Envelope] = []
    for envelope in held:
        seconds = lease_seconds
        if max_lease_seconds is not None:
            seconds = min(seconds, envelope.pop_time + max_lease_seconds - now)
        if now >= envelope.lease_end_time:
            ended.append(envelope)
        elif seconds <= 0:
            run_out.append(envelope)
        else:
            touches.setdefault(seconds, []).append(envelope)
    return Round(touches, ended, run_out)


def pause_seconds(envelope: Envelope, now: float, lease_seconds: float) -> float:
    """How long after a touch the next one is due, whether it failed or not.

    A third of the lease; less while touches fail and only a part of the lease is left.
    """
    rest_seconds = envelope.lease_end_time - now
    soon_seconds = max(rest_seconds / 2, lease_seconds / _MOST_TOUCHES_PER_LEASE)
    return min(lease_seconds / TOUCHES_PER_LEASE, soon_seconds)


class Holder(NamedTuple):
    """The holder of an item: what to call when its lease is lost, and on which loop."""

    on_lost: Callable[[], object]
    loop: asyncio.AbstractEventLoop


class Line:
    """The held items of one queue.

    Other threads change `held` and `watchers`, and read `wake_time`. The methods are called on the
    keeper's loop.

    Args:
        on_gone: called when nobody refers to the queue any more.
    """

    def __init__(self, queue: Queue, on_gone: Callable[[], object]) -> None:
        self._queue = ref(queue, lambda _: on_gone())
        self.held: dict[Envelope, Holder] = {}
        self.watchers: dict[OnRound, asyncio.AbstractEventLoop] = {}
        self.wake_time = math.inf
        self._due_times: dict[Envelope, float] = {}
        self._failed: set[Envelope] = set()
        self._is_failing = False
        self._round_time: float | None = None
        self._timer: Timer | None = None
        self._round: asyncio.Task[None] | None = None

    @property
    def is_needed(self) -> bool:
        """Whether an item is held, or the queue is watched."""
        return bool(self.held or self.watchers)

    @property
    def is_busy(self) -> bool:
        """Whether a round is running."""
        return self._round is not None

    def look(self) -> None:
        """Run a round now, or when the next item is due."""
        if self._round is not None:
            return  # it looks at its end
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.wake_time = math.inf
        queue = self._queue()
        if queue is None:
            return
        self._forget_the_settled()
        if not self.is_needed:
            self._round_time, self._is_failing = None, False
            return
        moment = self._next_moment(queue)
        if moment > queue.clock.monotonic():
            self._timer = call_at(queue.clock, moment, self.look)
        else:
            self._round = asyncio.get_running_loop().create_task(
                self._go_round(queue), name=f"keeper of {queue!r}", context=Context()
            )
            self._round.add_done_callback(self._end_round)
        self.wake_time = moment

    def _forget_the_settled(self) -> None:
        for envelope in list(self.held):
            if envelope.settlement == "done":
                # Its holder need not drop it, and could not if an interrupt came too early.
                self.held.pop(envelope, None)
        for on_round, loop in list(self.watchers.items()):
            if loop.is_closed():
                self.watchers.pop(on_round, None)
        self._due_times = {each: due for each, due in self._due_times.items() if each in self.held}
        self._failed.intersection_update(self.held)

    def _next_moment(self, queue: Queue) -> float:
        """When something is due. A watcher is called after a third of a lease in any case.

        Items that are being settled may be held again by then, too.
        """
        if self._round_time is None:
            self._round_time = queue.clock.monotonic()
        moments = [
            min(each.lease_end_time, self._due_time(each, queue.lease_seconds))
            for each in list(self.held)
            if each.settlement == "open"
        ]
        return min([*moments, self._round_time + queue.lease_seconds / TOUCHES_PER_LEASE])

    def _due_time(self, envelope: Envelope, lease_seconds: float) -> float:
        first_time = envelope.lease_end_time - lease_seconds * LEAD
        return self._due_times.get(envelope, first_time)

    async def _go_round(self, queue: Queue) -> None:
        self._round_time = now = queue.clock.monotonic()
        round_ = plan_round(
            self._take_due(queue, now), now, queue.lease_seconds, queue.max_lease_seconds
        )
        for envelope in round_.ended:
            self._lose(queue, envelope)
        for envelope in round_.run_out:
            self._due_times[envelope] = math.inf
            _log_run_out(queue, envelope, now)
        error: Exception | None
        try:
            error = await self._touch(queue, round_.touches)
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            error = BackendError("the touch was cancelled, and nobody has asked for that")
        except Exception as unforeseen:  # an adapter's own mistake must not end it either
            error = unforeseen
        now = queue.clock.monotonic()
        for envelopes in round_.touches.values():
            for envelope in envelopes:
                self._due_times[envelope] = now + pause_seconds(envelope, now, queue.lease_seconds)
        self._report(queue, error)

    def _end_round(self, task: asyncio.Task[None]) -> None:
        self._round = None
        if task.cancelled():
            self.wake_time = math.inf
        else:
            self.look()

    def stop_round(self) -> "asyncio.Task[None] | None":
        """Cancel the running round if nobody needs the line any more."""
        if self._round is None or self.is_needed:
            return None
        self._round.cancel()
        return self._round

    def _take_due(self, queue: Queue, now: float) -> list[Envelope]:
        """The items to touch in this round, and those whose lease has ended."""
        due: list[Envelope] = []
        soon = now + queue.lease_seconds * _EARLY
        for envelope, holder in list(self.held.items()):
            if envelope.settlement != "open":
                continue
            if now >= envelope.lease_end_time:
                due.append(envelope)
            elif envelope in self._failed or self._due_time(envelope, queue.lease_seconds) <= soon:
                if holder.loop.is_running():
                    due.append(envelope)
                else:
                    # Its job does not go on, and perhaps never will.
                    self._due_times[envelope] = now + pause_seconds(
                        envelope, now, queue.lease_seconds
                    )
        return due

    async def _touch(
        self, queue: Queue, touches: Mapping[float, Sequence[Envelope]]
    ) -> Exception | None:
        """Touch them. Return None, or why no touch at all was answered."""
        self._failed = {each for envelopes in touches.values() for each in envelopes}
        errors: list[Exception] = []
        is_answered = not touches
        for seconds, envelopes in touches.items():
            outcomes = await queue.touch_each(envelopes, seconds)
            for envelope, outcome in zip(envelopes, outcomes, strict=True):
                if outcome is None or isinstance(outcome, LeaseLost):
                    is_answered = True
                    self._failed.discard(envelope)
                else:
                    errors.append(outcome)
                # One that is being settled meanwhile is not found, and not lost.
                if isinstance(outcome, LeaseLost) and envelope.settlement == "open":
                    self._lose(queue, envelope)
                if envelope.is_stop_wanted:
                    self._stop(envelope)
        return None if is_answered else errors[0]

    def _stop(self, envelope: Envelope) -> None:
        holder = self.held.get(envelope)
        if holder is not None:
            with suppress(RuntimeError):  # the loop was closed, and its jobs are gone
                holder.loop.call_soon_threadsafe(envelope.stop_job)

    def _lose(self, queue: Queue, envelope: Envelope) -> None:
        holder = self.held.pop(envelope, None)
        if holder is None:
            return
        described = repr(envelope)
        # First of all, so that its holder settles nothing before the callback.
        envelope.lease_end_time = -math.inf
        _logger.warning(
            "lost the lease of %s after %.1f s (max_lease_seconds=%s); not completed here",
            described,
            queue.clock.monotonic() - envelope.pop_time,
            queue.max_lease_seconds,
        )
        with suppress(RuntimeError):  # the loop was closed, and its jobs are gone
            holder.loop.call_soon_threadsafe(holder.on_lost)

    def _report(self, queue: Queue, error: Exception | None) -> None:
        if error is not None and not self._is_failing:
            trace = None if isinstance(error, BackendError) else error
            _logger.error("cannot touch items of %r for now: %s", queue, error, exc_info=trace)
        elif error is None and self._is_failing:
            _logger.warning("items of %r are touched again", queue)
        self._is_failing = error is not None
        for on_round in list(self.watchers):
            on_round(queue, error)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _log_run_out(queue: Queue, envelope: Envelope, now: float) -> None:
    _logger.warning(
        "%r has been held for %.0f s (max_lease_seconds is %.0f): its lease is kept no longer",
        envelope,
        now - envelope.pop_time,
        queue.max_lease_seconds,
    )
