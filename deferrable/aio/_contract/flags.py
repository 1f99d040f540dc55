"""What a queue says about itself, for both APIs.

Each flag is declared here once. An adapter's class sets it; a blocking queue has what its core has.
"""

import math
import sys
from typing import ClassVar

__all__ = ["QueueFlags"]


class QueueFlags:
    """The flags of a queue. Each is a promise in both directions; see `deferrable.aio.Queue`."""

    FIFO: ClassVar[bool] = True
    """Items are popped in the order in which they were pushed."""
    SUPPORTS_DELAY: ClassVar[bool] = True
    """An item whose ``delay`` (seconds) is not 0 becomes available only after it."""
    SUPPORTS_RELEASE_DELAY: ClassVar[bool] = True
    """`release` takes a delay."""
    RECLAIMS_TO_BACK_OF_QUEUE: ClassVar[bool] = True
    """An item whose lease ended goes behind those that wait, not before them."""
    SUPPORTS_PEEK: ClassVar[bool] = False
    """`peek` shows items without taking them, and `pop_keys` takes chosen ones."""
    IS_LOCAL: ClassVar[bool] = False
    """Only this process pops what is pushed, so a job needs no name that others can import."""
    MAX_PUSH_BATCH_SIZE: ClassVar[int] = sys.maxsize
    MAX_POP_BATCH_SIZE: ClassVar[int] = sys.maxsize
    MAX_TOUCH_BATCH_SIZE: ClassVar[int] = sys.maxsize
    MAX_COMPLETE_BATCH_SIZE: ClassVar[int] = sys.maxsize
    MAX_RELEASE_BATCH_SIZE: ClassVar[int] = sys.maxsize
    BATCHES_AT_ONCE: ClassVar[int] = 1
    """How many native batches of one kind may be under way at once for one caller."""
    COUNTS_RELEASES: ClassVar[bool] = False
    """The broker takes a release for a delivery that failed. Releases are then few: a worker keeps
    what it has popped until it runs or stops."""
    POPS_AHEAD: ClassVar[int] = 0
    """How many items a worker may pop before it has slots for them, so that batches are full."""
    COMPLETE_GATHER_SECONDS: ClassVar[float] = 0.0
    """In a worker, a complete may wait so long for others to travel along."""
    MAX_ITEM_BYTES: float = math.inf
    """The most bytes of one item's JSON text. An object may have a limit of its own."""
    MAX_DELAY_SECONDS: ClassVar[float] = math.inf
    """The longest delay that the broker itself takes; longer ones hop."""
    KEEPS_DELAYS: ClassVar[bool] = False
    """The broker keeps delays of any length by its own clock. What is popped is due then, even if
    the clock of a producer or of this machine is wrong."""
