"""Every planted bug, and the suites that have to find them."""

from deferrable.testing import QueueConformance, WaitingQueueConformance
from mutants import (
    delays,
    finding,
    leases,
    looking,
    pausing,
    push_and_pop,
    settlement,
    sqlite,
    unique,
    upkeep,
    waiting,
)
from mutants.planting import MUTANTS

__all__ = ["MUTANTS", "ROOMS", "SUITES"]

ROOMS = [
    delays,
    finding,
    leases,
    looking,
    pausing,
    push_and_pop,
    settlement,
    sqlite,
    unique,
    upkeep,
    waiting,
]
SUITES = [QueueConformance, WaitingQueueConformance]
