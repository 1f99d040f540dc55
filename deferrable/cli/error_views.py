"""The display of an error item. Owns the table, the page and the JSON; decides nothing.

Text from items is untrusted: it is never read as markup.
"""

import textwrap
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from rich.table import Table
from rich.text import Text

from deferrable._codec.refusals import describe, short_repr
from deferrable._codec.serializers import DecodedCall
from deferrable._durations import is_number
from deferrable._reading import attempt_number, job_name
from deferrable.aio.error_items import ErrorItem
from deferrable.cli.choosing import key_of
from deferrable.cli.printing import age_text, table, untrusted
from deferrable.errors import UnreadableItem

__all__ = [
    "HasCall",
    "as_data",
    "as_page",
    "as_table",
    "call_data",
    "call_text",
    "date_text",
    "moment_text",
    "shown_id",
    "shown_job",
    "traceback_text",
]


_ID_COLUMNS = 36
"""A terminal of this width shows whole ids, to copy."""
_SHORT_ID_COLUMNS = 13
"""How much of an id is enough: commands take the beginning of one."""
_NARROW_COLUMNS = 100
"""A narrower terminal shows the error instead of whole ids."""
_JOB_COLUMNS = 20


class HasCall(Protocol):
    """Something with a call that can be decoded."""

    @property
    def call(self) -> DecodedCall: ...


def as_table(entries: Sequence[ErrorItem], columns: int) -> Table:
    """One line for each, in a terminal with this number of columns."""
    made = table("id", "job", "error", ">attempts", ">age")
    id_columns = _id_columns(columns)
    made.columns[0].no_wrap, made.columns[0].min_width = True, id_columns
    made.columns[1].no_wrap = True
    made.columns[4].min_width = len("59 min")
    for entry in entries:
        made.add_row(
            untrusted(shown_id(key_of(entry), columns)),
            untrusted(shown_job(job_name(entry.item))),
            # The one column that may shrink.
            untrusted(_error_text(entry).partition("\n")[0], no_wrap=True, overflow="ellipsis"),
            str(attempt_number(entry.item)),
            age_text(entry.error.get("ts")),
        )
    return made


def as_page(entry: ErrorItem) -> Table:
    """All of one item, without the traceback."""
    error, item = entry.error, entry.item
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column(overflow="fold")
    lines.add_row("item", untrusted(key_of(entry)))
    lines.add_row("job", untrusted(job_name(item)))
    lines.add_row("call", untrusted(call_text(entry)))
    lines.add_row("attempts", untrusted(f"{attempt_number(item)} of {item.get('max_attempts')}"))
    lines.add_row("deferred", moment_text(item.get("first_push_time")))
    where = f"{moment_text(error.get('ts'))} on {error.get('hostname') or '?'}"
    lines.add_row("failed", untrusted(where))
    lines.add_row("error", untrusted(_error_text(entry), kept="\n\t", style="red"))
    reason = error.get("reason")
    if reason:
        lines.add_row("not retried", untrusted(reason))
    return lines


def traceback_text(entry: ErrorItem) -> Text | None:
    """Its traceback, to be printed without wrapping: wrapped lines cannot be copied."""
    trace = entry.error.get("traceback")
    if not isinstance(trace, str) or not trace.strip():
        return None
    return untrusted(textwrap.indent(trace.rstrip(), "  "), kept="\n\t")


def as_data(entry: ErrorItem, is_whole: bool) -> dict[str, Any]:
    """For programs: everything, with the call, the traceback and the item itself."""
    error, item = entry.error, entry.item
    data = {
        "id": key_of(entry),
        "job": job_name(item),
        "attempts": attempt_number(item),
        "error_type": error.get("error_type"),
        "error_text": error.get("error_text"),
        "reason": error.get("reason"),
        "hostname": error.get("hostname"),
        "time": error.get("ts"),
    }
    if is_whole:
        data |= {"call": call_data(entry), "traceback": error.get("traceback"), "item": dict(item)}
    return data


def call_data(entry: HasCall) -> dict[str, Any]:
    try:
        call = entry.call
    except UnreadableItem as error:
        return {"call": f"cannot be read: {describe(error)}"}
    return {
        "args": list(map(_repr, call.args)),
        "kwargs": {name: _repr(value) for name, value in call.kwargs.items()},
    }


def _repr(value: object) -> str:
    """The whole argument; if its own ``__repr__`` raises, the text of an error message for it."""
    try:
        return repr(value)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return short_repr(value)


def call_text(entry: HasCall) -> str:
    call = call_data(entry)
    if "call" in call:
        return str(call["call"])
    named = [f"{name}={value}" for name, value in call["kwargs"].items()]
    return f"({', '.join([*call['args'], *named])})"


def shown_id(item_id: str, columns: int) -> str:
    """As much of an id as a terminal with this number of columns has room for."""
    return item_id[: _id_columns(columns)] if len(item_id) == _ID_COLUMNS else item_id


def _id_columns(columns: int) -> int:
    return _SHORT_ID_COLUMNS if columns < _NARROW_COLUMNS else _ID_COLUMNS


def shown_job(name: str) -> str:
    """The end of a name says more than its beginning."""
    return name if len(name) <= _JOB_COLUMNS else f"…{name[1 - _JOB_COLUMNS :]}"


def _error_text(entry: ErrorItem) -> str:
    error = entry.error
    return f"{error.get('error_type') or 'unknown'}: {error.get('error_text') or ''}".rstrip(": ")


def moment_text(moment: object) -> str:
    when = date_text(moment)
    return when if when == "?" else f"{when} ({age_text(moment)} ago)"


def date_text(moment: object) -> str:
    """A moment in the zone of this machine; a question mark for other values."""
    if not is_number(moment):
        return "?"
    try:
        when = datetime.fromtimestamp(moment).astimezone()
    except (OverflowError, ValueError, OSError):
        return "?"
    return f"{when:%Y-%m-%d %H:%M:%S %z}"
