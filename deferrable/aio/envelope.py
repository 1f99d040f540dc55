"""What a queue returns together with an item.

Owns the state of one delivery that is the same on every broker: until when this consumer holds it,
whether its job has started, and whether it was settled. An adapter finds the item again by the
`handle`, which no other code reads.
"""

import math
from itertools import count
from typing import Literal, Protocol

__all__ = ["Envelope"]

_numbers = count()


class Stopper(Protocol):
    """Stops a job from outside."""

    def stop(self, reason: Literal["call cancelled"]) -> None: ...


class Envelope:
    """One delivery of one item; opaque outside its queue, and compared by identity.

    Args:
        handle: the adapter's own.
        pop_time: when the item was popped, on the queue's ``clock.monotonic()``.
        lease_end_time: until when the queue keeps the item for this consumer, on the same scale.
        redeliveries: how many deliveries of the item ended without settlement, as far as the broker
            knows. A worker runs an item that was redelivered more than once alone.
        order_key: a worker runs items of one queue with the same key one at a time, in the order in
            which they were popped; None: the item waits for no other.
        attempts: how many attempts have ended beyond those that the item says, on a queue whose
            items come back unchanged (`RETRIES_IN_PLACE`).
        is_last_delivery: the broker will not deliver it again.
        is_buried_by_broker: released now, it would go to the error queue by itself.
        latest_time: no release can hide it for longer, on the same scale.
    """

    __slots__ = (
        "attempts",
        "comes_back",
        "handle",
        "has_started",
        "is_buried_by_broker",
        "is_last_delivery",
        "is_stop_wanted",
        "latest_time",
        "lease_end_time",
        "number",
        "order_key",
        "pop_time",
        "redeliveries",
        "replacement",
        "rest_end_time",
        "settlement",
        "stopper",
    )

    def __init__(
        self,
        handle: object,
        pop_time: float,
        lease_end_time: float,
        *,
        redeliveries: int = 0,
        order_key: str | None = None,
        attempts: int = 0,
        is_last_delivery: bool = False,
        is_buried_by_broker: bool = False,
        latest_time: float = math.inf,
    ) -> None:
        self.handle = handle
        self.pop_time = pop_time
        self.lease_end_time = lease_end_time
        self.redeliveries = redeliveries
        self.order_key = order_key
        self.attempts = attempts
        self.is_last_delivery = is_last_delivery
        self.is_buried_by_broker = is_buried_by_broker
        self.latest_time = latest_time
        self.has_started = False
        self.is_stop_wanted = False
        """Somebody has cancelled the call; the queue learned of it by a touch."""
        self.stopper: Stopper | None = None
        """Stops its job, once there is an attempt."""
        self.settlement: Literal["open", "under way", "done"] = "open"
        self.replacement: object = None
        """What was pushed in its place already, while it was not completed."""
        self.comes_back = False
        """Its attempt has ended, and the item itself will be delivered again."""
        self.rest_end_time: float | None = None
        """Its holder keeps it until then, on the scale of its lease, and runs it again."""
        self.number = next(_numbers)
        """Deliveries are numbered in the order in which this process popped them."""

    def stop_job(self) -> None:
        """Stop its job, because the call was cancelled; called on the loop of the job."""
        if self.stopper is not None:
            self.stopper.stop("call cancelled")

    def __repr__(self) -> str:
        return (
            f"<Envelope {self.number} lease_end_time={self.lease_end_time:.3f} {self.settlement}>"
        )
