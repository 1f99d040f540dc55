"""Waking whoever waits for something to change.

Owns the wait. It may not know what changes: who was woken looks for himself, and may wait again.
Like an event that is cleared before each wait, but a ring that nobody waits for costs nothing, and
that is what happens several times for each job.
"""

import asyncio

__all__ = ["Bell"]


class Bell:
    """Rung and waited for on one event loop."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def ring(self) -> None:
        """Wake all who wait now."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    async def wait(self) -> None:
        """Return at the next ring. Look whether it is needed right before, without an await."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future
