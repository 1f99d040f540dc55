"""One of something for each event loop, closed on the loop that it belongs to.

Owns which loop has which resource (a broker client, a set of batches under way) and when it is
closed. It may not know what the resource is. Sockets and futures belong to one loop; a queue object
is used from many (the caller's, the portal's, a test's fresh one), so nothing may be handed across.

The one rule: the key is the loop's id, checked with ``is``; ids are used again, loops are not.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Generic, TypeVar

from deferrable._fork import on_fork, set_aside

__all__ = ["PerLoop"]

T = TypeVar("T")


class _Entry(Generic[T]):
    __slots__ = ("generator", "loop", "value")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, generator: AsyncGenerator[T, None], value: T
    ) -> None:
        self.loop = loop
        self.generator = generator
        self.value = value


class PerLoop(Generic[T]):
    """Gives each running event loop a resource of its own.

    Args:
        open_resource: a function that returns an async generator, which yields the resource once
            and closes it in its ``finally``. It must not await before it yields: opening is done
            lazily by the resource itself. A loop that shuts its async generators down
            (``asyncio.run`` does) closes the resource with them.
        abandon: called with the resource of a loop that was closed without that; it cannot await.
    """

    def __init__(
        self,
        open_resource: Callable[[], AsyncGenerator[T, None]],
        abandon: Callable[[T], None] | None = None,
    ) -> None:
        self._open = open_resource
        self._abandon = abandon
        self._entries: dict[int, _Entry[T]] = {}
        self._lock = threading.Lock()
        on_fork(self._start_anew)

    def get(self) -> T:
        """The running loop's resource, made now if there is none yet.

        Raises:
            RuntimeError: no event loop is running in this thread.
        """
        loop = asyncio.get_running_loop()
        entry = self._entries.get(id(loop))
        if entry is not None and entry.loop is loop:
            return entry.value
        return self._add(loop).value

    def _add(self, loop: asyncio.AbstractEventLoop) -> _Entry[T]:
        generator = self._open()
        entry = _Entry(loop, generator, _first(generator))
        with self._lock:
            gone = [old for old in self._entries.values() if old.loop.is_closed()]
            for old in gone:
                del self._entries[id(old.loop)]
            self._entries[id(loop)] = entry
        for old in gone:
            if self._abandon is not None:
                self._abandon(old.value)
        return entry

    async def close(self) -> None:
        """Close every resource on its own loop. Closing twice is harmless; `get` opens anew.

        The resource of a loop that is neither closed nor running is left to that loop, which
        closes it when it shuts its async generators down.
        """
        with self._lock:
            entries = list(self._entries.values())
            self._entries.clear()
        here = asyncio.get_running_loop()
        for entry in entries:
            if entry.loop is here:
                await entry.generator.aclose()
            elif entry.loop.is_closed():
                if self._abandon is not None:
                    self._abandon(entry.value)
            elif entry.loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(_close(entry.generator), entry.loop)
                await asyncio.wrap_future(closing)

    def _start_anew(self) -> None:
        set_aside(self._entries)
        self._entries = {}
        self._lock = threading.Lock()


def _first(generator: AsyncGenerator[T, None]) -> T:
    step = generator.__anext__()
    try:
        step.send(None)
    except StopIteration as yielded:
        value: T = yielded.value
        return value
    raise RuntimeError(f"{generator!r} awaits before it yields; open its resource lazily instead")


async def _close(generator: AsyncGenerator[T, None]) -> None:
    await generator.aclose()
