"""Types that JSON and msgspec do not know, such as paths, and what an argument would lose.

Owns how their values become JSON, how they are read back where a function names them, and what an
argument would lose on the way. `json_models` does it for the types of pydantic.

The one rule: a value that would not come back equal is refused.
"""

import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, time
from pathlib import PurePath
from types import NoneType
from typing import Any

import msgspec

from deferrable._codec.json_models import dump_model, has_part, is_model, load_model

__all__ = ["find_loss", "from_json", "has_path_keys", "to_json"]

_PLAIN = frozenset({str, int, float, bool, NoneType})


def to_json(value: object) -> object:
    """What stands for `value` in JSON.

    Raises:
        TypeError: nothing does.
    """
    # For example text that a template engine marks as safe; JSON keeps the text, not its class.
    for plain in (str, int, float):
        if isinstance(value, plain):
            return plain(value)
    if isinstance(value, PurePath):
        return str(value)
    if is_model(type(value)):
        return dump_model(value)
    raise TypeError(f"JSON cannot hold a value of type {type(value).__qualname__}")


def from_json(declared: Any, value: object) -> object:
    """`value` as the type that a function names.

    Raises:
        ValueError: it does not fit. The text shows no value.
    """
    if isinstance(declared, type) and issubclass(declared, PurePath):
        if not isinstance(value, str):
            raise ValueError("Expected the text of a path")
        return declared(value)
    if is_model(declared):
        return load_model(declared, value)
    origin = typing.get_origin(declared) or declared
    if isinstance(origin, type) and isinstance(value, origin):  # an abstract class, for example
        return value
    raise ValueError(f"Expected `{getattr(declared, '__name__', declared)}`")


def has_path_keys(annotation: Any) -> bool:
    """Whether it names a dict whose keys are paths, or holds one."""
    return has_part(annotation, _is_dict_of_paths)


def _is_dict_of_paths(declared: Any) -> bool:
    origin, parts = typing.get_origin(declared), typing.get_args(declared)
    if not (isinstance(origin, type) and issubclass(origin, Mapping) and parts):
        return False
    return has_part(parts[0], lambda each: isinstance(each, type) and issubclass(each, PurePath))


def find_loss(given: object, loaded: Any, place: str = "") -> str | None:
    """What of an argument a consumer would not get, because its annotation names less.

    Args:
        given: as it was passed.
        loaded: as a consumer reads it.
        place: within the argument.

    Returns:
        a sentence without any value; None: nothing is lost.
    """
    if given.__class__ in _PLAIN:
        return None
    if isinstance(given, list | tuple) and isinstance(loaded, list | tuple):
        both = zip(given, loaded, strict=False)  # a named tuple is filled with its defaults
        pairs = [(f"{place}[{index}]", *pair) for index, pair in enumerate(both)]
    elif isinstance(given, dict) and isinstance(loaded, dict):
        if len(loaded) < len(given):
            return f"{place or 'a dict'} has keys that its annotation does not name"
        both = zip(given.values(), loaded.values(), strict=False)
        pairs = [(f"{place}[...]", *pair) for pair in both]
    elif isinstance(given, dict) and _is_plain_dataclass(loaded):
        names = [each.name for each in fields(loaded)]
        if not given.keys() <= set(names):
            return f"{place or 'a dict'} has keys that its annotation does not name"
        pairs = [(f"{place}.{name}", given[name], getattr(loaded, name)) for name in given]
    elif isinstance(given, datetime | time):
        return _moved(given, loaded, place)
    elif not (_has_fields(given) and _has_fields(loaded)):
        return None
    elif type(given) is not type(loaded):
        where = f" at {place}" if place else ""
        return (
            f"a {type(given).__qualname__}{where} would arrive as a {type(loaded).__qualname__}, "
            "which its annotation names, without the fields of its own class; annotate the "
            "parameter with the class that you pass"
        )
    elif is_dataclass(given):
        names = [each.name for each in fields(given)]
        pairs = [(f"{place}.{name}", getattr(given, name), getattr(loaded, name)) for name in names]
    else:
        return None  # a model that came back equal
    losses = (find_loss(one, other, within) for within, one, other in pairs)
    return next((each for each in losses if each is not None), None)


def _moved(given: datetime | time, loaded: object, place: str) -> str | None:
    """Say that a moment would be another one: msgspec writes an offset in whole minutes."""
    if not isinstance(loaded, datetime | time) or given.utcoffset() == loaded.utcoffset():
        return None
    where = f" at {place}" if place else ""
    return (
        f"a {type(given).__qualname__}{where} would arrive as another moment, because its offset "
        "from UTC has seconds; pass it in UTC"
    )


def _is_plain_dataclass(value: Any) -> bool:
    """Whether its fields are all that it is read from. One of pydantic may have other names."""
    return is_dataclass(value) and not hasattr(value, "__pydantic_validator__")


def _has_fields(value: object) -> bool:
    return is_dataclass(value) or isinstance(value, msgspec.Struct) or is_model(type(value))
