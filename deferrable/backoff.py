"""How long an item waits before it is tried again.

Owns the formula. It may not know what failed, or a clock, or a source of chance: a draw is given
to it. The formula is the old library's, whose items travel on the same queues.
"""

__all__ = ["MAX_BACKOFF_SECONDS", "backoff_seconds"]

MAX_BACKOFF_SECONDS = 900.0
"""The longest wait, in seconds: the longest delay of a message in SQS, a limit the old library
kept on every broker."""

_CONSTANT_SECONDS = 2.0
_LARGEST_EXPONENT = 10  # 2 + 2**10 is over the maximum already.


def backoff_seconds(attempts: int, draw: float | None = None) -> float:
    """The wait before the next attempt: 4, 6, 10, 18, ... up to 900 seconds.

    Args:
        attempts: how many attempts have finished, the one that just failed included.
        draw: a number from 0 to 1 that places the wait between half of it and all of it; None:
            all of it.
    """
    exponent = min(max(attempts, 0), _LARGEST_EXPONENT)
    seconds = min(_CONSTANT_SECONDS + 2.0**exponent, MAX_BACKOFF_SECONDS)
    return seconds if draw is None else seconds * (0.5 + 0.5 * draw)
