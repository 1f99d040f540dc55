"""The lines that a worker logs when it has started."""

import logging
import os
from collections.abc import Sequence

from deferrable.cli.loading import Named
from deferrable.cli.logs import log_fields
from deferrable.cli.printing import version_text

__all__ = ["log_banner"]

_logger = logging.getLogger("deferrable.cli")


def log_banner(named: Sequence[Named], concurrency: int, prefetch: int) -> None:
    """Log one line for the process, and one for each instance with its queue and jobs."""
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
        log_fields(
            _logger,
            logging.INFO,
            f"{each.path} works on {backend.queue!r}, group {backend.group or '(none)'}, "
            f"{_listed(jobs)}",
            instance=each.path,
            backend=repr(backend.queue),
            group=backend.group,
            jobs=jobs,
        )


def _listed(jobs: Sequence[str]) -> str:
    if not jobs:
        return "no jobs registered yet"
    head = "1 job" if len(jobs) == 1 else f"{len(jobs)} jobs"
    return f"{head}: {', '.join(jobs)}"
