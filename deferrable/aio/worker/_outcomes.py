"""The outcomes of a worker, from its attempts to its reader.

Owns their order and the reader's wait. It may not know what an outcome means. That it is bounded is
the slots' doing: they count what is unread.
"""

from collections import deque
from collections.abc import Callable

from deferrable.aio.worker._bell import Bell
from deferrable.aio.worker._slots import Slots
from deferrable.outcome import Outcome

__all__ = ["Outcomes"]


class Outcomes:
    """A stream that ends.

    Args:
        slots: counts what is unread.
        on_room: called when one was read.
    """

    def __init__(self, slots: Slots, on_room: Callable[[], None]) -> None:
        self._slots = slots
        self._on_room = on_room
        self._unread: deque[Outcome] = deque()
        self._readable = Bell()
        self._has_ended = False

    def add(self, outcome: Outcome) -> None:
        self._unread.append(outcome)
        self._slots.unread += 1
        self._readable.ring()

    def end(self) -> None:
        """There will be no more."""
        self._has_ended = True
        self._readable.ring()

    def next_unread(self) -> Outcome | None:
        """The next one if it is there already."""
        if not self._unread:
            return None
        self._slots.unread -= 1
        self._on_room()
        return self._unread.popleft()

    async def next(self) -> Outcome | None:
        """The next one, each for one reader; None: there will be no more.

        Cancelling it loses none.
        """
        while (outcome := self.next_unread()) is None and not self._has_ended:
            await self._readable.wait()
        return outcome
