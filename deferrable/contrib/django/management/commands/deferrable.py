"""``manage.py deferrable``: the command line of the library, for the queues of a Django site.

Owns what Django wants of a command. The commands themselves are those of `deferrable.cli`.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand

from deferrable._extras import missing_extra

try:
    import click
    import rich  # noqa: F401
except ImportError as error:
    raise missing_extra("manage.py deferrable", "cli", error) from error

from deferrable.cli.named import commands_for
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


class _QueueNames:
    word = "QUEUE"

    def known(self) -> Sequence[str]:
        return queue_names()

    def path_of(self, name: str) -> str:
        return path_of(name)


def _group() -> click.Group:
    return click.Group(
        context_settings=dict(_HELP),
        help="Run workers for tasks, and look after their queues.\n\nA QUEUE is a name from "
        "QUEUES of the default backend, or ALIAS:QUEUE.",
        commands=commands_for(_QueueNames()),
    )
