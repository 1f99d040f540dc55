"""One resource for each event loop, closed on its loop.

Owns which loop has which resource (a broker client, running batches) and when it is closed.
Sockets and futures belong to one loop, but a queue is used from many loops (the caller's, the
portal's, a test's), so no resource may pass from one loop to another.

The one rule: the key is the loop's id, checked with ``is``; ids are used again, loops are not.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Generic, TypeVar
from weakref import WeakSet

from deferrable._fork import notice_fork, on_fork, set_aside
from deferrable.errors import WrongApi

__all__ = ["PerLoop", "SharedPerLoop", "blocked_loop", "running_loop"]

T = TypeVar("T")

_PATIENCE_SECONDS = 1.0

blocked_loop: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar(
    "deferrable_blocked_loop", default=None
)
"""The loop whose thread waits for the code that runs in this context."""


def running_loop() -> asyncio.AbstractEventLoop:
    """The event loop that runs in this thread.

    Raises:
        WrongApi: none runs. The caller may run on another kind of loop, such as trio's.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError as error:
        raise WrongApi(
            "no asyncio event loop runs here, and deferrable.aio works on one only; under trio, "
            "run the blocking API in a thread, as in "
            "`await trio.to_thread.run_sync(job.later, ...)`. Nothing was done yet"
        ) from error


class _Resource(Generic[T]):
    __slots__ = ("generator", "loop", "value")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, generator: AsyncGenerator[T, None], value: T
    ) -> None:
        self.loop = loop
        self.generator = generator
        self.value = value


class PerLoop(Generic[T]):
    """Gives each running event loop its own resource.

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
        self._entries: dict[int, _Resource[T]] = {}
        self._closing: set[_Resource[T]] = set()
        self._lock = threading.Lock()
        on_fork(self._reset_after_fork)

    def get(self) -> T:
        """The running loop's resource, opened now if there is none yet.

        Raises:
            WrongApi: no event loop of asyncio is running in this thread.
        """
        loop = running_loop()
        entry = self._entries.get(id(loop))
        if entry is not None and entry.loop is loop:
            return entry.value
        return self._add(loop).value

    def _add(self, loop: asyncio.AbstractEventLoop) -> _Resource[T]:
        notice_fork()
        generator = self._open()
        entry = _Resource(loop, generator, _first(generator))
        with self._lock:
            gone = [old for old in self._entries.values() if old.loop.is_closed()]
            for old in gone:
                del self._entries[id(old.loop)]
            self._entries[id(loop)] = entry
            self._closing = {old for old in self._closing if not old.loop.is_closed()}
        for old in gone:
            self._let_go(old)
        return entry

    async def close(self) -> None:
        """Close every resource on its own loop. May be called twice; `get` opens again.

        The resource of a loop that is neither closed nor running is left to that loop, which closes
        it when it shuts its async generators down. A loop that is blocked closes its resource when
        it runs again: its thread may be waiting for this very call. If that is not known
        (`blocked_loop`), it becomes clear after a moment.
        """
        with self._lock:
            # A loop that does not run keeps its resource: if dropped here, that would be finalized
            # in the middle of other code there, and perhaps cancelled with it.
            entries = [
                entry
                for entry in self._entries.values()
                if entry.loop.is_running() or entry.loop.is_closed()
            ]
            for entry in entries:
                del self._entries[id(entry.loop)]
        here = running_loop()
        elsewhere: list[asyncio.Future[None]] = []
        for entry in entries:
            if entry.loop is here:
                await entry.generator.aclose()
            elif entry.loop.is_closed():
                self._let_go(entry)
            else:
                with self._lock:
                    self._closing.add(entry)
                closing = asyncio.run_coroutine_threadsafe(self._close(entry), entry.loop)
                if entry.loop is not blocked_loop.get():
                    elsewhere.append(asyncio.wrap_future(closing))
        if elsewhere:
            closed, _ = await asyncio.wait(elsewhere, timeout=_PATIENCE_SECONDS)
            for future in closed:
                future.result()

    async def _close(self, entry: _Resource[T]) -> None:
        # Cancelled before its first step, as a loop that ends does, it leaves the entry where it
        # is, so that the loop still closes the generator, and does not find it collected.
        await entry.generator.aclose()
        with self._lock:
            self._closing.discard(entry)

    def _let_go(self, entry: _Resource[T]) -> None:
        is_finished = getattr(entry.generator, "ag_frame", entry) is None
        if self._abandon is not None and not is_finished:
            self._abandon(entry.value)

    def _reset_after_fork(self) -> None:
        set_aside((self._entries, self._closing))
        self._entries, self._closing = {}, set()
        self._lock = threading.Lock()


class SharedPerLoop(Generic[T]):
    """A resource for each event loop that several share, until the last of them leaves.

    Args:
        open_resource: see `PerLoop`.
        abandon: likewise.
    """

    def __init__(
        self,
        open_resource: Callable[[], AsyncGenerator[T, None]],
        abandon: Callable[[T], None] | None = None,
    ) -> None:
        self._resources = PerLoop(open_resource, abandon)
        self._users: WeakSet[object] = WeakSet()

    def here(self) -> T:
        """The running loop's resource. No I/O."""
        return self._resources.get()

    def join(self, user: object) -> None:
        """Note that `user` needs the resources until it leaves, or is gone."""
        self._users.add(user)

    async def leave(self, user: object) -> None:
        """Note that `user` needs them no longer; they are closed when nobody does."""
        self._users.discard(user)
        if not self._users:
            await self.close()

    async def close(self) -> None:
        """Close them all, each on its own loop. May be called twice; `here` opens again."""
        await self._resources.close()


def _first(generator: AsyncGenerator[T, None]) -> T:
    step = generator.__anext__()
    try:
        step.send(None)
    except StopIteration as yielded:
        value: T = yielded.value
        return value
    with suppress(GeneratorExit):
        step.throw(GeneratorExit())
    raise RuntimeError(f"{generator!r} awaits before it yields; open its resource lazily instead")
