"""Bugs of pausing a queue."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from deferrable.aio._contract.popping import Popped
from deferrable.aio.backend.memory import InMemoryQueue
from deferrable.aio.backend.memory._store import Lease, Now, Store
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Touch
from deferrable.pause import Pause
from mutants.planting import mutant


@mutant("a_queue_that_cannot_be_paused_refuses_and_says_which_can")
class PausesThoughItSaysThatItCannot(InMemoryQueue):
    SUPPORTS_PAUSE = False

    def _check_pauses(self) -> None:
        pass


@mutant(
    "a_paused_queue_gives_no_consumer_an_item_until_it_is_resumed",
    "items_that_come_back_or_become_due_stay_in_a_paused_queue",
    "a_pause_replaces_another_one",
    "a_pause_ends_by_itself_at_its_time",
)
class PausesItselfOnly(InMemoryQueue):
    is_paused_here = False

    async def _pause(self, pause: Pause) -> None:
        await super()._pause(pause)
        self.is_paused_here = True

    async def pop_at_once(self, count: int) -> list[Popped]:
        return list(await self._pop_batch(count))

    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        pause = self.store.pause
        if not self.is_paused_here:
            self.store.pause = None
        try:
            return await super()._pop_batch(count)
        finally:
            self.store.pause = pause


@mutant("items_that_come_back_or_become_due_stay_in_a_paused_queue")
class GivesWhatBecomesDue(Store):
    def catch_up(self, now: Now) -> None:
        waiting = len(self._waiting)
        super().catch_up(now)
        if len(self._waiting) > waiting:
            self.pause = None


@mutant("the_holder_of_an_item_goes_on_while_the_queue_is_paused")
class LosesWhatIsHeldWhilePaused(InMemoryQueue):
    def _held(self, envelope: Envelope) -> Lease | None:
        return None if self.store.pause else super()._held(envelope)

    async def _touch_batch(self, touches: Sequence[Touch]) -> Sequence[Exception | None]:
        return await super()._touch_batch(touches)


@mutant("a_pause_says_since_when_and_why")
class CountsNothingWhilePaused(Store):
    def stats(self, now: float) -> Mapping[str, float]:
        counts = super().stats(now)
        return counts if self.pause is None else {**counts, "available": 0}


@mutant("a_pause_ends_by_itself_at_its_time")
class PausesForEver(InMemoryQueue):
    async def _pause(self, pause: Pause) -> None:
        await super()._pause(replace(pause, until_time=None))


@mutant("a_pause_replaces_another_one")
class KeepsTheFirstPause(InMemoryQueue):
    async def _pause(self, pause: Pause) -> None:
        if await self._find_pause() is None:
            await super()._pause(pause)


@mutant("a_pop_of_a_paused_queue_notes_the_pause")
class NeverForgetsAPause(InMemoryQueue):
    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        seen = self.seen_pause
        popped = await super()._pop_batch(count)
        self.seen_pause = self.seen_pause or seen
        return popped


@mutant("a_flush_leaves_a_queue_paused")
class ResumesWithAFlush(Store):
    def flush(self) -> None:
        super().flush()
        self.pause = None


@mutant("a_pause_that_makes_no_sense_is_refused")
class PausesForAnyTime(InMemoryQueue):
    async def pause(self, *, for_seconds: object = None, reason: object = "") -> None:  # type: ignore[override]
        await self._pause(Pause(self.clock.time(), None, str(reason)))


@mutant("a_waiting_pop_gets_nothing_that_is_pushed_after_a_pause")
class WaitingPopsGoOnThroughAPause(InMemoryQueue):
    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        was_paused = self.store.pause is not None
        popped = await super()._pop_batch(count)
        if self._wait_seconds and not popped and not was_paused and self.store.pause:
            pause, self.store.pause = self.store.pause, None
            popped = await super()._pop_batch(count)
            self.store.pause = pause
        return popped


@mutant("a_waiting_pop_of_a_paused_queue_ends_when_it_is_resumed")
class NeverResumes(InMemoryQueue):
    async def _resume(self) -> bool:
        return self._wait_seconds != 0 or await super()._resume()
