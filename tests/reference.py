"""The reference tables of the documentation that are made from the code.

Run ``python tests/reference.py`` after a change of an option, a metric or a command. It writes the
tables into the pages under `docs`; a test compares them. A part that is made stands between two
comments, which name it.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from deferrable import Deferrable
from deferrable.aio._decorating import MEANINGS, SIGNATURE
from deferrable.backend import InMemoryBackendFactory
from deferrable.cli.app import cli
from deferrable.contrib import opentelemetry
from deferrable.contrib._job_metrics import JobCollector
from deferrable.contrib._queue_metrics import QueueCollector
from deferrable.options import OPTIONS

__all__ = ["PARTS", "commands_of", "rewritten"]

DOCS = Path(__file__).parent.parent / "docs"


def options() -> str:
    """A row for each option of the decorator, in its order."""
    parameters = list(SIGNATURE.parameters.values())[1:]
    return _options((each.name, each.default) for each in parameters)


def options_of_a_call() -> str:
    """A row for each option that only one call takes."""
    names = [name for name, option in OPTIONS.items() if option.is_for_calls]
    return _options((name, None) for name in names)


def _options(rows: Iterable[tuple[str, object]]) -> str:
    return table(
        ("option", "default", "meaning"),
        (
            (f"`{name}`", f"`{default}`", MEANINGS[name].replace("``", "`"))
            for name, default in rows
        ),
    )


def job_metrics() -> str:
    """A row for each metric of a process that defers or runs jobs."""
    return _metrics(JobCollector().describe())


def queue_metrics() -> str:
    """A row for each metric of the exporter."""
    return _metrics(QueueCollector(lambda: ()).describe())


def _metrics(families: Iterable[Any]) -> str:
    return table(
        ("metric", "kind", "labels", "meaning"),
        (
            (
                f"`{each.name}{'_total' if each.type == 'counter' else ''}`",
                each.type,
                ", ".join(f"`{label}`" for label in each._labelnames),
                each.documentation,
            )
            for each in families
        ),
    )


class _Instruments:
    """Stands for OpenTelemetry, and notes which instruments are made."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str, str]] = []

    def get_meter(self, *args: object, **kwargs: object) -> "_Instruments":
        return self

    def create_histogram(self, name: str, unit: str, meaning: str, **kwargs: object) -> None:
        self.rows.append((f"`{name}`", "histogram", f"`{unit}`", meaning))

    def create_counter(self, name: str, unit: str, meaning: str) -> None:
        self.rows.append((f"`{name}`", "counter", f"`{unit}`", meaning))


def instruments() -> str:
    """A row for each instrument of OpenTelemetry."""
    made: Any = _Instruments()
    instance = Deferrable(InMemoryBackendFactory().create_backend_for_group("reference"))
    opentelemetry.instrument(instance, meter_provider=made)
    return table(("instrument", "kind", "unit", "meaning"), made.rows)


def commands() -> str:
    """Every command with its arguments and options."""
    return "\n".join(_section(path, command) for path, command in commands_of(cli))


def commands_of(
    group: click.Group, before: str = "deferrable"
) -> Iterator[tuple[str, click.Command]]:
    """The commands that do something, each with the words that call it."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands_of(command, f"{before} {name}")
        else:
            yield f"{before} {name}", command


def _section(path: str, command: click.Command) -> str:
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    options = [each for each in command.params if isinstance(each, click.Option)]
    usage = " ".join([path, "[OPTIONS]", *map(_name_of_argument, arguments)])
    text = "\n\n".join(
        " ".join(part.split()) for part in (command.help or "").strip().split("\n\n")
    )
    return f"### {path}\n\n```text\n{usage}\n```\n\n{_plain(text)}\n\n" + table(
        ("option", "default", "meaning"),
        ((_name_of_option(each), _default_of(each), _plain(each.help or "")) for each in options),
    )


def _plain(text: str) -> str:
    """A text of the help, whose words no reader takes for Markdown."""
    return re.sub(r"([*_<>\[\]|])", r"\\\1", text.replace("\b\n", ""))


def _name_of_argument(argument: click.Argument) -> str:
    name = argument.metavar or str(argument.name).upper()
    return f"{name}..." if argument.nargs == -1 and not name.endswith("...") else name


def _name_of_option(option: click.Option) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    if option.is_flag or option.count:
        return f"`{names}`"
    if isinstance(option.type, click.Choice):
        value = r"\|".join(map(str, option.type.choices))
    else:
        value = option.metavar or option.type.name.upper().partition(" ")[0]
    return f"`{names} {value}`"


def _default_of(option: click.Option) -> str:
    has_default = option.show_default and not option.is_flag and option.default is not None
    return f"`{option.default}`" if has_default else ""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of Markdown."""
    heads = list(head)
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n".replace("|  |", "| |") for line in lines)


PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "commands.md": {"commands": commands},
    "metrics.md": {
        "metrics of jobs": job_metrics,
        "metrics of queues": queue_metrics,
        "instruments": instruments,
    },
    "options.md": {"options": options, "options of a call": options_of_a_call},
}
"""The pages, and what is made of each."""


def rewritten(page: str) -> str:
    """The text of a page with its made parts as they should be."""
    text = (DOCS / page).read_text()
    for name, make in PARTS[page].items():
        begin, end = f"<!-- {name}: made by tests/reference.py -->\n\n", f"\n<!-- {name}: end -->"
        before, found, rest = text.partition(begin)
        _, found_end, after = rest.partition(end)
        assert found, f"{page} has no line {begin.strip()!r}"
        assert found_end, f"{page} has no line {end.strip()!r}"
        text = before + begin + make() + end + after
    return text


if __name__ == "__main__":
    for each in PARTS:
        (DOCS / each).write_text(rewritten(each))
