"""The portal: one thread with one event loop, which serves every blocking call of the process.

Owns the thread, its loop, and the hand-over of a coroutine to it. It is started on first use and
stopped when the process exits. A forked child starts its own, and leaves the parent's untouched.

The one rule: how a coroutine ended comes back as a value; an interrupt strikes only the caller,
who has the coroutine cancelled and waits for its end.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from contextvars import copy_context
from functools import partial
from typing import Any, Generic, TypeVar

from deferrable._ended import Ended, Raised, Returned, unwrap, value_of, value_of_awaited
from deferrable._fork import notice_fork, on_fork, set_aside
from deferrable.aio._contract.tasks import start_task
from deferrable.aio._engine.own_loop import own_loop
from deferrable.errors import CalledFromEventLoop

__all__ = ["Portal", "is_portal_loop", "is_portal_thread", "portal", "stop"]

T = TypeVar("T")

_STOP_SECONDS = 5.0
"""How long the exit of the process waits for coroutines that do not heed their cancellation."""

_EXITING = "the process is exiting, and nothing serves blocking calls of other threads any more"
_ON_LOOP = (
    "the main thread has ended, and no thread can be started that serves blocking calls beside the "
    "event loop of this one; await the method of deferrable.aio, or make a blocking call earlier"
)


class _Handover(Generic[T]):
    """A coroutine on its way to the portal, and how it ended on its way back."""

    __slots__ = ("_context", "_coroutine", "_done", "_has_begun", "_loop", "ended", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> None:
        self._loop = loop
        self._coroutine = coroutine
        self._context = copy_context()  # the caller's, whoever it is that tells the loop
        self._done = threading.Lock()
        self._done.acquire()
        self.task: asyncio.Task[None] | None = None
        self._has_begun = False
        self.ended: Ended[T] | None = None

    # On the portal's loop.

    def start(self) -> None:
        """Begin, unless that was done or has become pointless."""
        if self.task is None and self.ended is None:
            self.task = start_task(self._loop, self._run(), self._context)

    def cancel(self) -> None:
        """Have the coroutine cancelled, once."""
        if self.task is None:
            self.give_up(asyncio.CancelledError())
        elif self._has_begun:
            self.task.cancel()
        else:
            # A task that is cancelled before its first step never takes it, and tells nobody.
            self._loop.call_soon(self.cancel)

    async def _run(self) -> None:
        self._has_begun = True
        self._end(await value_of_awaited(self._coroutine))

    # In any thread.

    def wait(self) -> None:
        """Return once it has ended; an interrupt may strike here, and waiting again is allowed."""
        while self.ended is None:
            self._done.acquire()

    def take(self) -> Ended[T]:
        """How it ended, after the wait. The frames in an error's traceback hold no more of it."""
        ended, self.ended = self.ended, None
        assert ended is not None
        return ended

    def give_up(self, error: BaseException) -> None:
        """It never ran, and never will."""
        if self.ended is None:
            if self.task is None:
                self._coroutine.close()
            self._end(Raised(error))

    def _end(self, ended: Ended[T]) -> None:
        self.ended = ended
        with contextlib.suppress(RuntimeError):  # it was given up in this very moment
            self._done.release()


class Portal:
    """A thread that runs an event loop."""

    def __init__(self, name: str = "deferrable-portal") -> None:
        self._loop = own_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._handovers: set[_Handover[Any]] = set()
        self._steps: deque[Callable[[], object]] = deque()
        self._is_woken = False
        self._is_stopping = False
        try:
            self._thread.start()
        except RuntimeError:  # Python does not start threads any more
            self._loop.close()
            raise
        self.thread_id = self._thread.ident

    def run(
        self,
        coroutine: Coroutine[Any, Any, T],
        undo: Callable[[T], Coroutine[Any, Any, object]] | None = None,
    ) -> T:
        """Run a coroutine on the portal's loop and wait for it in this thread.

        An interrupt (Ctrl-C, or whatever a signal handler raises) has the coroutine cancelled, and
        is raised when that has ended.

        Args:
            undo: makes the coroutine that takes back a result that an interrupt leaves unclaimed.

        Raises:
            BaseException: what the coroutine raised.
            SystemExit: the process is exiting, and this is not its main thread.
        """
        ended, interrupt = self.end_of(coroutine)
        if interrupt is not None:
            if undo is not None and isinstance(ended, Returned):
                self.end_of(undo(ended.value), is_cancelled_by_interrupt=False)
            raise interrupt
        try:
            return unwrap(ended)
        finally:
            del ended  # an error's traceback holds this frame

    def end_of(
        self, coroutine: Coroutine[Any, Any, T], *, is_cancelled_by_interrupt: bool = True
    ) -> tuple[Ended[T], BaseException | None]:
        """Run a coroutine to its end, also when an interrupt strikes the wait.

        A second interrupt is raised at once and leaves the coroutine to itself.

        Returns:
            how the coroutine ended, and the interrupt, which is for the caller to raise.
        """
        handover = _Handover(self._loop, coroutine)
        self._handovers.add(handover)
        interrupt = None
        try:
            self._hand_over(handover, handover.start)
            handover.wait()
        except BaseException as error:
            interrupt = error
            # Whether it was started before the interrupt is not known; starting twice is harmless.
            then = handover.cancel if is_cancelled_by_interrupt else handover.start
            self._hand_over(handover, then)
            handover.wait()
        finally:
            self._handovers.discard(handover)
        ended = handover.take()
        if self._is_stopping and _is_cancelled(ended):
            return Raised(SystemExit(_EXITING)), interrupt
        return ended, interrupt

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call something short on the portal's loop, without waiting for it."""
        with contextlib.suppress(RuntimeError):  # it was stopped
            self._tell(partial(copy_context().run, callback))

    def has_loop(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether `loop` is the portal's."""
        return loop is self._loop

    def stop(self) -> None:
        """Cancel what still runs, close what the loop has open, and end the thread."""
        self._is_stopping = True
        self.call_soon(self._loop.stop)
        self._thread.join(_STOP_SECONDS)

    def _hand_over(self, handover: _Handover[T], step: Callable[[], None]) -> None:
        try:
            self._tell(step)
        except RuntimeError:
            self._give_up_all()  # as others may have relied on this very wake-up

    def _give_up_all(self) -> None:
        for handover in list(self._handovers):
            handover.give_up(SystemExit(_EXITING))

    def _tell(self, step: Callable[[], object]) -> None:
        """Have the loop take a step, after those that it was told before.

        Waking the loop is a system call, which lets go of the interpreter's lock: when many threads
        come at once, the first one wakes it for all.

        Raises:
            RuntimeError: it is closed.
        """
        self._steps.append(step)
        if self._is_woken:
            return
        try:
            self._is_woken = True
            self._loop.call_soon_threadsafe(self._take_steps)
        except BaseException:
            # An interrupt, perhaps right before the call, on which others may rely already.
            self._is_woken = False
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._take_steps)
            raise

    def _take_steps(self) -> None:
        self._is_woken = False  # first: who comes while these are taken wakes it again
        try:
            # No more than there are now: callers that are served at once come again at once, and
            # the loop has other work.
            for _ in range(len(self._steps)):
                self._steps.popleft()()
        except BaseException:
            # asyncio reports it; the others go on.
            self._loop.call_soon(self._take_steps)
            raise

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._is_stopping:
            # A task of the user's own that raises SystemExit or KeyboardInterrupt makes asyncio
            # leave the loop; whoever awaits the task sees it. The portal goes on.
            value_of(self._loop.run_forever)
        value_of(_finish, self._loop, list(self._handovers))
        self._loop.close()
        self._is_woken = False  # or somebody would rely on a wake-up that was never heeded
        self._give_up_all()


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _is_cancelled(ended: Ended[Any]) -> bool:
    return isinstance(ended, Raised) and isinstance(ended.error, asyncio.CancelledError)


def _finish(loop: asyncio.AbstractEventLoop, handovers: Iterable[_Handover[Any]]) -> None:
    loop.run_until_complete(asyncio.sleep(0))  # what was handed over takes its first step
    # The callers' coroutines come first: each cancels what it has started itself, and a job that
    # was cancelled twice could not await its cleanup.
    tasks = {handover.task for handover in handovers if handover.task is not None}
    while tasks := (tasks & asyncio.all_tasks(loop)) or asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.wait(tasks))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())


class _ExitPortal(Portal):
    """Serves what is called while the process exits, when no thread can be started any more.

    Each call has a loop of its own, in the thread that calls.

    Args:
        serves_threads: non-daemon threads work still, after the end of the main one. Once the
            at-exit handlers run, only their thread is served.
    """

    def __init__(self, *, serves_threads: bool) -> None:
        self.thread_id = None
        self._serves_threads = serves_threads

    def end_of(
        self, coroutine: Coroutine[Any, Any, T], *, is_cancelled_by_interrupt: bool = True
    ) -> tuple[Ended[T], BaseException | None]:
        is_served = self._serves_threads or _is_main_thread()
        if not is_served or asyncio._get_running_loop() is not None:
            coroutine.close()
            return Raised(
                CalledFromEventLoop(_ON_LOOP) if is_served else SystemExit(_EXITING)
            ), None
        with asyncio.Runner(loop_factory=own_loop) as runner:
            return value_of(runner.run, coroutine), None

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Nothing runs beside a call any more."""


class _OnePerProcess:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._portal: Portal | None = None
        self._is_stopped = False
        on_fork(self._start_anew)

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
        return running is not None and running.has_loop(loop)

    def stop(self) -> None:
        self._is_stopped = True
        running, self._portal = self._portal, None
        if running is not None:
            running.stop()

    def _start_anew(self) -> None:
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
