"""``deferrable errors``. Owns its commands: their questions, output and exit codes.

The rule: nothing is lost without a yes. Discarding asks, and needs ``--yes`` if there is no
terminal.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import click
from rich.progress import Progress

from deferrable.aio.deferrable import Deferrable
from deferrable.aio.error_items import ErrorItem, ErrorItems
from deferrable.cli.asking import check_terminal
from deferrable.cli.choosing import (
    Choice,
    Selection,
    choice_options,
    choose,
    each_chunk,
    in_chunks,
    key_of,
    print_types,
)
from deferrable.cli.command_error import ERROR, CommandError, debug_option
from deferrable.cli.error_views import as_data, as_page, as_table, traceback_text
from deferrable.cli.loading import Named, with_instance
from deferrable.cli.naming import NamingGroup, instance_argument
from deferrable.cli.printing import escaped, json_option, print_json, to_output
from deferrable.cli.stats import total
from deferrable.errors import DeferrableError

__all__ = ["errors"]

SHOWN = 10
"""How many items are shown before they are discarded."""
_HELD = "it is gone, or somebody else holds it; try again"


@click.group(cls=NamingGroup)
def errors() -> None:
    """Look through the error queue of an instance.

    IDs may be shortened as long as they are unambiguous.
    """


@errors.command("list")
@instance_argument
@click.option("--type", "error_type", default=None, help="Only errors of this class.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Show at most this many errors.",
)
@json_option
@debug_option
def list_(path: str, error_type: str | None, limit: int, as_json: bool) -> None:
    """Show the items that failed for good, oldest first."""

    async def do(named: Named, items: ErrorItems) -> None:
        found = await choose(items, Choice(is_all=True, error_type=error_type), limit)
        count = await _count(named)
        print_types(error_type, found.types)
        if as_json:
            print_json([as_data(each, is_whole=False) for each in found.entries])
            return
        console = to_output()
        if found.entries:
            console.print(as_table(found.entries, console.width))
        console.print(f"[dim]{len(found.entries):,} of {count:,} errors[/]")

    _with_items(path, do)


@errors.command()
@instance_argument
@choice_options
@json_option
@debug_option
def show(path: str, choice: Choice, as_json: bool) -> None:
    """Show whole items: the call, the error, the traceback.

    The arguments are decoded, as a worker would.
    """

    async def do(named: Named, items: ErrorItems) -> None:
        found = await choose(items, choice)
        if as_json:
            print_json([as_data(each, is_whole=True) for each in found.entries])
        else:
            for each in found.entries:
                _print_page(each)
        print_types(choice.error_type, found.types)
        found.check_missing()

    _with_items(path, do)


def _print_page(entry: ErrorItem) -> None:
    console = to_output()
    console.print(as_page(entry))
    console.print()
    trace = traceback_text(entry)
    if trace is not None:
        console.print(trace, soft_wrap=True)
        console.print()


@errors.command()
@instance_argument
@choice_options
@json_option
@debug_option
def requeue(path: str, choice: Choice, as_json: bool) -> None:
    """Run items again, as if they were new."""
    _with_items(path, _settle("requeued", ErrorItem.requeue, choice, as_json))


@errors.command()
@instance_argument
@choice_options
@click.option("--dry", "is_dry", is_flag=True, help="Run nothing: only see which would start.")
@click.option("--pdb", "has_debugger", is_flag=True, help="Debug each job that raises.")
@click.option("--yes", "-y", "is_sure", is_flag=True, help="Run --all without asking.")
@json_option
@debug_option
def replay(
    path: str, choice: Choice, is_dry: bool, has_debugger: bool, is_sure: bool, as_json: bool
) -> None:
    """Run failed items here and now, and leave them in the error queue as they are.

    The jobs run for real, with all that they do to databases and other services. Only the queue
    learns nothing: no retry, no result, no event. With --dry no job is run; it is only decoded, and
    its arguments are compared with its function. Exit code 1 if one failed.
    """
    # Only here: it imports a debugger, and a queue in memory to run on.
    from deferrable.cli.replaying import replay_errors

    replay_errors(
        path, choice,
        is_dry=is_dry, has_debugger=has_debugger, is_sure=is_sure, as_json=as_json,
    )  # fmt: skip


@errors.command()
@instance_argument
@choice_options
@click.option("--yes", "-y", "is_sure", is_flag=True, help="Discard without asking.")
@json_option
@debug_option
def discard(path: str, choice: Choice, is_sure: bool, as_json: bool) -> None:
    """Remove items for good."""
    if not is_sure:
        check_terminal("discarding loses items")
        choice = _ask(path, choice)
    _with_items(path, _settle("discarded", ErrorItem.discard, choice, as_json))


def _settle(
    word: str, settle: Callable[[ErrorItem], Awaitable[None]], choice: Choice, as_json: bool
) -> Callable[[Named, ErrorItems], Awaitable[None]]:
    async def do(named: Named, items: ErrorItems) -> None:
        if choice.is_all:
            found = Selection([])
            chunks = each_chunk(items, choice, types=found.types)
            total = await _count(named)
        else:
            found = await choose(items, choice)
            chunks, total = in_chunks(found.entries), len(found.entries)
        done, failed = await _settle_each(items, chunks, settle, word, total)
        if choice.is_all:
            print_types(choice.error_type, found.types)
        else:
            held = (key_of(entry) for entry in found.entries)
            failed |= {each: _HELD for each in held if each not in done and each not in failed}
        if as_json:
            print_json({word: done, "failed": failed, "missing": found.missing})
        elif done or failed or not found.missing:
            click.echo(f"{word} {len(done):,} of {len(done) + len(failed):,} items")
            for item_id, reason in failed.items():
                click.echo(escaped(f"{item_id}: {reason}"), err=True)
        found.check_missing()
        if failed:
            sys.exit(ERROR)

    return do


def _ask(path: str, choice: Choice) -> Choice:
    """Show what would be lost, and ask.

    Nothing is leased while it waits for the answer, for however long.

    Returns:
        what may be discarded: with --all, the items that were there when it asked.

    Raises:
        CommandError: the answer is no.
    """
    if choice.is_all:
        choice = replace(choice, until_time=time.time())
    questions: list[str] = []

    async def look(named: Named, items: ErrorItems) -> None:
        found = await choose(items, choice, SHOWN + 1 if choice.is_all else None)
        count: int | None = len(found.entries)
        if choice.is_all and len(found.entries) > SHOWN:
            count = None if choice.error_type else await _count(named)
        if found.entries:
            _show_some(found.entries, count)
            questions.append(f"Remove {_noun(count, choice)} of {path} for good?")

    _with_items(path, look)
    if questions and not click.confirm(questions[0], err=True):
        raise CommandError("nothing was discarded")
    return choice


def _show_some(entries: Sequence[ErrorItem], count: int | None) -> None:
    """Show the first of `count` items, of which `entries` are some; None: not counted."""
    console = to_output(is_error=True)
    console.print(as_table(entries[:SHOWN], console.width))
    if len(entries) > SHOWN:
        console.print(f"[dim]and {'' if count is None else f'{count - SHOWN:,} '}more[/]")


def _noun(count: int | None, choice: Choice) -> str:
    if count is None:
        return f"every {choice.error_type}"
    return "this item" if count == 1 else f"these {count:,} items"


async def _settle_each(
    items: ErrorItems,
    chunks: AsyncIterator[tuple[int, Sequence[ErrorItem]]],
    settle: Callable[[ErrorItem], Awaitable[None]],
    word: str,
    total: int,
) -> tuple[list[str], dict[str, str]]:
    """The ids of the settled items, and why the others were not settled.

    At most one chunk is leased at a time, and items that somebody else holds are left alone.

    Args:
        total: how many will be read, as far as it is known.
    """
    done: list[str] = []
    failed: dict[str, str] = {}
    console = to_output(is_error=True)
    is_shown = console.is_terminal and total > 1
    with Progress(console=console, transient=True, disable=not is_shown) as progress:
        task = progress.add_task(word, total=total)
        async for count, chosen in chunks:
            entries = await items.take(chosen)
            reasons = await asyncio.gather(*(_reason(settle(entry)) for entry in entries))
            for entry, reason in zip(entries, reasons, strict=True):
                if reason is None:
                    done.append(key_of(entry))
                else:
                    failed[key_of(entry)] = reason
            await items.give_back()
            progress.advance(task, count)
    return done, failed


async def _reason(settling: Awaitable[None]) -> str | None:
    """None, or why an item could not be settled."""
    try:
        await settling
    except DeferrableError as error:
        return str(error)
    return None


async def _count(named: Named) -> int:
    return total(await named.instance.backend.error_queue.stats())


def _with_items(path: str, do: Callable[[Named, ErrorItems], Awaitable[Any]]) -> None:
    async def look(instance: Deferrable) -> None:
        async with instance.errors() as items:
            await do(Named(path, instance), items)

    with_instance(path, look)
