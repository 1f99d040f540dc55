"""The lines that a worker logs when it has started."""

import asyncio
import logging
import os
from collections.abc import Sequence
from contextlib import suppress

from deferrable.aio.queue import Queue
from deferrable.cli.loading import Named
from deferrable.cli.logs import log_fields
from deferrable.cli.printing import version_text
from deferrable.errors import BackendError

__all__ = ["log_banner"]

_logger = logging.getLogger("deferrable.cli")

_PATIENCE_SECONDS = 1.0


async def log_banner(named: Sequence[Named], concurrency: int, prefetch: int) -> None:
    """Log one line for the process, and one for each instance with its queue and jobs.

    A queue that is paused is reported with it, as far as the broker answers.
    """
    slots = f"concurrency {concurrency}" + (f", prefetch {prefetch}" if prefetch else "")
    log_fields(
        _logger,
        logging.INFO,
        f"deferrable {version_text()} running (process {os.getpid()}, {slots})",
        version=version_text(),
        process=os.getpid(),
        concurrency=concurrency,
        prefetch=prefetch,
    )
    for each in named:
        backend, jobs = each.instance.backend, sorted(each.instance.registry)
        is_paused = await _is_paused(backend.queue)
        log_fields(
            _logger,
            logging.INFO,
            f"{each.path} works on {backend.queue!r}, group {backend.group or '(none)'}, "
            f"{_listed(jobs)}{', paused' if is_paused else ''}",
            instance=each.path,
            backend=repr(backend.queue),
            group=backend.group,
            jobs=jobs,
            is_paused=is_paused,
        )


async def _is_paused(queue: Queue) -> bool:
    if not queue.SUPPORTS_PAUSE:
        return False
    with suppress(BackendError, TimeoutError):  # the poller reports a broker that is away
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await queue.find_pause() is not None
    return False


def _listed(jobs: Sequence[str]) -> str:
    if not jobs:
        return "no jobs registered yet"
    head = "1 job" if len(jobs) == 1 else f"{len(jobs)} jobs"
    return f"{head}: {', '.join(jobs)}"
