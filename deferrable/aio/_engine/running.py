"""The door: who waits and who calls, on behalf of the engine.

Owns the protocols of a door, what stops a job from outside, and the door of a caller that awaits.
The engine's coroutines use no asyncio primitive themselves, so that another door can drive them in
a thread without a loop: `deferrable.sync._door`, which this package never imports. How an
attempt's job is run is in `deferrable.aio._engine.task_door`.

The one rule: what user code did comes back as a value, and a running job is stopped only
once.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, cast

from deferrable import _blocking
from deferrable._ended import Ended, Raised, value_of, value_of_awaited
from deferrable.aio._contract.tasks import until_done
from deferrable.aio.clock import Clock
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Queue
from deferrable.item import Item, id_text

__all__ = [
    "AttemptDoor",
    "AwaitingDoor",
    "Driver",
    "Control",
    "Door",
    "NotStarted",
    "Run",
    "StopReason",
    "blocking_driver",
    "in_context",
    "name_of_attempt",
]

T = TypeVar("T")

_logger = logging.getLogger("deferrable")

StopReason: TypeAlias = Literal["cancelled", "lease lost", "timed out", "call cancelled"]


class Control:
    """Stops a job from outside.

    The first reason counts. A job is cancelled once, so that its cleanup may await.

    Attributes:
        reason: why the job must stop; None: it need not.
        deadline_time: when its time limit ends, in epoch seconds; None: it has none, or has not
            started.
        job_name: of the job, once it was found.
    """

    __slots__ = ("_cancel", "_has_cancelled", "deadline_time", "job_name", "reason")

    def __init__(self) -> None:
        self.job_name: str | None = None
        self.reason: StopReason | None = None
        self.deadline_time: float | None = None
        self._cancel: Callable[[], bool] | None = None
        self._has_cancelled = False

    def stop(self, reason: StopReason) -> None:
        """Stop the job, if possible; called on the loop on which an async job runs."""
        if self.reason is None:
            self.reason = reason
            if self._cancel is not None:
                self._has_cancelled = self._cancel()

    def attach(self, cancel: Callable[[], bool]) -> None:
        """Set how the job is cancelled, now that it runs. Cancel it now if it must stop already.

        Args:
            cancel: returns whether it ended the job; False if the job has ended otherwise.
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

    def note_lost(self) -> None:
        """Another consumer has the item, whatever stopped the job before; the job ends itself."""
        self.reason = "lease lost"

    def note_cancelled(self) -> None:
        """The job was cancelled because its loop ends."""
        if self.reason is None:
            self.reason = "cancelled"
            self._has_cancelled = True


class NotStarted(Exception):
    """The end of a job that had to stop before it could start."""


def name_of_attempt(job_name: str, item: Item) -> str:
    """The name of an attempt in logs."""
    return f"{job_name} (item {id_text(item)})"


@dataclass(slots=True)  # Not frozen, which costs each job 1.5 µs; nobody changes it.
class Run:
    """A job to run.

    Attributes:
        function: what is called with `args` and `kwargs`.
        is_async: whether it is a coroutine function.
        context: what it sees.
        timeout_seconds: when it is stopped (an async one) or reported (a plain one).
        on_overrun: awaited once when a plain function is over its time.
        control: may stop it meanwhile.
        clock: measures the time limit.
        job_name: of the job, for tools that show tasks.
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
        """The job starts now, and so does its time limit."""
        if self.timeout_seconds is not None:
            self.control.deadline_time = self.clock.time() + self.timeout_seconds

    def log_overrun(self) -> None:
        """Report that a plain function is over its time; the event may have to wait for its end."""
        _logger.warning(
            "%s runs for longer than its timeout_seconds=%s; a plain function cannot be stopped, "
            "and its item's lease is kept",
            self.name,
            self.timeout_seconds,
        )


class Door(Protocol):
    """What the engine's coroutines need from the code that drives them."""

    def here(self, queue: Queue) -> Queue:
        """The queue to which this door pushes."""
        ...

    def wait(
        self, waiting: Coroutine[Any, Any, T], *, needs_loop: bool = True
    ) -> Coroutine[Any, Any, T]:
        """Wait for I/O. A cancellation of the caller reaches it.

        Args:
            needs_loop: False: it never suspends; see `deferrable.aio.queue.without_loop`.
        """
        ...

    def finish(self, start: Callable[[], Coroutine[Any, Any, T]]) -> Coroutine[Any, Any, T]:
        """Wait for I/O that must reach its end. A cancellation is raised only afterwards.

        Args:
            start: begins it; a door that retries a refused settlement calls it again.
        """
        ...

    def call(
        self, context: Context | None, function: Callable[..., Any], *args: Any
    ) -> Coroutine[Any, Any, Ended[Any]]:
        """Call a short callable of the user, plain or async, inside `context` (None: here)."""
        ...

    def is_being_cancelled(self) -> bool:
        """Whether somebody outside asked for the caller to be cancelled."""
        ...


class AttemptDoor(Door, Protocol):
    """What an attempt needs in addition.

    Attributes:
        exits_are_failures: a SystemExit or KeyboardInterrupt of a job is a failure of the job; if
            False, it ends the caller, and the item is released.
    """

    exits_are_failures: bool

    def consume(
        self, context: Context, function: Callable[..., Any], value: object
    ) -> Coroutine[Any, Any, Ended[Any]]:
        """Call a metadata consumer inside `context`, now or right before the job."""
        ...

    def run(self, run: Run) -> Coroutine[Any, Any, Ended[Any]]:
        """Run a job to its end."""
        ...

    def end_job(self) -> None:
        """The job has ended, or will not begin: only I/O follows, which needs no slot."""
        ...

    def keeps_for(self, seconds: float) -> bool:
        """Whether the item stays here, in flight, and runs again in `seconds`.

        Its group waits meanwhile. If not, the broker delivers it again.
        """
        ...

    def keep(
        self, queue: Queue, envelope: Envelope, on_lost: Callable[[], None]
    ) -> Callable[[], object]:
        """Keep the item's lease during the next steps; return the function that ends this.

        Args:
            on_lost: called once, on the loop on which async jobs run, when it is found lost.
        """
        ...


class AwaitingDoor:
    """Everything on the running loop, in the task of the caller."""

    __slots__ = ()

    def here(self, queue: Queue) -> Queue:
        return queue

    def wait(
        self, waiting: Coroutine[Any, Any, T], *, needs_loop: bool = True
    ) -> Coroutine[Any, Any, T]:
        return waiting

    def finish(self, start: Callable[[], Coroutine[Any, Any, T]]) -> Coroutine[Any, Any, T]:
        return _finish(start)

    def call(
        self, context: Context | None, function: Callable[..., Any], *args: Any
    ) -> Coroutine[Any, Any, Ended[Any]]:
        return _call(context, function, *args)

    def is_being_cancelled(self) -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0


async def _finish(start: Callable[[], Coroutine[Any, Any, T]]) -> T:
    finishing = asyncio.get_running_loop().create_task(start())
    cancellation = await until_done(finishing)
    try:
        result = finishing.result()
        if cancellation is not None:
            raise cancellation
        return result
    finally:
        del finishing, cancellation  # an error's traceback holds this frame


async def _call(context: Context | None, function: Callable[..., Any], *args: Any) -> Ended[Any]:
    ended = value_of(function, *args) if context is None else value_of(context.run, function, *args)
    try:
        if isinstance(ended, Raised) or not inspect.isawaitable(ended.value):
            return ended
        awaited = ended.value if context is None else in_context(context, ended.value)
    finally:
        del ended  # an error's traceback holds this frame
    return await value_of_awaited(awaited)


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
    """Await something inside a context; variables that it sets there stay set."""
    result: T = await _InContext(context, awaitable)
    return result


class Driver(Protocol):
    """Serves callers that cannot await."""

    def drive(self, make: Callable[[AttemptDoor], Coroutine[Any, Any, T]], instead: str) -> T:
        """Run the engine's coroutine that `make` makes, in this thread.

        Raises:
            CalledFromEventLoop: this is the portal's own thread; names `instead`.
        """
        ...


def blocking_driver() -> Driver:
    """The driver for callers that cannot await, which the package's ``__init__`` registered."""
    return cast(Driver, _blocking.load())
