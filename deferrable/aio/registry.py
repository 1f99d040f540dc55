"""Which jobs an instance knows, and how an item's call is found among them.

Owns the names. It may not know queues or doors. Whatever an item says, what runs is a job that was
registered on this instance; its module is imported only if the name is not known yet.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from deferrable import _names
from deferrable.errors import InvalidOptions, UnreadableItem
from deferrable.item import Item
from deferrable.options import JobOptions
from deferrable.serialization import serializer_for, short_repr

if TYPE_CHECKING:
    from deferrable.aio._new_items import Template

__all__ = ["FoundCall", "RegisteredJob", "Registry"]


class RegisteredJob(Protocol):
    """What the engine knows of a job."""

    @property
    def name(self) -> str:
        """What it is called in items."""
        ...

    @property
    def function(self) -> Callable[..., Any]:
        """What is called when it is run."""
        ...

    @property
    def is_async(self) -> bool:
        """Whether `function` is a coroutine function."""
        ...

    @property
    def settings(self) -> JobOptions:
        """The options that hold for its calls."""
        ...

    template: "Template | None"
    """Kept for `deferrable.aio._new_items`, whose it is."""

    def check_findable(self) -> None:
        """Refuse a function that no other process could find."""
        ...


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
    """The jobs of one instance by their names."""

    def __init__(self) -> None:
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
            UnreadableItem: it names no job of this instance, or does not decode; nothing of it
                was run.
        """
        serializer = serializer_for(item)
        if "object" in item:
            return self._find_method(item)
        job = self._job_called(serializer.load_name(item))
        call = serializer.load_call(item)
        return FoundCall(job, job.function, call.args, call.kwargs)

    def _find_method(self, item: Item) -> FoundCall:
        call = serializer_for(item).load_call(item)
        method = getattr(type(call.target), call.name, None)
        for job in self._jobs.values():
            if job is method:
                return FoundCall(job, job.function, (call.target, *call.args), call.kwargs)
        raise UnreadableItem(
            f"the item names the method {call.name!r} of a {type(call.target).__qualname__}, "
            "which is no job of this instance; decorate it"
        )

    def _job_called(self, name: str) -> RegisteredJob:
        job = self._jobs.get(name)
        if job is None:
            module = name.partition(":")[0]
            if ":" in name and module not in ("__main__", _names.canonical_main()):
                _import(module, name)
            job = self._jobs.get(name)
        if job is None:
            raise UnreadableItem(
                f"the item names {name!r}, which is no job of this instance; import the module "
                "that defines it in the consumer, decorated with this very instance"
            )
        return job


def _import(module: str, name: str) -> None:
    try:
        importlib.import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UnreadableItem(
            f"the item names {name!r}, and importing {module} raised "
            f"{type(error).__name__}: {short_repr(error)}"
        ) from error
