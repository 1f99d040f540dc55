"""Whether code runs that should not.

Owns Python's audit hook (``sys.addaudithook``; it stays for the life of the process, and does
nothing while no `watching` is on).
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["CodeRan", "watching"]

FORBIDDEN = (
    "os.",
    "subprocess.",
    "socket.",
    "shutil.",
    "ctypes.",
    "open",
    "pty.",
    "tempfile.",
    "webbrowser.",
    "code.__new__",
    "function.__new__",
)
"""What nothing that is decoded may do, not even where objects are made."""

HARMLESS = ("socket.gethostname",)
"""What a record of an error holds."""

MAKING_OBJECTS = ("import", "exec", "compile", "pickle.find_class")
"""What must not be done where no object is made."""


class CodeRan(BaseException):
    """Decoded code ran. A BaseException, so that fewer handlers swallow it."""


class _State:
    forbidden: tuple[str, ...] = ()
    seen: str | None = None
    thread = 0
    is_installed = False


def _hook(event: str, arguments: object) -> None:
    if not _State.forbidden or _State.thread != threading.get_ident():
        return
    if event.startswith(_State.forbidden) and event not in HARMLESS:
        forbidden, _State.forbidden = _State.forbidden, ()
        _State.seen = f"{event} {arguments!r:.200}"
        _State.forbidden = forbidden
        raise CodeRan(_State.seen)


@contextmanager
def watching(*, may_make_objects: bool) -> Iterator[None]:
    """Watch this thread.

    Raises:
        CodeRan: something was done that must not be; it was prevented.
    """
    if not _State.is_installed:
        sys.addaudithook(_hook)
        _State.is_installed = True
    _State.seen, _State.thread = None, threading.get_ident()
    _State.forbidden = FORBIDDEN if may_make_objects else FORBIDDEN + MAKING_OBJECTS
    try:
        yield
    finally:
        _State.forbidden = ()
        # The decoder may have blamed the bytes for it.
        if _State.seen is not None and not may_make_objects:
            raise CodeRan(_State.seen)
