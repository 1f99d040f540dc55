"""The script of faults.

Owns which call gets which fault; `FaultyQueue` asks, and performs.

The one rule: only the script and the seed decide what happens, so that the same test gets the same
faults each time.
"""

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from deferrable.errors import BackendError, BackendUnavailable
from deferrable.item import Item

__all__ = ["AFTER", "BEFORE", "Fault", "Faults", "Kind", "Matching", "Verb"]

Verb: TypeAlias = Literal[
    "push", "pop", "peek", "touch", "complete", "release", "replace", "flush", "stats"
]
Kind: TypeAlias = Literal["drop", "fail_before", "fail_after", "duplicate", "delay"]
Matching: TypeAlias = Callable[[Item], bool]

BEFORE: tuple[Kind, ...] = ("drop", "fail_before", "delay")
AFTER: tuple[Kind, ...] = ("fail_after", "duplicate")


@dataclass(slots=True, eq=False)
class Fault:
    """One line of the script; `times` is how many more calls it will hit."""

    verb: Verb
    kind: Kind
    times: int | None
    matching: Matching | None = None
    probability: float = 1
    seconds: float = 0
    refusal: Exception | None = None

    def error(self) -> Exception:
        """What the caller sees of it."""
        if self.kind == "fail_before":
            return self.refusal or BackendError(f"injected: the broker refused to {self.verb}")
        what = "the answer to it" if self.kind == "fail_after" else "it"
        return BackendUnavailable(f"injected: {self.verb} failed, {what} never arrived")


class Faults:
    """The script of faults; empty at first.

    Each method except `at_random` takes `times`, how many calls it hits (None: all of them), and
    `matching`, a predicate on the item: the one that is pushed (also by a replace), or that was
    popped. The calls of a batch are hit one by one. Faults hit in the order of the script; one
    call gets one fault.

    Args:
        seed: of the random numbers for `at_random`.

    Attributes:
        injected: ``(verb, kind)`` for each fault that hit a call, in order.
    """

    def __init__(self, seed: int = 0) -> None:
        self.injected: list[tuple[Verb, Kind]] = []
        self._script: list[Fault] = []
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def drop(self, verb: Verb, times: int | None = 1, matching: Matching | None = None) -> None:
        """Make calls not reach the broker; their caller gets `BackendUnavailable`."""
        self._add(Fault(verb, "drop", times, matching))

    def fail_before(
        self,
        verb: Verb,
        times: int | None = 1,
        matching: Matching | None = None,
        error: Exception | None = None,
    ) -> None:
        """Make the broker refuse calls, without effect; `error` is by default a `BackendError`."""
        self._add(Fault(verb, "fail_before", times, matching, refusal=error))

    def fail_after(
        self, verb: Verb, times: int | None = 1, matching: Matching | None = None
    ) -> None:
        """Let calls take effect, and lose the answer: their caller gets `BackendUnavailable`.

        Items of a lost pop stay in flight without a consumer, until their lease ends.
        """
        self._add(Fault(verb, "fail_after", times, matching))

    def duplicate(
        self, verb: Verb, times: int | None = 1, matching: Matching | None = None
    ) -> None:
        """Perform calls twice; the caller gets the first answer.

        An item of such a pop is delivered again later, from the back of the queue.
        """
        self._add(Fault(verb, "duplicate", times, matching))

    def delay(
        self, verb: Verb, seconds: float, times: int | None = 1, matching: Matching | None = None
    ) -> None:
        """Make calls wait for `seconds` on the queue's clock before they are sent."""
        self._add(Fault(verb, "delay", times, matching, seconds=seconds))

    def at_random(
        self,
        verb: Verb,
        kind: Kind,
        probability: float,
        seconds: float = 0,
        times: int | None = None,
    ) -> None:
        """Give calls a fault with `probability`, decided by the seed.

        Args:
            seconds: how long a ``delay`` is.
        """
        self._add(Fault(verb, kind, times, probability=probability, seconds=seconds))

    def clear(self) -> None:
        """Forget the script: no more faults."""
        with self._lock:
            self._script.clear()

    def choose(
        self, verb: Verb, item: Item | None, kinds: Sequence[Kind] = get_args(Kind)
    ) -> Fault | None:
        """The fault of this call, now used up once."""
        for fault in list(self._script):
            if fault.verb != verb or fault.kind not in kinds:
                continue
            if fault.matching is not None and (item is None or not fault.matching(item)):
                continue
            if self._strikes(fault):
                return fault
        return None

    def _strikes(self, fault: Fault) -> bool:
        with self._lock:
            if fault.times == 0 or fault not in self._script:
                return False
            if fault.probability < 1 and self._random.random() >= fault.probability:
                return False
            if fault.times is not None:
                fault.times -= 1
            self.injected.append((fault.verb, fault.kind))
            return True

    def _add(self, fault: Fault) -> None:
        if fault.verb not in get_args(Verb) or fault.kind not in get_args(Kind):
            raise ValueError(f"there is no fault {fault.kind!r} of {fault.verb!r}")
        if fault.matching is not None and fault.verb == "pop" and fault.kind in BEFORE:
            raise ValueError(f"{fault.kind!r} of a pop knows no item yet; leave `matching` out")
        with self._lock:
            self._script.append(fault)
