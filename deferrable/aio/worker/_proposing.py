"""Propose the ticks of one instance's schedules, as long as a worker works.

Owns when a tick is proposed, and what happens when the store cannot be reached. Each answer of the
store tells its time, so a worker with a wrong clock proposes at the right moment, too.

The one rule: only a cancellation ends it, and that waits for the proposal under way.
"""

import logging
import random
from collections.abc import Iterable
from functools import partial

from deferrable._pauses import growing_seconds, jittered
from deferrable._ticks import ABANDONED_SECONDS, Proposal, next_proposal
from deferrable.aio._engine.instance import Instance
from deferrable.aio._engine.running import AwaitingDoor
from deferrable.aio._engine.scheduled import Scheduled
from deferrable.aio._engine.ticking import propose, store_of
from deferrable.aio.clock import sleep
from deferrable.aio.schedules import Admission, ScheduleStore
from deferrable.errors import BackendError, BackendUnavailable, DeferrableError
from deferrable.item import new_id

__all__ = ["Proposer", "proposers"]

_logger = logging.getLogger("deferrable")

_door = AwaitingDoor()

RENEW_SECONDS = ABANDONED_SECONDS / 5
"""How often the store hears of a worker's schedules."""
_LONGEST_SLEEP_SECONDS = 30.0
"""Somebody may set the machine's clock meanwhile, or stop the machine."""
_RESERVED_SECONDS = 1.0
"""The wait for another worker, which is pushing."""
_QUICK_SECONDS = 0.5
"""An answer that took less is of this moment."""
_MOST_AT_ONCE = 100
"""Ticks of one schedule before the next schedule has its turn."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 5.0


def proposers(instances: Iterable[Instance]) -> "list[Proposer]":
    """What proposes the ticks of those instances that have schedules."""
    return [Proposer(each) for each in instances if each.scheduled]


class _Failures:
    """Failures in a row: the first is logged, and the end of them."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._count = 0

    def note(self, error: Exception) -> float:
        """The seconds to wait."""
        if not self._count:
            trace = None if isinstance(error, DeferrableError) else error
            _logger.error(
                "%s cannot be pushed, the worker retries: %s", self._what, error, exc_info=trace
            )
        self._count += 1
        seconds = growing_seconds(self._count, _FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        return jittered(seconds, random.random())

    def end(self) -> None:
        if self._count:
            noun = "failure" if self._count == 1 else "failures"
            _logger.warning("%s can be pushed again after %d %s", self._what, self._count, noun)
            self._count = 0


class _Course:
    """One schedule, and where it is.

    Attributes:
        last_time: the last tick that was admitted; None: newer workers have another version of it.
    """

    def __init__(self, scheduled: Scheduled) -> None:
        self.scheduled = scheduled
        self.plan = scheduled.plan
        self.last_time: float | None = None
        self.token = new_id()
        self.failures = _Failures(f"the schedule {scheduled.plan.name!r}")


class Proposer:
    """Proposes the ticks of one instance."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._courses = [_Course(each) for each in instance.scheduled.values()]
        self._clock = instance.backend.queue.clock
        self._ahead_seconds = 0.0  # of the store's clock, compared with this machine's
        self._is_start = True
        self._renew_time = -float("inf")
        self._failures = _Failures(f"the periodic jobs of {instance.backend.queue!r}")

    async def run(self) -> None:
        while True:
            try:
                seconds = await self.propose_due()
            except Exception as error:
                if _door.is_being_cancelled():
                    return  # it was cancelled during a proposal that then failed
                seconds = self._failures.note(error)
            else:
                self._failures.end()
            await sleep(self._clock, min(seconds, _LONGEST_SLEEP_SECONDS))

    async def propose_due(self) -> float:
        """Propose what is due. Return the seconds until more may be due."""
        store, name = store_of(self._instance)
        if store is None:  # the instance was given another backend after the decoration
            raise BackendError(
                f"{self._instance.backend!r} has no store for schedules; give the instance "
                "schedule_store="
            )
        if self._clock.monotonic() >= self._renew_time:
            await _door.finish(partial(self._renew, store, name))
        return min([await self._advance_one(store, name, each) for each in self._courses])

    async def _renew(self, store: ScheduleStore, name: str) -> None:
        plans, asked_time = [each.plan for each in self._courses], self._clock.time()
        standings = await store.renew(name, plans, is_start=self._is_start)
        for course, standing in zip(self._courses, standings, strict=True):
            course.last_time = None if standing.is_superseded else standing.last_time
            self._learn_time(standing.now, asked_time)
        self._is_start = False
        self._renew_time = self._clock.monotonic() + RENEW_SECONDS

    async def _advance_one(self, store: ScheduleStore, name: str, course: _Course) -> float:
        try:
            seconds = await self._propose_due(store, name, course)
        except BackendUnavailable:
            raise
        except Exception as error:
            if _door.is_being_cancelled():
                raise
            return course.failures.note(error)
        course.failures.end()
        return seconds

    async def _propose_due(self, store: ScheduleStore, name: str, course: _Course) -> float:
        for _ in range(_MOST_AT_ONCE):
            if course.last_time is None:
                return _LONGEST_SLEEP_SECONDS
            now = self._clock.time() + self._ahead_seconds
            proposal = next_proposal(course.plan, course.last_time, now)
            if proposal is None:
                return _LONGEST_SLEEP_SECONDS
            if proposal.due_time > now:
                return proposal.due_time - now
            admission = await _door.finish(partial(self._propose, store, name, course, proposal))
            if admission.verdict == "reserved":
                return _RESERVED_SECONDS
        return 0.0

    async def _propose(
        self, store: ScheduleStore, name: str, course: _Course, proposal: Proposal
    ) -> Admission:
        asked_time = self._clock.time()
        admission = await propose(
            self._instance, store, name, course.scheduled, proposal, course.token
        )
        # Only a push that has failed is tried again under its own reservation.
        course.token = new_id()
        course.last_time = None if admission.verdict == "superseded" else admission.last_time
        self._learn_time(admission.now, asked_time)
        return admission

    def _learn_time(self, store_now: float, asked_time: float) -> None:
        # The answer may have waited for a loop that was blocked. A proposal that comes too early
        # is refused, but one that comes too late is late.
        now = self._clock.time()
        is_old = not 0 <= now - asked_time < _QUICK_SECONDS
        self._ahead_seconds = store_now - (asked_time if is_old else now)
