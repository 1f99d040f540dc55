"""What must be created again in a forked child.

Owns the list of functions to call after a fork, and the place where the child keeps its parent's
event loops, threads and broker clients. Python reports its own forks. Nobody reports others, such
as those of uWSGI without ``--py-call-uwsgi-fork-hooks``; `notice_fork` detects them.

The one rule: a child neither closes nor collects what it inherits. Closing an inherited client in
the child disturbs the parent, because the two processes share the kernel's epoll set.
"""

import os
import threading
import weakref
from collections.abc import Callable
from itertools import count
from types import MethodType
from typing import cast

__all__ = ["notice_fork", "on_fork", "set_aside"]

_numbers = count()
_listeners: dict[int, tuple[weakref.ref[object], Callable[..., None]]] = {}
_inherited: list[object] = []
_process_id = os.getpid()
_locks: dict[int, threading.Lock] = {}


def on_fork(method: Callable[[], None]) -> None:
    """Call a bound method in every child forked from now on, in the order of registration.

    Its object is held weakly, so there is nothing to unregister. The call is made before any other
    code of the child, in its only thread; it must not block and must not raise.
    """
    number = next(_numbers)
    listeners = _listeners  # a collection may come when this module's own names are gone already

    def forget(_: object) -> None:
        listeners.pop(number, None)

    bound = cast(MethodType, method)
    _listeners[number] = (weakref.ref(bound.__self__, forget), bound.__func__)


def set_aside(inherited: object) -> None:
    """Keep an object of the parent alive, unused, as long as this child lives."""
    _inherited.append(inherited)


def notice_fork() -> None:
    """Make the registered calls if this process was forked without Python's hooks.

    Call it before this process uses an object that its parent may have made: when a call is
    deferred, when the portal is used, and when an event loop gets its first resource. It costs one
    system call.
    """
    if os.getpid() != _process_id:
        # A new lock of this process: no thread of the parent can hold it.
        with _locks.setdefault(os.getpid(), threading.Lock()):
            if os.getpid() != _process_id:
                _run_hooks()


def _run_hooks() -> None:
    global _process_id
    for listener, function in list(_listeners.values()):
        instance = listener()
        if instance is not None:
            function(instance)
    _process_id = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_run_hooks)
