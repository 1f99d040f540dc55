"""``deferrable pause`` and ``deferrable resume``. Owns their output."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import click

from deferrable.aio.deferrable import Deferrable
from deferrable.cli.command_error import debug_option, one_line_errors
from deferrable.cli.loading import check_not_local, load_all
from deferrable.cli.naming import NamingCommand, instances_argument
from deferrable.cli.printing import escaped, json_option, print_json
from deferrable.errors import DeferrableError

__all__ = ["pause", "resume"]

_OLD_CONSUMERS = (
    "{path}: {count} consumers of the Python 2 library hold items; they know nothing of a pause"
)


@click.command(cls=NamingCommand)
@instances_argument
@click.option(
    "--for", "for_seconds", type=click.FloatRange(0, min_open=True), default=None,
    metavar="SECONDS", help="Then it is resumed by itself.",
)  # fmt: skip
@click.option("--reason", default="", help="Shown by deferrable stats and in the workers' logs.")
@json_option
@debug_option
def pause(paths: Sequence[str], for_seconds: float | None, reason: str, as_json: bool) -> None:
    """Have no worker start another job, in any process, until `deferrable resume`.

    Jobs that run go on, and calls can be deferred.
    """

    async def do(path: str, instance: Deferrable) -> dict[str, Any]:
        await instance.pause(for_seconds=for_seconds, reason=reason)
        old = await instance.backend.queue.old_consumers()
        if not as_json:
            click.echo(escaped(f"{path}: paused"))
        if old:
            click.echo(escaped(_OLD_CONSUMERS.format(path=path, count=len(old))), err=True)
        return {"instance": path, "is_paused": True, "old_consumers": len(old)}

    _each(paths, do, as_json)


@click.command(cls=NamingCommand)
@instances_argument
@json_option
@debug_option
def resume(paths: Sequence[str], as_json: bool) -> None:
    """Have workers start jobs again, within a second."""

    async def do(path: str, instance: Deferrable) -> dict[str, Any]:
        was_paused = await instance.resume()
        if not as_json:
            click.echo(escaped(f"{path}: {'resumed' if was_paused else 'was not paused'}"))
        return {"instance": path, "is_paused": False, "was_paused": was_paused}

    _each(paths, do, as_json)


def _each(
    paths: Sequence[str],
    do: Callable[[str, Deferrable], Awaitable[dict[str, Any]]],
    as_json: bool,
) -> None:
    named = load_all(paths)
    for each in named:
        check_not_local(
            each.path,
            each.instance,
            "pause it inside the program that has its workers: instance.pause()",
        )

    async def run() -> None:
        rows = list[dict[str, Any]]()
        try:
            for each in named:
                with one_line_errors(each.path):
                    rows.append(await do(each.path, each.instance))
        finally:
            for each in named:
                with suppress(DeferrableError):
                    await each.instance.close()
        if as_json:
            print_json(rows)

    asyncio.run(run())
