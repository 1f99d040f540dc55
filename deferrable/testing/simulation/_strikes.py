"""What a simulation does to the attempts of one run. Pure.

Owns the faults, which of them can meet an attempt, and which run has which ones: first each fault
alone, wherever it can strike; then a few of them together, drawn by the seed.

The one rule: a run depends on nothing but its seed and what the run without faults did, so that a
seed means the same tomorrow.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

__all__ = ["FAULTS", "FaultName", "Passed", "Point", "Strike", "every_strike", "strikes_of"]

FaultName: TypeAlias = Literal[
    "crash",
    "lost lease",
    "stop",
    "refused settlement",
    "lost answer",
    "second delivery",
    "late delivery",
    "refused push",
    "lost push answer",
]

FAULTS: tuple[FaultName, ...] = get_args(FaultName)

Point: TypeAlias = Literal["line", "await"]
"""Where a job can be struck: before a line of it runs, or while it waits."""

_MOST_TOGETHER = 4
_ATTEMPTS_MORE = 2
"""A fault makes further attempts, which others may meet."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault of a run.

    Attributes:
        attempt: the attempt that it meets, counted from 0 in the order of their starts.
        place: the point of the job, or which of its pushes, counted from 0. A crash one place
            after the last point comes after the job has returned.
    """

    fault: FaultName
    attempt: int
    place: int = 0


@dataclass(slots=True)
class Passed:
    """What one attempt of the run without faults passed through.

    Attributes:
        is_async: whether the job is a coroutine function.
        points: of the job, in their order.
        pushes: how many calls it deferred.
    """

    is_async: bool
    points: list[Point] = field(default_factory=list)
    pushes: int = 0


def every_strike(passed: Sequence[Passed], faults: Sequence[FaultName]) -> list[Strike]:
    """Each fault at each place where it can strike a run that passed through `passed`."""
    return [
        Strike(fault, attempt, place)
        for attempt, each in enumerate(passed)
        for fault in faults
        for place in _places(fault, each)
    ]


def strikes_of(
    seed: int, singles: Sequence[Strike], passed: Sequence[Passed], faults: Sequence[FaultName]
) -> list[Strike]:
    """The faults of the run with this seed; `singles` are those of `every_strike`."""
    if seed < len(singles):
        return [singles[seed]]
    chance = random.Random(seed)
    if not passed or not faults:
        return []
    drawn = (_draw(chance, passed, faults) for _ in range(chance.randint(2, _MOST_TOGETHER)))
    return [each for each in drawn if each is not None]


def _draw(
    chance: random.Random, passed: Sequence[Passed], faults: Sequence[FaultName]
) -> Strike | None:
    attempt = chance.randrange(len(passed) + _ATTEMPTS_MORE)
    like = passed[attempt] if attempt < len(passed) else chance.choice(passed)
    fault = chance.choice(faults)
    places = _places(fault, like)
    return Strike(fault, attempt, chance.choice(places)) if places else None


def _places(fault: FaultName, passed: Passed) -> Sequence[int]:
    points = passed.points
    if fault == "crash":
        return range(len(points) + 1)
    if fault == "lost lease":
        # Nobody else can run on the loop of an async job before it waits.
        kind = "await" if passed.is_async else "line"
        return [place for place, point in enumerate(points) if point == kind]
    if fault == "stop":
        return [place for place, point in enumerate(points) if point == "await"]
    if fault in ("refused push", "lost push answer"):
        return range(passed.pushes)
    return (0,)
