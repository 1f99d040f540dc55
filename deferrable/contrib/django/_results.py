"""The ``TaskResult`` of a call.

Owns which state of a call is which status, and where the fields of a result come from. What nobody
remembers is None.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from traceback import format_exception
from typing import Any

from django.conf import settings

from deferrable import CallState
from deferrable.contrib.django._api import (
    TaskError,
    TaskResult,
    TaskResultStatus,
    normalize_json,
)

__all__ = ["error_of", "make_result", "moment", "result_of"]

_STATUS = {
    "queued": "READY",
    "delayed": "READY",
    "retrying": "READY",
    "running": "RUNNING",
    "completed": "SUCCESSFUL",
    "errored": "FAILED",
    "expired": "FAILED",
    "cancelled": "FAILED",
}

_UNKNOWN_WORKER = "unknown"


def moment(seconds: object) -> datetime | None:
    """Epoch seconds as Django's settings want a datetime."""
    if not isinstance(seconds, int | float):
        return None
    return datetime.fromtimestamp(seconds, UTC if settings.USE_TZ else None)


def make_result(
    task: Any,
    result_id: str,
    status: Any,
    alias: str,
    args: Any,
    kwargs: Any,
    **known: Any,
) -> Any:
    """A result; what is not known of it is None or empty.

    Raises:
        TypeError, ValueError: an argument cannot be JSON, from what a caller gave.
    """
    fields = {
        **dict.fromkeys(("enqueued_at", "started_at", "finished_at", "last_attempted_at")),
        "errors": [],
        "worker_ids": [],
        **known,
    }
    values = {"task": task, "id": result_id, "status": status, "backend": alias}
    try:
        return TaskResult(**values, args=args, kwargs=kwargs, **fields)
    except (TypeError, ValueError):
        if status == TaskResultStatus.READY:
            raise
        # The arguments were decoded by the annotations of the function.
        result = TaskResult(**values, args=[], kwargs={}, **fields)
        object.__setattr__(result, "args", list(args))
        object.__setattr__(result, "kwargs", dict(kwargs))
        return result


def error_of(error: BaseException) -> Any:
    """An error that a task has just raised."""
    kind = type(error)
    return TaskError(
        exception_class_path=f"{kind.__module__}.{kind.__qualname__}",
        traceback="".join(format_exception(error)),
    )


def result_of(described: Any, alias: str, find_task: Callable[[str], Any]) -> Any:
    """The result of a call that is known.

    Args:
        described: the call, as the instance describes it.
        find_task: the task of a job's name.
    """
    item, state, ending = described.item, described.state, described.ending
    task, call = find_task(described.job), described.call
    status = TaskResultStatus[_STATUS[state.status]]
    errors = [] if status != TaskResultStatus.FAILED else [_stored_error(state, ending)]
    if "unserializable" in ending:
        status = TaskResultStatus.FAILED
        errors = [
            TaskError(
                exception_class_path="deferrable.errors.SerializationError",
                traceback=f"the task returned what cannot be sent: {ending['unserializable']}",
            )
        ]
    start_time = ending.get("start_time", state.running_since)
    result = make_result(
        task,
        described.id,
        status,
        alias,
        call.args,
        call.kwargs,
        enqueued_at=moment(item.get("first_push_time")),
        started_at=moment(start_time),
        last_attempted_at=moment(start_time),
        finished_at=moment(ending.get("time", _error_time(ending))),
        errors=errors,
        worker_ids=_worker_ids(state),
    )
    if status == TaskResultStatus.SUCCESSFUL:
        object.__setattr__(result, "_return_value", _as_json(ending.get("value")))
    return result


def _worker_ids(state: CallState) -> list[str]:
    """One for each attempt that has begun: Django counts attempts by them."""
    attempts = state.attempt or 0
    if state.status in ("queued", "delayed", "retrying"):
        attempts -= 1  # it is the number of the next one
    ids = [_UNKNOWN_WORKER] * max(0, attempts)
    if ids and state.worker is not None:
        ids[-1] = state.worker[:64]
    return ids


def _error_time(ending: Any) -> object:
    error = ending.get("error")
    return error.get("ts") if isinstance(error, dict) else None


def _stored_error(state: CallState, ending: Any) -> Any:
    error = ending.get("error")
    if not isinstance(error, dict):
        return TaskError(
            exception_class_path="deferrable.errors.JobFailed",
            traceback=f"the task did not run to its end: it is {state.status}",
        )
    kind, traceback = str(error.get("error_type")), str(error.get("traceback") or "")
    return TaskError(exception_class_path=_class_path(kind, traceback), traceback=traceback)


def _class_path(kind: str, traceback: str) -> str:
    """The dotted path of an error's class, as the line after the last frames has it.

    Not a later line: the error's own text and notes follow, and may name any module.
    """
    path = rf"((?:\w+\.)+{re.escape(kind)})(?::|$)"
    frames = r"^Traceback \(most recent call last\):\n(?: .*\n|\n)*"
    of_group = r"^  \+ Exception Group Traceback \(most recent call last\):\n(?:  \|  .*\n)*  \| "
    found = re.findall(rf"(?:{frames}|{of_group}){path}", traceback, re.MULTILINE)
    found = found or re.findall(rf"\A{path}", traceback, re.MULTILINE)  # it was never raised
    return found[-1] if found else f"builtins.{kind}"


def _as_json(value: Any) -> Any:
    try:
        return normalize_json(value)
    except (TypeError, ValueError):  # another serializer than JSON has kept more than JSON can
        return value
