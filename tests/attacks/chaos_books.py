"""The books of a chaos run: what became of each call, and why a job ran more than once.

Owns the reckoning, from lines of the ledgers and faults as they were done. It does no I/O and may
not know any broker. A call that `later` returned from is lost unless its job came to its end, or
its item expired and was allowed to, or is in the error queue and belongs there.

The one rule: a second run of the same attempt of the same item needs a fault that hit the first
one, by the very process or connection that ran it, or by the broker, while it mattered.
"""

from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from attacks.chaos_jobs import DELAYED_SECONDS
from attacks.chaos_ledger import Line

__all__ = ["BROKER_KILLED", "TOLD_TO_LEAVE", "Buried", "Fault", "Verdict", "judge"]

BROKER_KILLED = "broker killed"
TOLD_TO_LEAVE = "worker told to leave"
HELD_UP = "the machine held a process up"

SETTLE_SECONDS = 1.0
"""Within that after a run's end, a broker that is there has answered its settlement."""

LATE_SECONDS = 0.5
"""Within that, a process that was away has heard that what it held is lost."""

CLOCK_SECONDS = 0.1
"""By how much two clocks of one machine may differ over a delay."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was done to a process, to the connections of a place, or to the broker.

    Attributes:
        kind: what it was; the cause that is told.
        target: a process (``worker-1.3``), a place with all its processes (``worker-1``), or
            ``broker``.
        begin, end: from when to when, in seconds of the monotonic clock.
        gravity: how much it explains: 2: a process or the broker was away; 1: an answer was lost,
            for which there are repetitions; 0: the machine did it, being busy.
    """

    kind: str
    target: str
    begin: float
    end: float
    gravity: int = 2

    def hits(self, who: str) -> bool:
        return self.target in ("broker", who, who.partition(".")[0])


@dataclass(slots=True)
class Run:
    """One run of a job: by which process, of which attempt, and its moments.

    Attributes:
        end: when the function had ended; None: nobody knows that it has.
        how: ``end``, ``raised``, ``cancelled``; empty: nobody knows.
    """

    who: str
    key: str
    item_id: str
    number: int
    begin: float
    end: float | None = None
    how: str = ""


@dataclass(frozen=True, slots=True)
class Buried:
    """An item in the error queue."""

    item_id: str
    error_type: str


@dataclass
class Verdict:
    """What a run came to.

    Attributes:
        lost: keys of calls that were acknowledged and came to nothing.
        again: cause -> how often an attempt was made once more because of it.
        without_cause: second runs that nothing explains, in words.
        back_seconds: cause -> from the fault's begin to each run that it caused.
        idle_seconds: from each return of the broker to the next run that began.
        early: keys of delayed calls that ran before their time.
        wrong: anything else that must not be, in words.
    """

    pushed: int = 0
    skipped: int = 0
    unacknowledged: int = 0
    ran_unacknowledged: int = 0
    runs: int = 0
    completed: int = 0
    buried: int = 0
    given_up: int = 0
    expired: int = 0
    lost: list[str] = field(default_factory=list)
    again: Counter[str] = field(default_factory=Counter)
    without_cause: list[str] = field(default_factory=list)
    back_seconds: dict[str, list[float]] = field(default_factory=dict)
    idle_seconds: list[float] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not (self.lost or self.without_cause or self.early or self.wrong)

    def lines(self) -> Iterator[str]:
        """The figures, to be printed."""
        yield (
            f"pushed {self.pushed} (and {self.unacknowledged} calls raised or were cut off, of "
            f"which {self.ran_unacknowledged} ran all the same; {self.skipped} were debounced)"
        )
        yield (
            f"completed {self.completed}, in the error queue {self.buried} (of which "
            f"{self.given_up} were delivered too often), expired {self.expired}, "
            f"lost {len(self.lost)}"
        )
        yield (
            f"{self.runs} runs; run more than once {sum(self.again.values())}, without a cause "
            f"{len(self.without_cause)}, before their time {len(self.early)}"
        )
        for cause, number in self.again.most_common():
            seconds = self.back_seconds[cause]
            yield (
                f"  {number:5} again: {cause} (begun {median(seconds):.1f} s after it, the last "
                f"{max(seconds):.1f} s)"
            )
        if self.idle_seconds:
            yield (
                f"from the broker's return to the next run: {median(self.idle_seconds):.2f} s, at "
                f"most {max(self.idle_seconds):.2f} s, of {len(self.idle_seconds)} times"
            )
        for name in ("lost", "without_cause", "early", "wrong"):
            for text in getattr(self, name)[:20]:
                yield f"  {name.replace('_', ' ')}: {text}"


@dataclass
class _Calls:
    """What the producers wrote down."""

    begun: dict[str, float] = field(default_factory=dict)
    acknowledged: dict[str, float] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    number: int = 0
    skipped: int = 0


def judge(
    lines: Iterable[Line], faults: Sequence[Fault], buried: Sequence[Buried], lease_seconds: float
) -> Verdict:
    """Reckon up a run that has come to its end: nothing is queued, delayed or in flight.

    Args:
        lease_seconds: for how long at least a process was away whose items were another's.
    """
    calls, runs, expired, stalls = _read(lines)
    errors: Mapping[str, Buried] = {each.item_id: each for each in buried}
    verdict = Verdict(
        pushed=len(calls.keys),
        skipped=calls.skipped,
        unacknowledged=calls.number - len(calls.keys) - calls.skipped,
        runs=len(runs),
    )
    _judge_ends(verdict, calls, runs, expired, errors)
    if len(errors) < len(buried):
        verdict.wrong.append(f"{len(buried) - len(errors)} items are in the error queue twice")
    _judge_repetitions(verdict, runs, [*faults, *stalls], lease_seconds)
    begins = sorted(run.begin for run in runs)
    returns = (each.end for each in faults if each.kind == BROKER_KILLED)
    verdict.idle_seconds = [
        begins[place] - moment
        for moment in returns
        if (place := bisect(begins, moment)) < len(begins)
    ]
    return verdict


def _read(lines: Iterable[Line]) -> tuple[_Calls, list[Run], set[str], list[Fault]]:
    calls, runs, expired = _Calls(), dict[tuple[str, str], Run](), set[str]()
    stalls = []
    for line in sorted(lines, key=lambda line: line.moment):
        if line.word == "call":
            calls.number += 1
            calls.begun[line.rest[0]] = line.moment
        elif line.word == "pushed":
            key, item_id = line.rest
            calls.keys[item_id] = key
            calls.acknowledged[key] = calls.begun[key]
        elif line.word == "skipped":
            calls.skipped += 1
            calls.acknowledged[line.rest[0]] = calls.begun[line.rest[0]]
        elif line.word == "begin":
            number, key, item_id, attempt = line.rest
            runs[line.who, number] = Run(line.who, key, item_id, int(attempt), line.moment)
        elif line.word in ("end", "raised", "cancelled"):
            run = runs[line.who, line.rest[0]]
            run.end, run.how = line.moment, line.word
        elif line.word == "outlived":
            expired.add(line.rest[0])
        elif line.word == "stall":
            stalls.append(Fault(HELD_UP, line.who, float(line.rest[0]), line.moment, 0))
    return calls, list(runs.values()), expired, stalls


def _judge_ends(
    verdict: Verdict,
    calls: _Calls,
    runs: Sequence[Run],
    expired: set[str],
    errors: Mapping[str, Buried],
) -> None:
    ended: dict[str, float] = {}
    for run in runs:
        if run.how == "end":
            # Of a debounced call: the run that began last.
            ended[run.key] = max(ended.get(run.key, run.begin), run.begin)
        is_delayed = run.key.startswith("delayed-")
        if is_delayed and run.begin < calls.begun[run.key] + DELAYED_SECONDS - CLOCK_SECONDS:
            verdict.early.append(run.key)
    begun_ids = {run.item_id for run in runs}
    verdict.ran_unacknowledged = len(begun_ids - set(calls.keys))
    for item_id, key in calls.keys.items():
        error = errors.get(item_id)
        kind = key.partition("-")[0]
        if error is not None:
            verdict.buried += 1
            if error.error_type == "TooManyDeliveries":
                verdict.given_up += 1
            elif (kind, error.error_type) != ("fails", "Fatal"):
                verdict.wrong.append(f"{key} is in the error queue with {error.error_type}")
        elif ended.get(key, -1.0) >= calls.begun[key] or (key in ended and kind == "debounced"):
            verdict.completed += 1
        elif item_id in expired and kind == "expires":
            verdict.expired += 1
        else:
            verdict.lost.append(key)
    for key, moment in calls.acknowledged.items():
        if key.startswith("debounced-") and ended.get(key, -1.0) < moment:
            verdict.lost.append(f"{key}: its last call has no run after it")


def _judge_repetitions(
    verdict: Verdict, runs: Sequence[Run], faults: Sequence[Fault], lease_seconds: float
) -> None:
    by_attempt: dict[tuple[str, int], list[Run]] = defaultdict(list)
    for run in runs:
        by_attempt[run.item_id, run.number].append(run)
    for (item_id, number), same in by_attempt.items():
        for earlier, later in pairwise(same):
            cause = _cause(earlier, later, faults, lease_seconds)
            if cause is not None:
                verdict.again[cause.kind] += 1
                seconds = verdict.back_seconds.setdefault(cause.kind, [])
                seconds.append(later.begin - cause.begin)
                continue
            verdict.without_cause.append(
                f"{earlier.key} ({item_id}), attempt {number}: by {earlier.who} from "
                f"{earlier.begin:.3f} to {earlier.end} {earlier.how}, by {later.who} from "
                f"{later.begin:.3f}"
            )


def _cause(earlier: Run, later: Run, faults: Sequence[Fault], lease_seconds: float) -> Fault | None:
    """Why the attempt was made again; None: there is no reason.

    A fault matters from the begin of the run until its settlement must have been answered. Or the
    second run is the late one: it popped the item, was away while the first one had it, and has
    just come back.
    """
    last = later.begin if earlier.end is None else min(later.begin, earlier.end + SETTLE_SECONDS)
    hits = [
        fault
        for fault in faults
        if fault.hits(earlier.who)
        and fault.begin <= last
        and fault.end >= earlier.begin
        # Who is told to leave has time for what ends by itself.
        and (fault.kind != TOLD_TO_LEAVE or earlier.how in ("", "cancelled"))
    ] or [
        fault
        for fault in faults
        if fault.hits(later.who)
        and fault.end - fault.begin >= lease_seconds
        and fault.begin <= earlier.begin
        and later.begin - LATE_SECONDS <= fault.end
    ]
    return max(hits, key=lambda fault: (fault.gravity, fault.begin), default=None)
