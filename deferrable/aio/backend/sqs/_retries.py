"""How a failed item comes back on SQS.

Owns the three ways, and what the receive count of a message means in each. It does no I/O.

``behind``: a copy that counts the attempt is sent, then the original is deleted. ``block`` and
``visibility``: the message itself is hidden for its backoff. Nothing in it can change, so each of
its receives counts as an attempt. Only with ``block`` a worker may run it again without another
receive: with ``visibility`` the redrive policy has to see each attempt.

Source: SQS developer guide, dead-letter queues: SQS moves a message when its receive count exceeds
maxReceiveCount, so at the receive after the last one that it hands over.
"""

from typing import Literal, TypeAlias, get_args

from deferrable.aio.backend.sqs._batches import MAX_BATCH_SIZE
from deferrable.aio.envelope import InPlace
from deferrable.errors import InvalidOptions

__all__ = [
    "RetryWay",
    "check_retry",
    "crashes_counted",
    "in_place",
    "most_receives",
    "receive_size",
    "receives_without_end",
]

RetryWay: TypeAlias = Literal["behind", "block", "visibility"]

_MOST_RECEIVES = 20
_MOST_ATTEMPTS = 5


def check_retry(retry: object) -> None:
    """Refuse an unknown way."""
    if retry not in get_args(RetryWay):
        ways = ", ".join(map(repr, get_args(RetryWay)))
        raise InvalidOptions(f"retry is one of {ways}, got {retry!r:.200}")


def most_receives(retry: RetryWay) -> int:
    """The `max_receive_count` that fits; with ``visibility`` it is the number of attempts."""
    return _MOST_ATTEMPTS if retry == "visibility" else _MOST_RECEIVES


def in_place(
    retry: RetryWay, receives: int, max_receive_count: int, latest_time: float
) -> InPlace | None:
    """How a message that was received so often comes back; None: a copy replaces it.

    Only at the very receive at which the redrive policy applies, a failed message is left to it. A
    message with more receives shows that its queue has another policy, or none; then it is buried
    as with the other ways.
    """
    if retry == "behind":
        return None
    return InPlace(
        attempts=receives - 1,
        is_last=receives >= max_receive_count,
        is_buried=retry == "visibility" and receives == max_receive_count,
        latest_time=latest_time,
        may_rest=retry == "block",
    )


def crashes_counted(retry: RetryWay, receives: int) -> int:
    """How many receives ended without a settlement, as far as this can be known."""
    return 0 if retry == "visibility" else receives - 1


def receives_without_end(retry: RetryWay, *, is_fifo: bool) -> str:
    """What such receives were: all that is known of an item that SQS itself has moved."""
    if retry == "visibility":
        return (
            "Each of them was a run that failed, or its consumer crashed, stopped or lost its "
            "lease; the log of the consumers has the errors"
        )
    causes = "Its consumers crashed, stopped or lost their leases"
    if is_fifo:
        causes += ", or hid it for its backoff, which counts as a receive, too"
    return causes


def receive_size(retry: RetryWay, *, is_fifo: bool) -> int:
    """How many messages one receive takes.

    SQS hands over several messages of a group together. If the first of them is to come back, the
    others must, too, and each receive of theirs would count as one of their own attempts.
    """
    return 1 if is_fifo and retry == "visibility" else MAX_BATCH_SIZE
