"""What the ledgers of a chaos run say: calls, runs, what expired, and what held processes up.

Owns the meaning of each word that a process writes. It does no I/O.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from attacks.chaos_causes import Fault, Pushing, Run
from attacks.chaos_ledger import Line

__all__ = ["Calls", "read"]

HELD_UP = "the machine held a process up"

MOVE_SECONDS = 10.0
"""Within that, a process that pushes an item once more has done so, or given up."""


@dataclass
class Calls:
    """What the producers wrote down, and which items workers pushed once more or gave back."""

    pushings: dict[str, Pushing] = field(default_factory=dict)
    moves: dict[str, list[Pushing]] = field(default_factory=lambda: defaultdict(list))
    begun: dict[str, float] = field(default_factory=dict)
    acknowledged: dict[str, float] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    number: int = 0
    skipped: int = 0


def read(lines: Iterable[Line]) -> tuple[Calls, list[Run], set[str], list[Fault]]:
    """The calls; the runs, in the order in which they began; the ids of what expired; stalls."""
    reading = _Reading()
    for line in sorted(lines, key=lambda line: line.moment):
        reading.words[line.word](line, *line.rest)
    return reading.calls, list(reading.runs.values()), reading.expired, reading.stalls


class _Reading:
    def __init__(self) -> None:
        self.calls = Calls()
        self.runs: dict[tuple[str, str], Run] = {}
        self.expired: set[str] = set()
        self.stalls: list[Fault] = []
        self._popped: dict[tuple[str, str], float] = {}
        self._unsettled: dict[tuple[str, str, str], Run] = {}
        self.words: dict[str, Callable[..., None]] = {
            "call": self._call,
            "pushed": self._pushed,
            "skipped": self._skipped,
            "popped": self._pop,
            "begin": self._begin,
            "end": self._end,
            "raised": self._end,
            "cancelled": self._end,
            "settled": self._settled,
            "moves": self._moves,
            "moved": self._moved,
            "outlived": self._outlived,
            "stall": self._stall,
        }

    def _call(self, line: Line, key: str) -> None:
        self.calls.number += 1
        self.calls.begun[key] = line.moment
        self.calls.pushings[key] = Pushing(line.who, line.moment)

    def _pushed(self, line: Line, key: str, item_id: str) -> None:
        begun = self.calls.begun[key]
        self.calls.keys[item_id] = key
        self.calls.acknowledged[key] = begun
        self.calls.pushings[key] = Pushing(line.who, begun, line.moment)

    def _skipped(self, line: Line, key: str) -> None:
        self.calls.skipped += 1
        self.calls.acknowledged[key] = self.calls.begun[key]

    def _pop(self, line: Line, item_id: str, begin: str) -> None:
        self._popped[line.who, item_id] = float(begin)

    def _begin(self, line: Line, number: str, key: str, item_id: str, attempt: str) -> None:
        run = Run(line.who, key, item_id, int(attempt), line.moment)
        run.popped = self._popped.get((line.who, item_id))
        self.runs[line.who, number] = self._unsettled[line.who, item_id, attempt] = run

    def _end(self, line: Line, number: str) -> None:
        run = self.runs[line.who, number]
        run.end, run.how = line.moment, line.word

    def _settled(self, line: Line, item_id: str, attempt: str) -> None:
        run = self._unsettled.pop((line.who, item_id, attempt), None)
        if run is not None:  # else it expired
            run.settled = line.moment

    def _moves(self, line: Line, item_id: str) -> None:
        move = Pushing(line.who, line.moment, line.moment + MOVE_SECONDS)
        self.calls.moves[item_id].append(move)

    def _moved(self, line: Line, item_id: str) -> None:
        moves = self.calls.moves[item_id]
        for place, move in enumerate(moves):
            if move.who == line.who and move.end > line.moment:
                moves[place] = replace(move, end=line.moment)

    def _outlived(self, line: Line, item_id: str) -> None:
        self.expired.add(item_id)

    def _stall(self, line: Line, begin: str) -> None:
        self.stalls.append(Fault(HELD_UP, line.who, float(begin), line.moment, 0))
