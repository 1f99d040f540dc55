"""Durations and moments that users give: a number, a `timedelta` or a `datetime`.

Owns the one check of each. The rule: every result is a finite `int` or `float` itself. So no other
module gets NaN, an infinity, a `datetime` whose time zone is a guess, or a number of a subclass
(of numpy, or an `enum.IntEnum`). Brokers get the ``repr`` of a number.
"""

import math
import sys
from datetime import datetime, timedelta
from typing import TypeAlias, TypeVar

from deferrable._codec.refusals import short_repr
from deferrable.errors import InvalidOptions

__all__ = ["Duration", "moment_of", "optional_seconds_of", "plain_number", "seconds_of"]

T = TypeVar("T")

Duration: TypeAlias = float | timedelta
"""A number of seconds, or a `timedelta`."""


_PLAIN = (float, int)


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
        isinstance(seconds, int | float)
        and not isinstance(seconds, bool)
        and least <= seconds <= min(most, sys.float_info.max)
        and not (is_over and seconds == least)
    ):
        return seconds if seconds.__class__ in _PLAIN else plain_number(seconds)
    span = f"over {least:g}" if is_over else f"from {least:g} on"
    if most < math.inf:
        span = f"from {least:g} to {most:g}"
    raise InvalidOptions(
        f"{name} is a number of seconds {span}, or a timedelta; got {short_repr(value)}"
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
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max
    ):
        return plain_number(value)
    raise InvalidOptions(
        f"{name} is a datetime with a time zone, or a moment in epoch seconds; got "
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
