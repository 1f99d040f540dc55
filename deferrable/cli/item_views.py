"""The display of calls that wait or run. Owns the table, the page and the JSON; decides nothing.

Text from items is untrusted: it is never read as markup.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from deferrable._durations import is_number
from deferrable._reading import attempt_number
from deferrable.aio.peeked import PeekedCall
from deferrable.cli.error_views import call_data, call_text, moment_text, shown_id, shown_job
from deferrable.cli.printing import age_text, seconds_text, table, untrusted

__all__ = ["as_data", "as_page", "as_table"]


def as_table(calls: Sequence[PeekedCall], columns: int) -> Table:
    """One line for each, in a terminal with this number of columns."""
    made = table("id", "job", "state", ">attempt", ">when", ">age")
    made.columns[0].no_wrap = made.columns[1].no_wrap = True
    for each in calls:
        made.add_row(
            untrusted(shown_id(each.id or "-", columns)),
            untrusted(shown_job(each.job)),
            each.state.status,
            str(attempt_number(each.item)),
            _when(each),
            age_text(each.item.get("first_push_time")),
        )
    return made


def _when(each: PeekedCall) -> str:
    """In how long it is available, or its lease ends."""
    state = each.state
    moment = state.available_time if state.lease_until is None else state.lease_until
    if not is_number(moment):
        return ""
    seconds = moment - time.time()
    what = "in" if state.lease_until is None else "lease"
    return f"{what} {seconds_text(max(seconds, 0))}"


def as_page(each: PeekedCall) -> Table:
    """All of one call."""
    item, state = each.item, each.state
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column(overflow="fold")
    lines.add_row("item", untrusted(each.id or "-"))
    lines.add_row("job", untrusted(each.job))
    lines.add_row("call", untrusted(call_text(each)))
    lines.add_row("state", state.status)
    lines.add_row("attempt", untrusted(f"{attempt_number(item)} of {item.get('max_attempts')}"))
    lines.add_row("deferred", moment_text(item.get("first_push_time")))
    for name, moment in (
        ("available", state.available_time),
        ("running since", state.running_since),
        ("lease until", state.lease_until),
    ):
        if moment is not None:
            lines.add_row(name, moment_text(moment))
    if state.worker is not None:
        lines.add_row("worker", untrusted(state.worker))
    return lines


def as_data(each: PeekedCall, is_whole: bool) -> dict[str, Any]:
    """For programs: the state, and on request the call and the item itself."""
    data = {
        "id": each.id,
        "job": each.job,
        **asdict(each.state),
        "first_push_time": each.item.get("first_push_time"),
    }
    if is_whole:
        data |= {"call": call_data(each), "item": dict(each.item)}
    return data
