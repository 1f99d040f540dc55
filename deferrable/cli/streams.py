"""Standard input, output and error of the program.

Owns what happens when one of them is closed, cannot encode a character, or can no longer be
written to: the program goes on. A command does its work even if nobody reads its output any more,
and a job that prints does not fail when the reader of a worker's log has gone.
"""

import errno
import io
import os
import select
import sys
from typing import Any, TextIO

__all__ = ["is_unread", "keep_output", "prepare_streams", "why_not_written"]

_STDOUT = "<stdout>"
_GONE = frozenset({errno.EPIPE, errno.ECONNRESET})


class _Output(io.RawIOBase):
    """A file descriptor. Output that it does not accept is dropped; the first reason is kept."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self.name = name
        self.mode = "wb"
        self.error: OSError | None = None

    def fileno(self) -> int:
        return self._descriptor

    def move_away(self) -> None:
        """Write through another descriptor from now on."""
        self._descriptor = os.dup(self._descriptor)

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        while True:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError as error:
                if self.error is None:
                    self.error = error
                return memoryview(data).nbytes


_outputs: list[_Output] = []


def prepare_streams() -> None:
    """Replace the standard streams by ones that never fail. Called once, before anything else."""
    _open_closed_descriptors()
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = _replaced(sys.stdout, 1, _STDOUT)
    sys.stderr = _replaced(sys.stderr, 2, "<stderr>")


def keep_output() -> None:
    """Keep standard output for this program.

    What other programs, and code that is not Python, write to its descriptor goes to standard
    error.
    """
    for each in _outputs:
        if each.name == _STDOUT and each.fileno() == 1:
            sys.stdout.flush()
            each.move_away()
            os.dup2(2, 1)


def is_unread() -> bool:
    """Whether the reader of standard output has gone."""
    return any(each.error is not None and each.name == _STDOUT for each in _outputs)


def why_not_written() -> str | None:
    """Why standard output is not complete; None if it is, or if its reader has closed it."""
    for each in _outputs:
        if each.name == _STDOUT and each.error is not None and each.error.errno not in _GONE:
            return each.error.strerror or str(each.error)
    return None


def _open_closed_descriptors() -> None:
    """A closed descriptor would be reused for the next socket or file, and get our output."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            os.set_inheritable(descriptor, True)


def _replaced(stream: TextIO | None, descriptor: int, name: str) -> TextIO:
    raw = _Output(descriptor, name)
    _outputs.append(raw)
    is_unbuffered = isinstance(getattr(stream, "buffer", None), io.RawIOBase)
    return io.TextIOWrapper(
        raw if is_unbuffered else io.BufferedWriter(raw),  # as Python does
        encoding=getattr(stream, "encoding", "utf-8"),
        errors="backslashreplace",
        line_buffering=descriptor == 2 or getattr(stream, "line_buffering", False),
        write_through=is_unbuffered,
    )
