"""Errors of user code that raise when they are read.

An exception's class, text and attributes are the user's own code, and each of them may raise. So
an error is checked here before it is kept, compared or logged.

The one rule: an ordinary error stays the same object.
"""

from types import TracebackType
from typing import Any

__all__ = ["UnusableError", "tame"]


class UnusableError(Exception):
    """Stands for an error that raises another one when it is read."""


class _Nobody(BaseException):
    """No error has this class, so a check for it visits all errors."""


def tame(error: BaseException) -> BaseException:
    """`error`, or an `UnusableError` with its traceback if it cannot be handled."""
    try:
        _look_at(error)
    except KeyboardInterrupt:
        raise
    except BaseException as second:
        name = _plainly(type, "__name__", type(error))
        instead = UnusableError(
            f"the job raised {name}, and reading this error raises {type(second).__name__}; "
            "fix the methods of its class"
        )
        return instead.with_traceback(_plainly(BaseException, "__traceback__", error))
    return error


def _look_at(error: BaseException) -> None:
    isinstance(error, _Nobody)
    for cls in type(error).__mro__:
        names = (cls.__name__, cls.__qualname__, cls.__module__)
        if not all(isinstance(name, str) for name in names):
            raise TypeError
    if not isinstance(error.__traceback__, TracebackType | None):
        raise TypeError
    for other in (error.__cause__, error.__context__):
        if not isinstance(other, BaseException | None):
            raise TypeError


def _plainly(cls: type, name: str, of: object) -> Any:
    """An attribute as `cls` itself stores it, even if `of` overrides it."""
    return vars(cls)[name].__get__(of)
