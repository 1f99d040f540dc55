"""Jobs under the faults of a queue. This package exports its names and defines nothing."""

from typing import TYPE_CHECKING

from deferrable._lazy import lazy_names

if TYPE_CHECKING:
    from deferrable.testing.simulation._simulation import Simulated, SimulationFailed
    from deferrable.testing.simulation._simulation import simulate as simulate
    from deferrable.testing.simulation._simulation import simulate_async as simulate_async

__all__ = ["Simulated", "SimulationFailed", "simulate", "simulate_async"]

__getattr__, __dir__ = lazy_names(
    __name__, dict.fromkeys(__all__, "deferrable.testing.simulation._simulation")
)
