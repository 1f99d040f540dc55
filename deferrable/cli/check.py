"""``deferrable check``. Owns the question whether this checkout can run what is in a queue.

The rule: nothing is taken, settled or run. Items are decoded as a worker would, which imports the
modules of their jobs, and unpickles arguments where the instance accepts pickles.
"""

import sys
from dataclasses import asdict, dataclass

import click

from deferrable.aio._contract.inspecting import each_found
from deferrable.aio.deferrable import Deferrable
from deferrable.cli.command_error import ERROR, USAGE, CommandError, debug_option
from deferrable.cli.loading import with_instance
from deferrable.cli.naming import NamingCommand, instance_argument
from deferrable.cli.printing import json_option, print_json, table, to_output, untrusted
from deferrable.errors import DeferrableError
from deferrable.item import Item
from deferrable.metadata import encoded_metadata

__all__ = ["check", "why_not_run"]

_MOST_EXAMPLES = 3


@dataclass(slots=True)
class Problem:
    """Items that this checkout cannot run, for one reason.

    Attributes:
        job: the name of the job, as far as it can be read.
        ids: of the first few of them.
    """

    job: str
    reason: str
    count: int
    ids: list[str]


@click.command(cls=NamingCommand)
@instance_argument
@click.option(
    "--against-queue", is_flag=True,
    help="Decode every queued, delayed, running and failed item, as a worker would here.",
)  # fmt: skip
@json_option
@debug_option
def check(path: str, against_queue: bool, as_json: bool) -> None:
    """Find out, before a deploy, whether this checkout can run what is in the queue.

    Exit code 1 if it cannot run an item: its job is not registered, its arguments no longer fit, or
    it cannot be decoded. Nothing is taken from the queue, and no job runs.
    """
    if not against_queue:
        raise CommandError("say against what to check: --against-queue", USAGE)

    async def do(instance: Deferrable) -> None:
        backend = instance.backend
        count, problems = 0, _Problems()
        for queue in (backend.queue, backend.error_queue):
            async for found in each_found(queue):
                count += 1
                reason = why_not_run(instance, found.item)
                if reason is not None:
                    problems.add(found.item, reason)
        if as_json:
            print_json({"items": count, "problems": [asdict(each) for each in problems.all()]})
        else:
            _show(count, problems)
        if problems.all():
            sys.exit(ERROR)

    with_instance(path, do)


def why_not_run(instance: Deferrable, item: Item) -> str | None:
    """Why a worker with these jobs would not run an item; None: it would.

    The arguments are compared with the signature only, so a call may still fail.
    """
    try:
        instance.protection.check(item, instance.backend.group)
        call = instance.registry.find(item)
        _check_metadata(instance, item)
    except DeferrableError as error:
        return str(error)
    if call.job.binder is None:
        return None
    try:
        call.job.binder(*call.args, **call.kwargs)
    except TypeError as error:
        return f"its arguments no longer fit: {error}"
    return None


def _check_metadata(instance: Deferrable, item: Item) -> None:
    """Decode the metadata that a worker would give to its consumers."""
    serializer, encoded = instance.protection.serializer_for(item), encoded_metadata(item)
    for consumer in instance.metadata_producer_consumers:
        data = encoded.get(consumer.NAMESPACE)
        if data is not None:
            serializer.load_value(data)


class _Problems:
    """Items that cannot be run, by job and reason."""

    def __init__(self) -> None:
        self._by_reason: dict[tuple[str, str], Problem] = {}

    def add(self, item: Item, reason: str) -> None:
        job = str(item.get("method", "-"))
        problem = self._by_reason.setdefault((job, reason), Problem(job, reason, 0, []))
        problem.count += 1
        if len(problem.ids) < _MOST_EXAMPLES:
            problem.ids.append(str(item.get("id", "-")))

    def all(self) -> list[Problem]:
        """The most frequent first."""
        return sorted(self._by_reason.values(), key=lambda each: -each.count)

    def count(self) -> int:
        return sum(each.count for each in self._by_reason.values())


def _show(count: int, problems: _Problems) -> None:
    console = to_output()
    found = problems.all()
    if found:
        made = table("job", ">items", "why", "ids")
        for each in found:
            ids = ", ".join(each.ids) + (", ..." if each.count > len(each.ids) else "")
            made.add_row(
                untrusted(each.job), f"{each.count:,}", untrusted(each.reason), untrusted(ids)
            )
        console.print(made)
    bad = problems.count()
    console.print(f"{count - bad:,} of {count:,} items can be run by this checkout")
