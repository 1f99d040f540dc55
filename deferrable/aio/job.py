"""The job: a function that can be called now, or later.

Owns what `@instance.deferrable` returns. It is called like the function, looks like it to
introspection, binds as a method, pickles by reference, and defers. On an instance of either API,
``later`` uses the blocking door and ``later_async`` the awaiting one.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import FunctionType, MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, Unpack, cast, overload

from deferrable._arguments import Binder, binder_for
from deferrable._codec import names as _names
from deferrable._codec.refusals import kind_of, short_repr
from deferrable._option_conflicts import check
from deferrable.aio._engine.deferring import defer, defer_many
from deferrable.aio._engine.instance import Instance
from deferrable.aio._engine.pushing import item_for
from deferrable.aio._engine.running import AwaitingDoor, blocking_driver
from deferrable.errors import InvalidOptions, UnserializableCall
from deferrable.item import Item, group_text
from deferrable.options import (
    JobOptions,
    OptionChanges,
    change,
)
from deferrable.outcome import Receipt

__all__ = ["BoundJob", "Call", "Job"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")

_FUNCTION_ATTRIBUTES = ("__code__", "__defaults__", "__kwdefaults__")
"""By these, `inspect` and frameworks recognize a coroutine function."""

_LENT_NAMES = ("later", "later_async")

_door = AwaitingDoor()


@dataclass(frozen=True, slots=True)
class Call(Generic[R_co]):
    """The arguments of one call, checked by type checkers like the call itself."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    _job: "Job[..., Any] | BoundJob[..., Any] | None" = field(
        default=None, repr=False, compare=False
    )

    def make_item(
        self, call_id: str, sent_time: float, attributes: Mapping[str, str], group_id: str | None
    ) -> Item:
        """The item for this call, for a backend that finds it in a message of somebody else.

        Raises:
            InvalidOptions: it was not made by ``job.call(...)``, or is debounced.
            UnserializableCall: no other process could run it.
            ArgumentMismatch: the function does not take these arguments.
        """
        args, given = self.args, self._job
        job: Job[..., Any] | None = None
        if isinstance(given, BoundJob):
            job, args = given.__func__, (given.__self__, *args)
        elif given is not None:
            job = given
        if job is None:
            raise InvalidOptions("this call names no job; make it with job.call(...)")
        fields: Item = {"id": call_id, "attributes": dict(attributes)}
        if group_id is not None:
            fields["message_group_id"] = group_id
        if not attributes:
            del fields["attributes"]
        return item_for(job.instance, job, job.settings, args, self.kwargs, sent_time, fields)


class Job(Generic[P, R_co]):
    """A function registered with an instance.

    Attributes:
        function: the function itself.
        name: its name in items: ``module:qualname``, or the given name.
    """

    __name__: str
    __qualname__: str

    def __init__(
        self,
        instance: Instance,
        function: Callable[P, R_co],
        name: str | None,
        options: JobOptions,
    ) -> None:
        _wrap(self, function)
        for attribute in _FUNCTION_ATTRIBUTES:
            if hasattr(function, attribute):
                setattr(self, attribute, getattr(function, attribute))
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        self.name = _names.name_of(function) if name is None else name
        if not hasattr(function, "__name__"):  # a callable object, a partial
            self.__name__ = self.__qualname__ = self.name
        self._instance = instance
        self._options = options
        self._has_given_name = name is not None
        self.template: object = None
        self._registered: Job[P, R_co] = self

    @property
    def binder(self) -> Binder | None:
        """The check that refuses arguments which the function does not take; made once."""
        return self._registered._own_binder

    @functools.cached_property
    def _own_binder(self) -> Binder | None:
        return binder_for(self.function)

    @property
    def instance(self) -> Instance:
        """The instance with which it is registered."""
        return self._instance

    @property
    def settings(self) -> JobOptions:
        """The options that hold for the calls made on this object."""
        return self._options

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function now."""
        return self.function(*args, **kwargs)

    def later(self, /, *args: P.args, **kwargs: P.kwargs) -> Receipt:
        """Defer a call. Blocks until the broker has it; from a coroutine use `later_async`.

        Raises:
            InvalidOptions: an option that is a callable returned a value out of range.
            UnserializableCall: no other process could run this call; nothing was pushed.
            ArgumentMismatch: the function does not take these arguments; nothing was pushed.
            ItemTooLarge: it is over the broker's limit; nothing was pushed.
            BackendUnavailable: the broker could not be reached; it may or may not have arrived.
            CalledFromEventLoop: this is the portal's own thread, which would wait for itself.
        """
        return blocking_driver().drive(
            lambda door: defer(self._instance, door, self, self._options, args, kwargs),
            f"await {self.__name__}.later_async(...)",
        )

    async def later_async(self, /, *args: P.args, **kwargs: P.kwargs) -> Receipt:
        """Defer a call, on the running loop.

        Raises:
            InvalidOptions, UnserializableCall, ItemTooLarge, BackendUnavailable: see `later`.
        """
        return await defer(self._instance, _door, self, self._options, args, kwargs)

    def later_many(self, calls: "Iterable[tuple[Any, ...] | Call[R_co]]") -> list[Receipt]:
        """Defer many calls in native batches; see `later`.

        Args:
            calls: each a tuple of positional arguments, or what `call` returned.

        Returns:
            a receipt for each, in their order.

        Raises:
            BackendError: some were not pushed; its ``receipts`` has None for those.
        """
        return blocking_driver().drive(
            lambda door: defer_many(
                self._instance, door, self, self._options, map(_arguments, calls)
            ),
            f"await {self.__name__}.later_many_async(...)",
        )

    async def later_many_async(
        self, calls: "Iterable[tuple[Any, ...] | Call[R_co]]"
    ) -> list[Receipt]:
        """Defer many calls in native batches, on the running loop; see `later_many`."""
        return await defer_many(self._instance, _door, self, self._options, map(_arguments, calls))

    def call(self, /, *args: P.args, **kwargs: P.kwargs) -> Call[R_co]:
        """One call, for `later_many`, or for what stands for a message of somebody else."""
        return Call(args, kwargs, self)

    def options(self, **changes: Unpack[OptionChanges]) -> "Job[P, R_co]":
        """This job with other options, for calls of the returned object.

        Args:
            changes: options of the decorator without ``name``, and ``run_at``: when it may run,
                instead of a delay, as an aware datetime or epoch seconds; and
                ``deduplication_id``: SQS drops a call whose id another one of the last five minutes
                had (FIFO queues).

        Raises:
            InvalidOptions: they are out of range, or contradict each other or the job's own.
            Unsupported: the backend keeps no unique keys, or drops no repeated calls.
            TypeError: an option is unknown.
        """
        options = change(self._options, changes)
        check(
            options,
            can_debounce=self._instance.debounce_store is not None,
            can_keep_results=self._instance.results is not None,
            can_be_unique=self._instance.backend.queue.SUPPORTS_UNIQUE,
            can_deduplicate=self._instance.backend.queue.SUPPORTS_DEDUPLICATION,
        )
        other = Job(
            self._instance, self.function, self.name if self._has_given_name else None, options
        )
        other._registered = self._registered
        return other

    def lend_later(self) -> None:
        """Give the function itself, and wrappers of this job, the methods that defer it.

        The first library did so. Code that calls the decorator and keeps its function, or has
        another decorator above this one, finds ``later`` there.
        """
        lent = {name: getattr(self, name) for name in _LENT_NAMES}
        vars(self).update(lent)  # `functools.wraps` copies what stands here
        if isinstance(self.function, FunctionType):
            attributes = vars(self.function)
            for name, method in lent.items():
                if _is_free(attributes.get(name)):
                    attributes[name] = method

    def check_findable(self, *, is_local: bool = False) -> None:
        """Refuse a function that no other process could find.

        Args:
            is_local: no other process ever looks for it, so it need not be importable.

        Raises:
            UnserializableCall: it is a lambda, or nested, or its name means another object; or it
                is a class method that would run without its class.
        """
        job = self._registered
        if job._is_known_findable or (is_local and job._is_known_usable):
            return
        if not job._is_known_usable:
            reason = _names.why_classless(self.function)
            if reason is not None:
                raise UnserializableCall(
                    f"cannot defer {self.name}: {reason}; make it a static method, or a function "
                    "outside the class"
                )
        if not self._has_given_name:
            reason = _names.why_ambiguous(self.function)
            if reason is None and not is_local:
                reason = _names.why_unfindable(self.function, job)
            if reason is not None:
                raise UnserializableCall(
                    f"cannot defer {self.name}: no other process could find it, because {reason}; "
                    "define it at the top level of a module, or give the decorator a name= that "
                    "the consumer registers too"
                )
        job._is_known_usable = True
        job._is_known_findable = self._has_given_name or not is_local

    _is_known_findable = False
    _is_known_usable = False

    @overload
    def __get__(self, bound: None, owner: type | None = None) -> "Job[P, R_co]": ...

    @overload
    def __get__(
        self: "Job[Concatenate[S, Q], R]", bound: S, owner: type | None = None
    ) -> "BoundJob[Q, R]": ...

    def __get__(self, bound: Any, owner: type | None = None) -> Any:
        return self if bound is None else BoundJob(self, bound)

    def __reduce__(self) -> str:
        return self.__qualname__

    def __repr__(self) -> str:
        backend = self._instance.backend
        return f"<Job {self.name}, {group_text(backend.group)}: {backend.queue!r}>"


class BoundJob(Generic[P, R_co]):
    """A job that is a method, bound to an object. The object is sent as its first argument."""

    def __init__(self, job: Job[..., R_co], bound: object) -> None:
        _wrap(self, job)  # with what makes it a coroutine function or not
        self.__self__ = bound
        self.__func__ = job

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(MethodType(self.__func__.function, self.__self__))

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the method now."""
        return self.__func__(self.__self__, *args, **kwargs)

    def later(self, /, *args: P.args, **kwargs: P.kwargs) -> Receipt:
        """Defer a call of the method; see `Job.later`."""
        return self.__func__.later(self.__self__, *args, **kwargs)

    async def later_async(self, /, *args: P.args, **kwargs: P.kwargs) -> Receipt:
        """Defer a call of the method, on the running loop; see `Job.later_async`."""
        return await self.__func__.later_async(self.__self__, *args, **kwargs)

    def later_many(self, calls: "Iterable[tuple[Any, ...] | Call[R_co]]") -> list[Receipt]:
        """Defer many calls of the method; see `Job.later_many`."""
        return self.__func__.later_many(self._bind(calls))

    async def later_many_async(
        self, calls: "Iterable[tuple[Any, ...] | Call[R_co]]"
    ) -> list[Receipt]:
        """Defer many calls of the method, on the running loop; see `Job.later_many`."""
        return await self.__func__.later_many_async(self._bind(calls))

    def call(self, /, *args: P.args, **kwargs: P.kwargs) -> Call[R_co]:
        """One call, for `later_many`, or for what stands for a message of somebody else."""
        return Call(args, kwargs, self)

    def options(self, **changes: Unpack[OptionChanges]) -> "BoundJob[P, R_co]":
        """This method with other options; see `Job.options`."""
        return BoundJob(self.__func__.options(**changes), self.__self__)

    def _bind(self, calls: "Iterable[tuple[Any, ...] | Call[R_co]]") -> list[Call[R_co]]:
        return [Call((self.__self__, *args), kwargs) for args, kwargs in map(_arguments, calls)]

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.__self__, self.__func__.__name__)

    def __repr__(self) -> str:
        return f"<BoundJob {self.__func__!r} of {short_repr(self.__self__)}>"


def _wrap(wrapper: object, wrapped: object) -> None:
    """Copy the attributes of the wrapped function, except those that would hide our methods."""
    functools.update_wrapper(cast(Callable[..., Any], wrapper), cast(Any, wrapped), updated=())
    ours, attributes = type(wrapper), vars(wrapper)
    for name, value in getattr(wrapped, "__dict__", {}).items():
        if not hasattr(ours, name):
            attributes.setdefault(name, value)


def _is_free(attribute: object) -> bool:
    """Whether the user has set no such attribute on a function."""
    return attribute is None or isinstance(getattr(attribute, "__self__", None), Job)


def _arguments(call: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and the keyword arguments of one of many calls."""
    if isinstance(call, tuple):
        return call, {}
    if isinstance(call, Call):
        return call.args, call.kwargs
    raise TypeError(
        "later_many takes tuples of positional arguments, or job.call(...), got "
        f"{kind_of(call)}; for one argument write (argument,)"
    )
