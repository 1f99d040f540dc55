"""What has to be made anew in a forked child.

Owns the list of who wants to be told after a fork, and the place where a parent's event loops,
threads and broker clients are set aside in the child. It may not know what any of them is.

The one rule: what a child inherits is neither closed nor collected there. Closing an inherited
client in the child disturbs the parent, because the two processes share the kernel's epoll set.
"""

import os
import weakref
from collections.abc import Callable

__all__ = ["on_fork", "set_aside"]

_listeners: list[weakref.WeakMethod[Callable[[], None]]] = []
_inherited: list[object] = []


def on_fork(method: Callable[[], None]) -> None:
    """Have a bound method called in every child forked from now on.

    The method is held weakly, so that an object needs no farewell. It runs before any other code
    of the child, in its only thread; it must not block and must not raise.
    """
    _listeners.append(weakref.WeakMethod(method, _listeners.remove))


def set_aside(inherited: object) -> None:
    """Keep something of the parent's alive, unused, for as long as this child lives."""
    _inherited.append(inherited)


def _tell_everybody() -> None:
    for listener in list(_listeners):
        method = listener()
        if method is not None:
            method()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell_everybody)
