"""When somebody writes to a file: Linux says so, elsewhere it is not known.

Owns one watch of the kernel (inotify). It reports writes by any process, before they are
committed. There may be none: another system, no more watches, or a file system without them.
"""

import ctypes
import os
import sys
from contextlib import suppress
from typing import Final

__all__ = ["Writes"]

_NONBLOCK_AND_CLOEXEC: Final = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
"""inotify's flags are these of files. Source: inotify_init(2)."""

_MODIFY: Final = 0x2
_READ_BYTES: Final = 65_536


class Writes:
    """A watch of the writes to one file; polled like a file until it is closed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def watch(cls, path: str) -> "Writes | None":
        """Watch the file at `path`; None: that is not possible here, or now."""
        if not sys.platform.startswith("linux"):
            return None
        try:
            library = ctypes.CDLL(None)
            descriptor = library.inotify_init1(_NONBLOCK_AND_CLOEXEC)
        except (OSError, AttributeError):
            return None
        if descriptor < 0:
            return None
        writes = cls(descriptor)
        if library.inotify_add_watch(descriptor, os.fsencode(path), _MODIFY) < 0:
            writes.close()
            return None
        return writes

    def fileno(self) -> int:
        return self._descriptor

    def forget(self) -> bool:
        """Forget what was written up to now; True: something was."""
        seen = False
        with suppress(BlockingIOError):
            while os.read(self._descriptor, _READ_BYTES):
                seen = True
        return seen

    def close(self) -> None:
        """Stop watching. May be called twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
