"""The order in which messages that somebody else has popped may run.

Owns which message is next, and which ones never begin because one before them came back. It does
no I/O.

The one rule: of the messages with one order key, one runs at a time, and none after one that was
not done. It comes back, and must find the others behind it.
"""

from collections import deque
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

from deferrable.aio._contract.handed import Handed
from deferrable.errors import InvalidOptions

__all__ = ["FailureStops", "HandedOrder", "check_failure_stops"]

FailureStops: TypeAlias = Literal["batch", "group"]


def check_failure_stops(value: object) -> None:
    """Refuse an unknown value."""
    if value not in get_args(FailureStops):
        raise InvalidOptions(f"failure_stops is 'batch' or 'group', got {value!r:.200}")


class HandedOrder:
    """The messages of one event that have not begun.

    Args:
        handed: all of them, in the order of their queue.
        is_ordered: whether the queue has an order. Else no message waits for another.
        failure_stops: on a queue with an order, what does not begin any more after a message that
            is not done: the rest of its group, or all.
    """

    def __init__(
        self, handed: Sequence[Handed], *, is_ordered: bool, failure_stops: FailureStops
    ) -> None:
        self._is_ordered = is_ordered
        self._stops_group = failure_stops == "group"
        self._lines: dict[object, deque[Handed]] = {}
        for each in handed:
            self._lines.setdefault(self._key(each), deque()).append(each)
        self._ready = deque(self._lines)
        self.waiting_count = len(handed)

    def _key(self, handed: Handed) -> object:
        if not self._is_ordered:
            return handed.name
        return handed.order_key if self._stops_group else None

    def has_next(self) -> bool:
        """Whether a message may begin now."""
        return bool(self._ready)

    def take(self) -> Handed:
        """The next message; `end` has to follow. Groups take turns."""
        self.waiting_count -= 1
        return self._lines[self._ready.popleft()].popleft()

    def end(self, handed: Handed) -> None:
        """Note that a message has ended. The next of its group begins only if it was done."""
        key = self._key(handed)
        if self._lines[key] and (handed.is_done() or not self._is_ordered):
            self._ready.append(key)

    def put_back(self, handed: Handed) -> None:
        """Note that a message did not begin after all, and that none of its group may now."""
        self._lines[self._key(handed)].appendleft(handed)
        self.waiting_count += 1
