"""A line on what happens now, while the processes work."""

import shutil
import sys
import time
from typing import TextIO

from airports.jobs import instance, results

__all__ = ["Live"]

SECONDS_ON_TERMINAL = 0.2
SECONDS_IN_FILE = 2.0


class Live:
    """Shows how far the run is: one line that changes on a terminal, a line each 2 s elsewhere.

    Args:
        goal: how many hubs are to be found.
        output: None shows nothing.
    """

    def __init__(self, goal: int, output: TextIO | None = sys.stdout) -> None:
        self._goal = goal
        self._output = output
        self._is_terminal = output is not None and output.isatty()
        self._interval_seconds = SECONDS_ON_TERMINAL if self._is_terminal else SECONDS_IN_FILE
        self._start_time = time.monotonic()
        self._next_time = 0.0

    def show(self) -> None:
        """Write a line, unless the last one was written just now."""
        now = time.monotonic()
        if self._output is None or now < self._next_time:
            return
        self._next_time = now + self._interval_seconds
        line = self._line(now)
        if self._is_terminal:  # cut, because a line that wraps cannot be written again
            line = "\r\x1b[K" + line[: shutil.get_terminal_size().columns - 1]
        end = "" if self._is_terminal else "\n"
        print(line, end=end, file=self._output, flush=True)

    def end(self) -> None:
        """Leave the line as it is."""
        if self._is_terminal:
            print("\n", file=self._output)

    def _line(self, now: float) -> str:
        stats = instance.backend.queue.stats()
        failed = instance.backend.error_queue.stats()["available"]
        return (
            f"{now - self._start_time:3.0f} s  {results.count_hubs():>6,} of {self._goal:,} hubs; "
            f"{stats['available']:,.0f} available, {stats['in_flight']:,.0f} in flight, "
            f"{stats['delayed']:,.0f} delayed, {failed:,.0f} failed"
        )
