"""What has to be made anew in a forked child.

Owns the list of who wants to be told after a fork, and the place where a parent's event loops,
threads and broker clients are set aside in the child. It may not know what any of them is.

The one rule: what a child inherits is neither closed nor collected there. Closing an inherited
client in the child disturbs the parent, because the two processes share the kernel's epoll set.
"""

import os
import weakref
from collections.abc import Callable
from itertools import count
from types import MethodType
from typing import cast

__all__ = ["on_fork", "set_aside"]

_numbers = count()
_listeners: dict[int, tuple[weakref.ref[object], Callable[..., None]]] = {}
_inherited: list[object] = []


def on_fork(method: Callable[[], None]) -> None:
    """Have a bound method called in every child forked from now on, in the order of registration.

    Its object is held weakly, so that it needs no farewell. The call is made before any other code
    of the child, in its only thread; it must not block and must not raise.
    """
    number = next(_numbers)
    listeners = _listeners  # a collection may come when this module's own names are gone already

    def forget(_: object) -> None:
        listeners.pop(number, None)

    bound = cast(MethodType, method)
    _listeners[number] = (weakref.ref(bound.__self__, forget), bound.__func__)


def set_aside(inherited: object) -> None:
    """Keep something of the parent's alive, unused, for as long as this child lives."""
    _inherited.append(inherited)


def _tell_everybody() -> None:
    for listener, function in list(_listeners.values()):
        instance = listener()
        if instance is not None:
            function(instance)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell_everybody)
