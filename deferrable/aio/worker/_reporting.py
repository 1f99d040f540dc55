"""Report that a worker lives, and what it runs, to the store of each of its queues.

Owns when that is done. Only people read it, so a report that fails is not made up for.

The rule: a worker that ends soon reports nothing, and the end of a worker waits for a store for a
second at most.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping

from deferrable.aio.clock import sleep
from deferrable.aio.queue import Queue
from deferrable.item import new_id
from deferrable.worker_reports import REPORT_SECONDS, WorkerReport

__all__ = ["Reporter", "reporters"]

_logger = logging.getLogger("deferrable")

FIRST_REPORT_SECONDS = 2.0
_LEAVING_SECONDS = 1.0


class Reporter:
    """Reports one worker to one queue, until it is cancelled.

    Args:
        jobs_on: the names of the jobs of a queue that run now, and how many of each.
        is_stopping: whether the worker takes no more items.
    """

    def __init__(
        self,
        queue: Queue,
        slots: int,
        jobs_on: Callable[[Queue], Mapping[str, int]],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._queue = queue
        self._slots = slots
        self._jobs_on = jobs_on
        self._is_stopping = is_stopping
        self._id = new_id()
        self._start_time = queue.clock.time()
        self._has_failed = False

    async def run(self) -> None:
        await sleep(self._queue.clock, FIRST_REPORT_SECONDS)
        try:
            while True:
                await self._try_to_report()
                await sleep(self._queue.clock, REPORT_SECONDS)
        finally:
            await self._try_to_leave()

    async def _try_to_report(self) -> None:
        try:
            await self._queue.report_worker(self._report())
        except Exception as error:
            if not self._has_failed:
                _logger.info("%r does not take this worker's report: %s", self._queue, error)
            self._has_failed = True
        else:
            self._has_failed = False

    async def _try_to_leave(self) -> None:
        try:
            async with asyncio.timeout(_LEAVING_SECONDS):
                await self._queue.forget_worker(self._id)
        except Exception as error:
            _logger.debug("%r shows this worker for some seconds more: %s", self._queue, error)

    def _report(self) -> WorkerReport:
        jobs = self._jobs_on(self._queue)
        return WorkerReport(
            self._id,
            socket.gethostname(),
            os.getpid(),
            self._slots,
            sum(jobs.values()),
            jobs,
            self._start_time,
            is_stopping=self._is_stopping(),
        )


def reporters(
    queues: Iterable[Queue],
    slots: int,
    jobs_on: Callable[[Queue], Mapping[str, int]],
    is_stopping: Callable[[], bool],
) -> list[Reporter]:
    """What reports to those queues that know their workers."""
    return [
        Reporter(queue, slots, jobs_on, is_stopping) for queue in queues if queue.SUPPORTS_WORKERS
    ]
