"""What Redis answers about a queue, in Python's terms."""

from dataclasses import dataclass

__all__ = ["Taken", "Waited", "Waiting"]


@dataclass(frozen=True, slots=True)
class Taken:
    """What a pop took.

    Attributes:
        raws: the entries, in the order of the queue.
        missing: ids of delayed items that were due and had no payload.
        is_more_due: more delayed items are due than one step moves.
        next_due_seconds: until the next delayed item is due; infinity: there is none.
        next_id: its id; empty: there is none.
        pause_text: of the pause of the queue, from which nothing was taken then; None: none.
    """

    raws: list[bytes]
    missing: list[bytes]
    is_more_due: bool
    next_due_seconds: float
    next_id: bytes
    pause_text: bytes | None = None


@dataclass(frozen=True, slots=True)
class Waited:
    """What a wait came to.

    Attributes:
        was_lost: this consumer was no member any more. It is one again, but what it held is lost.
        raw: the entry; None: none came.
        pause_text: of the pause of the queue when the wait had ended; None: it was not paused.
        is_refused: Redis is full and does not let a consumer wait.
    """

    was_lost: bool
    raw: bytes | None
    pause_text: bytes | None = None
    is_refused: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """The items that nobody holds.

    Attributes:
        available, delayed: numbers of items; one that is due is available.
        oldest: the available entry that is popped next.
        consumer_ids: of all consumers.
        pause_text: of the pause of the queue; None: it is not paused.
    """

    available: int
    delayed: int
    oldest: bytes | None
    consumer_ids: list[str]
    pause_text: bytes | None
