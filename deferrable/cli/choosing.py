"""The choice of error items.

Owns the reading of ids and filters, and the search, which leases nothing where it can. Items of
the Python 2 library have no id; their error has one.
"""

import functools
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from deferrable.aio.error_items import ErrorItem, ErrorItems
from deferrable.cli.command_error import ERROR, USAGE, CommandError
from deferrable.cli.printing import escaped

__all__ = [
    "CHUNK",
    "Choice",
    "Selection",
    "choice_options",
    "choose",
    "each_chunk",
    "in_chunks",
    "key_of",
    "print_types",
]

CHUNK = 500
"""How many errors are read together, and settled before the next are leased."""
_MOST_TYPES = 10
"""How many types of errors a line lists."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The requested items: ids or beginnings of ids, or all, of one type or of any.

    Attributes:
        until_time: errors that were recorded later do not match.
    """

    ids: tuple[str, ...] = ()
    is_all: bool = False
    error_type: str | None = None
    until_time: float = math.inf

    def includes(self, entry: ErrorItem) -> bool:
        """Whether it matches."""
        if _moment(entry) > self.until_time:
            return False
        if self.error_type is not None and entry.error.get("error_type") != self.error_type:
            return False
        return self.is_all or any(key_of(entry).startswith(each) for each in self.ids)


@dataclass(frozen=True, slots=True)
class Selection:
    """The found items, oldest first, and the ids that were not found."""

    entries: Sequence[ErrorItem]
    missing: Sequence[str] = field(default_factory=list)
    types: "Counter[str]" = field(default_factory=Counter)

    def check_missing(self) -> None:
        """
        Raises:
            CommandError: an id was not found.
        """
        if self.missing:
            raise CommandError(
                f"no error here has the id {', '.join(self.missing)}; it may have been requeued or "
                "discarded; see deferrable errors list",
                ERROR,
            )


def key_of(entry: ErrorItem) -> str:
    """The item's id, or its error's."""
    return str(entry.id or entry.error.get("id") or "")


def choice_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the arguments that make a `Choice`."""

    @click.argument("ids", metavar="[ID...]", nargs=-1)
    @click.option("--all", "is_all", is_flag=True, help="All of them.")
    @click.option("--type", "error_type", default=None, help="Only errors of this class.")
    @functools.wraps(command)
    def wrapped(
        *args: Any, ids: tuple[str, ...], is_all: bool, error_type: str | None, **kwargs: Any
    ) -> Any:
        if bool(ids) == is_all:
            raise CommandError(
                "say which items: their IDs, or --all (and --type to narrow it)", USAGE
            )
        return command(*args, choice=Choice(ids, is_all, error_type), **kwargs)

    return wrapped


async def each_chunk(
    items: ErrorItems, choice: Choice, limit: int | None = None, types: "Counter[str] | None" = None
) -> AsyncIterator[tuple[int, list[ErrorItem]]]:
    """Read the errors, some at a time: how many were read, and which of them match.

    Those of one step are sorted oldest first, because the queue may show them in any order.

    Nothing is leased if the queue can show errors without a lease. Otherwise those that do not
    match stay leased while `items` lasts; without a lease they would come again.

    Args:
        limit: stop once so many match; None: go on to the end.
        types: counts the types of the errors that were read.
    """
    left = math.inf if limit is None else limit
    while left and (entries := await items.peek_items(int(min(left, CHUNK)))):
        if types is not None:
            types.update(str(entry.error.get("error_type")) for entry in entries)
        included = sorted(filter(choice.includes, entries), key=_moment)
        if len(included) > left:
            del included[int(left) :]
        left -= len(included)
        yield len(entries), included


async def in_chunks(entries: Sequence[ErrorItem]) -> AsyncIterator[tuple[int, list[ErrorItem]]]:
    """The chosen items, from `each_chunk`."""
    for start in range(0, len(entries), CHUNK):
        chunk = list(entries[start : start + CHUNK])
        yield len(chunk), chunk


async def choose(items: ErrorItems, choice: Choice, limit: int | None = None) -> Selection:
    """Read the errors until all matching ones are found, or `limit` of them.

    Raises:
        CommandError: the beginning of an id matches several items.
    """
    entries: list[ErrorItem] = []
    types: Counter[str] = Counter()
    whole = set(choice.ids)
    async for _, included in each_chunk(items, choice, limit, types):
        entries += included
        whole.difference_update(map(key_of, included))
        if choice.ids and not whole:
            break  # The remaining errors cannot match an id better.
    chosen: list[ErrorItem] = [] if choice.ids else entries
    missing: list[str] = []
    for each in choice.ids:
        fitting = [entry for entry in entries if key_of(entry).startswith(each)]
        exact = [entry for entry in fitting if key_of(entry) == each]
        if not fitting:
            missing.append(each)
        elif len(fitting) > 1 and not exact:
            raise CommandError(f"{each} matches {len(fitting)} items; write more of the id", USAGE)
        chosen += [entry for entry in exact or fitting if entry not in chosen]
    return Selection(sorted(chosen, key=_moment), missing, types)


def print_types(error_type: str | None, types: "Counter[str]") -> None:
    """Say which types of errors exist, because none has the requested type."""
    if error_type is None or types[error_type] or not types:
        return
    known = [f"{name} ({count:,})" for name, count in types.most_common(_MOST_TYPES)]
    others = ", ..." if len(types) > _MOST_TYPES else ""
    line = f"no error here is of the type {error_type}; there are: {', '.join(known)}{others}"
    click.echo(escaped(line), err=True)


def _moment(entry: ErrorItem) -> float:
    moment = entry.error.get("ts")
    return moment if isinstance(moment, int | float) else 0.0
