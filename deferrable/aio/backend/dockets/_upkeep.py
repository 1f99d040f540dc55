"""Bring back items that nobody will settle.

Owns when to look for them and what to do: our own items after the end of their lease, items of
dead consumers, and orphans, which are in our working list although nobody here runs them. Pops and
touches call it on their way.

The one rule: a script moves an entry only if it is still there, and an entry of another consumer
only if that consumer is still dead. So any number of consumers may look at once.
"""

import logging
import math
from collections.abc import Sequence

from deferrable.aio.backend.dockets._commands import Commands, Whose
from deferrable.aio.backend.dockets._consumer import Consumer
from deferrable.aio.backend.dockets._moves import Move, as_redelivery
from deferrable.aio.clock import Clock, SystemClock
from deferrable.errors import BackendError

__all__ = ["IDLE_UPKEEP_SECONDS", "Upkeep"]

_UPKEEP_SECONDS = 5.0
"""How often, at least, a consumer that pops or touches looks for dead consumers and orphans."""

IDLE_UPKEEP_SECONDS = 20.0
"""How often, at least, an idle consumer looks: this must cost almost nothing."""

_SOONEST_SECONDS = 0.05
"""The shortest pause, so that a heartbeat that ends soon is not checked all the time."""

_DEAD_ENTRIES = 100
"""How many entries of a dead consumer are read at a time: they are sent here and back."""

_logger = logging.getLogger("deferrable")


class Upkeep:
    """Looks after one queue, for one consumer of it."""

    def __init__(
        self,
        consumer: Consumer,
        commands: Commands,
        clock: Clock,
        max_redeliveries: int,
        lease_seconds: float,
    ) -> None:
        self._consumer = consumer
        self._commands = commands
        self._clock = clock
        self._max_redeliveries = max_redeliveries
        self._lease_seconds = lease_seconds
        self._look_time = -math.inf
        # When a consumer may be dead that the last look found, or came too early to find.
        self._death_time = -math.inf
        self._is_failing = False

    def hurry(self) -> None:
        """Something went wrong: look at the next opportunity."""
        self._look_time = -math.inf

    @property
    def due_time(self) -> float:
        """When the next upkeep may be due; no wait should last longer."""
        return min(self._death_time, self._consumer.earliest_time)

    async def run(self, *, is_idle: bool = False) -> None:
        """Do the due upkeep.

        Args:
            is_idle: the consumer finds nothing to pop.
        """
        now = self._clock.monotonic()
        await self._take_back_expired(now)
        if self._is_time_to_look(now, is_idle):
            self._look_time = now
            # A consumer may join and die between two looks, and its heartbeat lasts for a lease.
            self._death_time = now + self._lease_seconds + 1
            try:
                await self._reclaim_dead(now)
                await self._return_orphans()
            except BaseException:
                self.hurry()
                raise

    def _is_time_to_look(self, now: float, is_idle: bool) -> bool:
        is_calm = is_idle and not self._consumer.has_suspects
        pause_seconds = IDLE_UPKEEP_SECONDS if is_calm else _UPKEEP_SECONDS
        next_time = min(self._look_time + pause_seconds, self._death_time)
        return now >= next_time

    async def run_in_passing(self) -> None:
        """Do the due upkeep during another call, which must not fail because of it."""
        try:
            await self.run()
        except BackendError as error:
            if not self._is_failing:
                self._is_failing = True
                _logger.warning("cannot look for abandoned items: %s", error)
        else:
            if self._is_failing:
                self._is_failing = False
                _logger.warning("can look for abandoned items again")

    async def _take_back_expired(self, now: float) -> None:
        expired = self._consumer.claim_expired(now)
        if not expired:
            return
        expired.sort(key=lambda held: held.end_time)
        try:
            moves = self._redeliveries([held.raw for held in expired])
            await self._commands.move(expired[0].consumer_id, moves)
        except BaseException:
            # A caller that completes one now must get `LeaseLost`, if it has gone back.
            self._consumer.unclaim(expired, may_be_settled=False)
            raise
        self._consumer.drop(expired)
        _logger.warning("took back %d items whose lease had ended", len(expired))

    async def _reclaim_dead(self, now: float) -> None:
        own_id = self._consumer.id
        others = [each for each in await self._commands.workers() if each != own_id]
        for consumer_id, seconds in (await self._commands.heartbeats(others)).items():
            if seconds <= 0:
                await self._reclaim(consumer_id, "dead")
            else:
                # It may be dead already; then nobody will notice it before this moment.
                self._death_time = min(self._death_time, now + max(seconds, _SOONEST_SECONDS))

    async def reclaim_outside(self, consumer_id: str) -> int:
        """Take back the items of a consumer that is not among the workers. Return how many."""
        return await self._reclaim(consumer_id, "outside")

    async def _reclaim(self, consumer_id: str, whose: Whose) -> int:
        total = 0
        while True:
            raws = await self._commands.oldest(consumer_id, _DEAD_ENTRIES)
            moves = self._redeliveries(raws)
            outcome = await self._commands.move(consumer_id, moves, whose=whose)
            moved = 0 if outcome is None else sum(outcome[1])
            total += moved
            if moved and whose == "dead":  # who asks for others gets the number
                _logger.warning("reclaimed %d items of dead consumer %s", moved, consumer_id)
            if not moved or len(raws) < _DEAD_ENTRIES:
                return total

    async def _return_orphans(self) -> None:
        consumer_id = self._consumer.id
        if consumer_id is None:
            return
        listed_count = await self._commands.in_flight([consumer_id])
        if listed_count <= self._consumer.held_count and not self._consumer.has_suspects:
            # The usual case, in which the list need not be sent.
            return
        listed = await self._commands.oldest(consumer_id, 0)
        orphans = self._consumer.find_orphans(listed, SystemClock.monotonic())
        if orphans:
            await self._commands.move(consumer_id, self._redeliveries(orphans))
            _logger.warning("put back %d items whose delivery was lost", len(orphans))

    def _redeliveries(self, raws: Sequence[bytes]) -> list[Move]:
        now = self._clock.time()
        return [as_redelivery(raw, now, self._max_redeliveries) for raw in raws]
