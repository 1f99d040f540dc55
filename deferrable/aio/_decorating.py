"""The decorator ``deferrable``, which both APIs share.

Owns its signature, its documentation and what may be decorated. The signature for type checkers
stands here; at run time it is made of the declaration in `deferrable.options`. A test compares the
two.
"""

import inspect
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature, getattr_static
from typing import Any, ParamSpec, TypeVar, Unpack, cast, overload

from deferrable._codec.refusals import short_repr
from deferrable._option_conflicts import check
from deferrable.aio._engine.instance import Instance
from deferrable.aio.job import BoundJob, Job
from deferrable.errors import InvalidOptions
from deferrable.options import (
    OPTIONS,
    DecoratorKeywords,
    ErrorClasses,
    JobOptions,
    OptionChanges,
    Seconds,
    change,
)

__all__ = ["MEANINGS", "SIGNATURE", "Decorating"]

P = ParamSpec("P")
R = TypeVar("R")

_DESCRIPTORS = (classmethod, staticmethod, property)
_NO_OPTIONS = JobOptions()


def _make_signature() -> Signature:
    """The decorator's signature: the options of `JobOptions` in their order, and ``name``."""
    types: Mapping[str, Any] = OptionChanges.__annotations__
    options = [
        each.replace(annotation=types[each.name])
        for each in inspect.signature(JobOptions).parameters.values()
        if not OPTIONS[each.name].is_for_calls
    ]
    name = Parameter("name", Parameter.KEYWORD_ONLY, default=None, annotation=str | None)
    options.insert(sum(each.kind is not Parameter.KEYWORD_ONLY for each in options), name)
    myself = Parameter("self", Parameter.POSITIONAL_OR_KEYWORD)
    return Signature([myself, *options], return_annotation=Any)


SIGNATURE = _make_signature()
"""What the decorator takes, beginning with ``self``."""
MEANINGS: Mapping[str, str] = {
    "name": "its name in items, instead of ``module:qualname``; producers and consumers must use "
    "the same",
    **{name: option.meaning for name, option in OPTIONS.items()},
}
"""What each option does, for docstrings and docs/options.md."""

F = TypeVar("F", bound=Callable[..., Any])
_INDENT = 4 * " "


def _declared(function: F) -> F:
    """Give the decorator the declared signature, and the options' meanings in its docstring."""
    vars(function)["__signature__"] = SIGNATURE
    if function.__doc__ is not None:  # Python's option -OO takes docstrings away
        lines = (
            textwrap.fill(
                f"{name}: {MEANINGS[name]}.",
                100,
                initial_indent=_INDENT,
                subsequent_indent=2 * _INDENT,
            )
            for name in list(SIGNATURE.parameters)[1:]
        )
        # Python 3.13 takes the common indentation away itself.
        text = inspect.cleandoc(function.__doc__)
        function.__doc__ = text.replace(f"{_INDENT}OPTIONS", "\n".join(lines))
    return function


class Decorating(ABC):
    """What has the decorator."""

    @abstractmethod
    def _instance_of_jobs(self) -> Instance:
        """The instance that decorated functions are registered with."""

    @overload
    def deferrable(self, function: Callable[P, R], /) -> Job[P, R]: ...

    @overload
    def deferrable(
        self,
        error_classes: ErrorClasses | None = None,
        max_attempts: int | None = None,
        delay_seconds: Seconds = 0,
        debounce_seconds: Seconds = 0,
        debounce_always_delay: bool = False,
        ttl_seconds: Seconds = 0,
        use_exponential_backoff: bool = True,
        **keywords: Unpack[DecoratorKeywords],
    ) -> Callable[[Callable[P, R]], Job[P, R]]: ...

    @_declared
    def deferrable(self, *args: Any, **options: Any) -> Any:
        """Register a function, so that it can be deferred. With or without parentheses.

        Args:
            OPTIONS

        All seconds may be a `timedelta`. Debounce is for idempotent functions only: calls are
        skipped.

        Returns:
            a `Job`, called like the function.

        Raises:
            InvalidOptions: an option is out of range, or two contradict each other.
            Unsupported: the backend keeps no unique keys.
            TypeError: an option is unknown, or what is decorated cannot be a job.
        """
        if not isinstance(self, Decorating):
            raise TypeError(
                f"Deferrable.deferrable was called on the class, with {short_repr(self)}; make an "
                "instance, `d = Deferrable(backend)`, and write `@d.deferrable`"
            )
        return _decorator(
            self._instance_of_jobs(), SIGNATURE.bind(self, *args, **options).arguments
        )


def _decorator(instance: Instance, given: dict[str, Any]) -> Any:
    """The job that a bare decorator makes, or the decorator that options make."""
    del given["self"]
    name: str | None = given.pop("name", None)
    function: Any = given.get("error_classes")
    is_bare = _is_decorated(function)
    if is_bare:
        given["error_classes"] = None
        _check_function(function)
    options = change(_NO_OPTIONS, cast("OptionChanges", given))
    check(
        options,
        can_debounce=instance.debounce_store is not None,
        can_keep_results=instance.results is not None,
        can_be_unique=instance.backend.queue.SUPPORTS_UNIQUE,
        can_deduplicate=instance.backend.queue.SUPPORTS_DEDUPLICATION,
    )
    instance.serializer.dump_error_classes(options.error_classes)
    if name is not None and instance.serializer.name == "classic":
        raise InvalidOptions(
            f"name={name!r} cannot travel in a classic item, which holds a reference to the "
            "function; leave it out, or use another serializer"
        )

    def register(function: Callable[..., Any]) -> Job[..., Any]:
        _check_function(function)
        job = Job(instance, function, name, options)
        instance.registry.add(job)
        job.lend_later()
        return job

    return register(function) if is_bare else register


def _is_decorated(value: object) -> bool:
    """Whether the first argument is what a decorator without parentheses gets."""
    return isinstance(value, _DESCRIPTORS) or (callable(value) and not isinstance(value, type))


def _check_function(function: object) -> None:
    if isinstance(function, _DESCRIPTORS):
        kind = type(function).__name__
        remedy = (
            "decorate a plain one" if kind == "property" else f"put @{kind} above this decorator"
        )
        raise TypeError(f"a job is a function, got {function!r:.200}; {remedy}")
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"a job is a function, got {function!r:.200}")
    if isinstance(function, Job | BoundJob):
        raise TypeError(f"{function!r:.200} is a job already; decorate it once")
    call = getattr_static(type(function), "__call__", None)
    if _is_generator(function) or _is_generator(call):
        raise TypeError(
            f"{function!r:.200} is a generator function, and calling it would run nothing; "
            "return a value instead of yielding"
        )


def _is_generator(function: object) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
