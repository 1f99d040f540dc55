"""``deferrable stats``. Owns how queues are counted and shown, once or repeatedly."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.live import Live

from deferrable.cli.command_error import debug_option, one_line_errors
from deferrable.cli.loading import Named, load_all
from deferrable.cli.naming import NamingCommand, instances_argument
from deferrable.cli.printing import (
    age_text,
    json_option,
    print_json,
    seconds_text,
    table,
    to_output,
    untrusted,
)
from deferrable.cli.streams import is_unread
from deferrable.contrib._queues import LastMinute, QueueReading
from deferrable.errors import BackendError

__all__ = ["Rates", "stats", "total"]

COUNTS = ("available", "in_flight", "delayed", "errors")
OLDEST = "oldest_age_seconds"
RATES = ("change_per_second", "errors_per_second")
"""Of a watch: of all items that are not failed, and of the failed ones."""


@click.command(cls=NamingCommand)
@instances_argument
@click.option("--watch", "is_watching", is_flag=True, help="Update it until Ctrl-C.")
@click.option(
    "--interval", "interval_seconds", type=click.FloatRange(0.1), default=1.0, show_default=True,
    metavar="SECONDS", help="How often it is updated, with --watch.",
)  # fmt: skip
@json_option
@debug_option
def stats(paths: Sequence[str], is_watching: bool, interval_seconds: float, as_json: bool) -> None:
    """Count the items of queues.

    With --watch and --json, one line of JSON is printed at each interval. A watch also shows how
    fast the number of waiting items and the number of errors change, over the last minute.
    """
    named = load_all(paths)
    try:
        asyncio.run(_show(named, is_watching, interval_seconds, as_json))
    except KeyboardInterrupt:
        if not is_watching:  # Ctrl-C is the way to leave a watch.
            raise


async def _show(
    named: Sequence[Named], is_watching: bool, interval_seconds: float, as_json: bool
) -> None:
    try:
        if not is_watching:
            rows = [await _count(each) for each in named]
            print_json(rows) if as_json else to_output().print(_table(rows))
            return
        rates = Rates()
        if as_json:
            while not is_unread():
                rows = [await _count_or_error(each) for each in named]
                print_json(rates.added(rows, time.time()), is_line=True)
                await asyncio.sleep(interval_seconds)
            return
        rows = rates.added([await _count(each) for each in named], time.time())
        with Live(_table(rows), console=to_output(), auto_refresh=False) as live:
            while not is_unread():
                await asyncio.sleep(interval_seconds)
                rows = [await _count_or_error(each) for each in named]
                live.update(_table(rates.added(rows, time.time())), refresh=True)
    finally:
        for each in named:
            with suppress(BackendError):
                await each.instance.close()


async def _count(named: Named) -> dict[str, Any]:
    backend = named.instance.backend
    with one_line_errors(named.path):
        waiting, failed = await asyncio.gather(backend.queue.stats(), backend.error_queue.stats())
    return {
        "instance": named.path,
        "queue": repr(backend.queue),
        "group": backend.group,
        **{name: waiting.get(name) for name in COUNTS[:3]},
        "errors": total(failed),
        OLDEST: waiting.get(OLDEST),
        "pause": await _pause_of(named, waiting),
    }


async def _pause_of(named: Named, waiting: Mapping[str, float]) -> dict[str, Any] | None:
    """The pause of a paused queue, and what goes on in spite of it."""
    if "paused_seconds" not in waiting:
        return None
    with one_line_errors(named.path):
        pause = await named.instance.find_pause()
    if pause is None:  # it ended just now
        return None
    old = int(waiting.get("held_by_old_consumers", 0))
    return {**asdict(pause), "held_by_old_consumers": old}


def total(counts: Mapping[str, float]) -> int:
    """The number of items in a queue with these `stats()`."""
    return sum(int(counts.get(name, 0)) for name in COUNTS[:3])


async def _count_or_error(named: Named) -> dict[str, Any]:
    try:
        return await _count(named)
    except click.ClickException as error:
        return {"instance": named.path, "error": error.message}


class Rates:
    """How fast queues grow or shrink, over the last minute of a watch."""

    def __init__(self) -> None:
        self._minutes: dict[tuple[str, str], LastMinute] = {}

    def added(self, rows: Sequence[Mapping[str, Any]], now: float) -> list[dict[str, Any]]:
        """The rows with their rates; None: not known yet, or not known at all."""
        return [{**row, **self._rates_of(row, now)} for row in rows]

    def _rates_of(self, row: Mapping[str, Any], now: float) -> dict[str, float | None]:
        if "error" in row:
            return {}
        waiting = {name: row[name] for name in COUNTS[:3] if row[name] is not None}
        failed = {"available": row["errors"]}
        readings = zip(RATES, (waiting, failed), strict=True)
        return {name: self._rate(row["instance"], name, items, now) for name, items in readings}

    def _rate(self, path: str, name: str, items: Mapping[str, int], now: float) -> float | None:
        minute = self._minutes.setdefault((path, name), LastMinute())
        minute.add([QueueReading(path, now, items)], None)
        return minute.change_per_second


def _table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    columns = [">available", ">in flight", ">delayed", ">errors", ">oldest"]
    if any(RATES[0] in row for row in rows):
        columns += [">waiting/s", ">errors/s"]
    made = table("instance", *columns)
    for row in rows:
        if "error" in row:
            made.add_row(untrusted(row["instance"]), *("[red]?[/]" for _ in columns))
            continue
        counts = [_number(row[name]) for name in COUNTS]
        if row["errors"]:
            counts[3] = f"[red]{counts[3]}[/]"
        oldest = row[OLDEST]
        age = "[dim]-[/]" if oldest is None else seconds_text(oldest)
        rates = [_rate_text(row[name]) for name in RATES if name in row]
        made.add_row(untrusted(row["instance"]), *counts, age, *rates)
    errors = [row["error"] for row in rows if "error" in row]
    if errors:
        made.caption, made.caption_justify = untrusted(errors[0], style="red"), "left"
    paused = [_paused_text(row) for row in rows if row.get("pause")]
    return Group(made, *(untrusted(each, style="yellow") for each in paused))


def _paused_text(row: Mapping[str, Any]) -> str:
    """Since when, how long and why a queue is paused."""
    pause = row["pause"]
    text = f"{row['instance']} has been paused for {age_text(pause['since_time'])}"
    if pause["until_time"] is not None:
        rest_seconds = max(0, round(pause["until_time"] - time.time()))
        text += f", and goes on in {seconds_text(rest_seconds)}"
    if pause["reason"]:
        text += f": {pause['reason']}"
    if pause["held_by_old_consumers"]:
        text += f" (consumers of the Python 2 library go on with {pause['held_by_old_consumers']})"
    return text


def _rate_text(rate: float | None) -> str:
    if rate is None:
        return "[dim]-[/]"
    return f"{rate:+.3g}" if round(rate, 3) else "[dim]0[/]"


def _number(count: int | None) -> str:
    if count is None:
        return "[dim]-[/]"
    return f"{count:,}" if count else "[dim]0[/]"
