"""The error of a command.

Owns the one line, and its exit code. The line says what went wrong and what to do; ``--debug``
shows the traceback.
"""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, TypeVar

import click

from deferrable.cli.printing import escaped, has_colour
from deferrable.errors import DeferrableError

__all__ = ["ERROR", "FORCED", "USAGE", "CommandError", "debug_option", "one_line_errors"]

ERROR, USAGE, FORCED = 1, 2, 3
"""Exit codes: something failed; wrong usage; a worker left jobs running."""

F = TypeVar("F", bound=Callable[..., Any])
_DEBUG = "deferrable.debug"


class CommandError(click.ClickException):
    """The problem, and what to do; `__cause__` is shown with ``--debug``."""

    def __init__(self, message: str, exit_code: int = ERROR) -> None:
        super().__init__(escaped(" ".join(message.split())))
        # Click declares it for classes, and reads it from the error.
        vars(self)["exit_code"] = exit_code
        context = click.get_current_context(silent=True)
        self._is_debugging = context is not None and context.find_root().meta.get(_DEBUG, False)

    def show(self, file: IO[Any] | None = None) -> None:
        cause = self.__cause__
        if cause is not None and self._is_debugging:
            trace = "".join(traceback.format_exception(cause))
            click.echo(escaped(trace, kept="\n\t"), nl=False, err=True)
        title = "Error: "
        if has_colour(sys.stderr):
            title = click.style(title, fg="red", bold=True)
        click.echo(f"{title}{self.message}", err=True)


def _remember(context: click.Context, _: click.Parameter, is_wanted: bool) -> None:
    context.find_root().meta[_DEBUG] = is_wanted


debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_remember,
    help="Show the traceback of an error.",
)


@contextmanager
def one_line_errors(path: str) -> Iterator[None]:
    """Turn an error of the library about the instance at `path` into one line."""
    try:
        yield
    except DeferrableError as error:
        raise CommandError(f"{path}: {error}") from error
