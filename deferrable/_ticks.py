"""Which tick of a schedule is to be pushed next, and who may push it.

Owns the decisions; it does no I/O and reads no clock. A worker decides which tick it proposes
(`next_proposal`). The store of the schedules decides whether that is admitted (`admit`), with what
it keeps of the schedule (`Record`) and by its own clock. Lua scripts repeat the decisions of a
store; a property test compares the two.

The one rule: a tick is admitted only after the tick that its proposal names as the last one, and
admitting it makes it the last one. So no tick is admitted twice, and none after a later one.
"""

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from deferrable._timetables import Timetable

__all__ = [
    "ABANDONED_SECONDS",
    "BACK_SECONDS",
    "CatchUp",
    "KEPT_SECONDS",
    "LATE_SECONDS",
    "Plan",
    "Proposal",
    "RESERVED_SECONDS",
    "Record",
    "Verdict",
    "admit",
    "confirm",
    "due_time",
    "is_fresh",
    "is_superseded",
    "next_proposal",
    "renew",
]

KEPT_SECONDS = 7 * 86_400
"""A schedule that no worker has had for so long is gone. If it comes back, it starts from
scratch."""

ABANDONED_SECONDS = 300
"""If the workers with the latest version of a schedule are silent for so long, those with another
version take over."""

BACK_SECONDS = 3600
"""If the store's clock was put back by more than this, a schedule starts from scratch."""

LATE_SECONDS = 60
"""A tick that is late by at most this was not missed."""

RESERVED_SECONDS = 30
"""How long a push may take that is no part of the admission. Then others may push that tick."""

CatchUp: TypeAlias = Literal["skip", "last", "all"]

Verdict: TypeAlias = Literal["admitted", "early", "taken", "reserved", "superseded"]
"""What a store answers to a proposal.

``early``: its clock has not reached the tick. ``taken``: another tick is the last one now.
``reserved``: another worker is pushing. ``superseded``: the schedule has a newer version.
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """The rules of one schedule.

    Attributes:
        name: of the schedule.
        timetable: has its ticks.
        jitter_seconds: up to so long after its moment a tick is due, by chance.
        catch_up: which missed ticks are pushed.
        version: a text that changes with the schedule.
    """

    name: str
    timetable: Timetable
    jitter_seconds: float
    catch_up: CatchUp
    version: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """To push one tick.

    Attributes:
        name: of the schedule.
        version: of the schedule, as the proposing worker has it.
        last_time: the tick before it, as the store has told.
        tick_time: the tick.
        due_time: when it may be admitted.
    """

    name: str
    version: str
    last_time: float
    tick_time: float
    due_time: float


@dataclass(frozen=True, slots=True)
class Record:
    """What a store keeps of a schedule.

    Attributes:
        last_time: the last tick that was admitted; at first the moment when it was recorded.
        version: of the schedule.
        seen_time: when a worker with that version was heard of.
        tick_time, token, reserved_until: the tick that is being pushed, by whom, and until when
            only that one may; None: no tick is.
    """

    last_time: float
    version: str
    seen_time: float
    tick_time: float | None = None
    token: str | None = None
    reserved_until: float | None = None


# What a worker decides.


def due_time(plan: Plan, tick_time: float) -> float:
    """When a tick is to be pushed: the same for all workers, jitter included."""
    if not plan.jitter_seconds:
        return tick_time
    drawn = hashlib.sha256(f"{plan.name} {tick_time!r}".encode()).digest()
    return tick_time + plan.jitter_seconds * int.from_bytes(drawn[:8]) / 2**64


def next_proposal(plan: Plan, last_time: float, now: float) -> Proposal | None:
    """The tick to propose now, or in the future; None: there is none any more."""
    tick_time = _TICKS[plan.catch_up](plan, last_time, now)
    if tick_time == math.inf:
        return None
    due = due_time(plan, tick_time)
    return Proposal(plan.name, plan.version, last_time, tick_time, due)


def _after_late(plan: Plan, last_time: float, now: float) -> float:
    """The next tick that was not missed."""
    late_time = now - LATE_SECONDS
    # From a little before, as the tick at the very end of the time still counts.
    start_time = late_time - plan.jitter_seconds - 1
    tick_time = plan.timetable.next_after(max(last_time, start_time))
    while due_time(plan, tick_time) < late_time:
        tick_time = plan.timetable.next_after(tick_time)
    return tick_time


def _latest(plan: Plan, last_time: float, now: float) -> float:
    """The latest tick that is due, or the next one if none is."""
    tick_time = plan.timetable.next_after(last_time)
    if due_time(plan, tick_time) > now:
        return tick_time
    # Looked for from the end, as there may be very many.
    seconds = float(LATE_SECONDS)
    while True:
        start_time = max(last_time, now - plan.jitter_seconds - seconds)
        found = None
        tick_time = plan.timetable.next_after(start_time)
        while tick_time <= now:
            if due_time(plan, tick_time) <= now:
                found = tick_time
            tick_time = plan.timetable.next_after(tick_time)
        if found is not None:
            return found
        seconds *= 8


def _each(plan: Plan, last_time: float, now: float) -> float:
    return plan.timetable.next_after(last_time)


_TICKS = {"skip": _after_late, "last": _latest, "all": _each}


# What a store decides.


def is_fresh(record: Record | None, now: float) -> bool:
    """Whether what is kept still counts."""
    return (
        record is not None
        and record.seen_time + KEPT_SECONDS > now
        and record.last_time - BACK_SECONDS <= now
    )


def renew(record: Record | None, now: float, version: str, *, is_start: bool) -> Record:
    """What to keep, now that a worker with a schedule of this version was heard of.

    Args:
        is_start: the worker has just started. Its version replaces another one.
    """
    if record is None or not is_fresh(record, now):
        return Record(now, version, now)
    if (
        record.version == version
        or is_start
        or not -BACK_SECONDS <= now - record.seen_time < ABANDONED_SECONDS
    ):
        return replace(record, version=version, seen_time=now)
    return record


def is_superseded(record: Record, version: str) -> bool:
    """Whether a worker with this version has no say any more."""
    return record.version != version


def admit(
    record: Record | None, now: float, proposal: Proposal, token: str | None
) -> tuple[Verdict, Record]:
    """Whether a proposed tick is admitted, and what to keep.

    Args:
        token: names the reservation, if the push is no part of this step; None: it is.
    """
    record = renew(record, now, proposal.version, is_start=False)
    if is_superseded(record, proposal.version):
        return "superseded", record
    if record.last_time != proposal.last_time:
        return "taken", record
    if now < proposal.due_time:
        return "early", record
    if record.reserved_until is not None and record.token != token and now < record.reserved_until:
        return "reserved", record
    if token is None:
        return "admitted", Record(proposal.tick_time, record.version, record.seen_time)
    return "admitted", replace(
        record,
        tick_time=proposal.tick_time,
        token=token,
        reserved_until=now + RESERVED_SECONDS,
    )


def confirm(record: Record | None, tick_time: float, token: str) -> Record | None:
    """What to keep once a reserved tick was pushed."""
    if record is None or record.token != token or record.tick_time != tick_time:
        return record
    return Record(tick_time, record.version, record.seen_time)
