"""When a worker that works until its queues are empty may end.

The one rule: a queue is empty when two looks in a row found nothing available and nothing in
flight. An item in flight may come back, in this worker or in another one. Delayed items are not
waited for, and neither are those that are available in a paused queue, which the log reports. A
broker that is away is waited for; any other error of a look ends the wait.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deferrable._pauses import growing_seconds
from deferrable.aio.queue import Queue
from deferrable.errors import BackendUnavailable

__all__ = ["until_empty"]

_logger = logging.getLogger("deferrable")

_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 2.0


async def until_empty(queues: Sequence[Queue], is_idle: Callable[[], bool]) -> int:
    """Return when all queues are empty; how many items are still delayed in them.

    Args:
        is_idle: whether the worker holds no item. While it does, no broker is asked.

    Raises:
        BackendError: a queue cannot be counted, and will not be by waiting.
    """
    looks, vain_looks, is_away = 0, 0, False
    rest = _Rest(0, 0, [])
    while looks < 2:
        # Others may be at work for long, and on SQS each look costs money.
        await asyncio.sleep(growing_seconds(vain_looks + 1, _PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS))
        if not is_idle():
            looks = vain_looks = 0
            continue
        try:
            rest = await _look(queues)
        except BackendUnavailable as error:
            if not is_away:
                _logger.warning("a queue cannot be counted, the worker goes on: %s", error)
            is_away, looks, vain_looks = True, 0, vain_looks + 1
            continue
        is_away = False
        looks, vain_looks = (0, vain_looks + 1) if rest.present else (looks + 1, 0)
    for queue, available in rest.paused:
        _logger.warning("%r is paused; %d available items stay in it", queue, available)
    return rest.delayed


@dataclass(frozen=True, slots=True)
class _Rest:
    """What is left.

    Attributes:
        present: items that are there to be run, or run.
        delayed: items that are delayed.
        paused: the paused queues, and how many items are available in each.
    """

    present: int
    delayed: int
    paused: list[tuple[Queue, int]]


async def _look(queues: Sequence[Queue]) -> _Rest:
    present, delayed, paused = 0.0, 0.0, list[tuple[Queue, int]]()
    for queue in queues:
        stats = await queue.stats()
        available = stats.get("available", 0)
        if "paused_seconds" in stats:
            paused.append((queue, int(available)))
            available = 0
        present += available + stats.get("in_flight", 0)
        delayed += stats.get("delayed", 0)
    return _Rest(int(present), int(delayed), paused)
