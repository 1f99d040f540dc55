"""When an item is due.

Owns the two fields of a delay: ``due_time``, the moment before which an item is never run, and
``delay``, how long the queue is asked to hide it. It may not know a clock or a broker: the longest
delay that a broker takes is given to it. Longer ones hop: the item reappears, is found not due, and
is sent on for the rest.
"""

from deferrable._fields import read_seconds
from deferrable.item import Item

__all__ = ["seconds_until_due", "set_delay"]


def set_delay(item: Item, seconds: float, now: float, max_seconds: float) -> None:
    """Have `item`, which must be the caller's own, become due `seconds` from `now`.

    Args:
        seconds: 0 for at once.
        max_seconds: the longest delay that the queue itself takes.
    """
    if seconds <= 0:
        item.pop("due_time", None)
        item["delay"] = 0
    else:
        item["due_time"] = now + seconds
        item["delay"] = min(seconds, max_seconds)


def seconds_until_due(item: Item, now: float) -> float:
    """How long `item` must still wait; 0 if it is due.

    Raises:
        UnreadableItem: its ``due_time`` is no number.
    """
    due_time = read_seconds(item, "due_time")
    return 0.0 if due_time is None else max(0.0, due_time - now)
