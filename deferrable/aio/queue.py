"""The contract of a queue: what its callers may do, on every broker.

Owns the verbs (push, pop, touch, complete, release, replace, flush, stats, close), their promises,
and the order in which an item is settled when something replaces it. ``_contract/hooks.py`` lists
what an adapter implements; ``deferrable.testing.QueueConformance`` tests it.

The one rule: the replacement of an item is pushed before the item is completed, or in one atomic
step with it. A crash in between may duplicate, but never loses.
"""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from copy import copy
from typing import Self, cast

from deferrable._durations import Duration, seconds_of
from deferrable.aio._contract.batching import check_batch_size, in_batches
from deferrable.aio._contract.closing import Closing
from deferrable.aio._contract.entries import Peeked, Push, Release, Touch
from deferrable.aio._contract.inspecting import Found, Inspecting
from deferrable.aio._contract.loops import PerLoop
from deferrable.aio._contract.pausing import Pausing
from deferrable.aio._contract.popping import Popped
from deferrable.aio._contract.reporting import Reporting
from deferrable.aio._contract.settlement import logged
from deferrable.aio._contract.some_brokers import SomeBrokers
from deferrable.aio._contract.tasks import until_done
from deferrable.aio._contract.traffic import OneByOne, Traffic
from deferrable.aio._contract.uniqueness import Unique
from deferrable.aio.clock import Clock, SystemClock
from deferrable.aio.envelope import Envelope
from deferrable.errors import DeferrableError, LeaseLost, Unsupported
from deferrable.item import Item

__all__ = ["Found", "Item", "Peeked", "Push", "Queue", "Release", "Touch", "without_loop"]

_logger = logging.getLogger("deferrable")


class Queue(Closing, Inspecting, Pausing, Reporting, Unique, SomeBrokers):
    """An ordered store of items that are delivered at least once.

    An adapter sets the class's flags, calls ``super().__init__`` and implements the hooks. A flag
    is a promise in both directions: a queue without `SUPPORTS_DELAY` must refuse a delay. A hook
    for a batch returns None or an exception for each entry, in the batch's order; if it raises, all
    entries have failed. Hooks translate their broker's errors into `BackendError` and its
    subclasses; a worker retries a settlement that raised anything else for one lease only. Several
    event loops may call them at once.

    Args:
        lease_seconds: how long a popped item stays hidden from other consumers without a touch.
        max_lease_seconds: how long after the pop heartbeats stop; None: they never stop.
        max_redeliveries: the adapter or its broker buries an item when more deliveries than that
            ended without settlement.
        clock: the source of time; None: the machine's own.

    Attributes:
        longest_poll_seconds: no pop waits longer for a first item. Set by callers that cannot wait
            for a pop which `_interrupt_pop` cannot end.
        needs_loop: False for a queue that `without_loop` returned.
    """

    def __init__(
        self,
        lease_seconds: float,
        *,
        max_lease_seconds: float | None = None,
        max_redeliveries: float = math.inf,
        clock: Clock | None = None,
    ) -> None:
        self.lease_seconds = lease_seconds
        self.max_lease_seconds = max_lease_seconds
        self.max_redeliveries = max_redeliveries
        self.clock: Clock = SystemClock() if clock is None else clock
        self.longest_poll_seconds = math.inf
        self.needs_loop = True
        self._traffic = PerLoop(self._open_traffic)

    def _without_loop(self) -> "Queue | None":
        """This queue for callers that cannot await; None: its pushes need an event loop.

        Pushes to the returned queue never suspend, so any thread can run them. It takes pushes
        only. An adapter makes it with `_copy_without_loop`.
        """
        return None

    def _copy_without_loop(self) -> Self:
        """A copy for `_without_loop`, which the adapter then changes to work without a loop."""
        view = copy(self)
        view.needs_loop = False
        view._traffic = cast("PerLoop[Traffic]", OneByOne(view))
        return view

    async def _open_traffic(self) -> AsyncGenerator[Traffic, None]:
        yield Traffic(self, self._return_unasked)

    async def _replace(self, envelope: Envelope, push: Push, to: "Queue") -> None:
        """Perform `push` on `to`, then complete `envelope`.

        An adapter whose broker can do both in one atomic step does so, but only if the original
        still belongs to this consumer.
        """
        await self._traffic.get().replace(envelope, push, to)

    # The verbs.

    async def push(self, item: Item | Push) -> None:
        """Store `item`; it is available at once, or after its ``delay`` seconds.

        Pushes that are made at the same time are sent together. The item is not kept and not
        changed.

        Args:
            item: a dict of JSON values, or what `prepare` returned for one.

        Raises:
            SerializationError: it is not made of JSON values.
            Unsupported: it has a delay or a unique key that this queue cannot keep.
            DuplicateCall: another item holds its unique key; it was not stored.
            ItemTooLarge: it is over the broker's limit.
            BackendUnavailable: the broker could not be reached; it may or may not have arrived.
        """
        await self._traffic.get().push(item if isinstance(item, Push) else self.prepare(item))

    async def push_batch(self, items: Sequence[Item]) -> list[tuple[Item, bool]]:
        """Store several items; one failure does not stop the rest.

        Returns:
            ``(item, ok)`` for each, in their order. The log says why one failed.

        Raises:
            ValueError: there are more than `MAX_PUSH_BATCH_SIZE`; nothing was sent.
        """
        check_batch_size("push", len(items), self.MAX_PUSH_BATCH_SIZE)
        outcomes = await self.push_each(items)
        for outcome in outcomes:
            if outcome is not None:
                _logger.error("an item of a batch was not pushed: %s", outcome, exc_info=outcome)
        return [(item, outcome is None) for item, outcome in zip(items, outcomes, strict=True)]

    async def push_each(self, items: Sequence[Item | Push]) -> list[Exception | None]:
        """Store any number of items, in native batches.

        Args:
            items: each as it is, or as `prepare` returned it.

        Returns:
            None, or why it was not pushed, for each item in their order.
        """
        pushes: list[Push | Exception] = []
        for item in items:
            try:
                pushes.append(item if isinstance(item, Push) else self.prepare(item))
            except DeferrableError as error:
                pushes.append(error)
        return await in_batches(
            pushes, self.MAX_PUSH_BATCH_SIZE, self.BATCHES_AT_ONCE, self._push_batch
        )

    async def pop(self) -> Popped | tuple[None, None]:
        """Take the next item and hold it for `lease_seconds`.

        Cancelling it loses nothing: an item that arrives too late goes back to the front.

        Returns:
            ``(envelope, item)``, or ``(None, None)`` when there was none, or the queue is paused.

        Raises:
            BackendUnavailable: the broker could not be reached. An item that it had already handed
                over comes back after its lease.
        """
        popped = await self._traffic.get().pop(1)
        return popped[0] if popped else (None, None)

    async def pop_batch(self, count: int) -> list[Popped]:
        """Take up to `count` items; see `pop`. Fewer items do not mean that the queue is empty.

        Raises:
            ValueError: `count` is over `MAX_POP_BATCH_SIZE` or under 1; nothing was popped.
        """
        check_batch_size("pop", count, self.MAX_POP_BATCH_SIZE)
        if count < 1:
            raise ValueError(f"pop_batch takes a count of 1 or more, got {count}")
        return await self._traffic.get().pop(count)

    async def pop_up_to(self, count: int) -> list[Popped]:
        """Take up to `count` items, however many, in one pop; see `pop`.

        Several native batches may be popped at once. Fewer items do not mean that the queue is
        empty.
        """
        most = self.MAX_POP_BATCH_SIZE * self.BATCHES_AT_ONCE
        return await self._traffic.get().pop(min(count, most))

    async def peek(self, cursor: str = "", count: int = 500) -> tuple[list[Peeked], str]:
        """Look at items without taking them, a page at a time.

        An item that stays in the queue from the first page to the last is shown at least once, also
        if a consumer holds it. An item that arrives or goes meanwhile may be shown. Nothing changes
        for other consumers.

        Args:
            cursor: as the previous page returned it; empty: begin.
            count: about how many to look at.

        Returns:
            a page, which may be empty, and the cursor of the next page. An empty cursor means that
            this was the last page.

        Raises:
            Unsupported: this queue cannot show items without taking them.
        """
        self._check_peeks()
        peeked, cursor = await self._peek(cursor, count)
        return list(peeked), cursor

    async def pop_keys(self, keys: Sequence[str]) -> list[Popped | None]:
        """Take the items with these keys, as `peek` showed them, and hold them; see `pop`.

        Returns:
            ``(envelope, item)``, or None if it is gone or already held, for each key in order.

        Raises:
            Unsupported: this queue cannot show items without taking them.
        """
        self._check_peeks()
        return list(await self._pop_keys(keys)) if keys else []

    async def pop_at_once(self, count: int) -> list[Popped]:
        """Take up to `count` available items, for callers that read a queue to its end.

        An adapter whose pops wait overrides this so that it does not wait.
        """
        return await self.pop_batch(count)

    async def touch(self, envelope: Envelope, seconds: Duration = 10) -> None:
        """Keep an item for at least `seconds` from now; the end of its lease never moves back.

        Raises:
            LeaseLost: it no longer belongs to this consumer.
            InvalidOptions: `seconds` is not a duration.
        """
        seconds = seconds_of("seconds", seconds)
        self._check_held("touch", envelope)
        now = self.clock.monotonic()
        await self._traffic.get().touch(Touch(envelope, seconds))
        envelope.lease_end_time = max(envelope.lease_end_time, now + seconds)

    async def touch_each(
        self, envelopes: Sequence[Envelope], seconds: float
    ) -> list[Exception | None]:
        """Keep several items for at least `seconds` from now, in native batches; see `touch`.

        Returns:
            None, or why it was not touched, for each in their order.
        """
        touches: list[Touch | Exception] = []
        for envelope in envelopes:
            try:
                self._check_held("touch", envelope)
            except LeaseLost as error:
                touches.append(error)
            else:
                touches.append(Touch(envelope, seconds))
        now = self.clock.monotonic()
        outcomes = await in_batches(
            touches, self.MAX_TOUCH_BATCH_SIZE, self.BATCHES_AT_ONCE, self._touch_batch
        )
        for envelope, outcome in zip(envelopes, outcomes, strict=True):
            if outcome is None:
                envelope.lease_end_time = max(envelope.lease_end_time, now + seconds)
        return outcomes

    async def complete(self, envelope: Envelope) -> None:
        """Remove an item for good: its work is done.

        Raises:
            LeaseLost: it no longer belongs to this consumer, or was settled before. Nothing was
                removed.
            BackendUnavailable: it may or may not have been removed; completing again is allowed.
        """
        await self._settle_one(envelope, "complete", self._traffic.get().complete, envelope)

    async def complete_batch(self, envelopes: Sequence[Envelope]) -> list[tuple[Envelope, bool]]:
        """Remove several items; see `complete`.

        Returns:
            ``(envelope, ok)`` for each, in their order. The log says why one failed.

        Raises:
            ValueError: there are more than `MAX_COMPLETE_BATCH_SIZE`; nothing was sent.
        """
        check_batch_size("complete", len(envelopes), self.MAX_COMPLETE_BATCH_SIZE)
        return logged("complete", envelopes, await self.complete_each(envelopes))

    async def complete_each(self, envelopes: Sequence[Envelope]) -> list[Exception | None]:
        """Remove any number of items, in native batches; see `complete`.

        Returns:
            None, or why it was not removed, for each in their order.
        """
        return await self._settle_each(
            "complete", envelopes, envelopes, self.MAX_COMPLETE_BATCH_SIZE, self._complete_batch
        )

    async def release(
        self, envelope: Envelope, delay_seconds: Duration = 0, *, is_counted: bool = False
    ) -> None:
        """Give an item back unfinished.

        An item that has not started goes back to the front, any other to the back.

        Args:
            delay_seconds: it becomes available only after this time.
            is_counted: it counts towards the queue's maximum of redeliveries, like a crash.

        Raises:
            LeaseLost: it no longer belongs to this consumer, or was settled before.
            Unsupported: this queue cannot release with a delay.
            ValueError: the delay is negative or not a number; nothing was released.
        """
        delay_seconds = seconds_of("delay_seconds", delay_seconds)
        if delay_seconds and not self.SUPPORTS_RELEASE_DELAY:
            raise Unsupported(
                f"{self!r} cannot release with a delay, got {delay_seconds} seconds; release "
                "without one (SUPPORTS_RELEASE_DELAY says so)"
            )
        release = Release(envelope, delay_seconds, is_counted)
        await self._settle_one(envelope, "release", self._traffic.get().release, release)

    async def release_batch(self, envelopes: Sequence[Envelope]) -> list[tuple[Envelope, bool]]:
        """Give several items back at once, in the order in which they were popped.

        Returns:
            ``(envelope, ok)`` for each, in the order given; False if the item no longer belonged to
            this consumer, or the broker refused.
        """
        return logged("release", envelopes, await self.release_each(envelopes))

    async def release_each(self, envelopes: Sequence[Envelope]) -> list[Exception | None]:
        """Give several items back at once, in the order in which they were popped.

        Returns:
            None, or why it was not given back, for each in the order given.
        """
        ordered = sorted(envelopes, key=lambda envelope: envelope.number)
        outcomes = await self._settle_each(
            "release",
            ordered,
            [Release(envelope) for envelope in ordered],
            self.MAX_RELEASE_BATCH_SIZE,
            self._release_batch,
        )
        of_envelopes = dict(zip(ordered, outcomes, strict=True))
        return [of_envelopes[envelope] for envelope in envelopes]

    async def replace(
        self,
        envelope: Envelope,
        item: Item,
        to: "Queue | None" = None,
        *,
        is_delayed: bool = True,
    ) -> None:
        """Replace a popped item by `item`.

        The new item is pushed before the old one is completed, or with it in one atomic step, and
        only while the old one belongs to this consumer.

        Args:
            envelope: of the old item, popped from this queue.
            item: the new item, with its own ``delay``.
            to: the queue to push to; None: this queue.
            is_delayed: False: it is available at once, whatever its ``delay`` says.

        Raises:
            LeaseLost: the old item no longer belongs to this consumer, or was settled before. If
                the broker has no atomic step, the new item may have been pushed all the same.
            DuplicateCall: an item of an error queue is to go back, and another item holds its
                unique key; nothing was changed.
        """
        target = self if to is None else to
        push = target.prepare(item, is_delayed=is_delayed, is_new=False)
        await self._settle_one(envelope, "replace", self._replace, envelope, push, target)

    async def flush(self) -> None:
        """Empty the queue without waiting: available, delayed and in-flight items."""
        await self._flush()

    async def stats(self) -> Mapping[str, float]:
        """Count the items, as far as the broker knows.

        Returns:
            ``available``, ``in_flight`` and ``delayed``, numbers of items; and
            ``oldest_age_seconds``, how long ago the available item that is popped next was pushed
            (including its delay), absent when nothing is available; and ``paused_seconds``, for how
            long it has been paused, absent when it is not. Unknown numbers are absent.
        """
        return await self._stats()

    async def close(self) -> None:
        """Close connections on every event loop. Items stay as they are. May be called twice."""
        await self._traffic.close()
        await self._close()

    async def _return_unasked(self, envelopes: Sequence[Envelope]) -> None:
        releasing = asyncio.ensure_future(self.release_batch(envelopes))
        cancellation = await until_done(releasing)
        releasing.result()
        if cancellation is not None:
            raise cancellation


def without_loop(queue: Queue) -> Queue:
    """`queue` for callers that cannot await: itself if its pushes need a loop."""
    return queue._without_loop() or queue
