"""Every planted bug, and the suites that have to find them."""

from importlib import import_module

from deferrable.testing import QueueConformance, WaitingQueueConformance
from mutants.planting import MUTANTS

__all__ = ["MUTANTS", "SUITES"]

ROOMS = (
    "delays finding leases looking pausing push_and_pop reporting settlement some_brokers sqlite "
    "unique upkeep waiting"
)
for _room in ROOMS.split():
    import_module(f"mutants.{_room}")  # Its mutants enter the table.

SUITES = [QueueConformance, WaitingQueueConformance]
