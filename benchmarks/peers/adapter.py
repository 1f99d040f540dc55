"""What every adapter offers, and what it gets.

Owns the two kinds of producers and the settings of a program. It runs in every library's own
environment, so it imports nothing but the standard library.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence

from benchmarks.peers.order import JobName

__all__ = [
    "CONCURRENCY",
    "IS_FULL",
    "PREFETCH",
    "URL",
    "BlockingProducer",
    "HAS_RESULTS",
    "POLL_SECONDS",
    "Producer",
    "database_path",
]

URL = os.environ["BENCHMARK_URL"]
"""Of a Redis; or sqlite:///PATH, for a file that is not there yet."""
CONCURRENCY = int(os.environ["BENCHMARK_CONCURRENCY"])
PREFETCH = int(os.environ["BENCHMARK_PREFETCH"])
"""Beyond these; 0: as by default."""
VARIANT = os.environ["BENCHMARK_VARIANT"]
IS_FULL = VARIANT == "full"
"""With a time limit and log lines, on Redis; safe from a power cut, in a file."""

HAS_RESULTS = VARIANT == "results"
"""A caller awaits what each job returns."""
POLL_SECONDS = 0.01
"""Of those that poll: by their defaults, all times would be those of the poll."""


def database_path() -> str:
    """The file of a library that keeps its jobs in one."""
    return URL.removeprefix("sqlite:///")


class Producer(ABC):
    """Pushes from an event loop. Made, opened and closed on it."""

    async def open(self) -> None:
        """Connect, so that the first push does not pay for it."""
        return

    @abstractmethod
    async def push(self, job: JobName, number: int, text: str) -> None:
        """One call of the library's own to enqueue one job."""

    async def push_batch(self, job: JobName, calls: Sequence[tuple[int, str]]) -> None:
        """The library's own call to enqueue many, if it has one."""
        raise TypeError(f"this library has no call that enqueues {len(calls)} of {job} at once")

    async def call(self, number: int, text: str) -> object:
        """Enqueue one job `answer` by the library's own call, and await what it returns."""
        raise TypeError("this library keeps no results")

    async def close(self) -> None:
        """Leave nothing open."""
        return


class BlockingProducer(ABC):
    """Pushes no-ops from threads that cannot await."""

    @abstractmethod
    def push(self, number: int, text: str) -> None:
        """One call of the library's own to enqueue one job. Any thread calls it."""

    def call(self, number: int, text: str) -> object:
        """Enqueue one job `answer_blocking`, and wait for what it returns. Any thread calls it."""
        raise TypeError("this library keeps no results")
