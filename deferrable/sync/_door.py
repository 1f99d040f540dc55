"""The blocking door: the engine's coroutines, driven in the thread that called.

Owns how a caller that cannot await waits: broker I/O and async jobs hop to the portal's thread,
and everything plain is an ordinary call right here. A coroutine of the engine never suspends
behind this door: each of its waits has ended when it returns.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

from deferrable._ended import Ended, Raised, Returned, unwrap, value_of
from deferrable.aio._engine.keeper import keeper
from deferrable.aio._engine.running import AttemptDoor, Run, in_context
from deferrable.aio._engine.task_door import run_in_task
from deferrable.aio.clock import Timer
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Queue, without_loop
from deferrable.errors import CalledFromEventLoop
from deferrable.sync._on_loop import warn_of_blocking
from deferrable.sync._portal import is_portal_loop, is_portal_thread, portal

__all__ = ["BlockingDriver", "refuse_portal_thread"]

T = TypeVar("T")


class BlockingDriver:
    """Drives the engine in the calling thread."""

    def drive(self, make: Callable[[AttemptDoor], Coroutine[Any, Any, T]], instead: str) -> T:
        refuse_portal_thread(instead)
        door = _BlockingDoor()
        coroutine = make(door)
        try:
            coroutine.send(None)
        except StopIteration as returned:
            value: T = returned.value
        except BaseException as error:
            if door.interrupt is None:
                raise
            try:
                raise door.interrupt from error
            finally:
                del door
        else:
            coroutine.close()
            raise RuntimeError(f"{coroutine!r} suspended behind the blocking door")
        try:
            if door.interrupt is not None:
                raise door.interrupt
            return value
        finally:
            del door, value  # an error's traceback holds this frame


class _BlockingDoor:
    """The door of one call, in the thread that made it.

    Attributes:
        interrupt: arrived while a step had to reach its end; it is raised afterwards.
    """

    exits_are_failures = False

    def __init__(self) -> None:
        self.interrupt: BaseException | None = None

    def here(self, queue: Queue) -> Queue:
        return without_loop(queue)

    async def wait(self, waiting: Coroutine[Any, Any, T], *, needs_loop: bool = True) -> T:
        return portal().run(waiting) if needs_loop else await waiting

    async def finish(self, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        ended, interrupt = portal().end_of(start(), is_cancelled_by_interrupt=False)
        self._remember(interrupt)
        return unwrap(ended)

    async def call(
        self, context: Context | None, function: Callable[..., Any], *args: Any
    ) -> Ended[Any]:
        ended = (
            value_of(function, *args) if context is None else value_of(context.run, function, *args)
        )
        try:
            if isinstance(ended, Raised) or not inspect.isawaitable(ended.value):
                return ended
            awaitable = ended.value
        finally:
            del ended  # an error's traceback holds this frame

        async def await_it() -> Any:
            return await (awaitable if context is None else in_context(context, awaitable))

        ended, interrupt = portal().end_of(await_it())
        if interrupt is not None:
            raise interrupt
        return ended

    async def consume(
        self, context: Context, function: Callable[..., Any], value: object
    ) -> Ended[Any]:
        return await self.call(context, function, value)

    async def run(self, run: Run) -> Ended[Any]:
        if run.is_async:
            return self._run_on_portal(run, run)
        return await self._run_here(run)

    def _run_on_portal(self, run: Run, start: Callable[[], Awaitable[Any]]) -> Ended[Any]:
        the_portal = portal()
        ended, interrupt = the_portal.end_of(
            run_in_task(run, start, the_portal.is_ending),
            context=run.context.copy(),
            cancel=partial(run.control.stop, "cancelled"),
        )
        self._remember(interrupt)
        if interrupt is not None and isinstance(ended, Raised):
            return Raised(interrupt)  # it struck before the job began
        return unwrap(ended)

    async def _run_here(self, run: Run) -> Ended[Any]:
        start_time = run.clock.monotonic()
        run.note_deadline()
        stop_watching = _watch(run)
        try:
            ended: Ended[Any] = value_of(run.context.run, run)
        finally:
            stop_watching()
        if isinstance(ended, Returned) and inspect.iscoroutine(ended.value):
            coroutine = ended.value
            try:
                # In the context in which it was made, which this thread has left.
                return self._run_on_portal(run, lambda: in_context(run.context, coroutine))
            finally:
                coroutine.close()  # if it was cancelled before its first step
        limit = run.timeout_seconds
        if limit is not None and run.clock.monotonic() - start_time >= limit:
            # No handler could be called before: this thread was busy with the job.
            await run.on_overrun()
        try:
            return ended
        finally:
            del ended  # an error's traceback holds this frame

    def keep(
        self, queue: Queue, envelope: Envelope, on_lost: Callable[[], None]
    ) -> Callable[[], object]:
        loop = portal().loop
        if loop is None:
            return _hold_nothing  # the process is ending
        leases = keeper(loop)
        leases.keep(queue, envelope, on_lost, loop)
        return partial(leases.let_go, queue, envelope)

    def end_job(self) -> None:
        """Nobody counts slots."""

    def keeps_for(self, seconds: float) -> bool:
        return False

    def is_being_cancelled(self) -> bool:
        return False

    def _remember(self, interrupt: BaseException | None) -> None:
        if interrupt is not None and self.interrupt is None:
            self.interrupt = interrupt


def _hold_nothing() -> None:
    """What lets go an item that is not kept."""


def _watch(run: Run) -> Callable[[], None]:
    """Log when a plain job is over its time; return the function that ends this."""
    limit = run.timeout_seconds
    if limit is None:
        return lambda: None
    the_portal = portal()
    timers: list[Timer] = []
    the_portal.call_soon(lambda: timers.append(run.clock.call_later(limit, run.log_overrun)))
    return lambda: the_portal.call_soon(lambda: timers[0].cancel())


def refuse_portal_thread(instead: str) -> None:
    """Refuse a blocking call where it would wait for itself; warn on any other event loop.

    Args:
        instead: what to write instead.

    Raises:
        CalledFromEventLoop: this is the portal's own thread.
        WrongApi: the result of the call is awaited.
    """
    # Most calls are made where no loop runs, and then this thread is not the portal's either.
    loop = asyncio._get_running_loop()
    if loop is None:
        return
    if is_portal_thread():
        raise CalledFromEventLoop(
            "a blocking call on the thread that serves blocking calls (inside an async job or "
            f"handler run by the blocking API) would wait for itself; use {instead}"
        )
    if not is_portal_loop(loop):  # as it is where gevent runs all threads in one
        warn_of_blocking(instead)
