"""``deferrable jobs``. Owns the display of registered jobs and their options."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import click

from deferrable.aio._engine.registry import RegisteredJob
from deferrable.aio.deferrable import Deferrable
from deferrable.cli.command_error import debug_option
from deferrable.cli.loading import load_all
from deferrable.cli.naming import NamingCommand, instances_argument
from deferrable.cli.printing import json_option, print_json, table, to_output, untrusted
from deferrable.options import JobOptions

__all__ = ["jobs"]


@click.command(cls=NamingCommand)
@instances_argument
@json_option
@debug_option
def jobs(paths: Sequence[str], as_json: bool) -> None:
    """Show the registered jobs and their options."""
    named = load_all(paths)
    if as_json:
        print_json(
            [
                {"instance": each.path, **_described(job, each.instance)}
                for each in named
                for job in each.instance.registry.values()
            ]
        )
        return
    console = to_output()
    for place, each in enumerate(named):
        if place:
            console.print()
        registry = each.instance.registry
        made = table(
            "job", "kind", ">attempts", "retried errors", "options", title=untrusted(each.path)
        )
        made.columns[0].no_wrap = True
        for name in sorted(registry):
            job = _described(registry[name], each.instance)
            options = job["options"]
            made.add_row(
                untrusted(name),
                job["kind"],
                str(options["max_attempts"]),
                untrusted(", ".join(options["error_classes"])) or "[dim]none[/]",
                untrusted(_others(options)) or "[dim]-[/]",
            )
        console.print(made)
        if not registry:
            console.print("no jobs yet; decorate functions with the instance, in this module")


def _described(job: RegisteredJob, instance: Deferrable) -> dict[str, Any]:
    options = job.settings
    classes = options.error_classes
    if classes is None:
        classes = instance.default_error_classes or ()
    attempts = options.max_attempts
    values = {field.name: _value(getattr(options, field.name)) for field in fields(options)}
    values["error_classes"] = [each.__qualname__ for each in classes]
    values["max_attempts"] = instance.default_max_attempts if attempts is None else attempts
    kind = "async" if inspect.iscoroutinefunction(job.function) else "plain"
    return {"job": job.name, "kind": kind, "options": values}


def _value(value: object) -> object:
    return getattr(value, "__qualname__", repr(value)) if callable(value) else value


def _others(options: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{field.name}={options[field.name]}"
        for field in fields(JobOptions)
        if field.name not in ("error_classes", "max_attempts")
        and options[field.name] != field.default
    )
