"""When a worker that works until its queues are empty may end.

The one rule: a queue is empty when two looks in a row found nothing available and nothing in
flight. An item in flight may come back, in this worker or in another one. Delayed items are not
waited for. A look that fails shows nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from deferrable.aio.queue import Queue
from deferrable.errors import BackendError

__all__ = ["until_empty"]

_logger = logging.getLogger("deferrable")

_PAUSE_SECONDS = 0.2
_COUNTS = ("available", "in_flight")


async def until_empty(queues: Sequence[Queue], is_idle: Callable[[], bool]) -> int:
    """Return when all queues are empty; how many items are still delayed in them.

    Args:
        is_idle: whether the worker holds no item. While it does, no broker is asked.
    """
    looks, delayed = 0, 0
    while looks < 2:
        await asyncio.sleep(_PAUSE_SECONDS)
        counts = await _look(queues) if is_idle() else None
        if counts is None or counts[0]:
            looks = 0
        else:
            looks, delayed = looks + 1, counts[1]
    return delayed


async def _look(queues: Sequence[Queue]) -> tuple[int, int] | None:
    """How many items are there to be run, and how many are delayed; None: unknown."""
    try:
        stats = [await queue.stats() for queue in queues]
    except BackendError as error:
        _logger.warning("a queue cannot be counted, the worker goes on: %s", error)
        return None
    present = sum(each.get(name, 0) for each in stats for name in _COUNTS)
    return int(present), int(sum(each.get("delayed", 0) for each in stats))
