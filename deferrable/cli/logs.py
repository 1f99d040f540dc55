"""The log of a worker process.

Owns where it goes, its two formats, and the one line for each job. It may not know how a job came
to its end. Records carry the numbers as fields; the formats show them.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

import click

from deferrable.cli.printing import seconds_text
from deferrable.cli.reading import attempt_number, job_name
from deferrable.item import id_text
from deferrable.outcome import Outcome

__all__ = ["LEVELS", "configure", "log_fields", "log_outcome"]

_logger = logging.getLogger("deferrable.worker")

LEVELS = ("debug", "info", "warning", "error")
_COLOURS = {"DEBUG": "blue", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
_FIELDS = "deferrable_fields"


def configure(log_format: str, level: str) -> None:
    """Have the process log to standard error. What an application configures later, counts."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if log_format == "json" else _Text(sys.stderr.isatty()))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level.upper())


def log_fields(logger: logging.Logger, level: int, message: str, **fields: object) -> None:
    """Log a line with fields, which the JSON format shows one by one."""
    logger.log(level, message, extra={_FIELDS: fields})


def log_outcome(outcome: Outcome) -> None:
    """Log the one line of a job."""
    item, error = outcome.item, outcome.error
    name, number = job_name(item), attempt_number(item)
    error_text = None if error is None else f"{type(error).__name__}: {error}".rstrip(": ")
    message = (
        f"{name} {outcome.status} in {seconds_text(outcome.duration_seconds)} "
        f"(attempt {number}, item {id_text(item)})"
    )
    has_failed = outcome.status in ("retried", "errored", "lost") and error_text is not None
    log_fields(
        _logger,
        logging.INFO,
        f"{message}: {error_text!s:.200}" if has_failed else message,
        job=name,
        id=item.get("id"),
        attempt=number,
        status=outcome.status,
        duration_seconds=round(outcome.duration_seconds, 6),
        **({"error": error_text} if has_failed else {}),
    )


class _Text(logging.Formatter):
    def __init__(self, is_coloured: bool) -> None:
        super().__init__("%(asctime)s %(level)s %(message)s", "%Y-%m-%d %H:%M:%S")
        self._is_coloured = is_coloured

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname:<7}"
        colour = _COLOURS.get(record.levelname)
        record.level = click.style(level, fg=colour) if self._is_coloured and colour else level
        return super().format(record)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            entry["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(entry, default=repr, ensure_ascii=False)
