"""``deferrable errors``. Owns its four commands: who is asked, what is printed, what it exits with.

It may not know how errors are found (`choosing`). Nothing is lost without a yes: discarding asks,
and without a terminal to ask on it wants to be told.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import click
from rich.progress import Progress

from deferrable.aio.error_items import ErrorItem, ErrorItems
from deferrable.cli.choosing import Choice, choice_options, choose, key_of
from deferrable.cli.error_views import as_data, as_page, as_table
from deferrable.cli.loading import Named, instance_argument, load
from deferrable.cli.printing import json_option, print_json, to_output, untrusted
from deferrable.cli.trouble import ERROR, USAGE, Trouble, debug_option, telling
from deferrable.errors import DeferrableError

__all__ = ["errors"]


@click.group()
def errors() -> None:
    """Look through the error queue of an instance.

    IDs may be shortened as long as they are unambiguous.
    """


@errors.command("list")
@instance_argument
@click.option("--type", "error_type", default=None, help="Only errors of this class.")
@click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many."
)
@json_option
@debug_option
def list_(path: str, error_type: str | None, limit: int, as_json: bool) -> None:
    """Show the items that failed for good, oldest first."""

    async def do(named: Named, items: ErrorItems) -> None:
        found = await choose(items, Choice(is_all=True, error_type=error_type), limit)
        counts = await named.instance.backend.error_queue.stats()
        if as_json:
            print_json([as_data(each, is_whole=False) for each in found.entries])
            return
        console = to_output()
        if found.entries:
            console.print(as_table(found.entries))
        console.print(f"[dim]{len(found.entries)} of {sum(counts.values())} errors[/]")

    _with_items(path, do)


@errors.command()
@instance_argument
@choice_options
@json_option
@debug_option
def show(path: str, choice: Choice, as_json: bool) -> None:
    """Show items whole: the call, the error, the traceback.

    The arguments are decoded, as a worker would.
    """

    async def do(named: Named, items: ErrorItems) -> None:
        found = await choose(items, choice)
        if as_json:
            print_json([as_data(each, is_whole=True) for each in found.entries])
        else:
            for each in found.entries:
                to_output().print(as_page(each))
        found.tell_missing()

    _with_items(path, do)


@errors.command()
@instance_argument
@choice_options
@json_option
@debug_option
def requeue(path: str, choice: Choice, as_json: bool) -> None:
    """Have items run again, as if they were new."""
    _with_items(path, _settle("requeued", ErrorItem.requeue, choice, as_json, is_loss=False))


@errors.command()
@instance_argument
@choice_options
@click.option("--yes", "-y", "is_sure", is_flag=True, help="Do not ask.")
@json_option
@debug_option
def discard(path: str, choice: Choice, is_sure: bool, as_json: bool) -> None:
    """Remove items for good."""
    if not is_sure and not sys.stdin.isatty():
        raise Trouble(
            "discarding loses items, and there is no terminal to ask on; add --yes to do it", USAGE
        )
    settle = _settle("discarded", ErrorItem.discard, choice, as_json, is_loss=not is_sure)
    _with_items(path, settle)


def _settle(
    word: str,
    settle: Callable[[ErrorItem], Awaitable[None]],
    choice: Choice,
    as_json: bool,
    is_loss: bool,
) -> Callable[[Named, ErrorItems], Awaitable[None]]:
    async def do(named: Named, items: ErrorItems) -> None:
        found = await choose(items, choice)
        if is_loss and found.entries:
            _ask(found.entries, named.path)
        done, failed = await _settle_each(found.entries, settle, word)
        if as_json:
            print_json({word: done, "failed": failed, "missing": found.missing})
        else:
            click.echo(f"{word} {len(done)} of {len(found.entries)} items")
            for item_id, reason in failed.items():
                click.echo(untrusted(f"{item_id}: {reason}").plain, err=True)
        found.tell_missing()
        if failed:
            sys.exit(ERROR)

    return do


def _ask(entries: Sequence[ErrorItem], path: str) -> None:
    console = to_output(is_error=True)
    console.print(as_table(entries[:10]))
    if len(entries) > 10:
        console.print(f"[dim]and {len(entries) - 10} more[/]")
    noun = "this item" if len(entries) == 1 else f"these {len(entries)} items"
    if not click.confirm(f"Remove {noun} of {path} for good?", err=True):
        raise Trouble("nothing was discarded")


async def _settle_each(
    entries: Sequence[ErrorItem], settle: Callable[[ErrorItem], Awaitable[None]], word: str
) -> tuple[list[str], dict[str, str]]:
    done: list[str] = []
    failed: dict[str, str] = {}
    console = to_output(is_error=True)
    is_shown = console.is_terminal and len(entries) > 1
    with Progress(console=console, transient=True, disable=not is_shown) as progress:
        for entry in progress.track(entries, description=word):
            try:
                await settle(entry)
            except DeferrableError as error:
                failed[key_of(entry)] = str(error)
            else:
                done.append(key_of(entry))
    return done, failed


def _with_items(path: str, do: Callable[[Named, ErrorItems], Awaitable[Any]]) -> None:
    named = load(path)

    async def run() -> None:
        try:
            async with named.instance.errors() as items:
                await do(named, items)
        finally:
            with suppress(DeferrableError):
                await named.instance.close()

    with telling(path):
        asyncio.run(run())
