"""The error queue, for the pages.

Owns the reading of errors, their groups and the filter. Nothing is leased if the queue can show
errors without a lease; otherwise nothing is read until somebody asks for it.
"""

import math
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from deferrable import BackendError
from deferrable._reading import job_name
from deferrable.aio import ErrorItem, ErrorItems
from deferrable.contrib.dashboard._calls import arguments_text, has_text, time_in
from deferrable.contrib.dashboard._site import Shown

__all__ = ["ErrorFilter", "Group", "chunks", "find_error", "groups_of", "key_of", "look_at_errors"]

CHUNK = 500
MOST_ERRORS = 5000
"""The most errors that a page looks at. Actions go on to the end."""
MOST_TAKEN = 100
"""The same, where they must be taken to be seen."""


@dataclass(frozen=True, slots=True)
class ErrorFilter:
    """Which errors are meant. It stands in the URL.

    Attributes:
        job, type, text, id: empty: all.
        until: errors that were recorded later are not meant.
    """

    job: str = ""
    type: str = ""
    text: str = ""
    id: str = ""
    until: float = math.inf

    @classmethod
    def of(cls, params: Mapping[str, str]) -> Self:
        """The filter in the query of a URL, or in a form."""
        try:
            until = float(params.get("until") or math.inf)
        except ValueError:
            until = math.nan  # which no error is earlier than: nothing is meant
        job, kind, text, error_id = (params.get(each, "") for each in ("job", "type", "text", "id"))
        return cls(job, kind, text, error_id, until)

    @property
    def is_all(self) -> bool:
        """Whether nothing narrows it."""
        return not (self.job or self.type or self.text.strip() or self.id)

    def includes(self, entry: ErrorItem) -> bool:
        """Whether it is meant."""
        if self.id and key_of(entry) != self.id:
            return False
        if not (failed_time(entry) or 0.0) <= self.until:
            return False
        job, kind = job_name(entry.item), type_of(entry)
        if self.job not in ("", job) or self.type not in ("", kind):
            return False
        text = entry.error.get("error_text")
        return has_text(self.text, key_of(entry), job, kind, text, arguments_text(entry.item))


@dataclass(slots=True)
class Group:
    """Errors of one type in one job."""

    job: str
    type: str
    count: int
    first: float | None
    last: float | None
    text: str


def key_of(entry: ErrorItem) -> str:
    """The item's id, or its error's: items of the Python 2 library have no id."""
    return str(entry.id or entry.error.get("id") or "")


def type_of(entry: ErrorItem) -> str:
    """The class of the error."""
    return str(entry.error.get("error_type") or "unknown")


def failed_time(entry: ErrorItem) -> float | None:
    """When the error was recorded."""
    return time_in(entry.error, "ts")


def groups_of(entries: Iterable[ErrorItem]) -> list[Group]:
    """The errors by job and type, the last one first."""
    groups: dict[tuple[str, str], Group] = {}
    for each in entries:
        job, kind, when = job_name(each.item), type_of(each), failed_time(each)
        group = groups.get((job, kind))
        if group is None:
            text = str(each.error.get("error_text") or "")
            groups[job, kind] = Group(job, kind, 1, when, when, text)
            continue
        group.count += 1
        if when is not None:
            group.first = when if group.first is None else min(group.first, when)
            if group.last is None or when > group.last:
                group.last, group.text = when, str(each.error.get("error_text") or "")
    return sorted(groups.values(), key=lambda each: each.last or 0.0, reverse=True)


async def look_at_errors(
    shown: Shown, wanted: ErrorFilter, *, may_take: bool = False
) -> tuple[list[ErrorItem], bool, str | None]:
    """The errors that fit, newest first, whether there are more, and why none can be seen."""
    if not shown.can_look_at_errors and not may_take:
        return [], False, None
    most = MOST_ERRORS if shown.can_look_at_errors else MOST_TAKEN
    entries: list[ErrorItem] = []
    count = 0
    try:
        async with shown.instance.errors() as items:
            while count < most and (read := await items.peek_items(min(CHUNK, most - count))):
                count += len(read)
                entries += filter(wanted.includes, read)
    except BackendError as error:
        return [], False, str(error)
    entries.sort(key=lambda each: failed_time(each) or 0.0, reverse=True)
    return entries, count >= most, None


async def find_error(shown: Shown, error_id: str) -> ErrorItem | None:
    """The error with this id."""
    async with shown.instance.errors() as items:
        async for entries in chunks(items, ErrorFilter(id=error_id)):
            if entries:
                return entries[0]
    return None


async def chunks(items: ErrorItems, wanted: ErrorFilter) -> AsyncIterator[list[ErrorItem]]:
    """All errors that fit, some at a time."""
    while read := await items.peek_items(CHUNK):
        yield [each for each in read if wanted.includes(each)]
