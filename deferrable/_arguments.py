"""Check whether a function takes the arguments of a call, before the call is sent.

Owns one cheap check per function: a stub with the same parameters, to which Python itself binds
the arguments. The rule: an argument is allowed if the check cannot know. A wrapper that takes
``*args, **kwargs`` takes anything, and so does a callable that does not show its signature.
"""

import functools
import inspect
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, TypeAlias

from deferrable.errors import ArgumentMismatch

__all__ = ["Binder", "binder_for", "mismatch"]

Binder: TypeAlias = Callable[..., object]
"""Takes what the function takes and does nothing; raises TypeError for anything else."""

_ADVICE = (
    "Nothing was pushed. Pass arguments that the function takes; if the consumers have another "
    "version of the function that takes these, give the instance check_arguments=False"
)


class _Default:
    """Stands for a default, whose value may be a secret."""

    def __repr__(self) -> str:
        return "..."


def binder_for(function: Callable[..., Any]) -> Binder | None:
    """The check for `function`, or None if it does not show its parameters."""
    parameters = _parameters_of(function)
    if parameters is None:
        return None
    try:
        # The text holds names of parameters, which are identifiers, and nothing else.
        binder: Any = eval(f"lambda {parameters}: None", {})  # noqa: S307
    except SyntaxError:  # a C function may have parameter names that Python does not allow
        return None
    binder.__name__ = binder.__qualname__ = getattr(function, "__name__", "the job")
    checked: Binder = binder
    return checked


def mismatch(name: str, function: Callable[..., Any], reason: object) -> ArgumentMismatch:
    """The error for a call of the job `name` that `function` would reject, because of `reason`."""
    parameters = _parameters_of(function)
    takes = "" if parameters is None else f"; its signature is ({parameters})"
    return ArgumentMismatch(f"cannot defer {name}: {reason}{takes}. {_ADVICE}")


def _parameters_of(function: Callable[..., Any]) -> str | None:
    """The text between the parentheses of its ``def``, without annotations and defaults."""
    try:
        signature = inspect.signature(_as_called(function), follow_wrapped=False)
    except (TypeError, ValueError):
        return None
    empty = inspect.Parameter.empty
    bare = [
        each.replace(annotation=empty, default=empty if each.default is empty else _Default())
        for each in signature.parameters.values()
    ]
    return str(inspect.Signature(bare))[1:-1]


def _as_called(function: Any) -> Any:
    """`function` without the attributes that only change its look (``__signature__``,
    ``__wrapped__``).

    A decorator that adds an argument often shows the signature of the function that it wraps.
    """
    if isinstance(function, FunctionType):
        bare = FunctionType(
            function.__code__,
            {},
            function.__name__,
            function.__defaults__,
            function.__closure__,
        )
        bare.__kwdefaults__ = function.__kwdefaults__
        return bare
    if isinstance(function, MethodType):
        return MethodType(_as_called(function.__func__), function.__self__)
    if isinstance(function, functools.partial):
        return functools.partial(_as_called(function.func), *function.args, **function.keywords)
    call = getattr(type(function), "__call__", None)  # noqa: B004  # the function is wanted
    if isinstance(call, FunctionType):
        return MethodType(_as_called(call), function)
    return function
