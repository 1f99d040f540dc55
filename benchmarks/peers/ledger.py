"""Who ran, how often and when: a file that jobs of any process write to as they run.

Owns its layout: one word that says that something has begun, then four for each job. Times are of
the system's monotonic clock, which all processes of one machine share.

The one rule: a job writes to its own slot only, so that no lock is needed and no count is lost.
(Two runs of one job in the very same moment could be counted as one; any others cannot.)
"""

import mmap
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Ledger", "Tally"]

WORD = 8
HEAD, SLOT = 1, 4
COUNT, SENT, BEGUN, ENDED = range(SLOT)


@dataclass(frozen=True, slots=True)
class Tally:
    """What happened to the jobs.

    Attributes:
        first_time: when the first of them began.
        last_time: when the last of them began or, if jobs note their ends, ended.
    """

    missing: int
    doubled: int
    first_time: float
    last_time: float

    @property
    def is_exact(self) -> bool:
        return not self.missing and not self.doubled


class Ledger:
    """The file at `path`, made before by `make`."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._words = memoryview(self._map).cast("Q")
        self._times = memoryview(self._map).cast("d")
        self._lowest = 0

    @classmethod
    def make(cls, path: Path, slots: int) -> "Ledger":
        with path.open("wb") as file:
            file.truncate(WORD * (HEAD + SLOT * slots))
        return cls(path)

    # What jobs and producers say.

    def send(self, number: int) -> None:
        self._times[HEAD + SLOT * number + SENT] = time.monotonic()

    def begin(self, number: int) -> None:
        slot = HEAD + SLOT * number
        self._times[slot + BEGUN] = time.monotonic()
        self._words[slot + COUNT] += 1
        self._words[0] = 1

    def end(self, number: int) -> None:
        self._times[HEAD + SLOT * number + ENDED] = time.monotonic()

    # What the one who measures asks.

    def has_begun(self) -> bool:
        return self._words[0] != 0

    def are_done(self, jobs: int, *, with_ends: bool) -> bool:
        """Whether each of the first `jobs` has run; it looks at none again that had."""
        field = ENDED if with_ends else COUNT
        while self._lowest < jobs and self._words[HEAD + SLOT * self._lowest + field]:
            self._lowest += 1
        return self._lowest == jobs

    def tally(self, jobs: int, *, with_ends: bool) -> Tally:
        counts = self._words[HEAD + COUNT :: SLOT].tolist()[:jobs]
        begun = self._times[HEAD + BEGUN :: SLOT].tolist()[:jobs]
        last = self._times[HEAD + ENDED :: SLOT].tolist()[:jobs] if with_ends else begun
        return Tally(
            missing=counts.count(0),
            doubled=sum(count > 1 for count in counts),
            first_time=min(filter(None, begun), default=0.0),
            last_time=max(last),
        )

    def latencies(self, jobs: int) -> list[float]:
        """Seconds from before each job was sent until it began."""
        sent = self._times[HEAD + SENT :: SLOT].tolist()[:jobs]
        begun = self._times[HEAD + BEGUN :: SLOT].tolist()[:jobs]
        return [end - start for start, end in zip(sent, begun, strict=True)]
