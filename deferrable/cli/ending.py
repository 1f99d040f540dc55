"""The end of a command that has done its work.

Owns what happens to threads that the application started when it was imported. Python waits for
them, so one that never ends would keep a command from ending, and a job of CI with it.

The rule: only these threads are left behind. Threads that a job has started do its work.
"""

import atexit
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["end_without_threads", "noting_threads", "wait_for_threads"]

PATIENCE_SECONDS = 3.0
"""How long they may go on after the command. Some end when the main thread has."""

_noted: set[threading.Thread] = set()


@contextmanager
def noting_threads() -> Iterator[None]:
    """Note the threads that begin meanwhile."""
    before = set(threading.enumerate())
    try:
        yield
    finally:
        _noted.update(set(threading.enumerate()) - before)


def wait_for_threads() -> None:
    """Leave none behind: jobs run here, and may have given work to any of them."""
    _noted.clear()


def end_without_threads(code: int, *, is_completing: bool) -> None:
    """End the process with this code soon, if only noted threads keep it from ending.

    Args:
        is_completing: a shell waits for proposals, so it ends at once and says nothing.
    """
    if _left_alone():
        patience_seconds = 0 if is_completing else PATIENCE_SECONDS
        # Beside the main thread, because that must end first: it is what such threads wait for.
        threading.Thread(target=_end, args=(code, patience_seconds), daemon=True).start()


def _left_alone() -> list[threading.Thread]:
    """The threads that Python waits for; none if one of them was not noted."""
    main = threading.main_thread()
    left = [each for each in threading.enumerate() if not each.daemon and each is not main]
    return left if _noted.issuperset(left) else []


def _end(code: int, patience_seconds: float) -> None:
    time.sleep(patience_seconds)
    left = _left_alone()
    if not left:
        return
    if patience_seconds:
        names = ", ".join(sorted(repr(each.name) for each in left))
        line = (
            f"ended without waiting for {names}, started when the application was imported; make "
            "such threads daemons, or start them later\n"
        )
        sys.stderr.write(line)
    with suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
