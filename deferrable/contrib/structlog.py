"""The job, its item and its attempt in every line that a job logs, with structlog.

Owns what is bound, in ``structlog.contextvars``; put ``merge_contextvars`` first in your
processors.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any

from deferrable import CurrentAttempt, Middleware
from deferrable._extras import missing_extra
from deferrable.contrib._instance import HasMiddleware, registered
from deferrable.contrib.correlation import correlation_id

try:
    from structlog.contextvars import bind_contextvars, reset_contextvars
except ImportError as error:
    raise missing_extra("deferrable.contrib.structlog", "structlog", error) from error

__all__ = ["StructlogMiddleware", "instrument"]


class StructlogMiddleware(Middleware):
    """Binds the fields of each attempt; made by `instrument`."""

    def __init__(self, variable: ContextVar[Any]) -> None:
        self._variable = variable

    def around_job(self, attempt: CurrentAttempt) -> AbstractContextManager[object]:
        fields = {"job": attempt.job_name, "item_id": attempt.id, "attempt": attempt.number}
        current = self._variable.get(None)
        if current is not None:
            fields["correlation_id"] = current
        return _Bound(fields)


class _Bound:
    """Fields that are bound in a block.

    structlog's own manager reads all variables of the context first.
    """

    __slots__ = ("_fields", "_tokens")

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields
        self._tokens: Mapping[str, Token[Any]] = {}

    def __enter__(self) -> None:
        self._tokens = bind_contextvars(**self._fields)

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        reset_contextvars(**self._tokens)


def instrument(
    instance: HasMiddleware, *, variable: ContextVar[Any] = correlation_id
) -> StructlogMiddleware:
    """Bind the fields around each job of an instance of either API. A second call changes nothing.

    Args:
        variable: holds the correlation id.
    """
    known = registered(instance, StructlogMiddleware)
    if known is not None:
        return known
    middleware = StructlogMiddleware(variable)
    instance.register_middleware(middleware)
    return middleware
