"""The books of a chaos run: what happened to each call, and why a job ran more than once.

Owns the judgement, made from the lines of the ledgers and the faults. It does no I/O. A call
that `later` returned from is lost unless its job came to its end, or its item expired and was
allowed to, or is in the error queue and belongs there.
"""

from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from attacks.chaos_causes import BROKER_KILLED, Causes, Fault, Run
from attacks.chaos_jobs import DELAYED_SECONDS
from attacks.chaos_ledger import Line
from attacks.chaos_reading import Calls, read

__all__ = ["Buried", "Verdict", "judge"]

CLOCK_SECONDS = 0.1
"""By how much two clocks of one machine may differ over a delay."""


@dataclass(frozen=True, slots=True)
class Buried:
    """An item in the error queue."""

    item_id: str
    error_type: str


@dataclass
class Verdict:
    """The result of a run.

    Attributes:
        lost: keys of calls that were acknowledged and never completed.
        buried_again: how many more copies of them there are in the error queue.
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
    buried_again: int = 0
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
            f"{self.given_up} were delivered too often; and {self.buried_again} copies), "
            f"expired {self.expired}, lost {len(self.lost)}"
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


def judge(
    lines: Iterable[Line],
    faults: Sequence[Fault],
    buried: Sequence[Buried],
    lease_seconds: float,
    *,
    settles_at_once: bool,
) -> Verdict:
    """Judge a run that has ended: nothing is queued, delayed or in flight.

    Args:
        lease_seconds, settles_at_once: see `Causes`.
    """
    calls, runs, expired, stalls = read(lines)
    errors: Mapping[str, Buried] = {each.item_id: each for each in buried}
    verdict = Verdict(
        pushed=len(calls.keys),
        skipped=calls.skipped,
        unacknowledged=calls.number - len(calls.keys) - calls.skipped,
        runs=len(runs),
    )
    _judge_ends(verdict, calls, runs, expired, errors)
    causes = Causes(
        runs,
        calls.pushings,
        calls.moves,
        [*faults, *stalls],
        lease_seconds,
        settles_at_once=settles_at_once,
    )
    _judge_burials(verdict, buried, causes)
    _judge_repetitions(verdict, causes)
    begins = sorted(run.begin for run in runs)
    returns = (each.end for each in faults if each.kind == BROKER_KILLED)
    verdict.idle_seconds = [
        begins[place] - moment
        for moment in returns
        if (place := bisect(begins, moment)) < len(begins)
    ]
    return verdict


def _judge_ends(
    verdict: Verdict,
    calls: Calls,
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


def _judge_burials(verdict: Verdict, buried: Sequence[Buried], causes: Causes) -> None:
    for item_id, number in Counter(each.item_id for each in buried).items():
        if number == 1:
            continue
        if causes.of_second_burial(item_id) is None:
            verdict.wrong.append(f"{item_id} is in the error queue {number} times")
        verdict.buried_again += number - 1


def _judge_repetitions(verdict: Verdict, causes: Causes) -> None:
    for earlier, later, cause in causes.of_repetitions():
        if cause is not None:
            verdict.again[cause.kind] += 1
            seconds = verdict.back_seconds.setdefault(cause.kind, [])
            seconds.append(later.begin - cause.begin)
            continue
        verdict.without_cause.append(
            f"{earlier.key} ({earlier.item_id}), attempt {earlier.number}: by {earlier.who} from "
            f"{earlier.begin:.3f} to {earlier.end} {earlier.how}, by {later.who} from "
            f"{later.begin:.3f}"
        )
