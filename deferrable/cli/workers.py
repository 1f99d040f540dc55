"""``deferrable workers``. Owns the display of the workers of queues, by their own reports."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict

import click

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
from deferrable.errors import DeferrableError
from deferrable.worker_reports import FORGOTTEN_SECONDS, WorkerReport

__all__ = ["workers"]


@click.command(cls=NamingCommand)
@instances_argument
@json_option
@debug_option
def workers(paths: Sequence[str], as_json: bool) -> None:
    """Show the workers of queues, on all machines, and what they run."""
    found = asyncio.run(_find(load_all(paths)))
    if as_json:
        print_json([{"instance": path, **asdict(report)} for path, report in found])
        return
    if not found:
        click.echo(
            f"no worker has reported within the last {FORGOTTEN_SECONDS:g} seconds; one reports "
            "from its third second on"
        )
        return
    made = table("instance", "host", ">process", ">running", ">slots", "jobs", ">up", ">seen")
    for path, report in found:
        seen_seconds = max(0.0, time.time() - report.seen_time)
        made.add_row(
            untrusted(path),
            untrusted(report.host),
            str(report.process_id),
            str(report.running),
            f"{report.slots}{' (stopping)' if report.is_stopping else ''}",
            untrusted(", ".join(f"{name} x {count}" for name, count in report.jobs.items())),
            age_text(report.start_time),
            seconds_text(round(seen_seconds)),
        )
    to_output().print(made)


async def _find(named: Sequence[Named]) -> list[tuple[str, WorkerReport]]:
    try:
        found = []
        for each in named:
            with one_line_errors(each.path):
                reports = await each.instance.backend.queue.find_workers()
            found += [(each.path, report) for report in reports]
        return found
    finally:
        for each in named:
            with suppress(DeferrableError):
                await each.instance.close()
