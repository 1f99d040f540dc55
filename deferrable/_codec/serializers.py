"""The serializers: they convert a call to fields of an item, and the fields back to a call.

Owns the fields that the built-in ``pickle``, ``json`` and ``classic`` write. Their content is made
in ``pickle``, ``json_values`` and ``python2.classic``; their contract is in ``contract``. A
serializer never resolves a function: it reads a *name*.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from deferrable._arguments import mismatch
from deferrable._codec import json_values as _json_values
from deferrable._codec import names as _names
from deferrable._codec.contract import DecodedCall, JSONValue, Serializer
from deferrable._codec.json_types import find_loss
from deferrable._codec.pickle import from_base64, to_base64
from deferrable._codec.python2 import classic as _classic
from deferrable._codec.refusals import (
    any_field,
    dump_or_refuse,
    kind_of,
    refuse_call,
    reject,
    short_repr,
    text_field,
    with_text_keys,
)
from deferrable.errors import InvalidOptions, UnreadableItem, UnserializableCall

__all__ = [
    "ClassicSerializer",
    "DecodedCall",
    "JSONSerializer",
    "JSONValue",
    "PickleSerializer",
    "Serializer",
    "get_serializer",
    "local",
    "serializer_for",
    "short_repr",
]


def get_serializer(name: str) -> Serializer:
    """Return the built-in serializer called ``name``.

    Raises:
        InvalidOptions: there is none with that name.
    """
    serializer = _BUILT_IN.get(name) if isinstance(name, str) else None
    if serializer is None:
        raise InvalidOptions(f"serializer is {short_repr(name)}; it must be one of {_known()}")
    return serializer


def local(serializer: Serializer) -> Serializer:
    """The form of a built-in serializer whose items only this process reads."""
    return PickleSerializer(is_local=True) if serializer.name == "pickle" else serializer


def serializer_for(item: Mapping[str, Any]) -> Serializer:
    """Return the serializer that wrote ``item``: the one it names, or classic if it names none.

    Raises:
        UnreadableItem: it names one that this version does not have.
    """
    name = item.get("serializer")
    if name is None:
        return _BUILT_IN["classic"]
    serializer = _BUILT_IN.get(name) if isinstance(name, str) else None
    if serializer is None:
        raise UnreadableItem(
            f"the item was written by serializer {short_repr(name)}, and this consumer knows "
            f"{_known()}; upgrade deferrable here, or let the producer use one of these"
        ) from LookupError(f"no serializer {short_repr(name)}")
    return serializer


def _known() -> str:
    return ", ".join(map(repr, sorted(_BUILT_IN)))


class _NamedFields:
    """The fields in which ``pickle`` and ``json`` write names: of the job, of errors to retry."""

    def load_name(self, item: Mapping[str, Any]) -> str:
        return text_field(item, "method")

    def dump_error_classes(self, classes: Iterable[type[BaseException]] | None) -> dict[str, Any]:
        names = dict.fromkeys(map(_name_of_error, classes or ()))
        return {"error_classes": None, "retry_on": list(names)}

    def load_retry_names(self, item: Mapping[str, Any]) -> frozenset[str]:
        names = item.get("retry_on")
        if names is None:
            return frozenset()
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            reject("retry_on", names, "a list of names")
        return frozenset(names)


# --- pickle -----------------------------------------------------------------------------------

_NO_KWARGS = to_base64({})


class PickleSerializer(_NamedFields):
    """Any picklable argument, as base64 text of a pickle; the default.

    Args:
        is_local: only this process reads the text, so it may contain objects of classes that only
            its own ``__main__`` has.
    """

    def __init__(self, *, is_local: bool = False) -> None:
        self._is_local = is_local

    @property
    def name(self) -> str:
        return "pickle"

    def dump_call(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        function: Callable[..., Any] | None = None,
    ) -> dict[str, Any]:
        try:
            return {
                "method": name,
                "args": to_base64(tuple(args), self._is_local),
                "kwargs": to_base64(dict(kwargs), self._is_local) if kwargs else _NO_KWARGS,
                "serializer": "pickle",
            }
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            refuse_call(name, args, kwargs, self._dump, error)

    def dump_value(self, value: object) -> JSONValue:
        return dump_or_refuse(value, self._dump)

    def _dump(self, value: object) -> str:
        return to_base64(value, self._is_local)

    def load_value(self, data: Any) -> Any:
        return None if data is None else from_base64("value", data)

    def load_call(
        self, item: Mapping[str, Any], function: Callable[..., Any] | None = None
    ) -> DecodedCall:
        name = self.load_name(item)
        args = from_base64("args", any_field(item, "args"))
        kwargs_text = any_field(item, "kwargs")
        if type(args) is not tuple:
            reject("args", args, "a tuple")
        if kwargs_text == _NO_KWARGS:
            return DecodedCall(name, args, {})
        kwargs = from_base64("kwargs", kwargs_text)
        if type(kwargs) is not dict:
            reject("kwargs", kwargs, "a dict")
        return DecodedCall(name, args, with_text_keys(kwargs))


def _name_of_error(cls: type[BaseException]) -> str:
    if not (isinstance(cls, type) and issubclass(cls, BaseException)):
        raise InvalidOptions(
            f"error_classes holds {short_repr(cls)}, which is not an exception class"
        )
    return _names.name_of(cls)


# --- json -------------------------------------------------------------------------------------


class JSONSerializer(_NamedFields):
    """JSON, decoded by the annotations of the consumer's function; for shared brokers."""

    @property
    def name(self) -> str:
        return "json"

    def dump_call(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        function: Callable[..., Any] | None = None,
    ) -> dict[str, Any]:
        try:
            fields = {
                "method": name,
                "args": _json_values.dump(args),
                "kwargs": _json_values.dump(kwargs),
                "serializer": "json",
            }
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            refuse_call(name, args, kwargs, _json_values.dump, error)
        if function is not None:
            self._check_annotations(fields, function, args, kwargs)
        return fields

    def _check_annotations(
        self,
        fields: dict[str, Any],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> None:
        """Refuse arguments that do not fit the declaration of the consumer's function."""
        try:
            loaded = _json_values.load_arguments(fields["args"], fields["kwargs"], function)
        except UnreadableItem as error:
            raise mismatch(fields["method"], function, error) from error.__cause__
        given = (*args, *kwargs.values())
        for one, other in zip(given, (*loaded[0], *loaded[1].values()), strict=True):
            loss = find_loss(one, other)
            if loss is not None:
                raise mismatch(fields["method"], function, loss)

    def dump_value(self, value: object) -> JSONValue:
        return dump_or_refuse(value, _json_values.dump)

    def load_value(self, data: Any) -> Any:
        return data

    def load_call(
        self, item: Mapping[str, Any], function: Callable[..., Any] | None = None
    ) -> DecodedCall:
        name = self.load_name(item)
        args, kwargs = any_field(item, "args"), any_field(item, "kwargs")
        if not isinstance(args, list):
            reject("args", args, "a list")
        if not isinstance(kwargs, dict):
            reject("kwargs", kwargs, "an object")
        return DecodedCall(name, *_json_values.load_arguments(args, kwargs, function))


# --- classic ----------------------------------------------------------------------------------


class ClassicSerializer:
    """What Python 2's deferrable wrote and reads; for queues shared with it."""

    @property
    def name(self) -> str:
        return "classic"

    def dump_call(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        function: Callable[..., Any] | None = None,
    ) -> dict[str, Any]:
        method = _classic.dump_reference(*_split(name))
        try:
            return {
                "method": method,
                "args": _classic.dumps(tuple(args)),
                "kwargs": _classic.dumps_kwargs(kwargs),
            }
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            refuse_call(name, args, kwargs, _classic.dumps, error)

    def dump_value(self, value: object) -> JSONValue:
        return dump_or_refuse(value, _classic.dumps)

    def load_value(self, data: Any) -> Any:
        return None if data is None else _from_classic("value", data)

    def load_call(
        self, item: Mapping[str, Any], function: Callable[..., Any] | None = None
    ) -> DecodedCall:
        name = self.load_name(item)
        args = _from_classic("args", any_field(item, "args"))
        kwargs = _from_classic("kwargs", any_field(item, "kwargs"))
        target = _from_classic("object", item["object"]) if "object" in item else None
        if not isinstance(args, tuple | list):
            reject("args", args, "a tuple")
        return DecodedCall(name, tuple(args), with_text_keys(_pairs(kwargs)), target)

    def load_name(self, item: Mapping[str, Any]) -> str:
        method = text_field(item, "method")
        return method if "object" in item else _classic.load_reference(method)

    def dump_error_classes(self, classes: Iterable[type[BaseException]] | None) -> dict[str, Any]:
        return {"error_classes": _classic.dump_error_classes(classes)}

    def load_retry_names(self, item: Mapping[str, Any]) -> frozenset[str]:
        if item.get("error_classes") is None:
            return frozenset()
        return frozenset(_classic.load_class_names(text_field(item, "error_classes")))


def _split(name: str) -> tuple[str, str]:
    module, colon, path = name.partition(":")
    if not colon:
        raise UnserializableCall(
            f"the classic serializer cannot name the job {name!r} so that Python 2 finds it: "
            f"Python 2 knows functions by module and name only; leave out name=, or use "
            f"serializer='pickle'"
        )
    return module, path


def _from_classic(field: str, text: Any) -> Any:
    if not isinstance(text, str):
        reject(field, text, "text")
    try:
        return _classic.loads(text)
    except UnreadableItem as error:
        raise UnreadableItem(f"the item's {field} cannot be read: {error}") from error.__cause__


def _pairs(kwargs: Any) -> dict[Any, Any]:
    try:
        return dict(kwargs)
    except Exception as error:
        raise UnreadableItem(
            f"the item's kwargs hold {kind_of(kwargs)}, neither a list of pairs nor a dict"
        ) from error


_BUILT_IN: dict[str, Serializer] = {
    serializer.name: serializer
    for serializer in (PickleSerializer(), JSONSerializer(), ClassicSerializer())
}
