"""The calls that wait or run, for the pages.

Owns how many calls of a queue are looked at, the filter, and the rows of a table. Looking takes no
lease. A call is decoded only when somebody asks for its arguments.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from deferrable import BackendError
from deferrable._reading import attempt_number
from deferrable.aio import PeekedCall
from deferrable.contrib.dashboard._site import Shown
from deferrable.item import Item

__all__ = ["LOOKED_AT", "SHOWN_AT_ONCE", "Call", "CallFilter", "Worker", "find_call", "look"]

LOOKED_AT = 2000
"""The most calls that one page looks at."""
SHOWN_AT_ONCE = 100
STATES = ("running", "queued", "delayed", "retrying")
_AGES = {"minute": 60.0, "hour": 3600.0, "day": 86_400.0}


@dataclass(frozen=True, slots=True)
class CallFilter:
    """Which calls are shown, and in which order. It stands in the URL.

    Attributes:
        job, state, text: None or empty: all.
        age: ``minute``, ``hour`` or ``day``: only calls that were deferred longer ago.
        order: ``oldest`` or ``newest`` first.
        start: how many are left out before the first one.
    """

    job: str = ""
    state: str = ""
    text: str = ""
    age: str = ""
    order: str = "oldest"
    start: int = 0

    @classmethod
    def of(cls, params: Mapping[str, str]) -> Self:
        """The filter in the query of a URL. What it does not know is left out."""
        state, age_, start = params.get("state", ""), params.get("age", ""), params.get("start", "")
        return cls(
            params.get("job", ""),
            state if state in STATES else "",
            params.get("text", ""),
            age_ if age_ in _AGES else "",
            "newest" if params.get("order") == "newest" else "oldest",
            int(start) if start.isascii() and start.isdigit() and len(start) < 10 else 0,
        )

    def includes(self, call: "Call", now: float) -> bool:
        """Whether it is shown."""
        if self.job not in ("", call.job) or self.state not in ("", call.state):
            return False
        if self.age and not (call.pushed or now) < now - _AGES[self.age]:
            return False
        return has_text(self.text, call.id, call.job, call.worker, arguments_text(call.item))


@dataclass(frozen=True, slots=True)
class Call:
    """A row of a table."""

    id: str | None
    job: str
    state: str
    item: Item
    attempt: int
    most_attempts: object
    pushed: float | None
    available: float | None
    running_since: float | None
    lease_until: float | None
    worker: str | None


@dataclass(frozen=True, slots=True)
class Worker:
    """A consumer that holds calls."""

    id: str
    running: int
    lease_until: float | None
    oldest: float | None


async def look(shown: Shown) -> tuple[list[Call], bool, str | None]:
    """The calls of a queue, whether there are more, and why they cannot be seen."""
    if not shown.can_look:
        return [], False, "The broker cannot show calls without taking them."
    try:
        peeked = await shown.instance.peek(LOOKED_AT)
    except BackendError as error:
        return [], False, str(error)
    return [call_of(each) for each in peeked], len(peeked) == LOOKED_AT, None


def call_of(peeked: PeekedCall) -> Call:
    """The row of a call."""
    item, state = peeked.item, peeked.state
    return Call(
        peeked.id,
        peeked.job,
        state.status,
        item,
        attempt_number(item) if state.attempt is None else state.attempt,
        item.get("max_attempts"),
        time_in(item, "first_push_time"),
        state.available_time,
        state.running_since,
        state.lease_until,
        state.worker,
    )


def chosen(calls: Iterable[Call], wanted: CallFilter, now: float) -> list[Call]:
    """The calls that fit, in the order that was asked for."""
    fitting = [each for each in calls if wanted.includes(each, now)]
    is_reversed = wanted.order == "newest"
    return sorted(fitting, key=lambda each: each.pushed or 0.0, reverse=is_reversed)


def workers_of(calls: Iterable[Call]) -> list[Worker]:
    """The consumers that hold calls, by their ids. Where they have no id they are one."""
    held: dict[str, list[Call]] = {}
    for each in calls:
        if each.state == "running":
            held.setdefault(each.worker or "", []).append(each)
    return [
        Worker(
            name,
            len(each),
            max((call.lease_until for call in each if call.lease_until), default=None),
            min((call.running_since for call in each if call.running_since), default=None),
        )
        for name, each in sorted(held.items())
    ]


async def find_call(shown: Shown, call_id: str) -> PeekedCall | None:
    """The waiting or running call with this id."""
    found = await shown.instance.peek(1, ids=[call_id]) if shown.can_look else []
    return found[0] if found and found[0].id == call_id else None


def arguments_text(item: Item) -> str:
    """The arguments as they are stored, for a search; those of a pickle are not readable."""
    if item.get("serializer") != "json":
        return ""
    stored: Sequence[Any] = (item.get("args"), item.get("kwargs"))
    try:
        return json.dumps(stored, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return ""


def has_text(text: str, *places: object) -> bool:
    """Whether one of the texts has this one in it, in capital letters or not."""
    wanted = text.strip().casefold()
    return not wanted or any(wanted in str(place).casefold() for place in places if place)


def time_in(item: Mapping[str, Any], name: str) -> float | None:
    """A moment in an item, which may hold anything there."""
    value = item.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
