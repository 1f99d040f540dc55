"""``deferrable errors replay``. Owns its questions, its output and its exit code.

The rule: nothing is settled. What was run stays in the error queue as it was.
"""

import logging
import pdb  # noqa: T100  # for --pdb
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import click
from rich.progress import Progress

from deferrable._codec.refusals import describe, short_repr
from deferrable._reading import job_name
from deferrable._tracebacks import traceback_from_job, traceback_text
from deferrable.aio._engine.instance import entered
from deferrable.aio._engine.replaying import replay
from deferrable.aio.backend import InMemoryBackendFactory
from deferrable.aio.deferrable import Deferrable
from deferrable.aio.error_items import ErrorItem
from deferrable.cli.asking import check_terminal
from deferrable.cli.check import why_not_run
from deferrable.cli.choosing import Choice, Selection, choose, key_of, print_types
from deferrable.cli.command_error import ERROR, USAGE, CommandError
from deferrable.cli.ending import wait_for_threads
from deferrable.cli.error_views import as_page
from deferrable.cli.loading import with_instance
from deferrable.cli.printing import print_json, seconds_text, table, to_output, untrusted
from deferrable.errors import DeferrableError

__all__ = ["Replay", "replay_errors"]

_STAYS = "Nothing was settled: the error queue is as it was."
_NO_TERMINAL = (
    "The debugger reads its commands from standard input, which is no terminal: at its end, the "
    "debugger ends. Run this in a terminal to type them (docker and kubectl: -it)."
)
_DRY = "No job was run. An item that would start may still fail: only a run without --dry can tell."


@dataclass(frozen=True, slots=True)
class Replay:
    """One item, and what came of it.

    Attributes:
        has_passed: the job returned; or, of a dry one, it would be called.
        error: what was raised; None: nothing, or nothing was run.
        reason: why it did not pass, in a line; empty: it did.
    """

    entry: ErrorItem
    has_passed: bool
    reason: str = ""
    error: BaseException | None = None
    result: object = None
    seconds: float = 0.0


def replay_errors(
    path: str, choice: Choice, *, is_dry: bool, has_debugger: bool, is_sure: bool, as_json: bool
) -> None:
    """Run the chosen items here, or see whether they would start, and say what came of each."""
    if has_debugger and (is_dry or as_json or choice.is_all):
        raise CommandError("--pdb takes IDs, without --all, --dry and --json", USAGE)
    if choice.is_all and not is_dry and not is_sure:
        choice = _ask(path, choice)
    found: list[Selection] = []
    done: list[Replay] = []

    async def do(instance: Deferrable) -> None:
        async with instance.errors() as items:
            found.append(await choose(items, choice))
            run = _look_at if is_dry else _run_each
            if not is_dry:
                wait_for_threads()
            with _progress(len(found[0].entries), choice.is_all) as step:
                async for each in run(instance, found[0].entries):
                    done.append(each)
                    step()
                    if not (choice.is_all or is_dry or as_json):
                        _print_one(each)

    with_instance(path, do)
    if as_json:
        print_json(_as_data(done, is_dry))
    elif choice.is_all or is_dry:
        _print_table(done, is_dry)
    if has_debugger:
        _debug(done)
    print_types(choice.error_type, found[0].types)
    found[0].check_missing()
    if not all(each.has_passed for each in done):
        sys.exit(ERROR)


def _ask(path: str, choice: Choice) -> Choice:
    """Say how many jobs would be run, and ask."""
    check_terminal("replaying runs the jobs for real", "add --yes, or --dry to run nothing")
    counts: list[int] = []
    choice = Choice(is_all=True, error_type=choice.error_type, until_time=time.time())

    async def count(instance: Deferrable) -> None:
        async with instance.errors() as items:
            counts.append(len((await choose(items, choice)).entries))

    with_instance(path, count)
    question = f"Run {counts[0]:,} failed items of {path} here, for real?"
    if counts[0] and not click.confirm(question, err=True):
        raise CommandError("nothing was run")
    return choice


async def _look_at(instance: Deferrable, entries: Sequence[ErrorItem]) -> AsyncIterator[Replay]:
    for entry in entries:
        reason = why_not_run(instance, entry.item)
        yield Replay(entry, reason is None, reason or "")


async def _run_each(instance: Deferrable, entries: Sequence[ErrorItem]) -> AsyncIterator[Replay]:
    factory = InMemoryBackendFactory()
    async with AsyncExitStack() as lifespans:
        state = await entered(instance.lifespan, lifespans) if entries else None
        for entry in entries:
            # For each a new one: a job that failed leaves its retry there.
            backend = factory.create_backend_for_group(instance.backend.group)
            with _silent_attempts():
                try:
                    outcome = await replay(instance, backend, entry.item, state)
                except DeferrableError as refusal:
                    yield Replay(entry, False, str(refusal))
                    continue
                finally:
                    await backend.queue.flush()
                    await backend.error_queue.flush()
            error, seconds = outcome.error, outcome.duration_seconds
            if outcome.status == "completed":
                yield Replay(entry, True, result=outcome.result, seconds=seconds)
            else:
                reason = outcome.status if error is None else describe(error)
                yield Replay(entry, False, reason, error, seconds=seconds)


@contextmanager
def _silent_attempts() -> Iterator[None]:
    """Without the log of attempts: nothing is in another queue, and nothing is retried."""

    def is_other(record: logging.LogRecord) -> bool:
        return not hasattr(record, "deferrable_fields")

    logger = logging.getLogger("deferrable.jobs")
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


@contextmanager
def _progress(count: int, is_wanted: bool) -> Iterator[Any]:
    console = to_output(is_error=True)
    is_shown = is_wanted and console.is_terminal and count > 1
    with Progress(console=console, transient=True, disable=not is_shown) as progress:
        task = progress.add_task("replayed", total=count)
        yield lambda: progress.advance(task)


def _print_one(each: Replay) -> None:
    console = to_output()
    console.print(as_page(each.entry))
    console.print()
    took = f" after {seconds_text(each.seconds)}" if each.seconds else ""
    if each.has_passed:
        console.print(untrusted(f"passed{took}, and returned {short_repr(each.result)}"))
    else:
        console.print(untrusted(f"failed{took}: {each.reason}"))
        if each.error is not None:
            console.print()
            trace = traceback_text(each.error).rstrip()
            console.print(untrusted(trace, kept="\n\t"), soft_wrap=True)
    console.print()
    console.print(f"[dim]{_STAYS}[/]")


def _print_table(done: Sequence[Replay], is_dry: bool) -> None:
    console = to_output()
    groups: dict[tuple[str, str], list[Replay]] = {}
    for each in done:
        was = str(each.entry.error.get("error_type") or "unknown")
        groups.setdefault((job_name(each.entry.item), was), []).append(each)
    passing = "would start" if is_dry else "passed"
    made = table("job", "failed with", ">items", f">{passing}", "the others")
    for (job, was), its in sorted(groups.items(), key=lambda group: -len(group[1])):
        reasons = list(dict.fromkeys(each.reason for each in its if not each.has_passed))
        others = "; ".join(reasons[:3]) + ("; ..." if len(reasons) > 3 else "")
        count = sum(each.has_passed for each in its)
        made.add_row(
            untrusted(job), untrusted(was), f"{len(its):,}", f"{count:,}", untrusted(others)
        )
    if done:
        console.print(made)
    count = sum(each.has_passed for each in done)
    verb = "would start here" if is_dry else "passed here"
    console.print(f"{count:,} of {len(done):,} failed items {verb}")
    console.print(f"[dim]{_DRY if is_dry else _STAYS}[/]")


def _as_data(done: Sequence[Replay], is_dry: bool) -> dict[str, Any]:
    return {
        "is_dry": is_dry,
        "items": len(done),
        "passed": sum(each.has_passed for each in done),
        "replays": [
            {
                "id": key_of(each.entry),
                "job": job_name(each.entry.item),
                "failed_with": each.entry.error.get("error_type"),
                "has_passed": each.has_passed,
                "reason": each.reason or None,
                "result": short_repr(each.result) if each.has_passed and not is_dry else None,
                "traceback": None if each.error is None else traceback_text(each.error),
                "seconds": each.seconds,
            }
            for each in done
        ],
    }


def _debug(done: Sequence[Replay]) -> None:
    """Open the debugger at the frame of each job that raised."""
    if not sys.stdin.isatty():
        click.echo(_NO_TERMINAL, err=True)
    for each in done:
        if each.error is None:
            continue
        trace = traceback_from_job(each.error.__traceback__)
        if trace is None:
            continue
        debugger = pdb.Pdb()
        if trace.tb_next is not None:
            # It begins at the innermost frame; the job is the outermost one.
            debugger.cmdqueue = ["up 1000"]
        debugger.reset()
        debugger.interaction(None, trace)
