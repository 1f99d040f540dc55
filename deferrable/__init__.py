"""deferrable: defer a function call now, run it later, elsewhere, at least once.

This door hands on the names of the blocking face and what both faces share; ``deferrable.aio`` is
the face that awaits. It defines nothing, and imports what is asked for when it is asked for.
"""

import atexit
import sys
from typing import TYPE_CHECKING

from deferrable import _blocking
from deferrable._lazy import lazy_names

if TYPE_CHECKING:
    from deferrable.errors import (
        BackendError,
        BackendUnavailable,
        CalledFromEventLoop,
        DeferrableError,
        InvalidOptions,
        ItemTooLarge,
        LeaseLost,
        SerializationError,
        UnreadableItem,
        UnserializableCall,
        Unsupported,
    )
    from deferrable.metadata import MetadataProducerConsumer
    from deferrable.outcome import Outcome, Receipt
    from deferrable.retry import Retry
    from deferrable.sync.deferrable import Deferrable

__all__ = [
    "BackendError",
    "BackendUnavailable",
    "CalledFromEventLoop",
    "Deferrable",
    "DeferrableError",
    "InvalidOptions",
    "ItemTooLarge",
    "LeaseLost",
    "MetadataProducerConsumer",
    "Outcome",
    "Receipt",
    "Retry",
    "SerializationError",
    "UnreadableItem",
    "UnserializableCall",
    "Unsupported",
]

_ERRORS = "deferrable.errors"

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "BackendError": _ERRORS,
        "BackendUnavailable": _ERRORS,
        "CalledFromEventLoop": _ERRORS,
        "Deferrable": "deferrable.sync.deferrable",
        "DeferrableError": _ERRORS,
        "InvalidOptions": _ERRORS,
        "ItemTooLarge": _ERRORS,
        "LeaseLost": _ERRORS,
        "MetadataProducerConsumer": "deferrable.metadata",
        "Outcome": "deferrable.outcome",
        "Receipt": "deferrable.outcome",
        "Retry": "deferrable.retry",
        "SerializationError": _ERRORS,
        "UnreadableItem": _ERRORS,
        "UnserializableCall": _ERRORS,
        "Unsupported": _ERRORS,
    },
)


def _load_blocking_door() -> object:
    from deferrable.sync.door import BlockingDoor

    return BlockingDoor()


_blocking.register(_load_blocking_door)


# Handlers run in the reverse order of their registration: with this one registered so early, most
# of the program's own handlers still find the portal running.
@atexit.register
def _stop_portal() -> None:
    portal = sys.modules.get("deferrable.sync.portal")
    if portal is not None:
        portal.stop()
