"""Bugs of a queue as a whole: flush, stats, close, batching, event loops."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from deferrable.aio._contract.popping import Popped
from deferrable.aio.backend.memory import InMemoryQueue
from deferrable.aio.backend.memory._store import Store
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Item, Push, Release, Touch
from mutants.planting import is_used, mutant


@mutant("objects_of_one_queue_are_told_from_those_of_another")
class CallsItselfByItsGroup(InMemoryQueue):
    @property
    def identity(self) -> Any:
        return id(self._group)


@mutant("flush_removes_what_is_available_delayed_and_in_flight")
class LeavesWhatIsDelayed(Store):
    def flush(self) -> None:
        delayed = self._delayed
        super().flush()
        self._delayed = delayed


@mutant("what_was_held_is_lost_by_a_flush")
class HoldsOnThroughAFlush(Store):
    def flush(self) -> None:
        held = self._held
        super().flush()
        self._held = held


@mutant("a_flushed_queue_goes_on")
class IsClosedByAFlush(InMemoryQueue):
    async def _flush(self) -> None:
        vars(self)["is_flushed"] = True
        await super()._flush()

    async def _push_batch(self, pushes: Sequence[Push]) -> Sequence[Exception | None]:
        if "is_flushed" in vars(self):
            return [None] * len(pushes)
        return await super()._push_batch(pushes)


@mutant("flush_leaves_the_other_queue_alone")
class FlushesBoth(InMemoryQueue):
    async def _flush(self) -> None:
        self._group.main.flush()
        self._group.errors.flush()


@mutant("stats_count_what_the_broker_knows")
class CountsDelayedAsAvailable(Store):
    def stats(self, now: float) -> Mapping[str, float]:
        stats = dict(super().stats(now))
        stats["available"] += stats.pop("delayed")
        return stats


@mutant("stats_of_an_empty_queue_are_zero")
class CountsOneAtFirst(InMemoryQueue):
    async def _stats(self) -> Mapping[str, float]:
        return await super()._stats() if is_used(self) else {"available": 1}


@mutant("stats_follow_a_completion")
class CountsWhatWasEverHeld(Store):
    def stats(self, now: float) -> Mapping[str, float]:
        return {**super().stats(now), "in_flight": len(self._lease_ends)}


@mutant("stats_see_what_became_due_or_was_abandoned")
class CountsAsOfTheLastCall(InMemoryQueue):
    async def _stats(self) -> Mapping[str, float]:
        return self.store.stats(self.clock.time())


@mutant(
    "closing_leaves_the_items_to_other_consumers",
    "closing_on_one_loop_closes_on_the_others",
)
class EmptiesItselfWhenClosed(InMemoryQueue):
    async def _close(self) -> None:
        self.store.flush()


class _Closes(InMemoryQueue):
    closings = 0

    async def _close(self) -> None:
        self.closings += 1


@mutant("closing_twice_is_harmless")
class RefusesToCloseTwiceOnceUsed(_Closes):
    async def _close(self) -> None:
        await super()._close()
        if self.closings > 1 and is_used(self):
            raise RuntimeError("closed already")


@mutant("closing_a_queue_that_was_never_used_is_harmless")
class RefusesToCloseUnused(_Closes):
    has_counted = False

    async def _stats(self) -> Mapping[str, float]:
        self.has_counted = True
        return await super()._stats()

    async def _close(self) -> None:
        if self.store is self._group.main and not (self.has_counted or is_used(self)):
            raise RuntimeError("never opened")


@mutant("a_backend_closes_both_of_its_queues_twice")
class RefusesToCloseTwiceUnused(_Closes):
    async def _close(self) -> None:
        await super()._close()
        if self.closings > 1 and not is_used(self):
            raise RuntimeError("closed already")


@mutant("pushes_made_at_once_travel_together")
class PushesEachAlone(InMemoryQueue):
    async def push(self, item: Item) -> None:
        await self._push_batch([self.prepare(item)])


@mutant("uses_of_envelopes_made_at_once_travel_together")
class TouchesEachAlone(InMemoryQueue):
    async def touch(self, envelope: Envelope, seconds: float = 10) -> None:
        self._check_held("touch", envelope)
        (outcome,) = await self._touch_batch([Touch(envelope, seconds)])
        if outcome is not None:
            raise outcome
        end_time = self.clock.monotonic() + seconds
        envelope.lease_end_time = max(envelope.lease_end_time, end_time)


@mutant("pops_made_at_once_share_the_brokers_answers")
class PopsEachAlone(InMemoryQueue):
    async def pop(self) -> Any:
        popped = await self._pop_batch(1)
        return popped[0] if popped else (None, None)


@mutant("stats_tell_the_age_of_the_oldest_available_item_or_nothing_of_it")
class TellsTheAgeOfNothing(InMemoryQueue):
    async def _stats(self) -> Mapping[str, float]:
        return {"oldest_age_seconds": 0.0, **await super()._stats()}


@mutant("a_lone_call_is_one_native_call")
class CountsBeforeEachPush(InMemoryQueue):
    async def push(self, item: Item) -> None:
        await self._stats()
        await super().push(item)


@mutant("a_queue_can_be_used_from_two_loops_at_once")
class BreaksUnderTwoThreads(InMemoryQueue):
    """Only of loops that are not the main thread's; it waits for a second one to come."""

    async def _push_batch(self, pushes: Sequence[Push]) -> Sequence[Exception | None]:
        loops: set[asyncio.AbstractEventLoop] = vars(self).setdefault("loops", set())
        here = asyncio.get_running_loop()
        if threading.current_thread().name.startswith("AnyIO") and here not in loops:
            loops.add(here)
            for _ in range(30):
                if len(loops) == 1:
                    await asyncio.sleep(0.01)
            if any(not each.is_closed() for each in loops - {here}):
                raise RuntimeError("used from two loops")
        return await super()._push_batch(pushes)


@mutant(
    "a_queue_can_be_used_from_a_fresh_loop_after_another_was_closed",
    "a_queue_can_be_used_from_two_loops_at_once",
)
class StaysWithTheFirstLoop(InMemoryQueue):
    async def _push_batch(self, pushes: Sequence[Push]) -> Sequence[Exception | None]:
        first = vars(self).setdefault("loop", asyncio.get_running_loop())
        if first.is_closed():
            raise RuntimeError("Event loop is closed")
        return await super()._push_batch(pushes)


@mutant("an_item_popped_on_one_loop_can_be_settled_on_another")
class SettlesOnTheLoopOfThePop(InMemoryQueue):
    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        popped = await super()._pop_batch(count)
        loops = vars(self).setdefault("loops", {})
        loops.update((envelope, asyncio.get_running_loop()) for envelope, _ in popped)
        return popped

    async def _release_batch(self, releases: Sequence[Release]) -> Sequence[Exception | None]:
        for release in releases:
            if vars(self)["loops"][release.envelope] is not asyncio.get_running_loop():
                raise RuntimeError("attached to a different loop")
        return await super()._release_batch(releases)


@mutant("closing_on_one_loop_closes_on_the_others")
class PopsNothingOnceClosed(_Closes):
    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        return [] if self.closings else await super()._pop_batch(count)
