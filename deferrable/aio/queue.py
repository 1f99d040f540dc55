"""The contract of a queue, and what is the same for every broker.

Owns the verbs (push, pop, touch, complete, release, replace, flush, stats, close), their promises,
and the order in which an item is settled when something replaces it. An adapter implements the
batch hooks, whose names begin with an underscore; ``deferrable.testing.QueueConformance`` tests
it.

The one rule: the replacement of an item is pushed before the item is completed, or in one atomic
step with it. A crash in between may duplicate, but never loses.
"""

import asyncio
import logging
import math
from abc import abstractmethod
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Hashable,
    Mapping,
    Sequence,
)
from copy import copy
from dataclasses import dataclass
from typing import Self, TypeVar, TypeVarTuple, cast

import msgspec

from deferrable._codec.json import dump
from deferrable._durations import Duration, is_number, seconds_of
from deferrable.aio._contract.batching import Batcher, check_outcomes
from deferrable.aio._contract.closing import Closing
from deferrable.aio._contract.flags import QueueFlags
from deferrable.aio._contract.loops import PerLoop
from deferrable.aio._contract.popping import Popped, Popper
from deferrable.aio._contract.tasks import until_done
from deferrable.aio.clock import Clock, SystemClock
from deferrable.aio.envelope import Envelope
from deferrable.errors import DeferrableError, ItemTooLarge, LeaseLost, Unsupported
from deferrable.item import Item

__all__ = ["Envelope", "Item", "Peeked", "Push", "Queue", "Release", "Touch", "without_loop"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_logger = logging.getLogger("deferrable")


class Push(msgspec.Struct, frozen=True, gc=False):
    """Store an item: `text` is its JSON (ASCII), to be available `delay_seconds` from now."""

    # No dataclass: that would take ten times as long to make, for each push. No item refers to its
    # push, so the garbage collector need not look for a cycle here.
    item: Item
    text: str
    delay_seconds: float

    def __repr__(self) -> str:
        # Without item and text: arguments have no place in logs.
        return f"Push(delay_seconds={self.delay_seconds!r})"


@dataclass(frozen=True, slots=True)
class Touch:
    """Keep an item for at least `seconds` from now."""

    envelope: Envelope
    seconds: float


@dataclass(frozen=True, slots=True)
class Release:
    """Give an item back.

    An item that has not started goes to the front, any other to the back. With a delay it becomes
    available `delay_seconds` from now. A counted release counts towards the queue's maximum of
    redeliveries, like a crash.
    """

    envelope: Envelope
    delay_seconds: float = 0.0
    is_counted: bool = False


@dataclass(frozen=True, slots=True)
class Peeked:
    """An item that was shown without a lease. `pop_keys` takes its `key`."""

    key: str
    item: Item


class _Traffic:
    """The running calls on one event loop."""

    def __init__(self, queue: "Queue") -> None:
        self.push = Batcher(queue._push_batch, queue.MAX_PUSH_BATCH_SIZE)
        self.touch = Batcher(queue._touch_batch, queue.MAX_TOUCH_BATCH_SIZE)
        self.complete = Batcher(queue._complete_batch, queue.MAX_COMPLETE_BATCH_SIZE)
        self.release = Batcher(queue._release_batch, queue.MAX_RELEASE_BATCH_SIZE)
        self.pop = Popper(
            queue._pop_batch,
            queue._return_unasked,
            queue._interrupt_pop,
            queue.MAX_POP_BATCH_SIZE * queue.BATCHES_AT_ONCE,
        )


class _OneByOne:
    """The calls of a queue that has no loop: each is sent alone."""

    def __init__(self, queue: "Queue") -> None:
        self._queue = queue

    def get(self) -> Self:
        return self

    async def push(self, push: Push) -> None:
        (outcome,) = check_outcomes([push], await self._queue._push_batch([push]))
        if outcome is not None:
            raise outcome


class Queue(Closing, QueueFlags):
    """An ordered store of items that are delivered at least once.

    An adapter sets the class's flags, calls ``super().__init__`` and implements the hooks. A flag
    is a promise in both directions: a queue without `SUPPORTS_DELAY` must refuse a delay. A hook
    for a batch returns None or an exception for each entry, in the batch's order; if it raises, all
    entries have failed. Hooks translate their broker's errors into `BackendError` and its
    subclasses. Several event loops may call them at once.

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

    @property
    def identity(self) -> Hashable | None:
        """Equal for two queue objects with the same items; None: unknown.

        A worker refuses two objects of one queue. An adapter must answer without I/O.
        """
        return None

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
        view._traffic = cast("PerLoop[_Traffic]", _OneByOne(view))
        return view

    async def _open_traffic(self) -> AsyncGenerator[_Traffic, None]:
        yield _Traffic(self)

    # The hooks.

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

    async def _replace(self, envelope: Envelope, push: Push, to: "Queue") -> None:
        """Perform `push` on `to`, then complete `envelope`.

        An adapter whose broker can do both in one atomic step does so, but only if the original
        still belongs to this consumer.
        """
        replacement = (to, push.text)
        if envelope.replacement != replacement:
            await to._traffic.get().push(push)
            # Otherwise each further try to complete the original would push another copy.
            envelope.replacement = replacement
        outcomes = check_outcomes([envelope], await self._complete_batch([envelope]))
        if outcomes[0] is not None:
            raise outcomes[0]

    # The verbs.

    async def push(self, item: Item | Push) -> None:
        """Store `item`; it is available at once, or after its ``delay`` seconds.

        Pushes that are made at the same time are sent together. The item is not kept and not
        changed.

        Args:
            item: a dict of JSON values, or what `prepare` returned for one.

        Raises:
            SerializationError: it is not made of JSON values.
            Unsupported: it has a delay that this queue cannot keep.
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
        _check_batch_size("push", len(items), self.MAX_PUSH_BATCH_SIZE)
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
        pushes: list[Push] = []
        refused: dict[int, DeferrableError] = {}
        for index, item in enumerate(items):
            try:
                pushes.append(item if isinstance(item, Push) else self.prepare(item))
            except DeferrableError as error:
                refused[index] = error
        results = await _in_batches(
            pushes, self.MAX_PUSH_BATCH_SIZE, self.BATCHES_AT_ONCE, self._push_batch
        )
        if not refused:
            return results
        answers = iter(results)
        return [refused[each] if each in refused else next(answers) for each in range(len(items))]

    async def pop(self) -> Popped | tuple[None, None]:
        """Take the next item and hold it for `lease_seconds`.

        Cancelling it loses nothing: an item that arrives too late goes back to the front.

        Returns:
            ``(envelope, item)``, or ``(None, None)`` when there was none.

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
        _check_batch_size("pop", count, self.MAX_POP_BATCH_SIZE)
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
        outcomes: list[Exception | None] = [None] * len(envelopes)
        held: list[tuple[int, Touch]] = []
        for index, envelope in enumerate(envelopes):
            try:
                self._check_held("touch", envelope)
            except LeaseLost as error:
                outcomes[index] = error
            else:
                held.append((index, Touch(envelope, seconds)))
        now = self.clock.monotonic()
        touches = [touch for _, touch in held]
        results = await _in_batches(
            touches, self.MAX_TOUCH_BATCH_SIZE, self.BATCHES_AT_ONCE, self._touch_batch
        )
        for (index, touch), result in zip(held, results, strict=True):
            outcomes[index] = result
            if result is None:
                end_time = max(touch.envelope.lease_end_time, now + seconds)
                touch.envelope.lease_end_time = end_time
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
        _check_batch_size("complete", len(envelopes), self.MAX_COMPLETE_BATCH_SIZE)
        outcomes = await self.complete_each(envelopes)
        _log_failures("complete", envelopes, outcomes)
        return [
            (envelope, outcome is None)
            for envelope, outcome in zip(envelopes, outcomes, strict=True)
        ]

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
        outcomes = await self.release_each(envelopes)
        _log_failures("release", envelopes, outcomes)
        return [
            (envelope, outcome is None)
            for envelope, outcome in zip(envelopes, outcomes, strict=True)
        ]

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
            (including its delay), absent when nothing is available. Unknown numbers are absent.
        """
        return await self._stats()

    async def old_consumers(self) -> dict[str, int]:
        """Consumers of the Python 2 library that hold items: how many, by consumer id.

        Nobody can know whether they are alive. The items of a dead one never come back by
        themselves; see `take_back`. Only Redis has such consumers.
        """
        return {}

    async def take_back(self, consumer_id: str) -> int:
        """Give back the items of a consumer of the Python 2 library that you know to be dead.

        Each item goes to the back of the queue and counts one more delivery. If the consumer is
        alive after all, its items run twice.

        Args:
            consumer_id: from `old_consumers`.

        Returns:
            the number of items.

        Raises:
            InvalidOptions: it is not such a consumer, or a heartbeat says that it is alive.
            Unsupported: this broker has no such consumers.
        """
        raise Unsupported(
            f"{self!r} has no consumers of the Python 2 library, so none can be dead; on Redis "
            "old_consumers() lists them"
        )

    async def close(self) -> None:
        """Close connections on every event loop. Items stay as they are. May be called twice."""
        await self._traffic.close()
        await self._close()

    # What every verb checks.

    def check(self, item: Item) -> None:
        """Raise what `push` would raise for `item` without any I/O; do nothing otherwise."""
        self.prepare(item)

    def excess_bytes(self, item: Item) -> int:
        """By how many bytes `item` exceeds the limit of `push`; 0: it fits."""
        return int(
            max(0, self._travelling_bytes(dump(item), is_new=True) - self._most_item_bytes())
        )

    def prepare(
        self, item: Item, *, is_delayed: bool = True, is_new: bool = True, is_plain: bool = False
    ) -> Push:
        """What `push` would store for `item`.

        Args:
            is_delayed: False: it is available at once, whatever its ``delay`` says.
            is_new: it does not replace an item that is stored already.
            is_plain: it is known to hold JSON values only, and is not checked for others.

        Raises:
            SerializationError, Unsupported, ItemTooLarge: see `push`.
        """
        text = dump(item, is_plain=is_plain)
        size = self._travelling_bytes(text, is_new=is_new)
        if size > self._most_item_bytes():
            raise self._too_large(size)
        return Push(item, text, self._check_delay(item.get("delay") if is_delayed else None))

    def _too_large(self, size: int) -> ItemTooLarge:
        return ItemTooLarge(
            f"the item is {size} bytes, {self!r} takes at most {self._most_item_bytes()}; "
            "pass a reference to the data instead of the data"
        )

    def _check_delay(self, delay: object) -> float:
        if not delay:
            return 0.0
        if not self.SUPPORTS_DELAY:
            raise Unsupported(
                f"{self!r} cannot delay an item, got delay={delay!r}; push it without one "
                "(SUPPORTS_DELAY says so)"
            )
        if not is_number(delay) or delay < 0:
            raise Unsupported(f"an item's delay is a number of seconds, at least 0, got {delay!r}")
        if delay > self.MAX_DELAY_SECONDS:
            raise Unsupported(
                f"{self!r} delays an item by at most {self.MAX_DELAY_SECONDS} seconds, got "
                f"{delay!r}; `later` takes any delay and hops"
            )
        return delay

    def _check_peeks(self) -> None:
        if not self.SUPPORTS_PEEK:
            raise Unsupported(
                f"{self!r} cannot show items without taking them; pop them and release them "
                "(SUPPORTS_PEEK says so)"
            )

    def _check_held(self, verb: str, envelope: Envelope) -> None:
        if not isinstance(envelope, Envelope):
            raise TypeError(
                f"{verb} takes the envelope that pop returned, got {type(envelope).__name__}"
            )
        if envelope.settlement != "open" or self.clock.monotonic() > envelope.lease_end_time:
            raise self._refusal(verb, envelope)

    def _refusal(self, verb: str, envelope: Envelope) -> LeaseLost:
        if envelope.settlement != "open":
            return LeaseLost(f"cannot {verb} {envelope!r}: it is settled already, or being settled")
        return LeaseLost(
            f"cannot {verb} {envelope!r}: its lease ended; touch it in time, or use a longer "
            "visibility timeout"
        )

    async def _settle_one(
        self,
        envelope: Envelope,
        verb: str,
        perform: Callable[[*Ts], Awaitable[None]],
        *args: *Ts,
    ) -> None:
        """Settle an envelope; refuse before any I/O if it is settled already.

        A settlement may be retried, unless it failed because of a lost lease.
        """
        self._check_held(verb, envelope)
        envelope.settlement = "under way"
        try:
            await perform(*args)
        except LeaseLost:
            envelope.settlement = "done"
            raise
        except BaseException:
            envelope.settlement = "open"
            raise
        envelope.settlement = "done"

    async def _settle_each(
        self,
        verb: str,
        envelopes: Sequence[Envelope],
        entries: Sequence[T],
        max_size: int,
        hook: Callable[[Sequence[T]], Awaitable[Sequence[Exception | None]]],
    ) -> list[Exception | None]:
        """Settle several envelopes in native batches: for each None, or why not."""
        outcomes: list[Exception | None] = [None] * len(envelopes)
        held: list[int] = []
        now = self.clock.monotonic()
        for index, envelope in enumerate(envelopes):
            if envelope.settlement == "open" and now <= envelope.lease_end_time:
                envelope.settlement = "under way"
                held.append(index)
            else:
                outcomes[index] = self._refusal(verb, envelope)
        try:
            results = await _in_batches(
                [entries[index] for index in held], max_size, self.BATCHES_AT_ONCE, hook
            )
        except BaseException:
            for index in held:
                envelopes[index].settlement = "open"
            raise
        for index, result in zip(held, results, strict=True):
            outcomes[index] = result
            is_final = result is None or isinstance(result, LeaseLost)
            envelopes[index].settlement = "done" if is_final else "open"
        return outcomes

    async def _return_unasked(self, envelopes: Sequence[Envelope]) -> None:
        releasing = asyncio.ensure_future(self.release_batch(envelopes))
        cancellation = await until_done(releasing)
        releasing.result()
        if cancellation is not None:
            raise cancellation


def without_loop(queue: Queue) -> Queue:
    """`queue` for callers that cannot await: itself if its pushes need a loop."""
    return queue._without_loop() or queue


def _log_failures(
    verb: str, envelopes: Sequence[Envelope], outcomes: Sequence[Exception | None]
) -> None:
    for envelope, outcome in zip(envelopes, outcomes, strict=True):
        if outcome is not None:
            _logger.error("cannot %s %r of a batch: %s", verb, envelope, outcome)


async def _in_batches(
    entries: Sequence[T],
    max_size: int,
    at_once: int,
    hook: Callable[[Sequence[T]], Awaitable[Sequence[Exception | None]]],
) -> list[Exception | None]:
    """Perform `entries` in native batches; if a whole batch fails, each of its entries fails."""

    async def perform(batch: Sequence[T]) -> Sequence[Exception | None]:
        try:
            return check_outcomes(batch, await hook(batch))
        except DeferrableError as error:
            return [error] * len(batch)

    batches = [entries[start : start + max_size] for start in range(0, len(entries), max_size)]
    results: list[Exception | None] = []
    for start in range(0, len(batches), at_once):
        together = batches[start : start + at_once]
        if len(together) == 1:
            results.extend(await perform(together[0]))
            continue
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(perform(batch)) for batch in together]
        for task in tasks:
            results.extend(task.result())
    return results


def _check_batch_size(verb: str, size: int, maximum: int) -> None:
    if size > maximum:
        raise ValueError(f"a batch of {verb} takes at most {maximum} entries, got {size}; split it")
