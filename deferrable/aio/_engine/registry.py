"""The jobs of an instance, and the search for the job of an item.

Owns the names. The rule: whatever an item says, only a job that was registered on this instance
runs. Its module is imported only if the name is not known yet, is public, and is in a package from
which imports are allowed.
"""

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from deferrable._arguments import Binder
from deferrable._codec import names as _names
from deferrable._codec.serializers import DecodedCall, short_repr
from deferrable._protection import Protection
from deferrable.errors import InvalidOptions, UnreadableItem
from deferrable.item import Item
from deferrable.options import JobOptions

__all__ = ["FoundCall", "PassingRegistry", "RegisteredJob", "Registry", "job_of"]


@runtime_checkable
class RegisteredJob(Protocol):
    """The engine's view of a job."""

    @property
    def name(self) -> str:
        """Its name in items."""
        ...

    @property
    def function(self) -> Callable[..., Any]:
        """The function to call when it is run."""
        ...

    @property
    def is_async(self) -> bool:
        """Whether `function` is a coroutine function."""
        ...

    @property
    def binder(self) -> Binder | None:
        """The check that refuses arguments which `function` does not take; None: no check."""
        ...

    @property
    def settings(self) -> JobOptions:
        """The options of its calls."""
        ...

    template: object
    """What `deferrable.aio._engine.new_items` keeps with the job; None at first."""

    def check_findable(self, *, is_local: bool = False) -> None:
        """Refuse a function that no other process could find, if there may be another."""
        ...


def job_of(given: object) -> RegisteredJob:
    """The job that a caller means: a job, or what stands for one in a framework.

    Raises:
        TypeError: it is neither. A name would be found on many objects, and then match no call.
    """
    job = getattr(given, "_deferrable_job", given)
    if not isinstance(job, RegisteredJob):
        raise TypeError(
            f"job= takes a job or its name, got {type(given).__name__}; give what the decorator "
            "of the instance has returned"
        )
    return job


class FoundCall:
    """A call that can be made."""

    # No dataclass: a field that is a job would be a method to type checkers.
    __slots__ = ("args", "function", "job", "kwargs")

    def __init__(
        self,
        job: RegisteredJob,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.job = job
        self.function = function
        self.args = args
        self.kwargs = kwargs


class Registry(Mapping[str, RegisteredJob]):
    """The jobs of one instance by their names.

    Args:
        protection: decides which items are read.
        import_from: packages and modules that may be imported for an item; None: all public ones,
            or none if `protection` reads no pickles.

    Raises:
        InvalidOptions: `import_from` holds something else.
    """

    def __init__(self, protection: Protection, import_from: Iterable[str] | None = None) -> None:
        self._protection = protection
        if import_from is None and not protection.reads_pickles:
            # Writers of such items must not run code here. Importing a module runs it.
            import_from = ()
        self._import_prefixes = None if import_from is None else _read_prefixes(import_from)
        self._jobs: dict[str, RegisteredJob] = {}

    def __getitem__(self, name: str) -> RegisteredJob:
        return self._jobs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._jobs)

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: RegisteredJob) -> None:
        """Register a job. A function that is defined again takes its own place.

        Raises:
            InvalidOptions: another function has the name.
        """
        known = self._jobs.get(job.name)
        if known is not None and _names.name_of(known.function) != _names.name_of(job.function):
            raise InvalidOptions(
                f"the name {job.name!r} is taken by {_names.name_of(known.function)}; give "
                f"{_names.name_of(job.function)} another name="
            )
        self._jobs[job.name] = job

    def find(self, item: Item) -> FoundCall:
        """The call that `item` holds.

        Raises:
            UnreadableItem: it names no job of this instance, or cannot be decoded. No code of it
                was run.
        """
        serializer = self._protection.serializer_for(item)
        if "object" in item:
            return self._find_method(item)
        job = self._job_called(serializer.load_name(item))
        call = serializer.load_call(item, job.function)
        return FoundCall(job, job.function, call.args, call.kwargs)

    def decode(self, item: Item) -> DecodedCall:
        """The call that `item` holds, for display. It may be a call that cannot be made.

        Raises:
            UnreadableItem: it cannot be decoded.
        """
        serializer = self._protection.serializer_for(item)
        job = None if "object" in item else self._jobs.get(serializer.load_name(item))
        return serializer.load_call(item, None if job is None else job.function)

    def _find_method(self, item: Item) -> FoundCall:
        call = self._protection.serializer_for(item).load_call(item)
        method = getattr(type(call.target), call.name, None)
        for job in self._jobs.values():
            if job is method:
                return FoundCall(job, job.function, (call.target, *call.args), call.kwargs)
        raise UnreadableItem(
            f"the item names the method {call.name!r} of {type(call.target).__qualname__}, "
            "which is not a job of this instance; decorate it"
        )

    def _job_called(self, name: str) -> RegisteredJob:
        job = self._jobs.get(name)
        if job is not None:
            return job
        reason = _names.why_not_imported(name, self._import_prefixes)
        module = name.partition(":")[0]
        if reason is None and module != _names.canonical_main():
            _import(module, name)
            job = self._jobs.get(name)
        if job is None:
            why = "" if reason is None else f" (nothing was imported for it, because {reason})"
            raise UnreadableItem(
                f"the item names {name!r:.200}, which is not a job of this instance{why}; import "
                "the module that defines it in the consumer, decorated with this instance, or "
                "name its package in import_from="
            )
        return job


class PassingRegistry(Registry):
    """The jobs of another registry, also those that are added to it later.

    Args:
        passed: what a caller gets for a call that was found for an item.
    """

    def __init__(self, registry: Registry, passed: Callable[[FoundCall, Item], FoundCall]) -> None:
        vars(self).update(vars(registry))
        self._find = registry.find
        self._passed = passed

    def find(self, item: Item) -> FoundCall:
        return self._passed(self._find(item), item)


def _read_prefixes(import_from: Iterable[str]) -> tuple[str, ...]:
    if isinstance(import_from, str):
        raise InvalidOptions(
            f"import_from is a sequence of packages, got the text {import_from!r:.80}; "
            f"write ({import_from!r:.80},)"
        )
    prefixes = tuple(import_from)
    for prefix in prefixes:
        if not isinstance(prefix, str) or not prefix.strip("."):
            raise InvalidOptions(
                f"import_from holds {prefix!r:.80}; write names of packages or modules, such as "
                "'app.'"
            )
    return tuple(f"{prefix.rstrip('.')}." for prefix in prefixes)


def _import(module: str, name: str) -> None:
    try:
        importlib.import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UnreadableItem(
            f"the item names {name!r:.200}, and importing {module} raised "
            f"{type(error).__name__}: {short_repr(error)}"
        ) from error
