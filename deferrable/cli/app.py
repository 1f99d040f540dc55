"""The commands, put together. Owns their list, and what all of them have in common."""

import os
import sys

import click

from deferrable.cli.check import check
from deferrable.cli.command_error import ERROR
from deferrable.cli.cost import cost
from deferrable.cli.dashboard import dashboard
from deferrable.cli.early import is_worker
from deferrable.cli.enqueueing import enqueue
from deferrable.cli.errors import errors
from deferrable.cli.explaining import explain
from deferrable.cli.exporter import exporter
from deferrable.cli.items import items
from deferrable.cli.jobs import jobs
from deferrable.cli.migrate import migrate
from deferrable.cli.move import move
from deferrable.cli.pausing import pause, resume
from deferrable.cli.printing import version_text
from deferrable.cli.schedule import schedule
from deferrable.cli.stats import stats
from deferrable.cli.streams import why_not_written
from deferrable.cli.worker import worker
from deferrable.cli.workers import workers

__all__ = ["cli", "run"]

EPILOG = "Exit codes: 0 done, 1 an error, 2 wrong usage, 3 a worker was forced to stop."


@click.group(
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(version_text(), prog_name="deferrable")
def cli() -> None:
    """Run workers, and look after queues.

    Instances are named MODULE:NAME, as in app.jobs:stats. Modules are imported from the current
    directory, as with python -m.
    """


cli.add_command(worker)
cli.add_command(workers)
cli.add_command(exporter)
cli.add_command(stats)
cli.add_command(errors)
cli.add_command(items)
cli.add_command(jobs)
cli.add_command(pause)
cli.add_command(resume)
cli.add_command(schedule)
cli.add_command(dashboard)
cli.add_command(check)
cli.add_command(enqueue)
cli.add_command(explain)
cli.add_command(move)
cli.add_command(migrate)
cli.add_command(cost)


def run() -> None:
    """Run the command that the program was started with."""
    here = os.getcwd()
    if not sys.flags.safe_path and sys.path[:1] not in ([""], [here]):
        sys.path.insert(0, here)
    try:
        cli(prog_name="deferrable")
    finally:
        _finish_output()


def _finish_output() -> None:
    sys.stdout.flush()
    # The output of jobs is not a result of a worker.
    reason = None if is_worker() else why_not_written()
    if reason is not None:
        click.echo(f"Error: standard output is not complete: {reason}", err=True)
        sys.exit(ERROR)
