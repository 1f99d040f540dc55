"""Faults, injected by wrapping a queue.

Owns what a call with a fault does, and what its caller sees. `FaultyQueue` is a queue like any
other, and without faults it passes the conformance suite. The script decides which call gets which
fault.
"""

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from deferrable._codec.json import dump
from deferrable.aio._contract.flags import QueueFlags
from deferrable.aio._contract.popping import Popped
from deferrable.aio.clock import sleep
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Found, Item, Peeked, Push, Queue, Release, Touch
from deferrable.errors import BackendError, LeaseLost
from deferrable.pause import Pause
from deferrable.testing.fault_script import AFTER, BEFORE, Fault, Faults, Kind, Verb
from deferrable.worker_reports import WorkerReport

__all__ = ["Faults", "FaultyQueue"]

T = TypeVar("T")


class FaultyQueue(Queue):
    """A queue that wraps another one, and makes calls fail as `faults` says.

    Args:
        queue: performs the calls that have no fault. Closing this queue closes it.
        faults: the script; None: an empty one, to be filled later.
        has_atomic_replace: False: replace pushes, then completes, and each can fail alone, even if
            the wrapped queue has an atomic step.
    """

    def __init__(
        self, queue: Queue, faults: Faults | None = None, *, has_atomic_replace: bool = True
    ) -> None:
        super().__init__(
            queue.lease_seconds,
            max_lease_seconds=queue.max_lease_seconds,
            max_redeliveries=queue.max_redeliveries,
            clock=queue.clock,
        )
        flags = {name: getattr(queue, name) for name in QueueFlags.__annotations__}
        # A copy that is pushed apart would meet the key of its original.
        flags["SUPPORTS_UNIQUE"] &= has_atomic_replace
        flags["HAS_OLD_CONSUMERS"] = False  # it passes no such verb on
        for name, flag in flags.items():
            setattr(self, name, flag)
        self.faults = Faults() if faults is None else faults
        self._queue = queue
        self._has_atomic_replace = has_atomic_replace
        self._items: dict[Envelope, Item] = {}

    def __repr__(self) -> str:
        return f"<FaultyQueue {self._queue!r}>"

    @property
    def identity(self) -> Hashable | None:
        return self._queue.identity

    async def locate(self) -> Hashable | None:
        return await self._queue.locate()

    async def wait_for_items(self, seconds: float) -> None:
        await self._queue.wait_for_items(seconds)

    async def end_pops(self) -> None:
        await self._queue.end_pops()

    async def _push_batch(self, pushes: Sequence[Push]) -> Sequence[Exception | None]:
        items = [push.item for push in pushes]
        return await self._each("push", pushes, items, self._queue._push_batch)

    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        await self._meet(self.faults.choose("pop", None, BEFORE))
        popped = await self._queue._pop_batch(count)
        self.seen_pause = self._queue.seen_pause
        for envelope, item in popped:
            self._items[envelope] = item
            fault = self.faults.choose("pop", item, AFTER)
            if fault is not None and fault.kind == "duplicate":
                await self._queue._push_batch([Push(item, dump(item), 0)])
            elif fault is not None:
                raise fault.error()
        return popped

    async def _peek(self, cursor: str, count: int) -> tuple[Sequence[Peeked], str]:
        return await self._one("peek", None, lambda: self._queue._peek(cursor, count))

    async def _pop_keys(self, keys: Sequence[str]) -> Sequence[Popped | None]:
        popped = await self._one("pop", None, lambda: self._queue._pop_keys(keys))
        self._items.update(each for each in popped if each is not None)
        return popped

    async def _find(self, item_id: str) -> Found | None:
        return await self._one("peek", None, lambda: self._queue._find(item_id))

    async def _inspect(self, cursor: str, count: int) -> tuple[Sequence[Found], str]:
        return await self._one("peek", None, lambda: self._queue._inspect(cursor, count))

    async def _cancel(self, found: Found, *, is_remembered: bool) -> bool:
        return await self._one(
            "complete",
            found.item,
            lambda: self._queue._cancel(found, is_remembered=is_remembered),
        )

    async def _hasten(self, found: Found, push: Push) -> bool:
        return await self._one("replace", found.item, lambda: self._queue._hasten(found, push))

    async def _ask_to_stop(self, found: Found) -> bool:
        return await self._one("touch", found.item, lambda: self._queue._ask_to_stop(found))

    async def _note_cancelled(self, item_id: str) -> None:
        await self._queue._note_cancelled(item_id)

    async def _free_key(self, envelope: Envelope) -> None:
        item = self._items.get(envelope)
        await self._one("touch", item, lambda: self._queue._free_key(envelope))

    async def _pause(self, pause: Pause) -> None:
        await self._queue._pause(pause)

    async def _resume(self) -> bool:
        return await self._queue._resume()

    async def _find_pause(self) -> Pause | None:
        return await self._queue._find_pause()

    async def _report_worker(self, report: WorkerReport) -> None:
        await self._queue._report_worker(report)

    async def _forget_worker(self, worker_id: str) -> None:
        await self._queue._forget_worker(worker_id)

    async def _find_workers(self) -> Sequence[WorkerReport]:
        return await self._queue._find_workers()

    async def _touch_batch(self, touches: Sequence[Touch]) -> Sequence[Exception | None]:
        items = [self._items.get(touch.envelope) for touch in touches]
        return await self._each("touch", touches, items, self._queue._touch_batch)

    async def _complete_batch(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        items = [self._items.get(envelope) for envelope in envelopes]
        outcomes = await self._each("complete", envelopes, items, self._queue._complete_batch)
        self._forget(envelopes, outcomes)
        return outcomes

    async def _release_batch(self, releases: Sequence[Release]) -> Sequence[Exception | None]:
        envelopes = [release.envelope for release in releases]
        items = [self._items.get(envelope) for envelope in envelopes]
        outcomes = await self._each("release", releases, items, self._queue._release_batch)
        self._forget(envelopes, outcomes)
        return outcomes

    async def _replace(self, envelope: Envelope, push: Push, to: Queue) -> None:
        if not self._has_atomic_replace:
            await super()._replace(envelope, push, to)
            return
        target = to._queue if isinstance(to, FaultyQueue) else to
        await self._one("replace", push.item, lambda: self._queue._replace(envelope, push, target))

    async def _flush(self) -> None:
        await self._one("flush", None, self._queue._flush)

    async def _stats(self) -> Mapping[str, float]:
        return await self._one("stats", None, self._queue._stats)

    async def _close(self) -> None:
        await self._queue.close()

    def _interrupt_pop(self) -> None:
        self._queue._interrupt_pop()

    def _forget(self, envelopes: Sequence[Envelope], outcomes: Sequence[Exception | None]) -> None:
        for envelope, outcome in zip(envelopes, outcomes, strict=True):
            if isinstance(outcome, LeaseLost | None):
                self._items.pop(envelope, None)

    async def _each(
        self,
        verb: Verb,
        entries: Sequence[T],
        items: Sequence[Item | None],
        hook: Callable[[Sequence[T]], Awaitable[Sequence[Exception | None]]],
    ) -> Sequence[Exception | None]:
        """Perform a batch, each entry with its own fault."""
        outcomes: list[Exception | None] = [None] * len(entries)
        faults = [self.faults.choose(verb, item) for item in items]
        through: list[int] = []
        for index, fault in enumerate(faults):
            try:
                await self._meet(fault)
            except Exception as error:
                outcomes[index] = error
            else:
                through.append(index)
        results = await hook([entries[index] for index in through]) if through else []
        twice = [entries[index] for index in through if _is(faults[index], "duplicate")]
        if twice:
            await hook(twice)
        for index, result in zip(through, results, strict=True):
            fault = faults[index]
            outcomes[index] = fault.error() if fault and fault.kind == "fail_after" else result
        return outcomes

    async def _one(self, verb: Verb, item: Item | None, perform: Callable[[], Awaitable[T]]) -> T:
        """Perform a single call."""
        fault = self.faults.choose(verb, item)
        await self._meet(fault)
        answer = await perform()
        if _is(fault, "duplicate"):
            with suppress(BackendError):
                await perform()
        if fault and fault.kind == "fail_after":
            raise fault.error()
        return answer

    async def _meet(self, fault: Fault | None) -> None:
        """The effects of faults before the call."""
        if fault is None or fault.kind in AFTER:
            return
        if fault.kind == "delay":
            await sleep(self.clock, fault.seconds)
        else:
            raise fault.error()


def _is(fault: Fault | None, kind: Kind) -> bool:
    return fault is not None and fault.kind == kind
