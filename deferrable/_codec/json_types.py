"""Types that JSON and msgspec do not know: paths, and the models of pydantic.

Owns how their values become JSON, and how they are read back where a function names them.

The one rule: a value that would not come back equal is refused. A model may hide what it holds.
"""

import sys
import typing
from pathlib import PurePath
from typing import Any

import msgspec

__all__ = ["from_json", "to_json"]


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
    if _is_model(type(value)):
        return _dump_model(value)
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
    if _is_model(declared):
        return _load_model(declared, value)
    origin = typing.get_origin(declared) or declared
    if isinstance(origin, type) and isinstance(value, origin):  # an abstract class, for example
        return value
    raise ValueError(f"Expected `{getattr(declared, '__name__', declared)}`")


def _is_model(declared: Any) -> bool:
    """Whether it is a model of pydantic, which nobody need have installed."""
    pydantic = sys.modules.get("pydantic")
    return (
        pydantic is not None
        and isinstance(declared, type)
        and issubclass(declared, pydantic.BaseModel)
    )


def _dump_model(value: Any) -> object:
    dumped: object = value.model_dump(mode="json", by_alias=True, round_trip=True)
    try:
        is_equal = _load_model(type(value), dumped) == value
    except ValueError:
        is_equal = False
    if not is_equal:
        raise TypeError(
            f"a {type(value).__qualname__} does not come back equal from JSON; a field that hides "
            "its value when it is dumped, such as a SecretStr, needs a serializer that keeps it"
        )
    return dumped


def _load_model(declared: Any, value: object) -> object:
    from pydantic import ValidationError

    try:
        # From text, because a strict model takes a date as text from JSON only.
        return declared.model_validate_json(msgspec.json.encode(value))
    except ValidationError as error:
        places = [
            f"{each['msg']} - at `{'.'.join(map(str, each['loc'])) or '$'}`"
            for each in error.errors(include_input=False, include_url=False, include_context=False)
        ]
        raise ValueError("; ".join(places)) from None
