"""When a worker that works until its queues are empty may end.

The one rule: a queue is empty when two looks in a row found nothing available and nothing in
flight. An item in flight may come back, in this worker or in another one. Delayed items are not
waited for. A broker that is away is waited for; any other error of a look ends the wait.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from deferrable._pauses import growing_seconds
from deferrable.aio.queue import Queue
from deferrable.errors import BackendUnavailable

__all__ = ["until_empty"]

_logger = logging.getLogger("deferrable")

_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 2.0
_COUNTS = ("available", "in_flight")


async def until_empty(queues: Sequence[Queue], is_idle: Callable[[], bool]) -> int:
    """Return when all queues are empty; how many items are still delayed in them.

    Args:
        is_idle: whether the worker holds no item. While it does, no broker is asked.

    Raises:
        BackendError: a queue cannot be counted, and will not be by waiting.
    """
    looks, vain_looks, delayed, is_away = 0, 0, 0, False
    while looks < 2:
        # Others may be at work for long, and on SQS each look costs money.
        await asyncio.sleep(growing_seconds(vain_looks + 1, _PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS))
        if not is_idle():
            looks = vain_looks = 0
            continue
        try:
            present, delayed = await _look(queues)
        except BackendUnavailable as error:
            if not is_away:
                _logger.warning("a queue cannot be counted, the worker goes on: %s", error)
            is_away, looks, vain_looks = True, 0, vain_looks + 1
            continue
        is_away = False
        looks, vain_looks = (0, vain_looks + 1) if present else (looks + 1, 0)
    return delayed


async def _look(queues: Sequence[Queue]) -> tuple[int, int]:
    """How many items are there to be run, and how many are delayed."""
    stats = [await queue.stats() for queue in queues]
    present = sum(each.get(name, 0) for each in stats for name in _COUNTS)
    return int(present), int(sum(each.get("delayed", 0) for each in stats))
