"""Why an attempt was made more than once in a chaos run.

Owns what explains a second run, or a second copy of an item. It does no I/O.

The one rule: a second run of the same attempt of the same item needs a fault that hit the first
one, by the very process or connection that ran it, or by the broker, while it mattered. A broker
that takes a push twice when it is sent twice, and settles in two steps, may also hold two copies of
an item; these need a fault that hit the pushing process meanwhile.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["BROKER_KILLED", "TOLD_TO_LEAVE", "Causes", "Fault", "Pushing", "Run"]

BROKER_KILLED = "broker killed"
TOLD_TO_LEAVE = "worker told to leave"

SETTLE_SECONDS = 1.0
"""Within that after a run's end, a broker that is there has answered its settlement, if nobody
wrote down when it had."""

LATE_SECONDS = 0.5
"""Within that, a process that was away has heard that what it held is lost."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was done to a process, to the connections of a place, or to the broker.

    Attributes:
        kind: what it was; the cause that is printed.
        target: a process (``worker-1.3``), a place with all its processes (``worker-1``),
            ``broker``, or the id of an item that the broker delivered once more.
        begin, end: from when to when, in seconds of the monotonic clock.
        gravity: how much it explains: 2: a process or the broker was away; 1: an answer was lost,
            for which there are repetitions; 0: the machine did it, being busy.
    """

    kind: str
    target: str
    begin: float
    end: float
    gravity: int = 2

    def hits(self, who: str, begin: float, end: float) -> bool:
        """Whether it was done to the process `who`, or to all, between two moments."""
        is_target = self.target in ("broker", who, who.partition(".")[0])
        return is_target and self.begin <= end and self.end >= begin


@dataclass(slots=True)
class Run:
    """One run of a job: by which process, of which attempt, and its moments.

    Attributes:
        end: when the function had ended; None: unknown.
        how: ``end``, ``raised``, ``cancelled``; empty: nobody knows.
        settled: when the broker had answered its settlement; None: nobody knows that it has.
        popped: since when the broker may have handed the item over; None: nobody wrote it down.
    """

    who: str
    key: str
    item_id: str
    number: int
    begin: float
    end: float | None = None
    how: str = ""
    settled: float | None = None
    popped: float | None = None


@dataclass(frozen=True, slots=True)
class Pushing:
    """When, and by which process, a call was pushed; without an end if that is not known."""

    who: str
    begin: float
    end: float = math.inf


class Causes:
    """What explains the runs of one chaos run.

    Args:
        runs: in the order in which they began.
        pushings: by the key of the call.
        moves: by the id of the item, which was popped too early, or is to be tried again.
        lease_seconds: for how long at least a process was away whose items were another's.
        settles_at_once: the broker takes a push that is sent twice for one, and settles in one
            step.
    """

    def __init__(
        self,
        runs: Iterable[Run],
        pushings: Mapping[str, Pushing],
        moves: Mapping[str, Sequence[Pushing]],
        faults: Sequence[Fault],
        lease_seconds: float,
        *,
        settles_at_once: bool,
    ) -> None:
        self._by_attempt: dict[tuple[str, int], list[Run]] = defaultdict(list)
        for run in runs:
            self._by_attempt[run.item_id, run.number].append(run)
        self._pushings = pushings
        self._moves = moves
        self._faults = faults
        self._lease_seconds = lease_seconds
        self._settles_at_once = settles_at_once

    def of_repetitions(self) -> Iterator[tuple[Run, Run, Fault | None]]:
        """Each run with one of the same attempt that followed it, and why; None: no reason."""
        for same in self._by_attempt.values():
            for earlier, later in pairwise(same):
                yield earlier, later, _gravest(self._of_repetition(earlier, later))

    def of_second_burial(self, item_id: str) -> Fault | None:
        """Why an item is in the error queue more than once; None: there is no reason."""
        numbers = [number for each, number in self._by_attempt if each == item_id]
        return _gravest(self._of_copies(item_id, max(numbers, default=0) + 1))

    def _of_repetition(self, earlier: Run, later: Run) -> list[Fault]:
        """A fault matters from the pop of the item until its settlement must have been answered.

        Or the second run is the late one: it popped the item, was away while the first one had it,
        and has just come back. Or the item was delivered, or pushed, once more.
        """
        return (
            self._hits(earlier, later.begin)
            or [
                fault
                for fault in self._faults
                if fault.hits(later.who, later.begin - LATE_SECONDS, earlier.begin)
                and fault.end - fault.begin >= self._lease_seconds
            ]
            or [
                fault
                for fault in self._faults
                if fault.target == later.item_id and fault.begin <= later.begin
            ]
            or self._of_copies(later.item_id, later.number)
        )

    def _hits(self, run: Run, until: float = math.inf) -> list[Fault]:
        last = until
        if run.end is not None:
            last = min(until, run.end + SETTLE_SECONDS if run.settled is None else run.settled)
        return [
            fault
            for fault in self._faults
            if fault.hits(run.who, run.begin if run.popped is None else run.popped, last)
            # Who is told to leave has time for what ends by itself.
            and (fault.kind != TOLD_TO_LEAVE or run.how in ("", "cancelled"))
        ]

    def _of_copies(self, item_id: str, number: int) -> list[Fault]:
        """Why an item may have been pushed twice for an attempt: resent, or by two runs."""
        if self._settles_at_once:
            return []
        before = self._by_attempt.get((item_id, number - 1), [])
        found = [fault for run in before for fault in self._hits(run)]
        for earlier, later in pairwise(before):
            found += self._of_repetition(earlier, later)
        pushings = list(self._moves.get(item_id, ()))
        runs = self._by_attempt.get((item_id, number), [])
        if runs and runs[0].key in self._pushings:
            pushings.append(self._pushings[runs[0].key])
        for each in pushings:
            found += [fault for fault in self._faults if fault.hits(each.who, each.begin, each.end)]
        return found


def _gravest(faults: Sequence[Fault]) -> Fault | None:
    return max(faults, key=lambda fault: (fault.gravity, fault.begin), default=None)
