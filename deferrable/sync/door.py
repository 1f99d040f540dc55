"""The blocking door: the engine's coroutines, driven in the thread that called.

Owns how a caller that cannot await waits: broker I/O, async jobs and heartbeats hop to the portal's
thread, and everything plain is an ordinary call right here. It may not know what is done or
decided. A coroutine of the engine never suspends behind this door: each of its waits has ended when
it returns.
"""

import inspect
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import replace
from typing import Any, TypeVar

from deferrable._ended import Ended, Raised, Returned, value_of
from deferrable.aio.door import AwaitingDoor, Door, Run, in_context
from deferrable.aio.heartbeat import Heartbeat
from deferrable.errors import CalledFromEventLoop
from deferrable.sync.portal import is_portal_thread, portal

__all__ = ["BlockingDoor", "refuse_portal_thread"]

T = TypeVar("T")


class BlockingDoor:
    """Drives the engine in the calling thread."""

    def __init__(self) -> None:
        self._on_portal = AwaitingDoor()

    def drive(self, make: Callable[[Door], Coroutine[Any, Any, T]], instead: str) -> T:
        refuse_portal_thread(instead)
        coroutine = make(self)
        try:
            coroutine.send(None)
        except StopIteration as returned:
            value: T = returned.value
            return value
        coroutine.close()
        raise RuntimeError(f"{coroutine!r} suspended behind the blocking door")

    async def wait(self, waiting: Coroutine[Any, Any, T]) -> T:
        return portal().run(waiting)

    async def finish(self, waiting: Coroutine[Any, Any, T]) -> T:
        return portal().run(waiting, must_finish=True)

    async def call(
        self, context: Context | None, function: Callable[..., Any], *args: Any
    ) -> Ended[Any]:
        ended = (
            value_of(function, *args) if context is None else value_of(context.run, function, *args)
        )
        if isinstance(ended, Raised) or not inspect.isawaitable(ended.value):
            return ended
        awaitable = ended.value

        async def await_it() -> Any:
            return await (awaitable if context is None else in_context(context, awaitable))

        return value_of(portal().run, await_it())

    async def run(self, run: Run) -> Ended[Any]:
        if inspect.iscoroutinefunction(run.function):
            return portal().run(self._on_portal.run(run))
        return await self._run_here(run)

    async def _run_here(self, run: Run) -> Ended[Any]:
        start_time = run.clock.time()
        ended: Ended[Any] = value_of(run.context.run, run)
        if isinstance(ended, Returned) and inspect.iscoroutine(ended.value):
            coroutine = ended.value

            async def rest() -> Any:
                return await coroutine

            return portal().run(
                self._on_portal.run(replace(run, function=rest, args=(), kwargs={}))
            )
        limit = run.timeout_seconds
        if limit is not None and run.clock.time() - start_time > limit:
            # Nobody could tell before: this thread was busy with the job.
            await run.on_overrun()
        return ended

    def start_heartbeat(self, heartbeat: Heartbeat) -> Callable[[], None]:
        the_portal = portal()
        the_portal.call_soon(heartbeat.start)
        return lambda: the_portal.call_soon(heartbeat.stop)

    def is_being_cancelled(self) -> bool:
        return False


def refuse_portal_thread(instead: str) -> None:
    """Refuse a blocking call where it would wait for itself.

    Raises:
        CalledFromEventLoop: this is the portal's own thread.
    """
    if is_portal_thread():
        raise CalledFromEventLoop(
            "a blocking call on the thread that serves blocking calls (inside an async job or "
            f"handler run by the blocking face) would wait for itself; use {instead}"
        )
