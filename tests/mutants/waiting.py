"""Bugs of pops that wait for their item."""

from collections.abc import Callable, Sequence

from deferrable.aio._contract.popping import Popped
from deferrable.aio.backend.memory import InMemoryQueue
from deferrable.aio.backend.memory._queue import Group, _WaitingPop
from deferrable.aio.backend.memory._store import Now
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Push, Release
from mutants.planting import mutant


class _WakesSome(InMemoryQueue):
    """Does not wake some of the waiters."""

    async def push_waking(
        self, pushes: Sequence[Push], is_woken: Callable[[_WaitingPop], bool]
    ) -> Sequence[Exception | None]:
        asleep = {each for each in self._group.waiters if not is_woken(each)}
        self._group.waiters -= asleep
        try:
            return await super()._push_batch(pushes)
        finally:
            self._group.waiters |= asleep


@mutant(
    "a_waiting_pop_gets_what_is_pushed_meanwhile",
    "waiting_pops_get_an_item_each",
    "a_cancelled_wait_loses_nothing",
)
class WakesItsOwnOnly(_WakesSome):
    async def _push_batch(self, pushes: Sequence[Push]) -> Sequence[Exception | None]:
        return await self.push_waking(pushes, lambda waiter: waiter.consumer is self)


@mutant("a_waiting_pop_gets_what_its_own_consumer_pushes")
class WakesOthersOnly(_WakesSome):
    async def _push_batch(self, pushes: Sequence[Push]) -> Sequence[Exception | None]:
        return await self.push_waking(pushes, lambda waiter: waiter.consumer is not self)


@mutant("waiting_pops_get_an_item_each")
class GivesTwoWaitersOneItem(InMemoryQueue):
    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        popped = await super()._pop_batch(count)
        return [popped[0]] * 2 if self._wait_seconds and len(popped) == 2 else popped


@mutant("a_waiting_pop_gets_what_becomes_due")
class ForgetsWhatBecomesDue(Group):
    def rest_seconds(self, now: Now) -> float:
        return min(self.main._next_lease_end(), self.errors._next_lease_end()) - now.monotonic


@mutant("a_waiting_pop_gets_what_another_consumer_abandons")
class ForgetsWhatIsAbandoned(Group):
    def rest_seconds(self, now: Now) -> float:
        dues = [each._delayed[0][0] for each in (self.main, self.errors) if each._delayed]
        return min(dues, default=float("inf")) - now.time


@mutant("a_waiting_pop_gets_what_another_consumer_gives_back")
class ReleasesInSilence(InMemoryQueue):
    async def _release_batch(self, releases: Sequence[Release]) -> Sequence[Exception | None]:
        waiters, self._group.waiters = self._group.waiters, set()
        try:
            return await super()._release_batch(releases)
        finally:
            self._group.waiters = waiters


@mutant("a_wait_ends_without_an_item")
class WaitsTwice(InMemoryQueue):
    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        popped = await super()._pop_batch(count)
        return popped or await super()._pop_batch(count)


@mutant("a_cancelled_wait_loses_nothing")
class KeepsASingleItemNobodyAskedFor(InMemoryQueue):
    async def _return_unasked(self, envelopes: Sequence[Envelope]) -> None:
        if len(envelopes) > 1:
            await super()._return_unasked(envelopes)
