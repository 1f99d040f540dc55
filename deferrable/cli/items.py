"""``deferrable items``. Owns its four commands: their output and exit codes.

The rule: the answers are of one moment. A call may start right after it was shown, so a
cancellation says for each call whether it was in time.
"""

import sys
from collections.abc import Sequence
from typing import Any, get_args

import click

from deferrable.aio.deferrable import Deferrable
from deferrable.aio.peeked import PeekedCall
from deferrable.cli.command_error import ERROR, USAGE, CommandError, debug_option
from deferrable.cli.item_views import as_data, as_page, as_table
from deferrable.cli.loading import with_instance
from deferrable.cli.naming import NamingGroup, instance_argument
from deferrable.cli.printing import escaped, json_option, print_json, to_output
from deferrable.handles import CallStatus

__all__ = ["items"]

_SHOWN_STATES = [
    each for each in get_args(CallStatus) if each in ("queued", "delayed", "running", "retrying")
]
_MOST_FOUND = 1000
"""How many calls whose ids begin alike are looked at."""

ids_argument = click.argument("ids", metavar="ID...", nargs=-1)
state_option = click.option(
    "--state", type=click.Choice(_SHOWN_STATES), default=None, help="Only calls in this state."
)
job_option = click.option("--job", default=None, help="Only calls of this job, by its name.")


@click.group(cls=NamingGroup)
def items() -> None:
    """Look at the calls that wait or run, cancel them, or run them now.

    IDs may be shortened as long as they are unambiguous.
    """


@items.command("list")
@instance_argument
@state_option
@job_option
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Show at most this many calls.",
)
@json_option
@debug_option
def list_(path: str, state: CallStatus | None, job: str | None, limit: int, as_json: bool) -> None:
    """Show the calls that are delayed, queued or running."""

    async def do(instance: Deferrable) -> None:
        calls = await instance.peek(limit, state=state, job=job)
        if as_json:
            print_json([as_data(each, is_whole=False) for each in calls])
            return
        console = to_output()
        if calls:
            console.print(as_table(calls, console.width))
        more = ", perhaps more" if len(calls) == limit else ""
        console.print(f"[dim]{len(calls):,} calls{more}[/]")

    with_instance(path, do)


@items.command()
@instance_argument
@ids_argument
@json_option
@debug_option
def show(path: str, ids: Sequence[str], as_json: bool) -> None:
    """Show whole calls. The arguments are decoded, as a worker would."""

    async def do(instance: Deferrable) -> None:
        found, missing = await _find(instance, _some(ids))
        if as_json:
            print_json([as_data(each, is_whole=True) for each in found])
        else:
            for each in found:
                to_output().print(as_page(each))
                to_output().print()
        _report_missing(missing)

    with_instance(path, do)


@items.command()
@instance_argument
@ids_argument
@click.option("--job", default=None, help="Cancel every call of this job, by its name.")
@state_option
@click.option("--stop", is_flag=True, help="Ask running jobs to stop.")
@json_option
@debug_option
def cancel(
    path: str,
    ids: Sequence[str],
    job: str | None,
    state: CallStatus | None,
    stop: bool,
    as_json: bool,
) -> None:
    """Cancel calls that no consumer has taken."""
    if bool(ids) == bool(job):
        raise CommandError("name the calls by their ids, or a job by --job", USAGE)
    if ids and state is not None:
        raise CommandError("--state chooses among the calls of a --job; leave it out", USAGE)

    async def do(instance: Deferrable) -> None:
        if job is not None:
            counts = await instance.cancel_calls(job, state=state, stop=stop)
            _tell_counts(counts, as_json)
            if counts["running"] and not stop:
                sys.exit(ERROR)
            return
        found, missing = await _find(instance, ids)
        answers = {
            each: await instance.call(each).cancel_async(stop=stop)
            for each in [peeked.id for peeked in found if peeked.id is not None]
        }
        if as_json:
            print_json({**answers, **dict.fromkeys(missing, "ended")})
        else:
            for each, answer in answers.items():
                click.echo(escaped(f"{each}: {answer}"))
        if "running" in answers.values() and not stop:
            sys.exit(ERROR)
        if not as_json:
            _report_missing(missing)

    with_instance(path, do)


@items.command("run-now")
@instance_argument
@ids_argument
@json_option
@debug_option
def run_now(path: str, ids: Sequence[str], as_json: bool) -> None:
    """Run delayed calls, and retries that wait, without their delay."""

    async def do(instance: Deferrable) -> None:
        found, missing = await _find(instance, _some(ids))
        answers = {
            each: await instance.call(each).run_now_async()
            for each in [peeked.id for peeked in found if peeked.id is not None]
        }
        if as_json:
            print_json(answers)
        else:
            for each, is_available in answers.items():
                answer = "available now" if is_available else "a consumer has it, or it is gone"
                click.echo(escaped(f"{each}: {answer}"))
        _report_missing(missing)
        if not all(answers.values()):
            sys.exit(ERROR)

    with_instance(path, do)


def _some(ids: Sequence[str]) -> Sequence[str]:
    if not ids:
        raise CommandError("name the calls by their ids; `items list` shows them", USAGE)
    return ids


async def _find(instance: Deferrable, ids: Sequence[str]) -> tuple[list[PeekedCall], list[str]]:
    """The calls with these ids, or with ids that begin so, and the ids without a call.

    Raises:
        CommandError: an id is the beginning of several.
    """
    calls = await instance.peek(_MOST_FOUND, ids=ids)
    found: list[PeekedCall] = []
    missing: list[str] = []
    for wanted in ids:
        fitting = {each.id: each for each in calls if each.id and each.id.startswith(wanted)}
        if wanted in fitting:
            found.append(fitting[wanted])
        elif len(fitting) > 1:
            raise CommandError(f"{wanted} is the beginning of {len(fitting)} ids; give more of it")
        elif fitting:
            found.extend(fitting.values())
        else:
            missing.append(wanted)
    return found, missing


def _tell_counts(counts: Any, as_json: bool) -> None:
    if as_json:
        print_json(counts)
    else:
        click.echo(f"cancelled {counts['cancelled']:,} calls; {counts['running']:,} are running")


def _report_missing(missing: Sequence[str]) -> None:
    """Exit with an error if there is no such call."""
    if missing:
        names = ", ".join(missing)
        raise CommandError(f"no waiting or running call is called {names}")
