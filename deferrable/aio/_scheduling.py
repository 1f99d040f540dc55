"""The decorator ``periodic``, which both APIs share.

Owns its signature and what may be scheduled, and the list of an instance's schedules. A schedule
is kept with the instance; workers propose its ticks.
"""

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from typing import Any, ParamSpec, TypeVar, cast, get_args

from deferrable._arguments import mismatch
from deferrable._codec.refusals import check_text, kind_of, short_repr
from deferrable._durations import Duration, seconds_of
from deferrable._ticks import CatchUp, Plan
from deferrable._timetables import Every, Timetable, timetable_of
from deferrable.aio._engine.instance import Instance
from deferrable.aio._engine.scheduled import Scheduled
from deferrable.aio.job import BoundJob, Job
from deferrable.aio.schedule import Schedule
from deferrable.debounce import identity
from deferrable.errors import InvalidOptions

__all__ = ["Scheduling"]

P = ParamSpec("P")
R = TypeVar("R")

_POLICIES = get_args(CatchUp)


class Scheduling(ABC):
    """What has the decorator."""

    @abstractmethod
    def _instance_of_jobs(self) -> Instance:
        """The instance that decorated functions are registered with."""

    @abstractmethod
    def deferrable(self, function: Callable[P, R], /) -> Job[P, R]:
        """Make a job of a function."""

    def periodic(
        self,
        cron: str | None = None,
        *,
        every_seconds: Duration | None = None,
        timezone: str | tzinfo | None = None,
        jitter_seconds: Duration = 0,
        catch_up: CatchUp = "skip",
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> Callable[[Callable[P, R]], Job[P, R]]:
        """Defer a call of the job at each tick of a schedule, whatever the number of workers.

        Put it above ``deferrable``, or on a plain function, of which it makes a job. Put several
        on one job for several schedules. Every worker of this instance proposes each tick, and the
        backend admits one of them by its own clock. The module must be imported before the worker
        starts.

        Args:
            cron: five fields (minute, hour, day of the month, month, day of the week), or six with
                the second before them. It needs the extra ``deferrable[periodic]``.
            every_seconds: instead of `cron`, at least 1. The ticks are the multiples of it since
                the beginning of 1970 in UTC.
            timezone: the zone in which `cron` is read; None: UTC. When clocks are put forward, a
                call for the missing hour is pushed at its end. When they are put back, a call for
                the repeated hour is pushed once, unless it comes every hour or more often.
            jitter_seconds: each tick is pushed up to this much later, by chance. All workers come
                to the same moment.
            catch_up: which of the ticks that are due are pushed. ``skip``: those that are late by
                at most a minute; ``last``: the last one; ``all``: each. Workers that come back
                after more than 7 days start from scratch.
            args: the positional arguments of the call.
            kwargs: its keyword arguments.
            name: of the schedule; None: the job's name and the timetable. A changed schedule of
                the same name takes the place of the old one with the first worker that has it.

        Returns:
            the job. Ticks are neither debounced nor unique.

        Raises:
            InvalidOptions: no expression, no zone, both kinds at once, another schedule of the
                name, or a backend without a store.
            ArgumentMismatch: the function does not take these arguments.
            ImportError: the extra is missing.
        """
        timetable = timetable_of(cron, every_seconds, timezone)
        jitter = _check_jitter(seconds_of("jitter_seconds", jitter_seconds), timetable)
        if catch_up not in _POLICIES:
            raise InvalidOptions(
                f"catch_up is one of {', '.join(map(repr, _POLICIES))}; got {short_repr(catch_up)}"
            )
        positional, named = _checked_arguments(args, kwargs)
        if name is not None:
            if not (isinstance(name, str) and name):
                raise InvalidOptions(f"the name of a schedule is a text, got {short_repr(name)}")
            check_text("the name of a schedule", name)

        def schedule(function: Callable[P, R]) -> Job[P, R]:
            job = self._job_of(function)
            plan_name = f"{job.name} {timetable.text}" if name is None else name
            plan = Plan(plan_name, timetable, jitter, catch_up, "")
            self._add_schedule(job, plan, positional, named)
            return job

        return schedule

    def schedules(self) -> list[Schedule]:
        """The schedules of this instance, in the order in which they were made."""
        instance = self._instance_of_jobs()
        return [Schedule(instance, each) for each in instance.scheduled.values()]

    def _job_of(self, function: Callable[P, R]) -> Job[P, R]:
        if isinstance(function, BoundJob):
            raise TypeError(
                f"{function!r:.200} is bound to an object, which a schedule would keep for ever; "
                "decorate the method, and give it the object in args="
            )
        if not isinstance(function, Job):
            return self.deferrable(function)
        job = cast("Job[P, R]", function)
        if job.instance is not self._instance_of_jobs():
            raise TypeError(f"{job!r:.200} belongs to another instance; use its own periodic")
        return job

    def _add_schedule(
        self, job: Job[..., Any], plan: Plan, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        instance = self._instance_of_jobs()
        if instance.schedule_store is None:
            raise InvalidOptions(
                f"{instance.backend.queue!r} has no store for schedules; give the instance "
                "schedule_store=, such as RedisScheduleStore, or the schedule_store of another "
                "backend (in memory, SQLite, Dockets)"
            )
        if instance.check_arguments and job.binder is not None:
            try:
                job.binder(*args, **kwargs)
            except TypeError as error:
                raise mismatch(job.name, job.function, error) from error
        options = job.settings
        if options.debounce_seconds:
            options = dataclasses.replace(options, debounce_seconds=0, debounce_always_delay=False)
        plan = dataclasses.replace(plan, version=_version_of(job.name, plan, args, kwargs))
        old = instance.scheduled.get(plan.name)
        if old is not None and (old.job.name != job.name or old.plan.version != plan.version):
            raise InvalidOptions(
                f"this instance has a schedule of the name {plan.name!r} already; give one of "
                "them another name="
            )
        instance.scheduled[plan.name] = Scheduled(plan, job, options, args, kwargs)


def _check_jitter(seconds: float, timetable: Timetable) -> float:
    if isinstance(timetable, Every) and seconds >= timetable.seconds:
        raise InvalidOptions(
            f"jitter_seconds={seconds:g} is as long as every_seconds={timetable.seconds:g}, so "
            "ticks would overtake each other; make it shorter"
        )
    return seconds


def _checked_arguments(args: object, kwargs: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(args, str | bytes) or not isinstance(args, Sequence):
        raise InvalidOptions(
            f"args is a sequence of arguments, got {kind_of(args)}; for one write args=(value,)"
        )
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise InvalidOptions(f"kwargs is a mapping of arguments, got {kind_of(kwargs)}")
    return tuple(args), {} if kwargs is None else dict(kwargs)


def _version_of(job_name: str, plan: Plan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """A text that changes with anything that a schedule says."""
    rules = (plan.timetable.text, plan.jitter_seconds, plan.catch_up)
    text = f"{rules!r} {identity(None, job_name, args, kwargs)}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]
