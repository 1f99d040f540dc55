"""Pages from templates.

Owns the environment of the templates, the texts for ages, moments and numbers, and the part of a
page that is sent again when something has changed.

The rule: every text is escaped by the environment. Nothing is marked as safe but the drawings,
which hold numbers and fixed words only.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

__all__ = ["age", "amount", "moment", "page", "part", "query", "seconds"]

_FOLDER = Path(__file__).parent
_UNKNOWN = "\u2013"
"""A dash."""


def amount(number: float | None) -> str:
    """A count, exact whatever its size; a dash if it is unknown."""
    return _UNKNOWN if number is None else f"{int(number):,}".replace(",", "\u202f")


def rate(number: float | None) -> str:
    """So many a second."""
    if number is None:
        return _UNKNOWN
    if number == 0:
        return "0"
    return f"{number:.2f}" if number < 10 else f"{number:,.0f}".replace(",", "\u202f")


_UNITS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"))


def seconds(number: float | None) -> str:
    """A duration, in the unit that suits it."""
    if number is None or not math.isfinite(number):
        return _UNKNOWN
    for size, unit in _UNITS:
        if number >= size:
            return (
                f"{number / size:.1f} {unit}"
                if number < 10 * size
                else f"{number / size:.0f} {unit}"
            )
    if number >= 1 or number <= 0:
        return f"{max(number, 0):.0f} s" if number >= 10 or number <= 0 else f"{number:.1f} s"
    return f"{number * 1000:.0f} ms" if number >= 0.001 else f"{number * 1e6:.0f} µs"


def age(then: object, now: float) -> str:
    """How long ago, or in how long."""
    if isinstance(then, bool) or not isinstance(then, int | float) or not math.isfinite(then):
        return _UNKNOWN
    return f"in {seconds(then - now)}" if then > now else f"{seconds(now - then)} ago"


def moment(then: object) -> str:
    """A moment in UTC."""
    if isinstance(then, datetime):
        return then.strftime("%Y-%m-%d %H:%M:%S %Z")
    if isinstance(then, bool) or not isinstance(then, int | float):
        return _UNKNOWN
    try:
        return datetime.fromtimestamp(then, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return _UNKNOWN


def query(**values: object) -> str:
    """The query of a URL, without what is empty."""
    chosen = {name: str(value) for name, value in values.items() if value not in (None, "", False)}
    return urlencode(chosen, errors="surrogatepass")


_environment = Environment(
    loader=FileSystemLoader(_FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters.update(age=age, amount=amount, moment=moment, rate=rate, seconds=seconds)
_environment.globals["query"] = query
# Here, because a part of a page is rendered without the imports of its template.
_environment.globals["m"] = _environment.get_template("macros.html").module


def page(name: str, values: Mapping[str, Any]) -> str:
    """The whole page."""
    return _environment.get_template(name).render(values)


def part(name: str, values: Mapping[str, Any]) -> str:
    """The part of a page that changes."""
    template = _environment.get_template(name)
    return "".join(template.blocks["live"](template.new_context(dict(values))))
