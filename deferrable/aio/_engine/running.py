"""The door: who waits and who runs plain callables, on behalf of the engine.

Owns the protocol of a door, and the awaiting door, behind which everything happens on the running
loop, but for plain jobs, which run in a worker thread. It may not know what is done or decided. The
engine's coroutines use no asyncio primitive themselves, so that another door can drive them in a
thread without a loop: `deferrable.sync._door`, which this package never imports.

The one rule: what user code did comes back as a value, and a running job is told to stop only once.
"""

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, cast

import anyio
import anyio.to_thread

from deferrable import _blocking
from deferrable._ended import Ended, Raised, Returned, value_of, value_of_awaited
from deferrable.aio._contract.tasks import until_done
from deferrable.aio._engine.heartbeat import Heartbeat
from deferrable.aio.clock import Clock, Timer
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Queue
from deferrable.item import Item, id_text

__all__ = [
    "AwaitingDoor",
    "BlockingDoor",
    "Control",
    "Door",
    "NotStarted",
    "Run",
    "StopReason",
    "as_timeout",
    "blocking_door",
    "in_context",
    "name_of_attempt",
    "start_timer",
]

T = TypeVar("T")

_logger = logging.getLogger("deferrable")

StopReason: TypeAlias = Literal["cancelled", "lease lost", "timed out"]


class Control:
    """What may end a job before it ends itself, from outside of it.

    The first reason counts; a job is cancelled once, so that its cleanup may await.

    Attributes:
        reason: why the job is to stop; None: it is not.
        deadline_time: when its time limit ends, in epoch seconds; None: it has none, or has not
            started.
    """

    __slots__ = ("_cancel", "_has_cancelled", "deadline_time", "reason")

    def __init__(self) -> None:
        self.reason: StopReason | None = None
        self.deadline_time: float | None = None
        self._cancel: Callable[[], bool] | None = None
        self._has_cancelled = False

    def stop(self, reason: StopReason) -> None:
        """Have the job stop, if it can; called on the loop on which an async job runs."""
        if self.reason is None:
            self.reason = reason
            if self._cancel is not None:
                self._has_cancelled = self._cancel()

    def attach(self, cancel: Callable[[], bool]) -> None:
        """Say how the job is cancelled, now that it runs. It is at once if it was to stop.

        Args:
            cancel: returns whether that is how the job ends; False if it has ended otherwise.
        """
        self._cancel = cancel
        if self.reason is not None:
            self._has_cancelled = cancel()

    def has_cancelled(self, reason: StopReason) -> bool:
        """Whether an async job was cancelled, and for this reason."""
        return self._has_cancelled and self.reason == reason

    def detach(self) -> None:
        """The job has ended."""
        self._cancel = None

    def note_cancelled(self) -> None:
        """The job was cancelled by whoever ends its loop."""
        if self.reason is None:
            self.reason = "cancelled"
            self._has_cancelled = True


class NotStarted(Exception):
    """How a job ended that was to stop before it could start."""


def name_of_attempt(job_name: str, item: Item) -> str:
    """What logs call an attempt."""
    return f"{job_name} (item {id_text(item)})"


@dataclass(slots=True)  # Not frozen, which costs each job 1.5 µs; nobody changes it.
class Run:
    """A job to be run.

    Attributes:
        function: what is called with `args` and `kwargs`.
        is_async: whether it is a coroutine function.
        context: what it sees; plain functions run inside it, async ones in a copy.
        timeout_seconds: when it is stopped (an async one) or reported (a plain one).
        on_overrun: awaited once when a plain function is over its time.
        control: what may stop it meanwhile.
        clock: what the time limit is measured by.
        job_name: of the job, for whoever looks at tasks.
        item: whose job it is.
    """

    function: Callable[..., Any]
    is_async: bool
    args: tuple[Any, ...] = field(repr=False)
    kwargs: dict[str, Any] = field(repr=False)
    context: Context
    timeout_seconds: float | None
    on_overrun: Callable[[], Coroutine[Any, Any, None]]
    control: Control
    clock: Clock
    job_name: str
    item: Item

    def __call__(self) -> Any:
        return self.function(*self.args, **self.kwargs)

    @property
    def name(self) -> str:
        """Of the job and its item, for logs."""
        return name_of_attempt(self.job_name, self.item)

    def note_deadline(self) -> None:
        """The job starts now; from now on it may know until when it may run."""
        if self.timeout_seconds is not None:
            self.control.deadline_time = self.clock.time() + self.timeout_seconds

    def log_overrun(self) -> None:
        """Say that a plain function is over its time; the event may have to wait for its end."""
        _logger.warning(
            "%s runs for longer than its timeout_seconds=%s; a plain function cannot be stopped, "
            "and its item's lease is kept",
            self.name,
            self.timeout_seconds,
        )


class Door(Protocol):
    """What the engine's coroutines need from whoever drives them.

    Attributes:
        exits_are_failures: a SystemExit or KeyboardInterrupt that a job raises is its own failure;
            else it is the caller's, and the item is released.
    """

    exits_are_failures: bool

    def here(self, queue: Queue) -> Queue:
        """The queue as this door pushes onto it."""
        ...

    def wait(
        self, waiting: Coroutine[Any, Any, T], *, needs_loop: bool = True
    ) -> Coroutine[Any, Any, T]:
        """Wait for I/O. A cancellation of the caller reaches it.

        Args:
            needs_loop: False: it never suspends; see `deferrable.aio.queue.without_loop`.
        """
        ...

    async def finish(self, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Wait for I/O that must reach its end. A cancellation is raised only afterwards.

        Args:
            start: begins it; a door that tries again what the broker did not take calls it again.
        """
        ...

    async def call(
        self, context: Context | None, function: Callable[..., Any], *args: Any
    ) -> Ended[Any]:
        """Call a short callable of the user's, plain or async, inside `context` (None: here)."""
        ...

    async def consume(
        self, context: Context, function: Callable[..., Any], value: object
    ) -> Ended[Any]:
        """Have a metadata consumer called inside `context`, now or right before the job."""
        ...

    def run(self, run: Run) -> Coroutine[Any, Any, Ended[Any]]:
        """Run a job to its end."""
        ...

    def start_heartbeat(
        self, queue: Queue, envelope: Envelope, on_lost: Callable[[], None]
    ) -> Callable[[], None]:
        """Keep the item's lease beside what follows; returns what stops that.

        Args:
            on_lost: called once, on the loop on which async jobs run, when it is found lost.
        """
        ...

    def is_being_cancelled(self) -> bool:
        """Whether somebody outside asked for the caller to be cancelled."""
        ...


class AwaitingDoor:
    """Everything on the running loop; plain jobs in a worker thread.

    Attributes:
        limiter: how many threads there are; None: as many as anyio has for the whole process.
    """

    __slots__ = ()
    exits_are_failures = False
    limiter: anyio.CapacityLimiter | None = None

    def here(self, queue: Queue) -> Queue:
        return queue

    def wait(
        self, waiting: Coroutine[Any, Any, T], *, needs_loop: bool = True
    ) -> Coroutine[Any, Any, T]:
        return waiting

    async def finish(self, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        finishing = asyncio.get_running_loop().create_task(start())
        cancellation = await until_done(finishing)
        try:
            result = finishing.result()
            if cancellation is not None:
                raise cancellation
            return result
        finally:
            del finishing, cancellation  # an error's traceback holds this frame

    async def call(
        self, context: Context | None, function: Callable[..., Any], *args: Any
    ) -> Ended[Any]:
        ended = (
            value_of(function, *args) if context is None else value_of(context.run, function, *args)
        )
        try:
            if isinstance(ended, Raised) or not inspect.isawaitable(ended.value):
                return ended
            awaited = ended.value if context is None else in_context(context, ended.value)
        finally:
            del ended  # an error's traceback holds this frame
        return await value_of_awaited(awaited)

    async def consume(
        self, context: Context, function: Callable[..., Any], value: object
    ) -> Ended[Any]:
        return await self.call(context, function, value)

    def run(self, run: Run) -> Coroutine[Any, Any, Ended[Any]]:
        return self._run_async(run, run) if run.is_async else self._run_plain(run)

    async def _run_plain(self, run: Run) -> Ended[Any]:
        ended = await self._run_in_thread(run)
        if isinstance(ended, Returned) and inspect.iscoroutine(ended.value):
            # A plain callable around an async one: what it returned is the job.
            coroutine = ended.value
            try:
                return await self._run_async(run, lambda: coroutine)
            finally:
                coroutine.close()  # if it was cancelled before its first step
        return ended

    def start_heartbeat(
        self, queue: Queue, envelope: Envelope, on_lost: Callable[[], None]
    ) -> Callable[[], None]:
        heartbeat = Heartbeat(queue, envelope, on_lost)
        heartbeat.start()
        return heartbeat.stop

    def is_being_cancelled(self) -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    async def _run_async(self, run: Run, start: Callable[[], Awaitable[Any]]) -> Ended[Any]:
        async def job() -> Ended[Any]:
            # Whatever the job raises is caught inside its own task: a SystemExit or
            # KeyboardInterrupt that leaves a task ends the loop with it.
            try:
                return Returned(await start())
            except BaseException as error:
                return Raised(error)

        run.note_deadline()
        task = asyncio.get_running_loop().create_task(
            job(), name=run.name, context=run.context.copy()
        )
        run.control.attach(partial(_cancel_once, task, run.control))
        timer = start_timer(run, partial(run.control.stop, "timed out"))
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            run.control.stop("cancelled")
            await until_done(task)
        finally:
            run.control.detach()
            if timer is not None:
                timer.cancel()
        if task.cancelled():  # before its first step
            return Raised(asyncio.CancelledError())
        return as_timeout(run, task.result())

    async def _run_in_thread(self, run: Run) -> Ended[Any]:
        run.note_deadline()
        # The context is entered by nobody else while the thread is inside it.
        ending = _call_in_thread(partial(value_of, run.context.run, run), self.limiter)
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


def _call_in_thread(
    call: Callable[[], Ended[Any]], limiter: anyio.CapacityLimiter | None
) -> asyncio.Future[Ended[Any]]:
    """Have `call` made in a worker thread; the future is done when it has ended, and not before.

    A loop that is being shut down cancels every task, the one that waits for the thread too, while
    the thread goes on. The future is no task.
    """
    loop = asyncio.get_running_loop()
    ending: asyncio.Future[Ended[Any]] = loop.create_future()
    start = threading.Lock()  # Who acquires it first decides whether the call is made.
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
            ending.set_exception(waiting.exception() or RuntimeError("the thread ended early"))

    running = anyio.to_thread.run_sync(work, limiter=limiter)
    loop.create_task(running).add_done_callback(stop_waiting)
    return ending


def _cancel_once(job: asyncio.Task[Ended[Any]], control: Control) -> bool:
    if job.done():
        return job.cancelled() or _is_cancellation(job.result())
    if not job.cancelling():  # as it is when the loop is being shut down
        job.cancel(control.reason)
    return True


def _is_cancellation(ended: Ended[Any]) -> bool:
    # By its true class: a user's error may say another one, or raise when it is asked.
    return isinstance(ended, Raised) and issubclass(type(ended.error), asyncio.CancelledError)


def start_timer(run: Run, callback: Callable[[], None]) -> Timer | None:
    """Have `callback` called when the job's time is over; None: it has no limit."""
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


class _InContext:
    """Steps a coroutine inside a context, without giving the context to a task."""

    def __init__(self, context: Context, awaitable: Awaitable[Any]) -> None:
        self._context = context
        self._awaitable = awaitable

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._context.run(self._awaitable.__await__)
        step = partial(_send, steps, None)
        while True:
            try:
                future = self._context.run(step)
            except StopIteration as returned:
                return returned.value
            try:
                sent = yield future
            except BaseException as error:
                step = partial(_throw, steps, error)
            else:
                step = partial(_send, steps, sent)


def _send(steps: Any, value: Any) -> Any:
    return next(steps) if value is None else steps.send(value)


def _throw(steps: Any, error: BaseException) -> Any:
    throw = getattr(steps, "throw", None)
    if throw is None:
        raise error
    return throw(error)


async def in_context(context: Context, awaitable: Awaitable[T]) -> T:
    """Await something inside a context; what it sets there stays set."""
    result: T = await _InContext(context, awaitable)
    return result


class BlockingDoor(Protocol):
    """What serves a caller that cannot await."""

    def drive(self, make: Callable[[Door], Coroutine[Any, Any, T]], instead: str) -> T:
        """Run the engine's coroutine that `make` makes, in this thread.

        Raises:
            CalledFromEventLoop: this is the portal's own thread; names `instead`.
        """
        ...


def blocking_door() -> BlockingDoor:
    """The door for callers that cannot await, as the package's own ``__init__`` registered it."""
    return cast(BlockingDoor, _blocking.load())
