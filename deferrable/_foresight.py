"""What will happen to an item, as far as it is decided already.

Owns no decision: it asks the functions of `deferrable.lifecycle` that the engine asks, for the next
attempt and for its failure.
"""

from dataclasses import dataclass

from deferrable._durations import is_number
from deferrable.item import Item
from deferrable.lifecycle import (
    RetryLater,
    after_error,
    expiry_time,
    is_expired,
    read_count,
    seconds_until_due,
)

__all__ = ["Foresight", "foresee"]


class _AnyError(Exception):
    """Stands for an error that the job retries."""


@dataclass(frozen=True, slots=True)
class Foresight:
    """What the next attempt at an item leads to.

    Attributes:
        start_time: the first moment at which it may start, in epoch seconds.
        attempt: its number, from 1.
        max_attempts: how many there may be.
        expiry_time: its ttl ends then; None: it has none.
        expires: it expires at its start, instead of running.
        retry_seconds: after an error that is retried, the shortest and the longest wait before the
            next attempt; None: it is not retried.
        why_not_retried: why it goes to the error queue after any error; empty: it does not.
    """

    start_time: float
    attempt: int
    max_attempts: int
    expiry_time: float | None
    expires: bool
    retry_seconds: tuple[float, float] | None
    why_not_retried: str


def foresee(
    item: Item,
    now: float,
    *,
    available_time: float | None,
    retries_errors: bool,
    max_delay_seconds: float,
    hides_early: bool,
) -> Foresight:
    """What the next attempt leads to, or the one that runs now.

    Args:
        available_time: when its queue shows it to consumers; None: now.
        retries_errors: the item names errors that are retried.
        max_delay_seconds, hides_early: see `deferrable.lifecycle.after_error`.

    Raises:
        UnreadableItem: fields that decide are of the wrong kind.
    """
    start_time = now + seconds_until_due(item, now)
    if is_number(available_time):
        start_time = max(start_time, available_time)
    waits: list[float] = []
    why = ""
    for place in (0.0, 1.0):
        verdict = after_error(
            item,
            _AnyError(),
            is_retriable=retries_errors,
            now=start_time,
            draw=lambda place=place: place,  # type: ignore[misc]
            max_delay_seconds=max_delay_seconds,
            hides_early=hides_early,
            hostname="",
        )
        if isinstance(verdict, RetryLater):
            waits.append(verdict.seconds)
        else:
            why = verdict.reason if retries_errors else "the job retries no error"
    return Foresight(
        start_time,
        read_count(item, "attempts", 0) + 1,
        read_count(item, "max_attempts", 1),
        expiry_time(item),
        is_expired(item, start_time),
        (min(waits), max(waits)) if waits else None,
        "" if waits else why,
    )
