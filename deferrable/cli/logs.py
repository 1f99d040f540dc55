"""The log of a worker process.

Owns the handler, the two formats, and the one line of each job that did not fail; the engine logs
the others. Records carry their numbers as fields; the JSON format shows them.

The one rule: text from a job, an item or an error never makes a line that looks like a record, and
never controls a terminal. A message is one line, and each line of a traceback begins with a bar.
"""

import logging
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import click

from deferrable._codec.refusals import describe, short_repr
from deferrable._reading import attempt_number, job_name
from deferrable._tracebacks import traceback_text
from deferrable.cli.printing import escaped, has_colour, json_text, seconds_text
from deferrable.item import id_text
from deferrable.outcome import Outcome

__all__ = ["LEVELS", "configure", "enable_loggers", "log_fields", "log_outcome"]

_logger = logging.getLogger("deferrable.worker")

LEVELS = ("debug", "info", "warning", "error")
_COLOURS = {"DEBUG": "blue", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
_FIELDS = "deferrable_fields"
_TALKATIVE = ("aiobotocore", "botocore", "boto3")
"""Loggers that write a line for each client that they make, as with where its keys were found."""
_LOGGED_BY_ENGINE = frozenset({"retried", "errored", "lost"})


def configure(log_format: str, level: str, process: str = "") -> None:
    """Log to standard error. A configuration that an application sets later is kept.

    Only with the level ``debug`` the libraries of AWS log what is no warning.

    Args:
        process: the name of this process among several, for each line.
    """
    handler = logging.StreamHandler(sys.stderr)
    is_coloured = has_colour(sys.stderr)
    handler.setFormatter(_Json(process) if log_format == "json" else _Text(process, is_coloured))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in () if level == "debug" else _TALKATIVE:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(max(root.level, logging.WARNING))


def enable_loggers() -> None:
    """Enable our loggers again.

    `logging.config` disables every logger that exists and that it does not name, unless it is asked
    not to. Ours exist before an application is imported.
    """
    for name in list(logging.root.manager.loggerDict):
        if name == "deferrable" or name.startswith("deferrable."):
            logging.getLogger(name).disabled = False


def log_fields(logger: logging.Logger, level: int, message: str, **fields: object) -> None:
    """Log a line with fields, which the JSON format shows one by one."""
    logger.log(level, "%s", message, extra={_FIELDS: fields})


def log_outcome(outcome: Outcome) -> None:
    """Log the one line of a job, unless the engine has logged that it failed."""
    if _logger.disabled:
        enable_loggers()
    if outcome.status in _LOGGED_BY_ENGINE or not _logger.isEnabledFor(logging.INFO):
        return
    item = outcome.item
    name, number = job_name(item), attempt_number(item)
    log_fields(
        _logger,
        logging.INFO,
        f"{name} {outcome.status} in {seconds_text(outcome.duration_seconds)} "
        f"(attempt {number}, item {id_text(item)})",
        job=name,
        id=item.get("id"),
        attempt=number,
        status=outcome.status,
        duration_seconds=round(outcome.duration_seconds, 6),
    )


class _Format(logging.Formatter):
    """The base of both formats: a record that cannot be formatted is a line all the same."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        return self._line(record, _message(record))

    def _line(self, record: logging.LogRecord, message: str) -> str:
        raise NotImplementedError


class _Text(_Format):
    def __init__(self, process: str, is_coloured: bool) -> None:
        super().__init__(process)
        self._is_coloured = is_coloured

    def _line(self, record: logging.LogRecord, message: str) -> str:
        moment = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(record.created))
        level = f"{escaped(record.levelname):<7}"
        colour = _COLOURS.get(record.levelname)
        shown = click.style(level, fg=colour) if self._is_coloured and colour else level
        process = f"[{self._process}:{os.getpid()}] " if self._process else ""
        lines = [f"{moment} {shown} {process}{escaped(message)}"]
        lines += [f"  | {escaped(line, kept=_TAB)}" for line in _details(record)]
        return "\n".join(lines)


class _Json(_Format):
    def _line(self, record: logging.LogRecord, message: str) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
            "process": os.getpid(),
            **({"worker": self._process} if self._process else {}),
            **getattr(record, _FIELDS, {}),
        }
        details = list(_details(record))
        if details:
            entry["traceback"] = "\n".join([*details, ""])
        return json_text(entry, sys.stderr)


_TAB = "\t"


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"{short_repr(record.msg)} cannot be formatted with its arguments: {describe(error)}"


def _details(record: logging.LogRecord) -> Iterator[str]:
    """The lines after the message: a traceback, and a stack if it was requested."""
    error = record.exc_info[1] if record.exc_info else None
    texts = [record.exc_text] if record.exc_text else []
    if error is not None:
        try:
            texts = [traceback_text(error)]
        except KeyboardInterrupt:
            raise
        except BaseException as second:
            texts = [
                f"{type(error).__name__}, whose traceback cannot be formatted: {describe(second)}"
            ]
    for text in filter(None, [*texts, record.stack_info]):
        yield from text.rstrip("\n").split("\n")
