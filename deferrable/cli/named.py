"""The commands for programs that name their instances themselves, such as Django and Flask.

Owns how a name of such a program becomes the path that a command takes. The commands are those of
the command line.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Protocol

import click

from deferrable.cli.check import check
from deferrable.cli.command_error import USAGE, CommandError
from deferrable.cli.enqueueing import enqueue
from deferrable.cli.errors import errors
from deferrable.cli.explaining import explain
from deferrable.cli.items import items
from deferrable.cli.jobs import jobs
from deferrable.cli.naming import NamingCommand, note_name
from deferrable.cli.pausing import pause, resume
from deferrable.cli.schedule import schedule
from deferrable.cli.stats import stats
from deferrable.cli.worker import worker
from deferrable.cli.workers import workers

__all__ = ["Names", "commands_for"]

_COMMANDS = (
    worker,
    workers,
    stats,
    errors,
    items,
    jobs,
    pause,
    resume,
    schedule,
    check,
    enqueue,
    explain,
)


class Names(Protocol):
    """The names that a program has.

    Attributes:
        word: what a name is called in the help, such as ``QUEUE``.
    """

    word: str

    def known(self) -> Sequence[str]:
        """All names."""
        ...

    def path_of(self, name: str) -> str:
        """The path of the instance with a name.

        Raises:
            LookupError: there is none.
        """
        ...


def commands_for(names: Names) -> list[click.Command]:
    """All commands, which take these names instead of paths."""
    return [_renamed(command, names) for command in _COMMANDS]


def _renamed(command: click.Command, names: Names) -> click.Command:
    made = copy.copy(command)
    if isinstance(made, click.Group):
        made.commands = {name: _renamed(each, names) for name, each in made.commands.items()}
        return made
    made.params = [_parameter(each, names) for each in command.params]
    if isinstance(made, NamingCommand):
        made.names = _ProgramNames(names)
    return made


def _parameter(parameter: click.Parameter, names: Names) -> click.Parameter:
    metavar = f"[{names.word}]"
    if parameter.name == "paths":
        return click.Argument(
            ["paths"], nargs=-1, metavar=f"{metavar}...", callback=_paths_from(names)
        )
    if parameter.name == "path":
        return click.Argument(["path"], metavar=metavar, callback=_path_from(names))
    return parameter


class _ProgramNames:
    """The instances of a program, for commands that name none."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self.word = names.word
        self.missing = f"this program has no {names.word} of deferrable"

    def known(self) -> Sequence[str]:
        return self._names.known()

    def is_name(self, text: str) -> bool:
        try:
            self._names.path_of(text)
        except LookupError:
            return False
        return True


def _paths_from(names: Names) -> Callable[..., list[str]]:
    def paths(context: click.Context, _: click.Parameter, given: Sequence[str]) -> list[str]:
        return [_path(names, context, name) for name in given]

    return paths


def _path_from(names: Names) -> Callable[..., str]:
    def path(context: click.Context, _: click.Parameter, given: str) -> str:
        return _path(names, context, given)

    return path


def _path(names: Names, context: click.Context, name: str) -> str:
    try:
        path = names.path_of(name)
        note_name(context, path, name)
        return path
    except LookupError as error:
        known = ", ".join(names.known())
        raise CommandError(f"{error.args[0]}; there are: {known}", USAGE) from None
