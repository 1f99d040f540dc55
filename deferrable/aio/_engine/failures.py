"""The one log line of an attempt that failed.

Owns the words and the fields of that line. A record carries its numbers as ``deferrable_fields``,
a dict, for formatters that need them one by one. Errors of users are written with `describe`,
because their own ``__str__`` may raise.
"""

import logging
from typing import Any

from deferrable._codec.refusals import describe
from deferrable._error_log import log_error
from deferrable._reading import attempt_number, job_name
from deferrable.outcome import Outcome

__all__ = ["log_failure", "log_lost", "log_retry"]

_logger = logging.getLogger("deferrable.jobs")


def log_retry(name: str, job: str, outcome: Outcome, seconds: float) -> None:
    """Log that another attempt follows in `seconds`.

    Args:
        name: of the attempt.
        job: the name of the job, as far as it is known.
    """
    if not _logger.isEnabledFor(logging.INFO):
        return
    assert outcome.error is not None
    _logger.info(
        "%s failed (%s): %s; next attempt in %.1f s",
        name,
        _numbers(outcome),
        describe(outcome.error),
        seconds,
        extra=_fields(job, outcome),
    )


def log_failure(name: str, job: str, outcome: Outcome, reason: str) -> None:
    """Log that the item is in the error queue, and why it is not retried; see `log_retry`."""
    error = outcome.error
    assert error is not None
    log_error(
        _logger,
        error,
        "%s failed for good and is in the error queue (%s): %s%s",
        name,
        _numbers(outcome),
        describe(error),
        f"; not retried: {reason}" if reason else "",
        extra=_fields(job, outcome, reason=reason),
    )


def log_lost(name: str, job: str, outcome: Outcome) -> None:
    """Log that nothing was settled; see `log_retry`."""
    _logger.warning(
        "%s lost its lease; nothing was settled (%s)%s",
        name,
        _numbers(outcome),
        "" if outcome.error is None else f": {describe(outcome.error)}",
        extra=_fields(job, outcome),
    )


def _numbers(outcome: Outcome) -> str:
    return f"attempt {attempt_number(outcome.item)}, {outcome.duration_seconds:.3g} s"


def _fields(job: str, outcome: Outcome, **others: str) -> dict[str, dict[str, Any]]:
    return {
        "deferrable_fields": {
            "job": job_name(outcome.item) if job == "a job" else job,
            "id": outcome.item.get("id"),
            "attempt": attempt_number(outcome.item),
            "status": outcome.status,
            "duration_seconds": round(outcome.duration_seconds, 6),
            **({} if outcome.error is None else {"error": describe(outcome.error)}),
            **{name: text for name, text in others.items() if text},
        }
    }
