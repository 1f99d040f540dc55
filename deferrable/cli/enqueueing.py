"""``deferrable enqueue``. Owns its options, and how the job is found by its name."""

import importlib
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import click

from deferrable._codec.refusals import describe
from deferrable.aio.deferrable import Deferrable
from deferrable.aio.job import Job
from deferrable.cli.call_arguments import read_arguments, read_word
from deferrable.cli.command_error import USAGE, CommandError, debug_option
from deferrable.cli.completing import complete_job
from deferrable.cli.loading import check_not_local, is_absent, with_instance
from deferrable.cli.naming import NamingCommand, instance_argument
from deferrable.cli.printing import escaped, json_option, print_json, seconds_text
from deferrable.outcome import Receipt

__all__ = ["enqueue"]


@click.command(cls=NamingCommand)
@instance_argument
@click.argument("name", metavar="JOB", shell_complete=complete_job)
@click.argument("words", metavar="[ARGUMENT]...", nargs=-1)
@click.option("--kwargs", "keywords", metavar="JSON", help="Arguments by name: a JSON object.")
@click.option("--delay-seconds", type=float, default=None, help="Run it after so many seconds.")
@click.option(
    "--option", "-o", "options", multiple=True, metavar="NAME=VALUE",
    help="An option of job.options(...), such as ttl_seconds=60. May be repeated.",
)  # fmt: skip
@json_option
@debug_option
def enqueue(
    path: str,
    name: str,
    words: Sequence[str],
    keywords: str | None,
    delay_seconds: float | None,
    options: Sequence[str],
    as_json: bool,
) -> None:
    """Defer a call of a job.

    JOB is the name of the job, or the end of it: `send` for app.jobs:send. An ARGUMENT is JSON if
    it is JSON, else text, and becomes what its parameter is annotated with. Write -- before
    arguments that begin with a dash.
    """
    changes: dict[str, Any] = {} if delay_seconds is None else {"delay_seconds": delay_seconds}
    changes |= dict(map(_read_option, options))

    async def do(instance: Deferrable) -> None:
        check_not_local(path, instance, "defer the call inside the program that runs its jobs")
        job = _job_called(instance, name)
        args, named = read_arguments(job.function, words, keywords)
        try:
            changed = job.options(**changes) if changes else job
        except TypeError as error:
            raise CommandError(str(error), USAGE) from error
        receipt = await changed.later_async(*args, **named)
        if as_json:
            print_json(_as_data(job, receipt))
        else:
            click.echo(escaped(f"{job.name}: {_as_text(receipt, instance)}"))

    with_instance(path, do)


def _read_option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise CommandError(f"--option takes NAME=VALUE, got {text!r:.80}", USAGE)
    return name, read_word(value)


def _job_called(instance: Deferrable, name: str) -> "Job[..., Any]":
    """The job with this name, or the only one whose name ends so.

    Raises:
        CommandError: there is none, or there are several.
    """
    registry = instance.registry
    module, colon, _ = name.partition(":")
    if name not in registry and colon:
        _import(module, name)
    ends = (f":{name}", f".{name}")
    fitting = [name] if name in registry else [each for each in registry if each.endswith(ends)]
    if len(fitting) > 1:
        raise CommandError(f"{name!r} is the end of {' and '.join(sorted(fitting))}", USAGE)
    if not fitting:
        near = get_close_matches(name, [*registry, *(each.split(":")[-1] for each in registry)])
        hint = f", but {near[0]}" if near else ""
        raise CommandError(
            f"the instance has no job {name!r:.200}{hint}; `deferrable jobs` shows the names", USAGE
        )
    job: Any = registry[fitting[0]]
    return job  # type: ignore[no-any-return]


def _import(module: str, name: str) -> None:
    """Import the module of a job that the module of the instance does not import."""
    try:
        importlib.import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if is_absent(module, error):
            return
        raise CommandError(
            f"importing {module} for the job {name!r:.200} raised {describe(error)}"
        ) from error


def _as_data(job: "Job[..., Any]", receipt: Receipt) -> dict[str, Any]:
    return {
        "job": job.name,
        "id": receipt.id,
        "status": receipt.status,
        "available_time": receipt.available_time,
        "serves_id": receipt.serves_id,
    }


def _as_text(receipt: Receipt, instance: Deferrable) -> str:
    serving = "an equal call" if receipt.serves_id is None else f"call {receipt.serves_id}"
    match receipt.status:
        case "skipped":
            return f"skipped, because {serving} is pending and runs instead"
        case "duplicate":
            return f"not pushed, because {serving} is pending and has the same unique key"
        case "delayed":
            seconds = max(0.0, receipt.available_time - instance.clock.time())
            return f"delayed as {receipt.id}, for {seconds_text(round(seconds))}"
    return f"{receipt.status} as {receipt.id}"
