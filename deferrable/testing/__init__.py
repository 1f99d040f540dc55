"""What tests of code that uses deferrable need, and tests of a backend of one's own.

Owns the names; each is resolved when it is first asked for, so that only the conformance suite
needs pytest. It may not hold code of its own.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deferrable.testing.clock import MovingClock as MovingClock
    from deferrable.testing.conformance import QueueConformance as QueueConformance
    from deferrable.testing.conformance import WaitingQueueConformance as WaitingQueueConformance
    from deferrable.testing.fault_script import Faults as Faults
    from deferrable.testing.faults import FaultyQueue as FaultyQueue
    from deferrable.testing.waiting import wait_until as wait_until

__all__ = [
    "Faults",
    "FaultyQueue",
    "MovingClock",
    "QueueConformance",
    "WaitingQueueConformance",
    "wait_until",
]

_HOMES = {
    "Faults": "fault_script",
    "FaultyQueue": "faults",
    "MovingClock": "clock",
    "QueueConformance": "conformance",
    "WaitingQueueConformance": "conformance",
    "wait_until": "waiting",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOMES[name] == "conformance":
        _have_pytest_explain_assertions(name)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def _have_pytest_explain_assertions(name: str) -> None:
    try:
        import pytest
    except ImportError as error:
        raise ImportError(
            f"{__name__}.{name} is a pytest class; install pytest to prove a backend with it"
        ) from error
    pytest.register_assert_rewrite(f"{__name__}.conformance")


def __dir__() -> list[str]:
    return sorted(__all__)
