"""What a shell proposes after the Tab key.

Owns the proposals for instances and jobs. The rules: nothing is asked of a broker, a module that
cannot be imported proposes nothing, and what it prints is neither taken for a proposal nor shown in
the line that is typed.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path

import click

from deferrable.cli.command_error import CommandError
from deferrable.cli.loading import instances_in, load

__all__ = ["complete_job", "complete_path"]


def complete_path(_: click.Context, __: click.Parameter, begun: str) -> list[str]:
    """The instances of a module, or the modules of the current directory."""
    module, colon, _name = begun.partition(":")
    known = os.environ.get("DEFERRABLE_APP", "").split()
    if not colon:
        return _fitting(begun, [*known, *(f"{each}:" for each in _modules_here())])
    with suppress(CommandError), _silence():
        known += instances_in(module)
    return _fitting(begun, known)


def complete_job(context: click.Context, _: click.Parameter, begun: str) -> list[str]:
    """The jobs of the instance that the command line names."""
    try:
        with _silence():
            registry = load(context.params.get("path") or "").instance.registry
    except CommandError:
        return []
    return _fitting(begun, registry)


@contextmanager
def _silence() -> Iterator[None]:
    """Drop what is printed meanwhile, also by other programs and by code that is not Python."""
    kept = {each: os.dup(each) for each in (1, 2)}
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for each in kept:
            os.dup2(nowhere, each)
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            yield
    finally:
        for each, copy in kept.items():
            os.dup2(copy, each)
            os.close(copy)
        os.close(nowhere)


def _fitting(begun: str, proposals: Iterable[str]) -> list[str]:
    return sorted({each for each in proposals if each.startswith(begun)})


def _modules_here() -> list[str]:
    found = [each.stem for each in Path().glob("*.py")]
    found += [each.parent.name for each in Path().glob("*/__init__.py")]
    return [each for each in found if each.isidentifier()]
