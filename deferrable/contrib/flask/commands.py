"""``flask deferrable``: the commands of the command line, for the instances of an application."""

from collections.abc import Sequence

import click

from deferrable.cli.named import commands_for
from deferrable.contrib.flask._instances import path_of

__all__ = ["group"]


class _InstanceNames:
    word = "NAME"

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def known(self) -> Sequence[str]:
        return self._names

    def path_of(self, name: str) -> str:
        return path_of(name)


def group(names: Sequence[str]) -> click.Group:
    """The group of commands.

    Args:
        names: of the instances.
    """
    return click.Group(
        "deferrable",
        help="Run workers, and look after queues.",
        commands=commands_for(_InstanceNames(names)),
    )
