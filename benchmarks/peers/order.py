"""What a producer has to do: the one thing that both sides of a measurement know."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["BATCH", "GATHERED", "NAP_SECONDS", "THREADS", "JobName", "Order"]

JobName = Literal["note", "nap", "answer"]

GATHERED = 100
BATCH = 1000
THREADS = 8
NAP_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Order:
    """What to enqueue, and how.

    Attributes:
        way: single, concurrent, batch, paced, or awaited; or blocking, threads, paced_blocking, or
            awaited_blocking.
        first: the first job's number.
        size: how many characters the text has.
        interval_seconds: from one job to the next, if paced.
    """

    way: str
    jobs: int
    job: JobName = "note"
    first: int = 0
    size: int = 5
    interval_seconds: float = 0.0

    @property
    def calls(self) -> list[tuple[int, str]]:
        text = ("abcdefghij" * (self.size // 10 + 1))[: self.size]
        return [(number, text) for number in range(self.first, self.first + self.jobs)]
