"""What a queue returns together with an item.

Owns the state of one delivery that is the same on every broker: until when this consumer holds it,
whether its job has started, and whether it was settled. An adapter finds the item again by the
`handle`, which no other code reads.
"""

from dataclasses import dataclass
from itertools import count
from typing import Literal, Protocol

__all__ = ["Envelope", "InPlace"]

_numbers = count()


class Stopper(Protocol):
    """Stops a job from outside."""

    def stop(self, reason: Literal["call cancelled"]) -> None: ...


@dataclass(slots=True)
class InPlace:
    """The retries of an item that stays in its broker unchanged.

    Attributes:
        attempts: how many have ended, beyond those that the item says.
        is_last: the broker will not deliver it again.
        is_buried: if it is released now, the broker itself moves it to the error queue.
        latest_time: no release hides it for longer; on the scale of its lease.
        may_rest: its holder may keep it for its backoff and run it again. Else the broker itself
            has to deliver it again, because it counts the attempts.
        comes_back: its attempt has ended, and it will be delivered again.
        rest_end_time: its holder keeps it until then, and runs it again; on the same scale.
    """

    attempts: int
    is_last: bool
    is_buried: bool
    latest_time: float
    may_rest: bool = True
    comes_back: bool = False
    rest_end_time: float | None = None


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
        in_place: how the item itself comes back for its retries; None: a copy replaces it.
    """

    __slots__ = (
        "handle",
        "has_started",
        "in_place",
        "is_stop_wanted",
        "lease_end_time",
        "number",
        "order_key",
        "pop_time",
        "redeliveries",
        "replacement",
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
        in_place: InPlace | None = None,
    ) -> None:
        self.handle = handle
        self.pop_time = pop_time
        self.lease_end_time = lease_end_time
        self.redeliveries = redeliveries
        self.order_key = order_key
        self.in_place = in_place
        self.has_started = False
        self.is_stop_wanted = False
        """Somebody has cancelled the call; the queue learned of it by a touch."""
        self.stopper: Stopper | None = None
        """Stops its job, once there is an attempt."""
        self.settlement: Literal["open", "under way", "done"] = "open"
        self.replacement: object = None
        """What was pushed in its place already, while it was not completed."""
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
