"""The portal of blocking calls: one for the whole process.

Owns when it starts (at the first blocking call) and stops (when the process exits), and what
serves calls that come later still. A forked child starts its own, and leaves the parent's
untouched.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

from deferrable._ended import Ended, Raised, value_of
from deferrable._fork import notice_fork, on_fork, set_aside
from deferrable._portal import EXITING, Portal, own_loop
from deferrable.errors import CalledFromEventLoop

__all__ = ["is_portal_loop", "is_portal_thread", "portal", "stop"]

T = TypeVar("T")

_ON_LOOP = (
    "the main thread has ended, and no thread can be started that serves blocking calls beside the "
    "event loop of this one; await the method of deferrable.aio, or make a blocking call earlier"
)


class _ExitPortal(Portal):
    """Serves calls while the process exits, when no thread can be started any more.

    Each call has its own loop, in the calling thread.

    Args:
        serves_threads: non-daemon threads work still, after the end of the main one. Once the
            at-exit handlers run, only their thread is served.
    """

    def __init__(self, *, serves_threads: bool) -> None:
        self.thread_id = None
        self._serves_threads = serves_threads

    @property
    def loop(self) -> None:
        """There is none that anything else could run on."""
        return

    def is_ending(self) -> bool:
        """A call is cancelled by an interrupt only."""
        return True

    def end_of(
        self,
        coroutine: Coroutine[Any, Any, T],
        *,
        is_cancelled_by_interrupt: bool = True,
        context: Context | None = None,
        cancel: Callable[[], object] | None = None,
    ) -> tuple[Ended[T], BaseException | None]:
        is_served = self._serves_threads or _is_main_thread()
        if not is_served or asyncio._get_running_loop() is not None:
            coroutine.close()
            return Raised(CalledFromEventLoop(_ON_LOOP) if is_served else SystemExit(EXITING)), None
        with asyncio.Runner(loop_factory=own_loop) as runner:
            return value_of(runner.run, coroutine, context=context), None

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Nothing runs at the same time as a call."""


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


class _OnePerProcess:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._portal: Portal | None = None
        self._is_stopped = False
        on_fork(self._reset_after_fork)

    def get(self) -> Portal:
        notice_fork()
        running = self._portal
        if running is not None:
            return running
        if self._is_stopped or (_is_main_thread() and not threading.main_thread().is_alive()):
            return _ExitPortal(serves_threads=False)
        with self._lock:
            if self._portal is None:
                try:
                    self._portal = Portal()
                except RuntimeError:
                    if threading.main_thread().is_alive():
                        raise
                    return _ExitPortal(serves_threads=True)
            return self._portal

    def is_here(self) -> bool:
        running = self._portal
        return running is not None and running.thread_id == threading.get_ident()

    def owns(self, loop: asyncio.AbstractEventLoop) -> bool:
        running = self._portal
        return running is not None and running.loop is loop

    def stop(self) -> None:
        self._is_stopped = True
        running, self._portal = self._portal, None
        if running is not None:
            running.stop()

    def _reset_after_fork(self) -> None:
        if self._portal is not None:
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


def is_portal_loop(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether `loop` is the one that serves this process's blocking calls."""
    return _process.owns(loop)


def stop() -> None:
    """End the portal, because the process exits."""
    _process.stop()
