"""One piece of work for the file, from the caller who asked for it to the answer.

Owns how an answer reaches a caller on an event loop or in a thread, and what happens to an answer
that nobody waits for any more.

The one rule: an answer that took items reaches its caller, or the items are given back.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Generic, TypeAlias, TypeVar

from deferrable._thread_waiter import ThreadWaiter
from deferrable.aio.backend.sqlite._store import Store

__all__ = ["LoopTicket", "ThreadTicket", "Ticket", "Work"]

T = TypeVar("T")

Work: TypeAlias = Callable[[Store], T]

_NOTHING: Any = object()


class Ticket(Generic[T]):
    """A piece of work, and its answer.

    Args:
        work: done in a transaction; it may be done again if that is rolled back.
        look: answers without a transaction that writes, or returns None: `work` is needed.
        undo: takes an answer that nobody waits for, and returns work that takes it back.
    """

    def __init__(
        self,
        work: Work[T],
        look: Work[T | None] | None = None,
        undo: Callable[[T], Work[Any] | None] | None = None,
    ) -> None:
        self.work = work
        self.look = look
        self.undo = undo
        self.answer: T = _NOTHING
        self.error: Exception | None = None

    @property
    def has_ended(self) -> bool:
        return self.answer is not _NOTHING or self.error is not None

    @property
    def is_wanted(self) -> bool:
        """Whether anybody still waits for it."""
        return True

    def fail(self, error: Exception) -> None:
        self.error = error


class ThreadTicket(Ticket[T], ThreadWaiter):
    """Its caller is a thread, which waits on a lock."""

    def __init__(self, work: Work[T], look: Work[T | None] | None = None) -> None:
        super().__init__(work, look)
        ThreadWaiter.__init__(self)

    def result(self) -> T:
        if self.error is not None:
            raise self.error
        return self.answer


class LoopTicket(Ticket[T]):
    """Its caller awaits a future on an event loop."""

    def __init__(
        self,
        work: Work[T],
        look: Work[T | None] | None = None,
        undo: Callable[[T], Work[Any] | None] | None = None,
    ) -> None:
        super().__init__(work, look, undo)
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self.loop.create_future()
        self._is_handed_over = False

    @property
    def is_wanted(self) -> bool:
        return not self.future.cancelled()

    def hand_over(self) -> bool:
        """Give its caller the answer, on the caller's loop; False: nobody waits any more."""
        if self._is_handed_over:
            return True
        self._is_handed_over = True
        if self.future.done():
            return False
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.answer)
        return True
