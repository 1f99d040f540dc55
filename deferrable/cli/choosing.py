"""Which error items are meant.

Owns the reading of ids and filters, and the search. It may not know what is done with what is
found. Items of the Python 2 library have no id; their error has one.
"""

import functools
import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from deferrable.aio.error_items import ErrorItem, ErrorItems
from deferrable.cli.trouble import ERROR, USAGE, Trouble

__all__ = [
    "CHUNK",
    "Choice",
    "Found",
    "choice_options",
    "choose",
    "each_chunk",
    "in_chunks",
    "key_of",
]

CHUNK = 500
"""Errors that are popped at once, and settled before the next are."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was asked for: ids or beginnings of ids, or all, of one type or of any.

    Attributes:
        until_time: what was recorded later is not meant.
    """

    ids: tuple[str, ...] = ()
    is_all: bool = False
    error_type: str | None = None
    until_time: float = math.inf

    def includes(self, entry: ErrorItem) -> bool:
        """Whether it is meant."""
        if _moment(entry) > self.until_time:
            return False
        if self.error_type is not None and entry.error.get("error_type") != self.error_type:
            return False
        return self.is_all or any(key_of(entry).startswith(each) for each in self.ids)


@dataclass(frozen=True, slots=True)
class Found:
    """What was found, oldest first, and which ids were not."""

    entries: Sequence[ErrorItem]
    missing: Sequence[str] = field(default_factory=list)

    def tell_missing(self) -> None:
        """
        Raises:
            Trouble: an id was not found.
        """
        if self.missing:
            raise Trouble(
                f"no error here has the id {', '.join(self.missing)}; it may have been requeued or "
                "discarded, or be in another's hands: see deferrable errors list",
                ERROR,
            )


def key_of(entry: ErrorItem) -> str:
    """What the item is called here: its id, or its error's."""
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
            raise Trouble("say which items: their IDs, or --all (and --type to narrow it)", USAGE)
        return command(*args, choice=Choice(ids, is_all, error_type), **kwargs)

    return wrapped


async def each_chunk(
    items: ErrorItems, choice: Choice, limit: int | None = None
) -> AsyncIterator[tuple[int, list[ErrorItem]]]:
    """Go through the errors, some at a time: how many were looked at, and which of them are meant.

    Those that are not meant stay leased while `items` lasts, or they would come again.

    Args:
        limit: stop once so many are meant; None: go on to the end.
    """
    left = math.inf if limit is None else limit
    while left and (entries := await items.next_items(int(min(left, CHUNK)))):
        included = [entry for entry in entries if choice.includes(entry)]
        left -= len(included)
        yield len(entries), included


async def in_chunks(entries: Sequence[ErrorItem]) -> AsyncIterator[tuple[int, list[ErrorItem]]]:
    """What was chosen, as `each_chunk` gives it."""
    for start in range(0, len(entries), CHUNK):
        chunk = list(entries[start : start + CHUNK])
        yield len(chunk), chunk


async def choose(items: ErrorItems, choice: Choice, limit: int | None = None) -> Found:
    """Go through the errors, all of them unless there is a limit.

    Raises:
        Trouble: the beginning of an id fits several items.
    """
    entries: list[ErrorItem] = []
    async for _, included in each_chunk(items, choice, limit):
        entries += included
    missing: list[str] = []
    for each in choice.ids:
        count = sum(key_of(entry).startswith(each) for entry in entries)
        if count == 0:
            missing.append(each)
        elif count > 1 and not any(key_of(entry) == each for entry in entries):
            raise Trouble(f"{each} fits {count} items; write more of the id", USAGE)
    return Found(sorted(entries, key=_moment), missing)


def _moment(entry: ErrorItem) -> float:
    moment = entry.error.get("ts")
    return moment if isinstance(moment, int | float) else 0.0
