"""A queue that is paused: since when, for how long, and why.

Owns the value and its text, which a broker keeps. No clock is read here.

The one rule: whatever is kept as a pause, somebody wants the queue to be paused. So a text that
cannot be read is a pause without an end.
"""

from dataclasses import dataclass

from deferrable._codec.json import dump, load_item
from deferrable._durations import is_number
from deferrable.errors import SerializationError

__all__ = ["Pause"]


@dataclass(frozen=True, slots=True)
class Pause:
    """Consumers take no items from the queue.

    Attributes:
        since_time: when it was paused, in epoch seconds.
        until_time: when it goes on by itself, in epoch seconds; None: when somebody resumes it.
        reason: what the one who paused it says about it.
    """

    since_time: float
    until_time: float | None = None
    reason: str = ""

    def is_over(self, now: float) -> bool:
        """Whether it has ended by itself."""
        return self.until_time is not None and self.until_time <= now


def text_of(pause: Pause) -> str:
    """What a broker keeps of a pause."""
    return dump(
        {
            "since_time": pause.since_time,
            "until_time": pause.until_time,
            "reason": pause.reason,
        }
    )


def pause_in(text: bytes, now: float) -> Pause:
    """The pause that a broker keeps as `text`."""
    try:
        kept = load_item(text)
    except SerializationError:
        return Pause(now)
    since, until, reason = (kept.get(name) for name in ("since_time", "until_time", "reason"))
    return Pause(
        since if is_number(since) else now,
        until if is_number(until) else None,
        reason if isinstance(reason, str) else "",
    )
