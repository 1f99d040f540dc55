"""The deliveries that this process holds.

Owns the handle of one delivery, and how many more seconds SQS can hide it. It does no I/O.
"""

import logging
import math
from collections.abc import Mapping
from concurrent.futures import Future
from types import MappingProxyType

from deferrable.aio._contract.settlement import LOST_ADVICE
from deferrable.aio.envelope import Envelope
from deferrable.errors import LeaseLost, Unsupported

__all__ = [
    "MAX_LEASE_SECONDS",
    "Delivery",
    "beyond_maximum",
    "delivery_of",
    "lost",
    "rest_seconds",
    "visibility_seconds",
    "warn_of_maximum",
]

MAX_LEASE_SECONDS = 43_200
"""The maximum since the receive. Source: SQS API reference, ChangeMessageVisibility."""

_WARNING_SECONDS = 3600.0
_NO_ATTRIBUTES: Mapping[str, str] = MappingProxyType({})

_logger = logging.getLogger("deferrable")


class Delivery:
    """One delivery of one message.

    Attributes:
        attributes: those of a message that holds no call, which are not in its item.
        group_id: the group of such a message; None: it has none, or holds a call.
        reference: of its item in a store of large items; None: it was in the message.
        is_handed_over: Lambda has received it, and deletes it.
        is_done: a message that was handed over may be deleted.
        touching: ends with the touch that is under way, on any event loop; None: there was none.
    """

    __slots__ = (
        "attributes",
        "group_id",
        "is_done",
        "is_handed_over",
        "is_warned",
        "receipt_handle",
        "reference",
        "touching",
    )

    def __init__(self, receipt_handle: str, reference: str | None = None) -> None:
        self.receipt_handle = receipt_handle
        self.reference = reference
        self.attributes: Mapping[str, str] = _NO_ATTRIBUTES
        self.group_id: str | None = None
        self.is_warned = self.is_handed_over = self.is_done = False
        self.touching: Future[None] | None = None


def delivery_of(envelope: Envelope) -> Delivery:
    """The handle of an envelope that SQS gave."""
    handle = envelope.handle
    if not isinstance(handle, Delivery):
        raise TypeError(f"{envelope!r} is of another queue")
    return handle


def rest_seconds(envelope: Envelope, now: float) -> float:
    """Until the maximum since the receive."""
    return envelope.pop_time + MAX_LEASE_SECONDS - now


def visibility_seconds(envelope: Envelope, seconds: float, now: float) -> int:
    """The whole seconds for which to hide a message, so that it is hidden for `seconds`.

    Less when the maximum since its receive ends sooner.
    """
    return max(0, min(math.ceil(seconds), math.floor(rest_seconds(envelope, now))))


def warn_of_maximum(envelope: Envelope, now: float) -> None:
    """Log one warning when the maximum comes near."""
    handle = delivery_of(envelope)
    if rest_seconds(envelope, now) < _WARNING_SECONDS and not handle.is_warned:
        handle.is_warned = True
        _logger.warning(
            "%r has been held for %.0f s; after %d s SQS gives it to another consumer, even if its "
            "job still runs: make the job shorter, or let it defer the rest of its work",
            envelope,
            now - envelope.pop_time,
            MAX_LEASE_SECONDS,
        )


def beyond_maximum(envelope: Envelope, seconds: float) -> Unsupported:
    return Unsupported(
        f"{envelope!r} cannot be kept for {seconds} more seconds: SQS hides an item for at most "
        f"{MAX_LEASE_SECONDS} seconds in total after its pop; touch it for fewer seconds"
    )


def lost(envelope: Envelope, why: str) -> LeaseLost:
    return LeaseLost(f"{envelope!r} no longer belongs to this consumer: {why}; {LOST_ADVICE}")
