"""Waiting for a task without letting a cancellation through to it.

Owns the one way in which this library waits for work that must reach its end (a settlement, a
plain function in its thread, a pop whose answer may hold items). It may not know what the work is.

The one rule: the cancellation is not lost. It is remembered, and the caller raises it again.
"""

import asyncio
from typing import Any

import anyio

__all__ = ["until_done"]


async def until_done(task: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Return once `task` is done, whatever its result, and however often the caller is cancelled.

    Returns:
        the last cancellation that arrived meanwhile, for the caller to raise again, or None.
    """
    cancellation = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancellation = error
    return cancellation
