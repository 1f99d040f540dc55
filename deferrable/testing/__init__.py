"""What tests of code that uses deferrable need, and tests of a backend of one's own.

Owns the names; each is resolved when it is first asked for, so that only the conformance suite
needs pytest. It may not hold code of its own.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deferrable.testing.clock import MovingClock as MovingClock
    from deferrable.testing.waiting import wait_until as wait_until

__all__ = ["MovingClock", "wait_until"]

_HOMES = {"MovingClock": "clock", "wait_until": "waiting"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
