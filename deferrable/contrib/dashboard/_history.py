"""What the dashboard remembers of a queue over the last hour.

Owns the slots of a history, and the rates that follow from them. Pure: the moments are given.

The rule: a rate that was not counted is a lower bound. Two readings show how much a queue grew or
shrank between them. More calls may have come and gone in that time.
"""

from collections import deque
from dataclasses import dataclass

from deferrable.contrib._queues import QueueReading

__all__ = ["SLOT_SECONDS", "SLOTS", "Counts", "History", "Rates", "Slot"]

SLOT_SECONDS = 10.0
SLOTS = 360
"""An hour."""
_RATE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Counts:
    """What this process did, since it counts. The numbers only grow."""

    arrivals: int = 0
    completions: int = 0
    failures: int = 0


_NOTHING = Counts()


@dataclass(slots=True)
class Slot:
    """Ten seconds of a queue.

    Attributes:
        time: when it begins.
        waiting, running, errors: the last numbers read; None: unknown.
        arrivals, completions, failures: at least so many.
    """

    time: float
    waiting: int | None = None
    running: int | None = None
    errors: int | None = None
    arrivals: int = 0
    completions: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Rates:
    """At least so many a second."""

    arrivals: float = 0.0
    completions: float = 0.0
    failures: float = 0.0


class History:
    """The slots of the last hour, oldest first."""

    def __init__(self) -> None:
        self.slots: deque[Slot] = deque(maxlen=SLOTS)
        self.last: QueueReading | None = None
        self._known: QueueReading | None = None
        self._counts = Counts()

    def add(self, reading: QueueReading, counts: Counts = _NOTHING) -> None:
        """Note a reading, and what this process has counted until then."""
        self.last = reading
        slot = self._slot(reading.time)
        grew, shrank, failed = _changes(self._known, reading)
        before, self._counts = self._counts, counts
        slot.arrivals += max(grew, counts.arrivals - before.arrivals)
        slot.completions += max(shrank - failed, counts.completions - before.completions, 0)
        slot.failures += max(failed, counts.failures - before.failures)
        if reading.error is not None:
            return
        self._known = reading
        items = reading.items
        if "available" in items:
            slot.waiting = items["available"] + items.get("delayed", 0)
        slot.running = items.get("in_flight")
        slot.errors = items.get("errors")

    def rates(self, now: float) -> Rates | None:
        """Those of the last minute; None: nothing is known of it."""
        recent = [each for each in self.slots if each.time > now - _RATE_SECONDS - SLOT_SECONDS]
        if len(recent) < 2:
            return None
        seconds = max(now - recent[0].time, SLOT_SECONDS)
        return Rates(
            sum(each.arrivals for each in recent) / seconds,
            sum(each.completions for each in recent) / seconds,
            sum(each.failures for each in recent) / seconds,
        )

    def _slot(self, moment: float) -> Slot:
        begin = moment - moment % SLOT_SECONDS
        if not self.slots or self.slots[-1].time < begin:
            self.slots.append(Slot(begin))
        while self.slots[0].time <= begin - SLOTS * SLOT_SECONDS:
            self.slots.popleft()
        return self.slots[-1]


def _changes(before: QueueReading | None, after: QueueReading) -> tuple[int, int, int]:
    """By how much the queue grew and shrank, and how many errors were added."""
    if before is None or after.error is not None or before.size is None or after.size is None:
        return 0, 0, 0
    change = after.size - before.size
    failed = max(after.items.get("errors", 0) - before.items.get("errors", 0), 0)
    return max(change + failed, 0), max(-change, 0), failed
