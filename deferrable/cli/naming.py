"""Which arguments of a command name its instances.

Owns the instances of a command that names none: those of ``DEFERRABLE_APP``.

The rule: an argument is never taken for an instance and for something else by chance. If there are
default instances, the first argument of a command that also takes ids or jobs is an instance only
if it looks like one and names no job.
"""

import os
import shlex
from collections.abc import Sequence
from typing import Any, Protocol

import click

from deferrable.cli.command_error import USAGE, CommandError
from deferrable.cli.completing import complete_path
from deferrable.cli.loading import is_path_of_job, looks_like_path, may_be_module
from deferrable.cli.printing import escaped, keep_for_json

__all__ = [
    "VARIABLE",
    "InstanceNames",
    "NamingCommand",
    "NamingGroup",
    "command_line",
    "instance_argument",
    "instances_argument",
    "note_name",
]

VARIABLE = "DEFERRABLE_APP"
_ARGUMENTS = ("path", "paths")

instances_argument = click.argument(
    "paths", metavar="[MODULE:NAME]...", nargs=-1, required=True, shell_complete=complete_path
)
instance_argument = click.argument("path", metavar="[MODULE:NAME]", shell_complete=complete_path)


_NAMES = "deferrable.names_by_path"


def note_name(context: click.Context, path: str, name: str) -> None:
    """Note by which name a program knows the instance at a path."""
    context.meta.setdefault(_NAMES, {})[path] = name


def command_line(command: str, path: str, *arguments: str) -> str:
    """What to type for another command of this program, on the instance at a path."""
    context = click.get_current_context()
    program = context.command_path.removesuffix(f" {context.info_name}").split()
    name = context.meta.get(_NAMES, {}).get(path, path)
    dashes = ["--"] if any(each.startswith("-") for each in arguments) else []
    return shlex.join([*program, *command.split(), name, *dashes, *arguments])


class InstanceNames(Protocol):
    """How the instances of a program are named.

    Attributes:
        word: what a name is called in the help.
        missing: the error of a command that names no instance while there is no default.
    """

    word: str

    @property
    def missing(self) -> str: ...

    def known(self) -> Sequence[str]:
        """The instances of a command that names none; empty: there is no default."""
        ...

    def is_name(self, text: str) -> bool:
        """Whether a command means an instance by this argument, and nothing else."""
        ...


class _Paths:
    word = "instance"

    @property
    def missing(self) -> str:
        if VARIABLE in os.environ:
            return f"{VARIABLE} is set, but empty; name the instance there, or as MODULE:NAME"
        return f"name the instance as MODULE:NAME, or set {VARIABLE}"

    def known(self) -> Sequence[str]:
        return os.environ.get(VARIABLE, "").split()

    def is_name(self, text: str) -> bool:
        return looks_like_path(text) and not is_path_of_job(text)


class NamingCommand(click.Command):
    """A command that takes instances as ``paths``, or one as its first argument, ``path``."""

    names: InstanceNames = _Paths()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            if not ctx.resilient_parsing:
                args = [*self._left_out(ctx, args), *args]
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            name = error.option_name
            if not name[1:2].isdigit():
                raise
            line = f"{name} is no option; write -- before arguments that begin with a dash"
            raise click.UsageError(line, ctx) from error

    def _left_out(self, ctx: click.Context, args: Sequence[str]) -> Sequence[str]:
        """The instances that the command means without a word."""
        arguments = [each for each in self.params if isinstance(each, click.Argument)]
        if not arguments or arguments[0].name not in _ARGUMENTS:
            return ()
        given = self._positional(ctx, args)
        if given is None:
            return ()
        known = self.names.known()
        others = arguments[1:]
        if not known:
            if not given:
                raise click.UsageError(self.names.missing, ctx)
            if others and not may_be_module(given[0]):
                text = escaped(given[0])
                raise click.UsageError(f"{text!r} is no instance; {self.names.missing}", ctx)
            return ()
        has_more = len(given) > sum(each.required for each in others)
        if has_more and (not others or self.names.is_name(given[0])):
            return ()
        if arguments[0].name == "path" and len(known) > 1:
            raise CommandError(f"say which {self.names.word}: {' or '.join(known)}", USAGE)
        return known

    def _positional(self, ctx: click.Context, args: Sequence[str]) -> Sequence[str] | None:
        """The arguments without the options; None: only help is wanted."""
        options: Any = [each for each in self.params if isinstance(each, click.Option)]
        bare = click.Command(None, params=options)
        values, rest, _ = bare.make_parser(ctx).parse_args(list(args))
        if values.get("as_json"):  # An argument may be looked up in its module.
            keep_for_json(ctx)
        help_option = bare.get_help_option(ctx)
        return None if help_option is not None and values.get(help_option.name) else rest


class NamingGroup(click.Group):
    """A group of such commands."""

    command_class = NamingCommand
