"""The job, its item and its attempt in every line that a job logs, with standard logging.

Owns the fields: ``job``, ``item_id``, ``attempt`` and ``correlation_id``. Needs no extra.
"""

import logging
from contextvars import ContextVar
from typing import Any

from deferrable import current_attempt
from deferrable.contrib.correlation import correlation_id

__all__ = ["AttemptFilter", "fields_of_attempt"]


def fields_of_attempt(variable: ContextVar[Any] = correlation_id) -> dict[str, Any]:
    """The fields of the attempt that runs here; outside of a job all but the correlation id are
    None.

    Args:
        variable: holds the correlation id.
    """
    fields: dict[str, Any] = {
        "job": None,
        "item_id": None,
        "attempt": None,
        "correlation_id": variable.get(None),
    }
    try:
        attempt = current_attempt()
    except LookupError:
        return fields
    fields["job"], fields["item_id"], fields["attempt"] = (
        attempt.job_name,
        attempt.id,
        attempt.number,
    )
    return fields


class AttemptFilter(logging.Filter):
    """Adds the fields to each record that a handler gets: ``handler.addFilter(AttemptFilter())``.

    Put it on a handler, not on a logger: filters of a logger do not see the records of its
    children. Fields that a record has already are kept.

    Args:
        variable: holds the correlation id.
    """

    def __init__(self, variable: ContextVar[Any] = correlation_id) -> None:
        super().__init__()
        self._variable = variable

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in fields_of_attempt(self._variable).items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True
