"""Errors for objects of one API that are used like objects of the other.

Owns the refusals that classes of both APIs inherit. They are hidden from type checkers, so that
type checkers still report such code.

A refused method must look absent to `hasattr`, and the class must be no context manager to
`contextlib`. So it is a descriptor, its error is also an `AttributeError`, and the other method of
the pair is missing. The refused one is the one that Python looks up first. Python hides the error
of a descriptor from ``for``, so ``__iter__`` is a method.
"""

import sys
from typing import TYPE_CHECKING, Any, NoReturn

from deferrable.errors import WrongApi

__all__ = ["AsyncFor", "AsyncWith", "PlainFor", "PlainWith"]


class _Absent:
    """A special method that raises when Python looks it up."""

    def __init__(self, wrong: str, write: str) -> None:
        self._wrong = wrong
        self._write = write

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is not None:
            _refuse(instance, self._wrong, self._write)
        return self


def _refuse(instance: object, wrong: str, write: str) -> NoReturn:
    name = type(instance).__name__
    is_awaiting = isinstance(instance, AsyncWith)
    api = "deferrable.aio" if is_awaiting else "the blocking API"
    other = (
        f"in code that cannot await, use the {name} of deferrable"
        if is_awaiting
        else f"in code that awaits, use the {name} of deferrable.aio"
    )
    raise WrongApi(f"this {name} is of {api}: write `{write}` instead of `{wrong}`; {other}")


class AsyncWith:
    """Is entered with ``async with``."""

    __slots__ = ()

    if not TYPE_CHECKING:
        if sys.version_info >= (3, 14):
            __exit__ = _Absent("with", "async with")
        else:
            __enter__ = _Absent("with", "async with")


class PlainWith:
    """Is entered with ``with``."""

    __slots__ = ()

    if not TYPE_CHECKING:
        if sys.version_info >= (3, 14):
            __aexit__ = _Absent("async with", "with")
        else:
            __aenter__ = _Absent("async with", "with")


class AsyncFor(AsyncWith):
    """Is read with ``async for``."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def __iter__(self) -> NoReturn:
            _refuse(self, "for", "async for")

        def __await__(self) -> NoReturn:
            _refuse(self, "await", "async for ... in")


class PlainFor(PlainWith):
    """Is read with ``for``."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def __aiter__(self) -> NoReturn:
            _refuse(self, "async for", "for")

        def __await__(self) -> NoReturn:
            _refuse(self, "await", "for ... in")
