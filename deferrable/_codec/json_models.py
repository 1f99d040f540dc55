"""The models and dataclasses of pydantic, which nobody need have installed.

Owns how they become JSON, and how they are read back with pydantic's own checks. msgspec would
fill a dataclass of pydantic without them, so pydantic reads an annotation with one in it.

The one rule: a value that would not come back equal is refused. A model may hide what it holds.
"""

import functools
import sys
import typing
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any

import msgspec

__all__ = [
    "dump_model",
    "has_part",
    "is_model",
    "load_model",
    "reader_of",
    "with_dataclasses_dumped",
]


def is_model(declared: Any) -> bool:
    """Whether it is a model of pydantic."""
    pydantic = sys.modules.get("pydantic")
    return (
        pydantic is not None
        and isinstance(declared, type)
        and issubclass(declared, pydantic.BaseModel)
    )


def _is_checked_dataclass(declared: Any) -> bool:
    return (
        isinstance(declared, type)
        and is_dataclass(declared)
        and hasattr(declared, "__pydantic_validator__")
    )


def reader_of(annotation: Any) -> Callable[[object], Any] | None:
    """What reads a value as an annotation with a dataclass of pydantic in it; None: it has none."""
    if "pydantic" not in sys.modules or not has_part(annotation, _is_checked_dataclass):
        return None
    adapter = _adapter_of(annotation)
    return None if adapter is None else functools.partial(_load_checked, adapter)


def has_part(annotation: Any, is_it: Callable[[Any], bool], seen: set[int] | None = None) -> bool:
    """Whether an annotation, or one within it, is what `is_it` looks for. Models are not opened."""
    seen = set() if seen is None else seen
    if id(annotation) in seen:  # a dataclass that refers to itself
        return False
    seen.add(id(annotation))
    if is_it(annotation):
        return True
    parts = typing.get_args(annotation)
    if is_dataclass(annotation) or isinstance(getattr(annotation, "__annotations__", None), dict):
        if is_model(annotation):
            return False  # pydantic reads what is in it
        parts = (*parts, *_field_types(annotation))
    return any(has_part(each, is_it, seen) for each in parts)


def _field_types(annotation: Any) -> tuple[Any, ...]:
    try:
        return tuple(typing.get_type_hints(annotation).values())
    except Exception:  # a name that does not exist at run time: msgspec refuses it, too
        return ()


def _adapter_of(annotation: Any) -> Any:
    """None: pydantic cannot read another type in it, such as a struct of msgspec."""
    from pydantic import PydanticUserError, TypeAdapter

    try:
        return TypeAdapter(annotation)
    except PydanticUserError:
        return None


@functools.lru_cache(maxsize=256)
def _adapter_of_class(declared: type) -> Any:
    """None: it is no dataclass, or none of pydantic is in it."""
    if not is_dataclass(declared) or not has_part(declared, _is_checked_dataclass):
        return None
    return _adapter_of(declared)


_PLAIN = frozenset({str, int, float, bool, type(None)})


def with_dataclasses_dumped(value: Any) -> Any:
    """`value` with what stands for the dataclasses of pydantic in it, by pydantic's own rules.

    Raises:
        TypeError: one of them would not come back equal.
    """
    kind: Any = value.__class__
    if kind in _PLAIN:
        return value
    if kind is list or kind is tuple:
        return kind([with_dataclasses_dumped(each) for each in value])
    if kind is dict:
        return {key: with_dataclasses_dumped(each) for key, each in value.items()}
    if (adapter := _adapter_of_class(kind)) is not None:
        dumped = adapter.dump_python(value, mode="json", by_alias=True, round_trip=True)
        return _checked(value, dumped, functools.partial(_load_checked, adapter))
    return value


def dump_model(value: Any) -> object:
    """What stands for a model in JSON.

    Raises:
        TypeError: it would not come back equal.
    """
    dumped: object = value.model_dump(mode="json", by_alias=True, round_trip=True)
    return _checked(value, dumped, functools.partial(load_model, type(value)))


def load_model(declared: Any, value: object) -> object:
    """`value` as a model.

    Raises:
        ValueError: it does not fit. The text shows no value.
    """
    return _load(declared.model_validate_json, value)


def _load_checked(adapter: Any, value: object) -> object:
    return _load(adapter.validate_json, value)


def _load(validate_json: Callable[[bytes], object], value: object) -> object:
    from pydantic import ValidationError

    try:
        # From text, because a strict model takes a date as text from JSON only.
        return validate_json(msgspec.json.encode(value))
    except ValidationError as error:
        places = [
            f"{_without_value(each)} - at `{'.'.join(map(str, each['loc'])) or '$'}`"
            for each in error.errors(include_input=False, include_url=False, include_context=False)
        ]
        raise ValueError("; ".join(places)) from None


def _checked(value: Any, dumped: object, load: Callable[[object], object]) -> object:
    kind = type(value)
    try:
        loaded = load(dumped)
    except ValueError as error:
        raise TypeError(f"a {kind.__qualname__} cannot be read back from JSON: {error}") from None
    if loaded != value:
        names = kind.__dataclass_fields__ if is_dataclass(kind) else kind.model_fields
        changed = [each for each in names if getattr(loaded, each) != getattr(value, each)]
        raise TypeError(
            f"a {kind.__qualname__} does not come back equal from JSON"
            + (f", in {', '.join(changed)}" if changed else "")
            + "; a field that hides its value when it is dumped, such as a SecretStr, needs "
            "another serializer"
        )
    return dumped


def _without_value(error: Any) -> str:
    """What pydantic says of one place, unless that may show the value."""
    if error["type"] in ("union_tag_invalid", "value_error", "assertion_error"):
        return f"refused ({error['type']})"
    return str(error["msg"])
