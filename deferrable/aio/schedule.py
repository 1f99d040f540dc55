"""A schedule, for its users: when it has ticks, and a run outside of it.

Owns what `instance.schedules()` returns.
"""

import math
from collections.abc import Coroutine
from datetime import datetime
from typing import Any

from deferrable._durations import moment_of
from deferrable._ticks import CatchUp, due_time
from deferrable.aio._engine.deferring import defer
from deferrable.aio._engine.instance import Instance
from deferrable.aio._engine.running import AwaitingDoor, Door, blocking_driver
from deferrable.aio._engine.scheduled import Scheduled
from deferrable.outcome import Receipt

__all__ = ["Schedule"]

_door = AwaitingDoor()


class Schedule:
    """A periodic call of a job, as `periodic` has made it."""

    def __init__(self, instance: Instance, scheduled: Scheduled) -> None:
        self._instance = instance
        self._scheduled = scheduled

    @property
    def name(self) -> str:
        """Its name, which is its identity in the store."""
        return self._scheduled.plan.name

    @property
    def job_name(self) -> str:
        """The name of the job in items."""
        return self._scheduled.job.name

    @property
    def timetable(self) -> str:
        """When it has ticks, in words: the cron expression and its zone, or ``every 30 s``."""
        return self._scheduled.plan.timetable.text

    @property
    def jitter_seconds(self) -> float:
        """Up to so long after its moment a tick is pushed."""
        return self._scheduled.plan.jitter_seconds

    @property
    def catch_up(self) -> CatchUp:
        """Which missed ticks are pushed."""
        return self._scheduled.plan.catch_up

    def next_times(
        self, count: int = 1, *, after: datetime | float | None = None
    ) -> list[datetime]:
        """The next moments at which a call is pushed, in the schedule's zone, jitter included.

        Args:
            count: how many; there are fewer if the schedule ends.
            after: only ticks after this moment; None: now, by the instance's clock.
        """
        plan = self._scheduled.plan
        now = self._instance.clock.time() if after is None else moment_of("after", after)
        times: list[datetime] = []
        while len(times) < count and (now := plan.timetable.next_after(now)) < math.inf:
            due = due_time(plan, now)
            times.append(datetime.fromtimestamp(due, plan.timetable.zone))
        return times

    def later(self) -> Receipt:
        """Defer the call once, now and outside of the schedule; see `Job.later`."""
        return blocking_driver().drive(self._defer, "await schedule.later_async()")

    async def later_async(self) -> Receipt:
        """Defer the call once, on the running loop; see `later`."""
        return await self._defer(_door)

    def _defer(self, door: Door) -> Coroutine[Any, Any, Receipt]:
        each = self._scheduled
        return defer(self._instance, door, each.job, each.options, each.args, each.kwargs)

    def __repr__(self) -> str:
        return f"<Schedule {self.name}: {self.timetable}>"
