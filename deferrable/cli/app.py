"""The commands, put together. Owns their list, and what all of them have in common.

The rule: a command's module is imported when the command is called, or when all are listed. Other
commands must not pay for its imports.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Final

import click

from deferrable.cli.command_error import ERROR
from deferrable.cli.early import is_worker
from deferrable.cli.ending import end_without_threads
from deferrable.cli.printing import version_text
from deferrable.cli.streams import why_not_written

__all__ = ["cli", "run"]

EPILOG = "Exit codes: 0 done, 1 an error, 2 wrong usage, 3 a worker was forced to stop."


_MODULES: Final = {
    "check": "check",
    "cost": "cost",
    "dashboard": "dashboard",
    "enqueue": "enqueueing",
    "errors": "errors",
    "explain": "explaining",
    "exporter": "exporter",
    "items": "items",
    "jobs": "jobs",
    "migrate": "migrate",
    "move": "move",
    "pause": "pausing",
    "resume": "pausing",
    "schedule": "schedule",
    "stats": "stats",
    "worker": "worker",
    "workers": "workers",
}
"""The module of each command, where it has the command's name."""


class _Commands(Mapping[str, click.Command]):
    """The commands by their names; a value is imported when it is asked for."""

    def __getitem__(self, name: str) -> click.Command:
        module = _MODULES[name]
        command: click.Command = getattr(import_module(f"deferrable.cli.{module}"), name)
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


@click.group(
    commands=_Commands(),
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(version_text(), prog_name="deferrable")
def cli() -> None:
    """Run workers, and look after queues.

    Instances are named MODULE:NAME, as in app.jobs:stats. Modules are imported from the current
    directory, as with python -m.
    """


def run() -> None:
    """Run the command that the program was started with."""
    here = os.getcwd()
    if not sys.flags.safe_path and sys.path[:1] not in ([""], [here]):
        sys.path.insert(0, here)
    try:
        try:
            cli(prog_name="deferrable")
        finally:
            _finish_output()
    except SystemExit as end:
        if isinstance(end.code, int) and not is_worker():
            end_without_threads(end.code, is_completing="_DEFERRABLE_COMPLETE" in os.environ)
        raise


def _finish_output() -> None:
    sys.stdout.flush()
    # The output of jobs is not a result of a worker.
    reason = None if is_worker() else why_not_written()
    if reason is not None:
        click.echo(f"Error: standard output is not complete: {reason}", err=True)
        sys.exit(ERROR)
