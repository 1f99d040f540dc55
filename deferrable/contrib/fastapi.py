"""FastAPI: calls that are deferred when a request has succeeded.

Owns the dependency. The rule: calls are pushed after the function of the path has returned and
before its response is sent. So a response says that they were pushed, and an error pushes none.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Any, ParamSpec

from deferrable import Call, Job
from deferrable._extras import missing_extra

try:
    from fastapi import Depends
except ImportError as error:
    raise missing_extra("deferrable.contrib.fastapi", "fastapi", error) from error

__all__ = ["DeferAfter", "DeferredCalls"]

P = ParamSpec("P")


class DeferredCalls:
    """Collects calls, as ``BackgroundTasks`` does, but for workers."""

    def __init__(self) -> None:
        self._calls: list[tuple[Job[..., Any], Call[Any]]] = []
        self._has_ended = False

    def add(self, job: "Job[P, Any]", /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Defer this call if the request succeeds.

        Args:
            job: also one with options: ``job.options(delay_seconds=60)``.

        Raises:
            RuntimeError: the function of the path has ended, so nothing would push the call.
        """
        if self._has_ended:
            raise RuntimeError(
                f"the function of the path has ended, so a call of {job.name} would not be pushed; "
                f"in a background task or a streamed response write await "
                f"{job.name.rpartition(':')[2]}.later_async(...)"
            )
        self._calls.append((job, job.call(*args, **kwargs)))

    def end(self) -> None:
        """Take no more calls."""
        self._has_ended = True

    async def push(self) -> None:
        """Push what was collected, in its order.

        Raises:
            DeferrableError: a call could not be pushed; those before it were.
        """
        while self._calls:
            job, call = self._calls.pop(0)
            await job.later_async(*call.args, **call.kwargs)


async def _deferred_calls() -> AsyncIterator[DeferredCalls]:
    calls = DeferredCalls()
    try:
        yield calls
    finally:
        calls.end()
    await calls.push()


try:
    _depends = Depends(_deferred_calls, scope="function")
except TypeError as error:
    raise ImportError(
        "DeferAfter needs FastAPI 0.121 or later, whose dependencies can end before the response "
        "is sent: pip install 'fastapi>=0.121'"
    ) from error

DeferAfter = Annotated[DeferredCalls, _depends]
"""Declare a parameter with it: ``async def post(calls: DeferAfter): calls.add(job, 1)``."""
