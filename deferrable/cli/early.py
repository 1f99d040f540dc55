"""Signals to a worker before its own handlers are installed, and after they are removed.

Owns the exit code at those moments: there is nothing to stop in order yet, so the process ends at
once. This module imports little, because imports take most of that time.
"""

import os
import signal
import sys

__all__ = ["end_at_signals", "is_worker", "set_exit_code"]

_exit_code = 0


def is_worker() -> bool:
    """Whether the command line of this process runs a worker."""
    return sys.argv[1:2] == ["worker"]


def end_at_signals() -> None:
    """From now on SIGTERM and SIGINT end the process with its exit code, 0 at first."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)


def set_exit_code(code: int) -> None:
    """Note the exit code with which the process is about to end."""
    global _exit_code
    _exit_code = code


def _end(number: int, frame: object) -> None:
    os._exit(_exit_code)
