"""Numbers, durations and moments that users give: a number, a `timedelta` or a `datetime`.

Owns the one check of each. The rule: every result is a finite `int` or `float` itself. So no other
module gets NaN, an infinity, a `datetime` whose time zone is a guess, or a number of a subclass
(of numpy, or an `enum.IntEnum`). Brokers get the ``repr`` of a number.
"""

import math
import sys
from datetime import datetime, timedelta
from typing import TypeAlias, TypeGuard, TypeVar, cast

from deferrable._codec.refusals import short_repr
from deferrable.errors import InvalidOptions

__all__ = [
    "Duration",
    "check_number",
    "is_number",
    "is_whole_number",
    "moment_of",
    "optional_seconds_of",
    "plain_number",
    "seconds_of",
]

T = TypeVar("T")

Duration: TypeAlias = float | timedelta
"""A number of seconds, or a `timedelta`."""


_PLAIN = (float, int)


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is an `int` or a `float`, NaN and the infinities included, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole_number(value: object) -> TypeGuard[int]:
    """Whether it is an `int` and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_number(
    name: str,
    value: object,
    *,
    least: float = 0,
    most: float = math.inf,
    is_whole: bool = False,
    hint: str = "",
) -> None:
    """Refuse a value that is not a number of the range, ends included.

    Args:
        name: the name of the option, for the message.
        is_whole: only an `int` is taken.
        hint: the end of the message.

    Raises:
        InvalidOptions: it is something else.
    """
    is_kind = is_whole_number(value) if is_whole else is_number(value)
    if is_kind and least <= cast("float", value) <= most:
        return
    kind = "a whole number" if is_whole else "a number"
    raise InvalidOptions(
        f"{name} must be {kind}{_span(least, most)}; got {short_repr(value)}{hint}"
    )


def _span(least: float, most: float, *, is_over: bool = False) -> str:
    """The range, as the end of "it is a number"."""
    if most < math.inf:
        return f" from {least} to {most}"
    return f" over {least}" if is_over else f" of at least {least}"


def plain_number(value: T) -> T | float:
    """`value` as exactly an `int` or a `float`, if it is of a subclass of one; else as it is."""
    if value.__class__ in _PLAIN or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return float.__add__(value, 0.0)
    return int.__add__(value, 0) if isinstance(value, int) else value


def seconds_of(
    name: str, value: object, *, least: float = 0, most: float = math.inf, is_over: bool = False
) -> float:
    """`value` in seconds.

    Args:
        name: what it is called in a message.
        least, most: the range, ends included.
        is_over: `least` itself is too little.

    Raises:
        InvalidOptions: it is neither a number nor a timedelta, or out of range.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if (
        is_number(seconds)
        and least <= seconds <= min(most, sys.float_info.max)
        and not (is_over and seconds == least)
    ):
        return seconds if seconds.__class__ in _PLAIN else plain_number(seconds)
    span = _span(least, most, is_over=is_over)
    raise InvalidOptions(
        f"{name} must be a number of seconds{span}, or a timedelta; got {short_repr(value)}"
    )


def optional_seconds_of(name: str, value: object, *, is_over: bool = False) -> float | None:
    """`value` in seconds, or None for None; see `seconds_of`."""
    return None if value is None else seconds_of(name, value, is_over=is_over)


def moment_of(name: str, value: object) -> float:
    """`value`, a moment, in epoch seconds.

    Raises:
        InvalidOptions: it is neither a number nor a datetime, or has no time zone.
    """
    if isinstance(value, datetime):
        return _epoch_seconds(name, value)
    if is_number(value) and abs(value) <= sys.float_info.max:
        return plain_number(value)
    raise InvalidOptions(
        f"{name} must be a datetime with a time zone, or a moment in epoch seconds; got "
        f"{short_repr(value)}"
    )


def _epoch_seconds(name: str, moment: datetime) -> float:
    try:
        if moment.utcoffset() is not None:
            return moment.timestamp()
    except (OverflowError, ValueError, OSError) as error:
        raise InvalidOptions(f"{name}={moment!r} is out of range: {error}") from error
    raise InvalidOptions(
        f"{name}={moment!r} has no time zone, so every machine would read it as local time; pass "
        "an aware datetime, such as datetime.now(UTC) + timedelta(hours=1)"
    )
