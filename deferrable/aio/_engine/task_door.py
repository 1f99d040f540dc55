"""The ways to run a job on a loop: in the attempt's own task, and in a thread.

Owns how a running job is stopped, what its time limit does, and how its end comes back. The third
way, in the thread of a caller that blocks, is in `deferrable.sync._door`.

The one rule: a cancellation of the attempt's task is meant for the job, while that runs; nothing
else is cancelled by it, unless somebody ends the loop.
"""

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any, ClassVar, TypeVar

import anyio
import anyio.to_thread

from deferrable._ended import Ended, Raised, Returned, value_of
from deferrable._portal import NO_THREADS, is_out_of_threads
from deferrable.aio._contract.tasks import until_done
from deferrable.aio._engine.keeper import keeper
from deferrable.aio._engine.running import AwaitingDoor, Control, NotStarted, Run, in_context
from deferrable.aio.clock import Timer
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Queue

__all__ = ["TaskDoor", "run_in_task"]

T = TypeVar("T")

_UNSET = object()


class TaskDoor(AwaitingDoor):
    """The door of an attempt that runs in its own task.

    While its job runs, the task is cancelled only to stop the job, or by the end of the loop.

    Args:
        context: in which the task runs.
        is_ending: whether somebody ends the loop, and so cancels all its tasks.

    Attributes:
        limiter: of the threads of plain jobs; None: as many as anyio has for the whole process.
    """

    __slots__ = ("_context", "_is_ending", "limiter")
    exits_are_failures = False

    def __init__(
        self,
        context: Context,
        is_ending: Callable[[], bool],
        limiter: anyio.CapacityLimiter | None = None,
    ) -> None:
        self._context = context
        self._is_ending = is_ending
        self.limiter = limiter

    def finish(self, start: Callable[[], Coroutine[Any, Any, T]]) -> Coroutine[Any, Any, T]:
        return start()

    def call(
        self, context: Context | None, function: Callable[..., Any], *args: Any
    ) -> Coroutine[Any, Any, Ended[Any]]:
        # The task's own context is entered already.
        return super().call(None if context is self._context else context, function, *args)

    def consume(
        self, context: Context, function: Callable[..., Any], value: object
    ) -> Coroutine[Any, Any, Ended[Any]]:
        return self.call(context, function, value)

    def keep(
        self, queue: Queue, envelope: Envelope, on_lost: Callable[[], None]
    ) -> Callable[[], object]:
        loop = asyncio.get_running_loop()
        leases = keeper(loop)
        leases.keep(queue, envelope, on_lost, loop)
        return partial(leases.let_go, queue, envelope)

    def run(self, run: Run) -> Coroutine[Any, Any, Ended[Any]]:
        if run.is_async:
            return run_in_task(run, run, self._is_ending, self._note_end)
        return self._run_plain(run)

    def end_job(self) -> None:
        """Nobody counts slots."""

    def keeps_for(self, seconds: float) -> bool:
        return False

    _note_end: ClassVar[Callable[..., None] | None] = None
    """Called when a job has ended, and is not settled yet."""

    async def _run_plain(self, run: Run) -> Ended[Any]:
        # A thread will be inside its context; the task's own is entered already.
        context = self._context.copy()
        ended = await self._run_in_thread(run, context)
        _take_over(context)
        if isinstance(ended, Returned) and inspect.iscoroutine(ended.value):
            # A plain callable around an async one: its result is the job.
            coroutine = ended.value
            try:
                return await run_in_task(
                    run, lambda: in_context(context, coroutine), self._is_ending, self._note_end
                )
            finally:
                coroutine.close()  # if it was cancelled before its first step
        return ended

    async def _run_in_thread(self, run: Run, context: Context) -> Ended[Any]:
        run.note_deadline()
        ending = _call_in_thread(partial(value_of, context.run, run), self.limiter)
        reports: list[asyncio.Task[None]] = []

        def report() -> None:
            run.log_overrun()
            reports.append(asyncio.get_running_loop().create_task(run.on_overrun()))

        timer = start_timer(run, report)
        try:
            if await until_done(ending) is not None:
                run.control.stop("cancelled")
        finally:
            if timer is not None:
                timer.cancel()
        for reporting in reports:
            await until_done(reporting)
        return ending.result()


async def run_in_task(
    run: Run,
    start: Callable[[], Awaitable[Any]],
    is_ending: Callable[[], bool],
    note_end: Callable[[], object] | None = None,
) -> Ended[Any]:
    """Run an async job in the running task.

    Args:
        start: begins it.
        is_ending: whether somebody ends the loop, and so cancels all its tasks.
        note_end: called when it has ended, or will never begin.
    """
    control, task = run.control, asyncio.current_task()
    assert task is not None
    task.set_name(run.job_name)
    if control.reason is not None:
        if note_end is not None:
            note_end()
        return Raised(NotStarted())
    control.attach(partial(_cancel_job, task, control))
    timer: Timer | None = None
    if run.timeout_seconds is not None:
        run.note_deadline()
        timer = start_timer(run, partial(control.stop, "timed out"))
    ended: Ended[Any]
    try:
        ended = Returned(await start())
    except BaseException as error:
        if issubclass(type(error), GeneratorExit) and not _is_loop_running():
            raise  # the loop has ended, and nothing can be awaited any more
        ended = Raised(error)
    finally:
        control.detach()
        if note_end is not None:
            note_end()
        if timer is not None:
            timer.cancel()
    try:
        if task.cancelling():
            await _handle_cancellations(task, control, ended, is_ending)
        return ended if timer is None else as_timeout(run, ended)
    finally:
        # An error's traceback holds this frame, and the task will hold the error.
        del ended, task


async def _handle_cancellations(
    task: asyncio.Task[Any], control: Control, ended: Ended[Any], is_ending: Callable[[], bool]
) -> None:
    """The task was cancelled while its job ran."""
    if is_ending():
        control.note_cancelled()
    else:
        with suppress(asyncio.CancelledError):
            # If a job cancels itself and does not wait, the cancellation strikes at the next await.
            await asyncio.sleep(0)
    # It was meant for the job, which reacted to it or not; not for the settlement.
    while task.uncancel():
        pass


def _call_in_thread(
    call: Callable[[], Ended[Any]], limiter: anyio.CapacityLimiter | None
) -> asyncio.Future[Ended[Any]]:
    """Make `call` in a worker thread. The future is done when the call has ended, and not before.

    A loop that shuts down cancels every task, also one that waits for the thread, while the thread
    goes on. The future is not a task, so it is not cancelled.
    """
    loop = asyncio.get_running_loop()
    ending: asyncio.Future[Ended[Any]] = loop.create_future()
    start = threading.Lock()  # The first to acquire it decides whether the call is made.
    # Emptied by the thread: an error's traceback holds the frame of `work`, which must not hold the
    # future that holds the error.
    endings = [ending]

    def work() -> None:
        if start.acquire(blocking=False):
            ended = call()
            try:
                loop.call_soon_threadsafe(endings.pop().set_result, ended)
            except RuntimeError:
                pass  # the loop was closed without waiting
            finally:
                del ended

    def stop_waiting(waiting: asyncio.Task[None]) -> None:
        if ending.done() or not start.acquire(blocking=False):
            return
        if waiting.cancelled():
            ending.set_result(Raised(NotStarted()))
        else:
            ending.set_exception(_why_not_called(waiting.exception()))

    running = anyio.to_thread.run_sync(work, limiter=limiter)
    loop.create_task(running).add_done_callback(stop_waiting)
    return ending


def _why_not_called(error: BaseException | None) -> BaseException:
    if not is_out_of_threads(error):
        return error or RuntimeError("the thread ended early")
    explained = RuntimeError(
        f"a plain job cannot run here: {NO_THREADS}; or make it an async job. Its item comes back "
        "after its lease"
    )
    explained.__cause__ = error
    return explained


def _take_over(context: Context) -> None:
    """Set here what a job has set in its own context, so that event handlers see it."""
    for variable, value in context.items():
        if variable.get(_UNSET) is not value:
            variable.set(value)


def _cancel_job(task: asyncio.Task[Any], control: Control) -> bool:
    if not task.cancelling():  # as it is when the loop is being shut down
        task.cancel(control.reason)
    return True


def _is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def start_timer(run: Run, callback: Callable[[], None]) -> Timer | None:
    """Call `callback` when the job's time is over; None: it has no limit."""
    if run.timeout_seconds is None:
        return None
    return run.clock.call_later(run.timeout_seconds, callback)


def as_timeout(run: Run, ended: Ended[Any]) -> Ended[Any]:
    """How a job ended; a TimeoutError if it was cancelled because its time was over."""
    if not run.control.has_cancelled("timed out") or not _is_cancellation(ended):
        return ended
    assert isinstance(ended, Raised)
    error = TimeoutError(f"the job ran longer than its timeout_seconds={run.timeout_seconds}")
    error.__cause__ = ended.error
    return Raised(error)


def _is_cancellation(ended: Ended[Any]) -> bool:
    # By its true class: a user's error may name another one, or raise when it is asked.
    return isinstance(ended, Raised) and issubclass(type(ended.error), asyncio.CancelledError)
