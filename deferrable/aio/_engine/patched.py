"""Refuse to work where gevent or eventlet has replaced threads or sockets.

Owns the check that a worker makes before it starts. A worker has an event loop in one thread and
renews leases in another. With patched threads both are one thread, which hangs; with patched
sockets or selectors the loop waits for an answer that it never sees.

The check reads the modules that are loaded, so it imports neither library.
"""

import queue
import select
import socket
import threading

__all__ = ["patching_library", "refuse_patched"]

_PATCHING_LIBRARIES = ("gevent", "eventlet")


def patching_library(name: str) -> str | None:
    """The library that has replaced parts of a module of Python; None: no library has.

    Args:
        name: of the module.
    """
    # Looked up at each call: a program may patch after it has imported this.
    replaceable = {
        "threading": threading.get_ident,
        "queue": queue.SimpleQueue,
        "socket": socket.socket,
        "select": select.select,
    }
    library = replaceable[name].__module__.partition(".")[0]
    return library if library in _PATCHING_LIBRARIES else None


def refuse_patched() -> None:
    """Refuse to start a worker in a process that gevent or eventlet has patched.

    Raises:
        RuntimeError: threads, queues, sockets or ``select`` are not Python's own.
    """
    for name in ("threading", "queue", "socket", "select"):
        library = patching_library(name)
        if library is not None:
            raise RuntimeError(
                f"{library} has replaced {name} in this process, and a worker would hang with it; "
                "run the worker in a process that is not monkey-patched (`deferrable worker` is "
                "one unless the module that it imports patches it)"
            )
