"""What the processes of a chaos run wrote down, each into its own file.

Owns the lines: one write each, appended, so that a killed process leaves whole lines and the next
one of its place goes on below them. Moments are of the monotonic clock, which all processes of a
machine share and no attack on the clock moves.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Ledger", "Line", "read_lines"]


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened.

    Attributes:
        moment: when, in seconds of the monotonic clock.
        who: the process.
        word: what it was.
        rest: more about it.
    """

    moment: float
    who: str
    word: str
    rest: tuple[str, ...]


class Ledger:
    """The file of one process, which writes it under the name `who`."""

    def __init__(self, path: Path, who: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._who = who

    def write(self, word: str, *rest: object) -> None:
        """Append a line; from then on the system has it, also if this process dies."""
        line = " ".join([f"{time.monotonic():.6f}", self._who, word, *map(str, rest)])
        os.write(self._file, f"{line}\n".encode())

    def close(self) -> None:
        os.close(self._file)


def read_lines(folder: Path) -> Iterator[Line]:
    """The lines of all files, in no order."""
    for path in folder.glob("*.ledger"):
        with path.open() as file:
            for text in file:
                moment, who, word, *rest = text.split()
                yield Line(float(moment), who, word, tuple(rest))
