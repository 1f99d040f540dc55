"""Which writer serves which file in this process, and what a fork does to them all.

The one rule: no connection is open while a process forks, and none is closed in a child. See
`Connection`.
"""

import atexit
import os
import threading
from weakref import WeakValueDictionary

from deferrable.aio.backend.sqlite._place import Place
from deferrable.aio.backend.sqlite._writer import Writer

__all__ = ["writer_of"]

_by_place: WeakValueDictionary[tuple[str, str], Writer] = WeakValueDictionary()
_registry_lock = threading.Lock()


def writer_of(place: Place, synchronous: str) -> Writer:
    """This process's writer for a file: one for all factories with the same settings."""
    key = (place.path, synchronous)
    with _registry_lock:
        writer = _by_place.get(key)
        if writer is None:
            writer = _by_place[key] = Writer(place, synchronous)
        return writer


def _at_exit() -> None:
    # The last connection that is closed removes -wal and -shm.
    for writer in list(_by_place.values()):
        writer.end()


atexit.register(_at_exit)


def _before_fork() -> None:
    for writer in list(_by_place.values()):
        writer.prepare_fork()


def _after_fork_in_parent() -> None:
    for writer in list(_by_place.values()):
        writer.end_fork()


def _after_fork_in_child() -> None:
    global _registry_lock
    _registry_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
