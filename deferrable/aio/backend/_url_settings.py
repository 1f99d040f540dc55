"""The settings of a factory, read from the text of a URL.

Owns which settings text can say, and the strict reading of each. The type of a factory's parameter
decides how its text is read, so a new parameter needs no line here.
"""

import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from types import NoneType
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

from deferrable._codec.refusals import short_repr
from deferrable.errors import InvalidOptions

__all__ = ["Reader", "no_setting", "read_values", "readers_of"]

Reader: TypeAlias = Callable[[str, str], object]
"""Takes the name of a setting and its text, and returns its value."""

_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)
_WHOLE = re.compile(r"[0-9]+", re.ASCII)
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def readers_of(
    factory: Callable[..., object], common: Mapping[str, str]
) -> dict[str, Reader | None]:
    """How each setting of `factory` is read from text, by its name in a URL; None: it cannot be.

    Args:
        factory: the class. Its parameters with a default are its settings.
        common: the names that a URL has for some of them.
    """
    hints = get_type_hints(getattr(factory, "__init__"))  # noqa: B009
    return {
        common.get(each.name, each.name): _reader_of(hints[each.name])
        for each in inspect.signature(factory).parameters.values()
        if each.default is not each.empty
    }


def _reader_of(hint: Any) -> Reader | None:
    if get_origin(hint) is Literal:
        return _read_text
    kinds = set(get_args(hint) or (hint,)) - {NoneType}
    if timedelta in kinds:
        return _read_seconds
    return _READERS.get(kinds.pop()) if len(kinds) == 1 else None


def read_values(
    pairs: Sequence[tuple[str, str]],
    readers: Mapping[str, Reader | None],
    placed: Collection[str],
    *,
    is_shown: bool,
) -> dict[str, object]:
    """The values of the settings that a URL gives.

    Args:
        pairs: names and texts. Each name has a reader, which may be None.
        placed: the settings that the rest of the URL gives.
        is_shown: whether a text may stand in a message; else it may be a part of a password.

    Raises:
        InvalidOptions: a setting is there twice, or its text is not a value of its type.
    """
    values: dict[str, object] = {}
    for name, text in pairs:
        read = readers[name]
        if name in values or name in placed:
            raise InvalidOptions(f"the URL gives {name} twice; leave one of them out")
        if read is None:
            raise InvalidOptions(
                f"text cannot say {name}, which is an object; write from_url(URL, {name}=...)"
            )
        try:
            values[name] = read(name, text)
        except ValueError as error:
            shown = short_repr(text) if is_shown else "something else"
            raise InvalidOptions(f"{error}; the URL has {shown}") from None
    return values


def no_setting(title: str, name: str | None, settings: Collection[str]) -> InvalidOptions:
    """The error for a setting that the backend `title` does not have.

    Args:
        name: None, if it may be a part of a password.
        settings: those that it has.
    """
    shown = "that setting" if name is None else f"setting {name!r}"
    if name == "timeout":
        hint = "write visibility_timeout for its lease, or wait_time for the wait of a pop"
    else:
        hint = f"it has {', '.join(sorted(settings))}"
    return InvalidOptions(f"the {title} backend has no {shown}; {hint}")


def _read_seconds(name: str, text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{name} must be a number of seconds such as 30 or 0.5")
    return float(text)


def _read_number(name: str, text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{name} must be a number such as 20000")
    return float(text)


def _read_whole(name: str, text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{name} must be a whole number such as 10")
    return int(text)


def _read_boolean(name: str, text: str) -> bool:
    value = _BOOLEANS.get(text.lower())
    if value is None:
        raise ValueError(f"{name} is true or false")
    return value


def _read_text(name: str, text: str) -> str:
    if not text:
        raise ValueError(f"{name} needs a value")
    return text


_READERS: Mapping[object, Reader] = {
    bool: _read_boolean,
    float: _read_number,
    int: _read_whole,
    str: _read_text,
}
