"""Items as JSON text.

Owns the conversion of an item to text and back. Text is ASCII, so that every broker counts
characters and bytes alike and a lone surrogate survives. A number that JSON does not have (NaN,
infinities) is refused in both directions instead of being changed silently.
"""

import json
import math
from typing import Any

import msgspec

from deferrable._codec.refusals import kind_of, short_repr
from deferrable.errors import SerializationError, UnreadableItem
from deferrable.item import Item

__all__ = ["as_read_back", "dump", "dump_value", "load", "load_item"]


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits:.40} is out of range")
    return number


# msgspec is several times as fast, and stricter. If it refuses a value, or would change it, the
# standard library decides (for example on a lone surrogate, which JSON text may hold and UTF-8 may
# not).
_encoder = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))
_decoder = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
_fast_encoder = msgspec.json.Encoder()
_fast_decoder = msgspec.json.Decoder()


def dump(item: Item, *, is_plain: bool = False) -> str:
    """`item` as ASCII JSON text.

    Args:
        is_plain: it is known to be a dict with text keys and to hold JSON values only, for example
            because this library made it. A check of each value costs more than writing it.

    Raises:
        SerializationError: it is not a dict with text keys, or holds a value that JSON cannot hold.
    """
    try:
        if is_plain or (type(item) is dict and _is_plain(item)):
            return _fast_encoder.encode(item).decode("ascii")
    except (TypeError, ValueError, RecursionError):
        pass  # the error below says it exactly
    return _dump_exactly(item)


def _dump_exactly(item: Item) -> str:
    if not isinstance(item, dict):
        raise SerializationError(
            f"an item is a dict with text keys, got {kind_of(item)}; push a dict of JSON values"
        )
    try:
        if not _is_json(item):
            raise TypeError("a key that is not text, or a value such as a tuple, would be changed")
        return _encoder.encode(item)
    except (TypeError, ValueError, RecursionError) as error:
        raise SerializationError(
            f"an item of the fields {short_repr(list(item))} is not made of JSON values: {error}; "
            "push text, numbers, booleans, None, and lists and dicts of them, with text keys"
        ) from error


_EXACT = {str, int, bool, type(None)}
_CONTAINERS = {dict, list, tuple}
_MANY = 50


def _is_plain(container: Any, *, has_tuples: bool = False) -> bool:
    """Whether both encoders write a dict or list alike; decided by types, for speed.

    Args:
        has_tuples: tuples are allowed, which are written as lists.
    """
    members = container
    if container.__class__ is dict:
        members = container.values()
        try:
            "".join(container)
        except TypeError:
            return False  # a key that is not text
    if len(container) > _MANY and set(map(type, members)) <= _EXACT:
        return True
    for each in members:
        kind = each.__class__
        if kind is str or kind is int or each is None or kind is bool:
            continue
        if kind is float:
            if not math.isfinite(each):
                return False
        elif kind is dict or kind is list or (has_tuples and kind is tuple):
            if each and not _is_plain(each, has_tuples=has_tuples):
                return False
        else:
            return False
    return True


def _is_json(value: Any) -> bool:
    """Whether `value` is equal after writing and reading it.

    The encoder would write a tuple as a list and a number that is a key as text.
    """
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and all(map(_is_json, value.values()))
    if isinstance(value, list):
        return all(map(_is_json, value))
    return not isinstance(value, tuple)


def dump_value(value: object) -> str:
    """`value` as ASCII JSON text.

    Raises:
        TypeError, ValueError, RecursionError: JSON cannot hold it.
    """
    return _encoder.encode(value)


def as_read_back(value: object) -> Any:
    """`value` after writing and reading it as JSON: tuples as lists.

    Raises:
        TypeError, ValueError, RecursionError: JSON cannot hold it.
    """
    try:
        if value.__class__ in _CONTAINERS and _is_plain(value, has_tuples=True):
            return _fast_decoder.decode(_fast_encoder.encode(value))
    except (TypeError, ValueError, RecursionError):
        pass  # The standard library decides, as in `dump`.
    return _decoder.decode(dump_value(value))


def load(text: str | bytes) -> Any:
    """The JSON value that `text` holds.

    Raises:
        UnreadableItem: it is no JSON text.
    """
    try:
        return _fast_decoder.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError):
        pass
    try:
        return _decoder.decode(text if isinstance(text, str) else text.decode())
    except (ValueError, RecursionError) as error:
        raise UnreadableItem(f"a text of {len(text)} characters is not JSON: {error}") from error


def load_item(text: str | bytes) -> Item:
    """The item that `text` holds.

    Raises:
        UnreadableItem: it is not JSON text, or not a JSON object.
    """
    value = load(text)
    if not isinstance(value, dict):
        raise UnreadableItem(
            f"a text of {len(text)} characters is JSON, but not an object: {kind_of(value)}"
        )
    return value
