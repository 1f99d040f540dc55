"""Log lines with the traceback of an error that users' code raised.

Owns how much of such a traceback a log gets. Every log line with a user's error goes through
`log_error`, because the standard formatter would write the whole text of the error, however long.
"""

import logging
from types import TracebackType
from typing import Any, TypeAlias

from deferrable._tracebacks import MOST_TRACEBACK, traceback_from_job, traceback_text

__all__ = ["log_error"]

_ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]


def log_error(
    logger: logging.Logger,
    error: BaseException,
    message: str,
    *args: object,
    extra: dict[str, Any] | None = None,
) -> None:
    """Log `message` with the traceback of `error`, at level ERROR.

    The record holds the error itself, for handlers that report errors. Formatters write the end of
    a traceback that is too long, and format a shorter one themselves.
    """
    if not logger.isEnabledFor(logging.ERROR):
        return
    file, line, function, _ = logger.findCaller(stacklevel=2)
    exc_info: _ExcInfo = (type(error), error, traceback_from_job(error.__traceback__))
    record = logger.makeRecord(
        logger.name, logging.ERROR, file, line, message, args, exc_info, function, extra
    )
    record.exc_text = _cut_text(error)
    logger.handle(record)


def _cut_text(error: BaseException) -> str | None:
    """The end of its traceback; None if the whole traceback is short enough."""
    try:
        text = traceback_text(error)
    except KeyboardInterrupt:
        raise
    except BaseException as second:
        return f"<formatting the traceback of this error raised {type(second).__name__}>"
    return text if len(text) > MOST_TRACEBACK else None
