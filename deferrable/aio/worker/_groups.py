"""Items that wait for an earlier item of their group.

An item of a group holds the group's key from its pop until it is settled, or back in its queue.
Items of that key that are popped meanwhile wait here, in their order.

The one rule: the next item starts only when the last one has ended for good. If one goes back to
the queue, or is lost, those behind it go back, too. Otherwise they would overtake it. One that
rests until its retry keeps its group. One that came again before its worker knew that it had gone
back is the next.
"""

from collections import deque
from collections.abc import Hashable, Iterator
from itertools import takewhile
from typing import Generic, Protocol, TypeVar

from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Queue
from deferrable.item import Item

__all__ = ["Groups", "key_of"]


class Grouped(Protocol):
    """An item that was popped."""

    @property
    def queue(self) -> Queue: ...

    @property
    def envelope(self) -> Envelope: ...


class Waiting(Grouped, Protocol):
    """An item that may wait for another of its group."""

    @property
    def item(self) -> Item: ...


W = TypeVar("W", bound=Waiting)


def key_of(each: Grouped) -> Hashable | None:
    """The group of an item; None: it has none."""
    order_key = each.envelope.order_key
    return None if order_key is None else (each.queue, order_key)


class Groups(Generic[W]):
    """The groups of which a worker holds an item."""

    def __init__(self) -> None:
        self._behind: dict[Hashable, deque[W]] = {}

    def enter(self, each: W) -> bool:
        """Whether the item may start; if not, it waits here."""
        key = key_of(each)
        if key is None:
            return True
        behind = self._behind.get(key)
        if behind is None:
            self._behind[key] = deque()
            return True
        behind.append(each)
        return False

    def leave(
        self, key: Hashable, *, goes_on: bool, item_id: object = None
    ) -> tuple[W | None, list[W]]:
        """The item that held the group is gone.

        Args:
            goes_on: it has ended for good; if False, it runs again before those behind it.
            item_id: its id, if it may have come again already.

        Returns:
            the next one of the group, which may start now, and those that must go back.
        """
        behind = self._behind.get(key)
        if behind is None:
            return None, []
        if behind and goes_on:
            return behind.popleft(), []
        earlier = list(takewhile(lambda each: each.item.get("id") != item_id, behind))
        if item_id is None or len(earlier) == len(behind):
            del self._behind[key]
            return None, list(behind)
        # Those before it were popped with the delivery that has ended.
        for _ in earlier:
            behind.popleft()
        return behind.popleft(), earlier

    def has_more(self, key: Hashable) -> bool:
        """Whether another item of the group waits."""
        return bool(self._behind.get(key))

    def remove(self, each: W) -> bool:
        """Forget a waiting item; return whether it was here."""
        behind = self._behind.get(key_of(each), deque())
        if each not in behind:
            return False
        behind.remove(each)
        return True

    def cut(self, each: W) -> list[W]:
        """Forget a waiting item that was lost; return those behind it, which must go back."""
        behind = self._behind.get(key_of(each), deque())
        place, waiting = behind.index(each), list(behind)
        behind.clear()
        behind.extend(waiting[:place])
        return waiting[place + 1 :]

    def waiting(self) -> Iterator[W]:
        """All that wait."""
        for behind in self._behind.values():
            yield from behind
