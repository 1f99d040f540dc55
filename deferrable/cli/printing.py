"""The display of results. Owns the consoles, the JSON and the texts of numbers."""

import json
import os
import re
import sys
import time
from contextlib import redirect_stdout
from math import isfinite
from typing import Any, TextIO

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Column, Table
from rich.text import Text

from deferrable._codec.refusals import short_repr
from deferrable._durations import is_number
from deferrable._version import NOT_INSTALLED, __version__
from deferrable.cli.streams import keep_output

__all__ = [
    "age_text",
    "escaped",
    "has_colour",
    "json_option",
    "json_text",
    "keep_for_json",
    "print_json",
    "seconds_text",
    "table",
    "to_output",
    "untrusted",
    "version_text",
]

_PIPE_COLUMNS = 240

_JSON_STREAM = "deferrable.json_stream"


def keep_for_json(context: click.Context) -> None:
    """From now on, standard output takes JSON only.

    What an application prints, when it is imported or runs, goes to standard error.
    """
    root = context.find_root()
    if _JSON_STREAM not in root.meta:
        root.meta[_JSON_STREAM] = sys.stdout
        keep_output()
        root.with_resource(redirect_stdout(sys.stderr))


def _choose_json(context: click.Context, _: click.Parameter, is_wanted: bool) -> bool:
    if is_wanted and not context.resilient_parsing:
        keep_for_json(context)
    return is_wanted


json_option = click.option(
    "--json", "as_json", is_flag=True, is_eager=True, callback=_choose_json, help="Print JSON."
)


def to_output(is_error: bool = False) -> Console:
    """The terminal. Other outputs have no width to fit into."""
    console = Console(file=sys.stderr if is_error else sys.stdout, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PIPE_COLUMNS
    return console


def has_colour(stream: TextIO) -> bool:
    """Whether text may be coloured there, by the rules of rich."""
    is_plain = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    return stream.isatty() and not is_plain and not os.environ.get("NO_COLOR")


def print_json(value: Any, is_line: bool = False) -> None:
    """Print a value for programs; values that JSON cannot hold are printed as text."""
    context = click.get_current_context(silent=True)
    stream = sys.stdout if context is None else context.meta.get(_JSON_STREAM, sys.stdout)
    click.echo(json_text(value, stream, indent=None if is_line else 2), file=stream)


def json_text(value: Any, stream: Any, indent: int | None = None) -> str:
    """JSON that `stream` can encode, without characters that control a terminal."""
    encoding = getattr(stream, "encoding", None) or "ascii"
    is_ascii = not encoding.lower().replace("-", "").startswith("utf")
    text = json.dumps(value, indent=indent, default=short_repr, ensure_ascii=is_ascii)
    return _UNPRINTABLE.sub(_json_escape, text)


_UNPRINTABLE = re.compile("[^ -~\n]")
"""Characters that may need an escape."""


def _json_escape(found: re.Match[str]) -> str:
    char = found[0]
    return char if char.isprintable() else json.dumps(char)[1:-1]


def escaped(text: str, kept: str = "") -> str:
    """Text with every control character, line end and bidi override escaped.

    Args:
        kept: characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in kept else ascii(char)[1:-1] for char in text
    )


def untrusted(text: object, *, kept: str = "", **style: Any) -> Text:
    """Untrusted text: without markup and characters that control a terminal."""
    return Text(escaped(str(text), kept), **style)


class _Fitting(Table):
    """A table. In a terminal that is too narrow for it, each row is a list, so nothing is lost."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._least_width(console) <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        if self.title:
            yield self.title
        for place, cells in enumerate(zip(*(each.cells for each in self.columns), strict=True)):
            if place:
                yield ""
            lines = Table.grid(padding=(0, 2))
            lines.add_column(style="dim", no_wrap=True)
            lines.add_column(overflow="fold")
            for column, cell in zip(self.columns, cells, strict=True):
                lines.add_row(column.header, cell)
            yield lines
        if self.caption:
            yield self.caption

    def _least_width(self, console: Console) -> int:
        widths = [_least_width(each, console) for each in self.columns]
        return sum(widths) + _GAP * (len(widths) - 1)


_GAP = 2
"""Between two columns."""
_FOLDED = 12
"""The least width of a column whose text may be folded or cut."""


def _least_width(column: Column, console: Console) -> int:
    width = max(console.measure(each).maximum for each in (column.header, *column.cells))
    return max(column.min_width or 0, width if column.no_wrap else min(width, _FOLDED))


def table(*columns: str, title: Text | None = None) -> Table:
    """A table. A column that begins with ``>`` holds numbers."""
    made = _Fitting(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="dim",
    )
    for column in columns:
        if column.startswith(">"):
            name = column[1:]
            made.add_column(name, justify="right", no_wrap=True, min_width=len(name))
        else:
            made.add_column(column, overflow="fold")
    return made


def seconds_text(seconds: float) -> str:
    """A duration, rounded to a unit that suits people: ``12 ms``, ``3.5 s``, ``3 min``, ``2 h``."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} d"


def age_text(moment: object) -> str:
    """How long ago a moment in epoch seconds was; a dash for other values."""
    if not is_number(moment) or not isfinite(moment):
        return "-"
    return seconds_text(max(0, round(time.time() - moment)))


def version_text() -> str:
    """The installed version, or words for a source tree that is not installed."""
    return "from source" if __version__ == NOT_INSTALLED else __version__
