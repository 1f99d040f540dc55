"""Every point at which a task of an event loop waits.

Owns the counting of these points, over all tasks of a loop, and the one at which something is done.
A point is the creation of a task (it has not begun) or a suspension of it; so every await of every
task that the library makes is one.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["Points"]

Strike = Callable[["asyncio.Task[Any]"], None]


class Points:
    """Counts points, and calls `strike` with the task that stands at number `target`.

    Attributes:
        count: how many there were until now.
        where: of the task that was struck, what it runs; None: the target was not reached.
    """

    def __init__(self, target: int | None, strike: Strike) -> None:
        self.count = 0
        self.where: str | None = None
        self._target = target
        self._strike = strike
        self._is_on = True

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count the points of every task that is made on `loop` from now on."""
        loop.set_task_factory(self._make_task)

    def end(self) -> None:
        """Count no more."""
        self._is_on = False

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> "asyncio.Task[Any]":
        stepped = _Stepped(coroutine, self)
        task = stepped.task = asyncio.Task(stepped, loop=loop, **options)
        self.note(task, coroutine)
        return task

    def note(self, task: "asyncio.Task[Any] | None", coroutine: Any) -> None:
        if not self._is_on:
            return
        if self.count == self._target and task is not None:
            self.where = getattr(coroutine, "__qualname__", repr(coroutine))
            self._strike(task)
        self.count += 1


class _Stepped(Coroutine[Any, Any, Any]):
    """A coroutine whose suspensions are noted."""

    task: "asyncio.Task[Any] | None" = None

    def __init__(self, coroutine: Any, points: Points) -> None:
        self._coroutine = coroutine
        self._points = points

    def send(self, value: Any) -> Any:
        return self._noted(self._coroutine.send(value))

    def throw(self, *error: Any) -> Any:
        return self._noted(self._coroutine.throw(*error))

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Any:
        return self._coroutine.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coroutine, name)  # cr_frame and the like, which anyio looks at

    def _noted(self, future: Any) -> Any:
        self._points.note(self.task, self._coroutine)
        return future
