"""``manage.py deferrable``: the command line of the library, for the queues of a Django site.

Owns which commands it has, and how the name of a queue becomes a path. The commands themselves are
those of `deferrable.cli`.
"""

import argparse
import copy
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand

from deferrable._extras import missing_extra

try:
    import click
    import rich  # noqa: F401
except ImportError as error:
    raise missing_extra("manage.py deferrable", "cli", error) from error

from deferrable.cli.command_error import USAGE, CommandError
from deferrable.cli.errors import errors
from deferrable.cli.items import items
from deferrable.cli.jobs import jobs
from deferrable.cli.pausing import pause, resume
from deferrable.cli.schedule import schedule
from deferrable.cli.stats import stats
from deferrable.cli.worker import worker
from deferrable.contrib.django._queue_names import path_of, queue_names

__all__ = ["Command"]

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_OWN_OPTIONS = ("--settings", "--pythonpath")


class Command(BaseCommand):  # type: ignore[misc]  # Django has no types
    help = "Run workers for tasks, and look after their queues: worker, stats, errors, schedule."
    requires_system_checks: Sequence[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("args", nargs=argparse.REMAINDER, metavar="COMMAND")

    def handle(self, *args: str, **options: Any) -> None:
        # A call by `call_command` must not end the program of the caller.
        _group().main(
            _without_own_options(args),
            prog_name="manage.py deferrable",
            standalone_mode=self._called_from_command_line,
        )


def _without_own_options(args: Sequence[str]) -> list[str]:
    """What is not for Django itself, which has read its options wherever they stand."""
    kept, rest = [], iter(args)
    for each in rest:
        if each in _OWN_OPTIONS:
            next(rest, None)
        elif not each.startswith(tuple(f"{name}=" for name in _OWN_OPTIONS)):
            kept.append(each)
    return kept


def _group() -> click.Group:
    group = click.Group(
        context_settings=dict(_HELP),
        help="Run workers for tasks, and look after their queues.\n\nA QUEUE is a name from "
        "QUEUES of the default backend, or ALIAS:QUEUE.",
    )
    for command in (worker, stats, errors, items, jobs, pause, resume, schedule):
        group.add_command(_for_queues(command))
    return group


def _for_queues(command: click.Command) -> click.Command:
    """A command that takes names of queues instead of paths."""
    made = copy.copy(command)
    if isinstance(made, click.Group):
        made.commands = {name: _for_queues(each) for name, each in made.commands.items()}
        return made
    made.params = [_for_names(each, command) for each in command.params]
    return made


def _for_names(parameter: click.Parameter, command: click.Command) -> click.Parameter:
    if parameter.name == "paths":
        return click.Argument(["paths"], nargs=-1, metavar="[QUEUE]...", callback=_paths)
    if parameter.name == "path":
        others = [
            each
            for each in command.params
            if isinstance(each, click.Argument) and each.name != "path"
        ]
        return click.Argument(
            ["path"],
            required=bool(others),
            metavar="QUEUE" if others else "[QUEUE]",
            callback=_path,
        )
    return parameter


def _paths(_: click.Context, __: click.Parameter, names: Sequence[str]) -> list[str]:
    return [_path_of(name) for name in names or _known_names()]


def _path(_: click.Context, __: click.Parameter, name: str | None) -> str:
    if name is None:
        known = _known_names()
        if len(known) != 1:
            raise CommandError(f"name the queue: {' or '.join(known)}", USAGE)
        name = known[0]
    return _path_of(name)


def _path_of(name: str) -> str:
    try:
        return path_of(name)
    except LookupError as error:
        raise CommandError(
            f"{error}; queues of the settings: {', '.join(queue_names())}", USAGE
        ) from None


def _known_names() -> list[str]:
    found = queue_names()
    if not found:
        raise CommandError(
            "TASKS has no queue of deferrable; set BACKEND to "
            "'deferrable.contrib.django.DeferrableBackend', and name its QUEUES",
            USAGE,
        )
    return found
