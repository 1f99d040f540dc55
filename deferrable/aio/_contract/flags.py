"""What a queue says about itself, for both APIs.

Each flag is declared here once. An adapter's class sets it; a blocking queue has what its core
has.
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
    """An item whose lease ended goes behind waiting items, not before them."""
    SUPPORTS_PEEK: ClassVar[bool] = False
    """`peek` shows items without taking them, and `pop_keys` takes chosen ones."""
    SUPPORTS_INSPECTION: ClassVar[bool] = False
    """`find` and `inspect` show items wherever they are, also those in flight."""
    SUPPORTS_CANCEL: ClassVar[bool] = False
    """`cancel` removes an item that waits, `hasten` ends its delay, and `ask_to_stop` reaches the
    consumer of one in flight. A queue with it has `SUPPORTS_INSPECTION`, too."""
    SUPPORTS_UNIQUE: ClassVar[bool] = False
    """An item with a unique key is pushed only if no other item holds that key."""
    SUPPORTS_PAUSE: ClassVar[bool] = False
    """`pause` keeps all consumers from taking items, until `resume`."""
    SUPPORTS_WORKERS: ClassVar[bool] = False
    """`report_worker` keeps what workers report, and `find_workers` shows it."""
    HAS_OLD_CONSUMERS: ClassVar[bool] = False
    """Consumers of the Python 2 library may hold items: `old_consumers` lists them, and `take_back`
    gives back what a dead one held."""
    IS_LOCAL: ClassVar[bool] = False
    """Only this process pops the items, so a job needs no name that others can import."""
    MAX_PUSH_BATCH_SIZE: ClassVar[int] = sys.maxsize
    MAX_POP_BATCH_SIZE: ClassVar[int] = sys.maxsize
    MAX_TOUCH_BATCH_SIZE: ClassVar[int] = sys.maxsize
    MAX_COMPLETE_BATCH_SIZE: ClassVar[int] = sys.maxsize
    MAX_RELEASE_BATCH_SIZE: ClassVar[int] = sys.maxsize
    BATCHES_AT_ONCE: ClassVar[int] = 1
    """How many native batches of one kind one caller may run at once."""
    READS_FOREIGN: bool = False
    """It finds calls in messages that somebody else wrote, also in the ``raw`` of an item."""
    COUNTS_RELEASES: ClassVar[bool] = False
    """The broker counts a release as a failed delivery. So a worker releases little: it keeps its
    popped items until they run or the worker stops."""
    POPS_AHEAD: ClassVar[int] = 0
    """How many items a worker may pop before it has slots for them, so that batches are full."""
    COMPLETE_GATHER_SECONDS: ClassVar[float] = 0.0
    """How long a worker's completion may wait for others, to fill a batch."""
    MAX_ITEM_BYTES: float = math.inf
    """The most bytes of one item's JSON text. A queue object may have its own limit."""
    MAX_DELAY_SECONDS: ClassVar[float] = math.inf
    """The longest delay that the broker itself takes; longer ones hop."""
    SUPPORTS_DEDUPLICATION: ClassVar[bool] = False
    """The broker drops a new item whose ``deduplication_id`` another one had a short time ago."""
    KEEPS_DELAYS: ClassVar[bool] = False
    """The broker keeps delays of any length by its own clock. So a popped item is due, even if the
    clock of a producer or of this machine is wrong."""
