"""The event loops of our own threads.

Owns what is different there: the time of such a loop goes on when a test freezes the time, and it
resolves host names when Python starts no thread for that any more.
"""

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any

from deferrable.aio.clock import SystemClock

__all__ = ["own_loop", "run_on_own_loop"]


def own_loop() -> asyncio.AbstractEventLoop:
    """A new event loop for a thread of this library."""
    loop = asyncio.new_event_loop()
    resolve = loop.getaddrinfo

    async def getaddrinfo(*args: Any, **kwargs: Any) -> Any:
        try:
            return await resolve(*args, **kwargs)
        except RuntimeError:
            # The main thread has ended, and with it the executor that resolves names.
            return socket.getaddrinfo(*args, **kwargs)

    loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign]
    # asyncio's reads `time.monotonic`, which freezegun replaces: no wait would ever end.
    loop.time = SystemClock.monotonic  # type: ignore[method-assign]
    return loop


def run_on_own_loop(coroutine: Coroutine[Any, Any, object]) -> None:
    """Run a coroutine to its end in this thread."""
    with asyncio.Runner(loop_factory=own_loop) as runner:
        runner.run(coroutine)
