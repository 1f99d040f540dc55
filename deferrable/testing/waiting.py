"""Wait for something that another task, thread or process does.

Owns the one way in which a test waits: for a condition, with a deadline and a description of what
did not happen. It reads the real clock, because a test that hangs must end.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

__all__ = ["wait_until"]

_POLL_SECONDS = 0.001


async def wait_until(
    condition: Callable[[], object | Awaitable[object]],
    description: str,
    deadline_seconds: float = 30,
) -> None:
    """Return once `condition` returns, or awaits to, a true value.

    Args:
        condition: is called repeatedly; its error ends the wait.
        description: the condition in words, for the error.
        deadline_seconds: how long to wait, in real time. The default is long, so that only a hang
            reaches it, also on a busy machine.

    Raises:
        TimeoutError: it was not true in time.
    """
    deadline_time = time.monotonic() + deadline_seconds
    while True:
        answer = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return
        if time.monotonic() > deadline_time:
            raise TimeoutError(f"gave up after {deadline_seconds} s of waiting until {description}")
        await asyncio.sleep(_POLL_SECONDS)
