"""The contract of a serializer.

Owns what a serializer promises to writers and readers of items, and the decoded call. The
serializers are in `deferrable._codec.serializers`.

The one rule: a producer gets ``UnserializableCall`` before anything is written, a consumer gets no
error but ``UnreadableItem``, and both have the cause.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

__all__ = ["DecodedCall", "JSONValue", "Serializer"]

JSONValue: TypeAlias = "bool | int | float | str | list[JSONValue] | dict[str, JSONValue] | None"


@dataclass(slots=True)  # Not frozen, which costs each job 0.5 µs; nobody changes it.
class DecodedCall:
    """The call that an item holds.

    Attributes:
        name: ``module:qualname`` or the name given to the job; of an ``object`` item, the plain
            name of the method.
        args: positional arguments.
        kwargs: keyword arguments.
        target: of an ``object`` item, the object whose method is called; else None.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    target: object | None = None


class Serializer(Protocol):
    """What a serializer must do. Implementations hold no state and may be used by any thread."""

    @property
    def name(self) -> str:
        """Its name in options and items."""
        ...

    def dump_call(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        function: Callable[..., Any] | None = None,
    ) -> dict[str, Any]:
        """Return the fields ``method``, ``args``, ``kwargs`` and, except classic, ``serializer``.

        Args:
            function: the function of the call. A serializer that decodes by its annotations checks
                the arguments against them; None: nothing is checked.

        Raises:
            UnserializableCall: says which argument cannot be serialized, why, and what to do.
        """
        ...

    def dump_value(self, value: object) -> JSONValue:
        """Return one value, such as a namespace's metadata, in its serialized form.

        Raises:
            UnserializableCall: it cannot be serialized.
        """
        ...

    def load_value(self, data: Any) -> Any:
        """Return the value that ``dump_value`` was given; None for None.

        Raises:
            UnreadableItem: whatever was wrong, as its cause.
        """
        ...

    def load_call(
        self, item: Mapping[str, Any], function: Callable[..., Any] | None = None
    ) -> DecodedCall:
        """Return the call in ``item``, with decoded arguments. May run code from the item.

        Args:
            function: the function of the call, if it is known here, for serializers that decode
                by its annotations.

        Raises:
            UnreadableItem: whatever was wrong, as its cause. No other error leaves this, except
                KeyboardInterrupt.
        """
        ...

    def load_name(self, item: Mapping[str, Any]) -> str:
        """Return the recorded name alone. Must decode no argument and run nothing.

        Raises:
            UnreadableItem: there is no name in the item.
        """
        ...

    def dump_error_classes(self, classes: Iterable[type[BaseException]] | None) -> dict[str, Any]:
        """Return the fields that say which errors are retried.

        Raises:
            InvalidOptions: one of them is not an exception class, or cannot be named in this
                serializer.
        """
        ...

    def load_retry_names(self, item: Mapping[str, Any]) -> frozenset[str]:
        """Return the names of the classes to retry, to compare with those of an error's classes.

        Must import and run nothing.

        Raises:
            UnreadableItem: the fields hold something else.
        """
        ...
