"""The portal: one thread with one event loop, which serves every blocking call of the process.

Owns the thread, its loop, and the hand-over of a coroutine to it. It may not know what it runs.
It is started on first use, stopped when the process exits, and started anew in a forked child,
where the parent's is set aside untouched.

The one rule: how a coroutine ended comes back as a value; an interrupt strikes only the caller,
who has the coroutine cancelled and waits for its end.
"""

import asyncio
import atexit
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from deferrable._ended import Ended, Raised, unwrap, value_of_awaited
from deferrable._fork import on_fork, set_aside

__all__ = ["Portal", "is_portal_thread", "portal"]

T = TypeVar("T")


class _Handover(Generic[T]):
    """A coroutine on its way to the portal, and how it ended on its way back."""

    __slots__ = ("_coroutine", "_done", "_task", "ended", "is_cancelled")

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self._done = threading.Lock()
        self._done.acquire()
        self._task: asyncio.Task[None] | None = None
        self.ended: Ended[T] | None = None
        self.is_cancelled = False

    def start(self) -> None:
        """On the portal's loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        if self.is_cancelled:
            self._task.cancel()

    def cancel(self) -> None:
        """On the portal's loop."""
        self.is_cancelled = True
        if self._task is not None:
            self._task.cancel()

    def wait(self) -> None:
        """In the calling thread; an interrupt may strike here."""
        self._done.acquire()
        self._done.release()

    def give_up(self, error: BaseException) -> None:
        """The loop is gone, and will never run it."""
        self._coroutine.close()
        self.ended = Raised(error)
        self._done.release()

    async def _run(self) -> None:
        self.ended = await value_of_awaited(self._coroutine)
        self._done.release()


class Portal:
    """A thread that runs an event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="deferrable-portal", daemon=True)
        self._thread.start()

    @property
    def thread_id(self) -> int | None:
        return self._thread.ident

    def run(self, coroutine: Coroutine[Any, Any, T], *, must_finish: bool = False) -> T:
        """Run a coroutine on the portal's loop and wait for it in this thread.

        Args:
            must_finish: an interrupt (Ctrl-C) is raised only once the coroutine has ended; else it
                has the coroutine cancelled, and is raised when that has ended.

        Raises:
            BaseException: what the coroutine raised.
            RuntimeError: the portal was stopped, as the process is exiting.
        """
        handover = _Handover(coroutine)
        try:
            self._loop.call_soon_threadsafe(handover.start)
        except RuntimeError as error:
            handover.give_up(error)
            raise
        try:
            handover.wait()
        except BaseException:
            if not must_finish:
                self._loop.call_soon_threadsafe(handover.cancel)
            handover.wait()
            raise
        assert handover.ended is not None
        return unwrap(handover.ended)

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call something short on the portal's loop, without waiting for it."""
        self._loop.call_soon_threadsafe(callback)

    def stop(self) -> None:
        """Cancel what still runs, close what the loop has open, and end the thread."""
        with contextlib.suppress(RuntimeError):  # it was stopped before
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            with contextlib.suppress(Exception):
                _finish(self._loop)
            self._loop.close()


def _finish(loop: asyncio.AbstractEventLoop) -> None:
    while tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())


class _OnePerProcess:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._portal: Portal | None = None
        on_fork(self._start_anew)
        atexit.register(self._stop)

    def get(self) -> Portal:
        running = self._portal
        if running is not None:
            return running
        with self._lock:
            if self._portal is None:
                self._portal = Portal()
            return self._portal

    def is_here(self) -> bool:
        running = self._portal
        return running is not None and running.thread_id == threading.get_ident()

    def _stop(self) -> None:
        running, self._portal = self._portal, None
        if running is not None:
            running.stop()

    def _start_anew(self) -> None:
        set_aside(self._portal)
        self._portal = None
        self._lock = threading.Lock()


_process = _OnePerProcess()


def portal() -> Portal:
    """This process's portal, started now if it does not run yet."""
    return _process.get()


def is_portal_thread() -> bool:
    """Whether the calling thread is the portal's own."""
    return _process.is_here()
