"""A portal: a thread with an event loop, and the way to have something done there.

Owns the thread, its loop, and the hand-over of a coroutine or a call to it. What a portal is for,
and how many there are in a process, its users decide: one serves blocking calls, another one keeps
leases.

The one rule: how a coroutine ended comes back as a value; an interrupt strikes only the caller,
who has the coroutine cancelled and waits for its end.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Generic, TypeVar

from deferrable._ended import Ended, Raised, Returned, unwrap, value_of, value_of_awaited
from deferrable.aio._contract.tasks import start_task
from deferrable.aio.clock import SystemClock

__all__ = ["EXITING", "NO_THREADS", "Portal", "is_out_of_threads", "own_loop"]

T = TypeVar("T")

_STOP_SECONDS = 5.0
"""How long the exit of the process waits for coroutines that ignore their cancellation."""

EXITING = "the process is exiting, and nothing serves blocking calls of other threads any more"

NO_THREADS = (
    "the main thread has ended, and Python starts no threads after that; keep the main thread "
    "alive until this thread has ended, for example by thread.join()"
)


def is_out_of_threads(error: BaseException | None) -> bool:
    """Whether `error` was raised because the main thread has ended: see `NO_THREADS`."""
    if threading.main_thread().is_alive():
        return False
    while error is not None and not isinstance(error, RuntimeError):
        error = error.__cause__ or error.__context__
    return error is not None


def own_loop() -> asyncio.AbstractEventLoop:
    """A new event loop for a thread of this library.

    Its time goes on when a test freezes the time. When Python starts no thread for its executor
    any more, the loop makes the call itself: names are resolved and credentials are read then, too.
    """
    loop = asyncio.new_event_loop()
    run_in_thread = loop.run_in_executor

    def run_in_executor(executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        if executor is not None:
            return run_in_thread(executor, func, *args)
        if threading.main_thread().is_alive():
            with contextlib.suppress(RuntimeError):
                return run_in_thread(None, func, *args)
        # The main thread ends or has ended, and with it every executor.
        return _future_of(value_of(func, *args), loop)

    loop.run_in_executor = run_in_executor  # type: ignore[method-assign, assignment]
    # asyncio's reads `time.monotonic`, which freezegun replaces: no wait would ever end.
    loop.time = SystemClock.monotonic  # type: ignore[method-assign]
    return loop


def _future_of(ended: Ended[T], loop: asyncio.AbstractEventLoop) -> asyncio.Future[T]:
    future = loop.create_future()
    if isinstance(ended, Raised):
        future.set_exception(ended.error)
    else:
        future.set_result(ended.value)
    return future


class _Handover(Generic[T]):
    """A coroutine that was given to the portal, and later how it ended."""

    __slots__ = (
        "_cancel",
        "_context",
        "_coroutine",
        "_done",
        "_has_begun",
        "_loop",
        "ended",
        "task",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, T],
        context: Context | None = None,
        cancel: Callable[[], object] | None = None,
    ) -> None:
        self._loop = loop
        self._coroutine = coroutine
        # The caller's context, even if another thread starts it.
        self._context = copy_context() if context is None else context
        self._cancel = cancel
        self._done = threading.Lock()
        self._done.acquire()
        self.task: asyncio.Task[None] | None = None
        self._has_begun = False
        self.ended: Ended[T] | None = None

    # On the portal's loop.

    def start(self) -> None:
        """Begin, unless it has begun already or nobody needs it any more."""
        if self.task is None and self.ended is None:
            self.task = start_task(self._loop, self._run(), self._context)

    def cancel(self) -> None:
        """Cancel the coroutine, once."""
        if self.task is None:
            self.give_up(asyncio.CancelledError())
        elif self._has_begun:
            (self._cancel or self.task.cancel)()
        else:
            # A task that is cancelled before its first step never takes it, and calls nobody.
            self._loop.call_soon(self.cancel)

    async def _run(self) -> None:
        self._has_begun = True
        self._end(await value_of_awaited(self._coroutine))

    # In any thread.

    def wait(self) -> None:
        """Return once it has ended. An interrupt may arrive here; then wait again."""
        while self.ended is None:
            self._done.acquire()

    def take(self) -> Ended[T]:
        """How it ended, after the wait. Frames in an error's traceback do not hold it any more."""
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
    """A thread that runs an event loop.

    Args:
        name: of the thread.

    Raises:
        RuntimeError: Python starts no threads any more.
    """

    def __init__(self, name: str = "deferrable-portal") -> None:
        self._loop = own_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._handovers: set[_Handover[Any]] = set()
        self._steps: deque[Callable[[], object]] = deque()
        self._is_woken = False
        self._is_stopping = False
        try:
            self._thread.start()
        except RuntimeError:
            self._loop.close()
            raise
        self.thread_id = self._thread.ident

    def run(
        self,
        coroutine: Coroutine[Any, Any, T],
        undo: Callable[[T], Coroutine[Any, Any, object]] | None = None,
    ) -> T:
        """Run a coroutine on the portal's loop and wait for it in this thread.

        An interrupt (Ctrl-C, or an error of a signal handler) cancels the coroutine, and is raised
        when that has ended.

        Args:
            undo: makes the coroutine that takes back a result that an interrupt leaves unclaimed.

        Raises:
            BaseException: the error of the coroutine.
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
        self,
        coroutine: Coroutine[Any, Any, T],
        *,
        is_cancelled_by_interrupt: bool = True,
        context: Context | None = None,
        cancel: Callable[[], object] | None = None,
    ) -> tuple[Ended[T], BaseException | None]:
        """Run a coroutine to its end, also when an interrupt ends the wait.

        A second interrupt is raised at once; the coroutine then goes on alone.

        Args:
            context: in which it runs; None: a copy of the caller's.
            cancel: called on the loop to cancel it; None: its task is cancelled.

        Returns:
            how the coroutine ended, and the interrupt, which the caller must raise.
        """
        handover = _Handover(self._loop, coroutine, context, cancel)
        self._handovers.add(handover)
        interrupt = None
        try:
            self._hand_over(handover, handover.start)
            handover.wait()
        except BaseException as error:
            interrupt = error
            # It is unknown whether it was started before the interrupt; starting twice is allowed.
            then = handover.cancel if is_cancelled_by_interrupt else handover.start
            self._hand_over(handover, then)
            handover.wait()
        finally:
            self._handovers.discard(handover)
        ended = handover.take()
        if self._is_stopping and _is_cancelled(ended):
            return Raised(SystemExit(EXITING)), interrupt
        return ended, interrupt

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Make a short call on the portal's loop, without waiting for it."""
        with contextlib.suppress(RuntimeError):  # it was stopped
            self._add_step(partial(copy_context().run, callback))

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that its thread runs."""
        return self._loop

    def is_ending(self) -> bool:
        """Whether it ends, and so cancels everything that runs."""
        return self._is_stopping

    def end(self) -> None:
        """Cancel running tasks, and close the loop's resources; do not wait for it."""
        self._is_stopping = True
        self.call_soon(self._loop.stop)

    def join(self, seconds: float | None = None) -> None:
        """Wait for the end of the thread."""
        self._thread.join(seconds)

    def stop(self) -> None:
        """End it, and wait for that, but not for ever."""
        self.end()
        self.join(_STOP_SECONDS)

    def _hand_over(self, handover: _Handover[T], step: Callable[[], None]) -> None:
        try:
            self._add_step(step)
        except RuntimeError:
            self._give_up_all()  # because others may have relied on this wake-up

    def _give_up_all(self) -> None:
        for handover in list(self._handovers):
            handover.give_up(SystemExit(EXITING))

    def _add_step(self, step: Callable[[], object]) -> None:
        """Make the loop take a step, after the earlier ones.

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
        self._is_woken = False  # first: callers that arrive while these are taken wake it again
        try:
            # Only the current ones: callers that are served at once come again at once, and the
            # loop has other work.
            for _ in range(len(self._steps)):
                self._steps.popleft()()
        except BaseException:
            # asyncio reports it; the others go on.
            self._loop.call_soon(self._take_steps)
            raise

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._is_stopping:
            # A user's task that raises SystemExit or KeyboardInterrupt makes asyncio leave the
            # loop; the code that awaits the task sees the error. The portal goes on.
            value_of(self._loop.run_forever)
        value_of(_finish, self._loop, list(self._handovers))
        self._loop.close()
        self._is_woken = False  # or a caller would rely on a wake-up that the loop never saw
        self._give_up_all()


def _is_cancelled(ended: Ended[Any]) -> bool:
    return isinstance(ended, Raised) and isinstance(ended.error, asyncio.CancelledError)


def _finish(loop: asyncio.AbstractEventLoop, handovers: Iterable[_Handover[Any]]) -> None:
    loop.run_until_complete(asyncio.sleep(0))  # for the first step of coroutines
    # The callers' coroutines come first: each cancels what it has started itself, and a job that
    # was cancelled twice could not await its cleanup.
    tasks = {handover.task for handover in handovers if handover.task is not None}
    while tasks := (tasks & asyncio.all_tasks(loop)) or asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.wait(tasks))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
