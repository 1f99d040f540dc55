"""The values of the ``json`` serializer: to JSON, and back with the help of annotations.

Owns the conversion of an argument to JSON, and the conversion to the type of its annotation;
msgspec does the work. The one rule: the result is made of types that the consumer's own function
names, never of types that the sender named.
"""

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import msgspec

from deferrable._codec import json as _json
from deferrable._codec import names as _names
from deferrable._codec.contract import JSONValue
from deferrable._codec.json_models import reader_of, with_dataclasses_dumped
from deferrable._codec.json_types import from_json, has_path_keys, to_json
from deferrable._codec.refusals import describe
from deferrable.errors import UnreadableItem

__all__ = ["argument_reader", "dump", "load_arguments", "written_function"]

_PARAMETER = inspect.Parameter


def dump(value: object) -> JSONValue:
    """Return ``value`` as it is read back from JSON: lists for tuples, text for dates.

    Raises:
        Exception: the error of msgspec or of the JSON encoder, if it cannot be written.
    """
    if "pydantic.dataclasses" in sys.modules:
        value = with_dataclasses_dumped(value)
    built_in = msgspec.to_builtins(value, str_keys=True, enc_hook=to_json)
    plain: JSONValue = _json.as_read_back(built_in)
    return plain


def load_arguments(
    args: Sequence[Any], kwargs: Mapping[str, Any], function: Callable[..., Any] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return arguments as ``function`` declares them; as plain JSON where it declares nothing.

    Args:
        function: None: it is not known here, and all of them stay plain.

    Raises:
        UnreadableItem: names the argument that does not fit its declaration, but shows no value.
    """
    if function is None:
        return tuple(args), dict(kwargs)
    known = _parameters_of(function)
    positional = [_converted(value, *known.at(index), function) for index, value in enumerate(args)]
    return tuple(positional), {
        key: _converted(value, key, known.called(key), function) for key, value in kwargs.items()
    }


def argument_reader(function: Callable[..., Any]) -> Callable[[int | str, Any], Any]:
    """What returns one argument as `function` declares it, by its place or its keyword.

    It raises `UnreadableItem`, without the value, if the argument does not fit.

    Raises:
        UnreadableItem: the annotations cannot be read.
    """
    known = _parameters_of(function)

    def read(place: int | str, value: Any) -> Any:
        if isinstance(place, int):
            return _converted(value, *known.at(place), function)
        return _converted(value, place, known.called(place), function)

    return read


_KEPT = (str, int, float, bool, NoneType)
"""JSON's plain types. A value of exactly such a type fits the annotation of that type as it is."""


class _Declared:
    """The annotation of a parameter, prepared for fast conversions.

    Attributes:
        kept: the types of values that need no conversion.
    """

    __slots__ = ("_box", "_has_path_keys", "_read", "annotation", "kept")

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        is_union = typing.get_origin(annotation) in (typing.Union, UnionType)
        choices = typing.get_args(annotation) if is_union else (annotation,)
        # By identity, because an annotation may be any object.
        are_kept = all(any(choice is each for each in _KEPT) for choice in choices)
        self.kept: frozenset[type] = frozenset(choices if are_kept else ())
        self._box: Any = None
        self._read = reader_of(annotation)
        self._has_path_keys = has_path_keys(annotation)

    def convert(self, value: Any) -> Any:
        if self._read is not None:
            return self._read(value)
        if self._has_path_keys:
            # msgspec.convert leaves such a key as text (msgspec issue 775), json.decode does not.
            text = _json.dump_value(value)
            return msgspec.json.decode(text, type=self.annotation, dec_hook=from_json)
        # msgspec reads an annotation at each call, but a msgspec type only once.
        if self._box is None:
            fields = [("value", self.annotation)]
            self._box = msgspec.defstruct("_Box", fields, array_like=True, gc=False)
        try:
            return msgspec.convert([value], self._box, str_keys=True, dec_hook=from_json).value
        except Exception:
            # Without the box, for a message that names the place within the argument.
            return msgspec.convert(value, self.annotation, str_keys=True, dec_hook=from_json)


@dataclass(frozen=True, slots=True)
class _Parameters:
    """The declaration of a function: names with annotations, by place and by keyword."""

    positional: tuple[tuple[str, _Declared], ...]
    rest: tuple[str, _Declared] | None
    keywords: Mapping[str, _Declared]
    other_keywords: _Declared

    def at(self, index: int) -> tuple[str, _Declared]:
        if index < len(self.positional):
            return self.positional[index]
        # One too many: the call itself raises, as it would in the producer.
        return self.rest or (f"args[{index}]", _ANYTHING)

    def called(self, keyword: str) -> _Declared:
        return self.keywords.get(keyword, self.other_keywords)


_ANYTHING = _Declared(Any)
_known: WeakKeyDictionary[Callable[..., Any], _Parameters] = WeakKeyDictionary()


def _parameters_of(function: Callable[..., Any]) -> _Parameters:
    try:
        known = _known.get(function)
    except TypeError:  # a callable object without a hash, or that nothing can refer to weakly
        return _read_parameters(function)
    if known is None:
        known = _known[function] = _read_parameters(function)
    return known


def _read_parameters(function: Callable[..., Any]) -> _Parameters:
    try:
        parameters = inspect.signature(function).parameters.values()
        hints = typing.get_type_hints(written_function(function), include_extras=True)
    except Exception as error:
        raise UnreadableItem(
            f"the annotations of {_names.name_of(function)} cannot be read: {describe(error)}; "
            "import the names that they use at run time, too"
        ) from error
    positional, rest, keywords, others = [], None, {}, _ANYTHING
    for parameter in parameters:
        entry = (parameter.name, _Declared(hints.get(parameter.name, Any)))
        if parameter.kind in (_PARAMETER.POSITIONAL_ONLY, _PARAMETER.POSITIONAL_OR_KEYWORD):
            positional.append(entry)
        if parameter.kind in (_PARAMETER.POSITIONAL_OR_KEYWORD, _PARAMETER.KEYWORD_ONLY):
            keywords[parameter.name] = entry[1]
        if parameter.kind is _PARAMETER.VAR_POSITIONAL:
            rest = entry
        if parameter.kind is _PARAMETER.VAR_KEYWORD:
            others = entry[1]
    if typing.get_origin(others.annotation) is typing.Unpack:
        of_keys = typing.get_type_hints(typing.get_args(others.annotation)[0])
        keywords |= {key: _Declared(annotation) for key, annotation in of_keys.items()}
        others = _ANYTHING
    return _Parameters(tuple(positional), rest, keywords, others)


def written_function(function: Any) -> Any:
    """The function that somebody wrote, of a wrapped one, a partial, or a callable object."""
    function = inspect.unwrap(function)
    while isinstance(function, functools.partial):
        function = inspect.unwrap(function.func)
    return function if inspect.isroutine(function) else type(function).__call__


def _converted(
    value: Any, parameter: str, declared: _Declared, function: Callable[..., Any]
) -> Any:
    if value.__class__ in declared.kept or declared.annotation is Any:
        return value
    try:
        return declared.convert(value)
    except KeyboardInterrupt:
        raise
    except msgspec.ValidationError as error:
        _refuse(parameter, declared.annotation, function, _without_value(error))
    except BaseException as error:  # a type that msgspec does not know, or one that raises
        _refuse(parameter, declared.annotation, function, error)


def _refuse(
    parameter: str, annotation: Any, function: Callable[..., Any], error: BaseException
) -> NoReturn:
    declared = getattr(annotation, "__qualname__", None) or repr(annotation)
    raise UnreadableItem(
        f"the argument {parameter!r} of {_names.name_of(function)} does not fit its annotation "
        f"{declared:.200}: {describe(error)}"
    ) from error


def _without_value(error: Exception) -> Exception:
    """``error`` without the value of the argument, which must not be in logs."""
    text = str(error)
    if not text.startswith("Invalid enum value"):
        return error
    place = text.rfind(" - at `$")
    return msgspec.ValidationError(
        "none of the values that are allowed" + (text[place:] if place >= 0 else "")
    )
