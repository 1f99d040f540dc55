"""Helpers for tests of code that uses deferrable, and for tests of your own backend.

Owns the names. Each is resolved on first use, so that only the conformance suite needs pytest.
"""

from typing import TYPE_CHECKING, Any

from deferrable._lazy import lazy_names

if TYPE_CHECKING:
    from deferrable.testing.clock import MovingClock as MovingClock
    from deferrable.testing.conformance import QueueConformance as QueueConformance
    from deferrable.testing.conformance import WaitingQueueConformance as WaitingQueueConformance
    from deferrable.testing.deferrals import Deferrals as Deferrals
    from deferrable.testing.deferrals import deferrals_of as deferrals_of
    from deferrable.testing.fault_script import Faults as Faults
    from deferrable.testing.faults import FaultyQueue as FaultyQueue
    from deferrable.testing.simulation import Simulated as Simulated
    from deferrable.testing.simulation import SimulationFailed as SimulationFailed
    from deferrable.testing.simulation import simulate as simulate
    from deferrable.testing.simulation import simulate_async as simulate_async
    from deferrable.testing.waiting import wait_until as wait_until

__all__ = [
    "Deferrals",
    "Faults",
    "FaultyQueue",
    "MovingClock",
    "QueueConformance",
    "Simulated",
    "SimulationFailed",
    "WaitingQueueConformance",
    "deferrals_of",
    "simulate",
    "simulate_async",
    "wait_until",
]

_HOMES = {
    "Deferrals": f"{__name__}.deferrals",
    "deferrals_of": f"{__name__}.deferrals",
    "Faults": f"{__name__}.fault_script",
    "FaultyQueue": f"{__name__}.faults",
    "MovingClock": f"{__name__}.clock",
    "Simulated": f"{__name__}.simulation",
    "SimulationFailed": f"{__name__}.simulation",
    "simulate": f"{__name__}.simulation",
    "simulate_async": f"{__name__}.simulation",
    "QueueConformance": f"{__name__}.conformance",
    "WaitingQueueConformance": f"{__name__}.conformance",
    "wait_until": f"{__name__}.waiting",
}

_resolve, __dir__ = lazy_names(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    if name.endswith("Conformance"):
        _have_pytest_explain_assertions(name)
    return _resolve(name)


def _have_pytest_explain_assertions(name: str) -> None:
    try:
        import pytest
    except ImportError as error:
        raise ImportError(
            f"{__name__}.{name} is a pytest class; install pytest to prove a backend with it"
        ) from error
    pytest.register_assert_rewrite(f"{__name__}.conformance")
