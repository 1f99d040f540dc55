"""``deferrable schedule``. Owns its three commands: their output and exit codes.

The times come from the timetable of a schedule, so no store is asked.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import click

from deferrable.aio.schedule import Schedule
from deferrable.cli.command_error import USAGE, CommandError, debug_option, one_line_errors
from deferrable.cli.loading import Named, load
from deferrable.cli.naming import NamingGroup, instance_argument
from deferrable.cli.printing import escaped, json_option, print_json, table, to_output, untrusted
from deferrable.errors import DeferrableError

__all__ = ["schedule"]

name_argument = click.argument("name", metavar="NAME", required=False)


@click.group(cls=NamingGroup)
def schedule() -> None:
    """Look at the schedules of periodic jobs, or run one now.

    NAME is the name of a schedule, or the beginning of it.
    """


@schedule.command("list")
@instance_argument
@json_option
@debug_option
def list_(path: str, as_json: bool) -> None:
    """Show the schedules, and when each has its next tick."""
    schedules = load(path).instance.schedules()
    if as_json:
        print_json([_as_data(each, each.next_times()) for each in schedules])
        return
    console = to_output()
    if not schedules:
        console.print("no schedules; decorate jobs with the instance's periodic, in this module")
        return
    made = table("schedule", "next", "catch up", ">jitter")
    for each in schedules:
        jitter = f"{each.jitter_seconds:g} s" if each.jitter_seconds else ""
        next_time = "".join(map(_time_text, each.next_times()))
        made.add_row(untrusted(each.name), next_time or "never", each.catch_up, jitter)
    console.print(made)


@schedule.command("next")
@instance_argument
@name_argument
@click.option(
    "--count",
    "-n",
    type=click.IntRange(1, 10_000),
    default=5,
    show_default=True,
    help="Show this many ticks.",
)
@json_option
@debug_option
def next_(path: str, name: str | None, count: int, as_json: bool) -> None:
    """Show the next ticks of one schedule, or of all, in the schedule's zone."""
    schedules = load(path).instance.schedules()
    if name is not None:
        schedules = [_named(schedules, name)]
    if as_json:
        print_json([_as_data(each, each.next_times(count)) for each in schedules])
        return
    ticks = [(time, each) for each in schedules for time in each.next_times(count)]
    for time, each in sorted(ticks, key=lambda tick: tick[0])[:count]:
        click.echo(escaped(f"{_time_text(time)}  {each.name}"))


@schedule.command()
@instance_argument
@name_argument
@json_option
@debug_option
def run(path: str, name: str | None, as_json: bool) -> None:
    """Push the call of a schedule now, outside of the schedule.

    The next tick is pushed nevertheless.
    """
    named = load(path)
    schedules = named.instance.schedules()
    if name is None:
        raise CommandError("name the schedule; `schedule list` shows the names", USAGE)
    chosen = _named(schedules, name)
    with one_line_errors(path):
        receipt = asyncio.run(_push(named, chosen))
    if as_json:
        print_json({"schedule": chosen.name, "id": receipt.id, "status": receipt.status})
    else:
        click.echo(escaped(f"{chosen.name}: {receipt.status} as {receipt.id}"))


async def _push(named: Named, chosen: Schedule) -> Any:
    try:
        return await chosen.later_async()
    finally:
        with suppress(DeferrableError):
            await named.instance.close()


def _named(schedules: Sequence[Schedule], name: str) -> Schedule:
    """The schedule with this name, or the only one whose name begins so."""
    fitting = [each for each in schedules if each.name.startswith(name)]
    exact = [each for each in fitting if each.name == name]
    chosen = exact or fitting
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        names = ", ".join(repr(each.name) for each in chosen)
        raise CommandError(f"{name!r} is the beginning of {len(chosen)} names: {names}", USAGE)
    raise CommandError(f"no schedule is called {name!r}; `schedule list` shows the names", USAGE)


def _time_text(time: datetime) -> str:
    return time.strftime("%a %Y-%m-%d %H:%M:%S %z")


def _as_data(each: Schedule, times: Sequence[datetime]) -> dict[str, Any]:
    return {
        "schedule": each.name,
        "job": each.job_name,
        "timetable": each.timetable,
        "catch_up": each.catch_up,
        "jitter_seconds": each.jitter_seconds,
        "next": [time.isoformat() for time in times],
    }
