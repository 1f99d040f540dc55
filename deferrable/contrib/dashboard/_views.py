"""What each page shows.

Owns the values of the templates. A view looks, and changes nothing.
"""

from collections import Counter as Tally
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from deferrable import BackendError, DeferrableError
from deferrable._reading import attempt_number, job_name
from deferrable.aio import ErrorItem, PeekedCall, Schedule
from deferrable.contrib.dashboard._calls import (
    LOOKED_AT,
    SHOWN_AT_ONCE,
    Call,
    CallFilter,
    call_of,
    chosen,
    find_call,
    look,
    workers_of,
)
from deferrable.contrib.dashboard._counting import percentile
from deferrable.contrib.dashboard._drawing import Point, chart, sparkline
from deferrable.contrib.dashboard._errors import (
    MOST_ERRORS,
    ErrorFilter,
    failed_time,
    find_error,
    groups_of,
    key_of,
    look_at_errors,
    type_of,
)
from deferrable.contrib.dashboard._history import SLOT_SECONDS, History
from deferrable.contrib.dashboard._settling import Works
from deferrable.contrib.dashboard._site import Shown, Site

__all__ = ["VIEWS", "NotFound", "Seen", "View"]

_MOST_RUNNING_LOOKED_AT = LOOKED_AT
_PARTS = (("median", 0.5), ("95 %", 0.95), ("99 %", 0.99))


class NotFound(Exception):
    """There is nothing to show under this address."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a view may look at."""

    site: Site
    works: Works
    params: Mapping[str, str]
    now: float

    @property
    def shown(self) -> Shown:
        """The instance that the URL names."""
        name = self.params.get("queue", "")
        try:
            return self.site.shown[name]
        except KeyError:
            raise NotFound(f"There is no instance called {name!r} here.") from None


View: TypeAlias = Callable[[Seen], Awaitable[dict[str, Any]]]


async def overview(seen: Seen) -> dict[str, Any]:
    """All queues, their workers, and who else holds calls."""
    rows, workers, holders = [], [], []
    for each in seen.site.shown.values():
        history = each.history
        rows.append(
            {
                "name": each.name,
                "reading": history.last,
                "rates": history.rates(seen.now),
                "spark": _spark(history, seen.now),
            }
        )
        reports = each.workers
        held = {worker.id: worker for worker in workers_of(await _running(each))}
        workers += [(each.name, report, held.pop(report.holder or "-", None)) for report in reports]
        # Where the broker has no names of consumers, the calls are those of the workers above.
        holders += [(each.name, held[name]) for name in held if name or not reports]
    return {
        "rows": rows,
        "workers": workers,
        "holders": holders,
        "totals": _totals(rows),
        "charts": _all(seen),
    }


async def queue(seen: Seen) -> dict[str, Any]:
    """The calls of one queue."""
    shown, wanted = seen.shown, CallFilter.of(seen.params)
    calls, are_more, problem = await look(shown)
    fitting = chosen(calls, wanted, seen.now)
    running = [each for each in calls if each.state == "running"]
    return {
        "shown": shown,
        "wanted": wanted,
        "reading": shown.history.last,
        "rates": shown.history.rates(seen.now),
        "charts": _charts(shown.history, seen.now),
        "is_counted": shown.counter is not None,
        "jobs": sorted({*shown.job_names, *(each.job for each in calls)}),
        "running": sorted(running, key=_since)[:SHOWN_AT_ONCE],
        "running_count": len(running),
        "calls": fitting[wanted.start : wanted.start + SHOWN_AT_ONCE],
        "count": len(fitting),
        "looked_at": len(calls),
        "are_more": are_more,
        "problem": problem,
        "step": SHOWN_AT_ONCE,
    }


async def call(seen: Seen) -> dict[str, Any]:
    """One waiting or running call, or one error."""
    shown, call_id = seen.shown, seen.params.get("id", "")
    may_take = seen.params.get("look") == "yes"
    try:
        found = await find_call(shown, call_id)
        failed = None if found else await _failed(shown, call_id, may_take=may_take)
    except BackendError as error:
        raise NotFound(str(error)) from error
    if found is None and failed is None and not shown.can_look_at_errors and not may_take:
        raise NotFound(
            "This broker cannot show an error without taking it. Look at the errors, and choose "
            "one there."
        )
    if found is None and failed is None:
        raise NotFound(f"The call {call_id!r} is not there any more. It may have ended.")
    entry: PeekedCall | ErrorItem | None = found or failed
    arguments = _arguments(entry) if seen.params.get("arguments") == "show" else None
    return {
        "shown": shown,
        "call": call_of(found) if found else None,
        "entry": failed,
        "key": call_id,
        "item": entry.item if entry else {},
        "job": found.job if found else _job_of(failed),
        "error": dict(failed.error) if failed else {},
        "kind": type_of(failed) if failed else "",
        "arguments": arguments,
        "look": "yes" if may_take and failed else None,
    }


async def errors(seen: Seen) -> dict[str, Any]:
    """The error queue: its groups, and the errors that fit."""
    shown, wanted = seen.shown, ErrorFilter.of(seen.params)
    may_take = seen.params.get("look") == "yes"
    entries, are_more, problem = await look_at_errors(shown, wanted, may_take=may_take)
    start = _number(seen.params.get("start"))
    return {
        "shown": shown,
        "wanted": wanted,
        "reading": shown.history.last,
        "groups": groups_of(entries),
        "entries": [_error_row(each) for each in entries[start : start + SHOWN_AT_ONCE]],
        "count": len(entries),
        "are_more": are_more,
        "most": MOST_ERRORS,
        "problem": problem,
        "must_ask": not shown.can_look_at_errors and not may_take,
        "is_taken": not shown.can_look_at_errors,
        "work": seen.works.get(seen.params.get("work", "")),
        "start": start,
        "step": SHOWN_AT_ONCE,
        "chart": _one_chart(shown.history, seen.now, "errors", "failures", "Failures a second"),
    }


async def schedules(seen: Seen) -> dict[str, Any]:
    """The schedules of all instances, or of one."""
    rows = []
    problems = []
    for each in seen.site.shown.values():
        if seen.params.get("queue", each.name) != each.name:
            continue
        known = each.instance.schedules()
        waiting, failed, problem = await _ticks(each) if known else ({}, {}, None)
        problems += [problem] if problem else []
        for schedule in known:
            rows.append(
                {
                    "queue": each.name,
                    "schedule": schedule,
                    "next": _next_times(schedule),
                    "last": None if each.counter is None else _last_run(each, schedule.name),
                    "waiting": waiting.get(schedule.name, 0),
                    "failed": failed.get(schedule.name),
                }
            )
    return {"rows": rows, "problems": problems}


async def job(seen: Seen) -> dict[str, Any]:
    """One job: what can be known of it."""
    shown, name = seen.shown, seen.params.get("job", "")
    registered = shown.instance.registry.get(name)
    counts = None if shown.counter is None else shown.counter.jobs.get(name)
    calls, are_more, problem = await look(shown)
    entries, more_errors, _ = await look_at_errors(shown, ErrorFilter(job=name))
    mine = [each for each in calls if each.job == name]
    if registered is None and counts is None and not mine and not entries:
        raise NotFound(
            f"The instance {shown.name!r} has no job called {name!r}, and no call of it."
        )
    durations = [] if counts is None else list(counts.durations)
    waits = [seen.now - each.pushed for each in mine if each.state == "queued" and each.pushed]
    return {
        "shown": shown,
        "job": name,
        "options": _options(registered),
        "counts": None if counts is None else sorted(counts.statuses.items()),
        "is_counted": shown.counter is not None,
        "durations": [(label, percentile(durations, part)) for label, part in _PARTS],
        "duration_count": len(durations),
        "waits": [(label, percentile(waits, part)) for label, part in _PARTS],
        "states": sorted(Tally(each.state for each in mine).items()),
        "groups": groups_of(entries),
        "are_more": are_more or more_errors,
        "problem": problem,
    }


VIEWS: dict[str, View] = {
    "overview": overview,
    "queue": queue,
    "call": call,
    "errors": errors,
    "schedules": schedules,
    "job": job,
}


async def _running(shown: Shown) -> list[Call]:
    """The calls that run, if the queue is short enough to be looked through each time."""
    reading = shown.history.last
    size = None if reading is None else reading.size
    if reading is None or not reading.items.get("in_flight") or not shown.can_look:
        return []
    if size is None or size > _MOST_RUNNING_LOOKED_AT:
        return []
    calls, _, _ = await look(shown)
    return [each for each in calls if each.state == "running"]


async def _failed(shown: Shown, call_id: str, *, may_take: bool) -> ErrorItem | None:
    if shown.can_look_at_errors:
        return await find_error(shown, call_id)
    entries, _, problem = await look_at_errors(shown, ErrorFilter(id=call_id), may_take=may_take)
    if problem:
        raise NotFound(problem)
    return entries[0] if entries else None


async def _ticks(shown: Shown) -> tuple[Mapping[str, int], Mapping[str, Any], str | None]:
    """By schedule: how many of its calls wait or run, its last error, and what is not known."""
    calls, _, problem = await look(shown)
    waiting = Tally(str(each.item["schedule"]) for each in calls if _is_tick(each.item))
    entries, _, error_problem = await look_at_errors(shown, ErrorFilter())
    failed = {}
    for entry in reversed(entries):  # the newest one stays
        if _is_tick(entry.item):
            failed[entry.item["schedule"]] = _error_row(entry)
    return waiting, failed, problem or error_problem


def _is_tick(item: Mapping[str, Any]) -> bool:
    return isinstance(item.get("schedule"), str)


def _last_run(shown: Shown, name: str) -> Any:
    return None if shown.counter is None else shown.counter.last_runs.get(name)


def _next_times(schedule: Schedule) -> list[Any]:
    try:
        return list(schedule.next_times(3))
    except DeferrableError:
        return []


def _since(each: Call) -> float:
    return each.running_since or each.pushed or 0.0


def _job_of(entry: ErrorItem | None) -> str:
    return "" if entry is None else str(_error_row(entry)["job"])


def _error_row(entry: ErrorItem) -> dict[str, Any]:
    return {
        "key": key_of(entry),
        "job": job_name(entry.item),
        "type": type_of(entry),
        "text": str(entry.error.get("error_text") or ""),
        "time": failed_time(entry),
        "attempts": attempt_number(entry.item),
    }


def _arguments(entry: PeekedCall | ErrorItem | None) -> dict[str, Any]:
    """The decoded call; decoding a pickle runs what is in it, as in a worker."""
    if entry is None:
        return {}
    try:
        decoded = entry.call
        return {
            "positional": [_text(each) for each in decoded.args],
            "named": [(name, _text(each)) for name, each in decoded.kwargs.items()],
        }
    except DeferrableError as error:
        return {"problem": str(error)}


def _text(value: object) -> str:
    try:
        text = repr(value)
    except Exception as error:
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return text if len(text) <= 10_000 else f"{text[:10_000]}… ({len(text)} characters)"


def _options(registered: Any) -> list[tuple[str, str]]:
    if registered is None:
        return []
    settings = registered.settings
    names = [name for name in dir(settings) if not name.startswith("_")]
    values = [(name, getattr(settings, name)) for name in names]
    return [(name, _text(value)) for name, value in values if value and not callable(value)]


def _number(text: str | None) -> int:
    is_number = text is not None and text.isascii() and text.isdigit() and len(text) < 10
    return int(text) if text is not None and is_number else 0


def _totals(rows: list[dict[str, Any]]) -> dict[str, int]:
    totals: Tally[str] = Tally()
    for row in rows:
        if row["reading"] is not None:
            totals.update(row["reading"].items)
    return dict(totals)


def _spark(history: History, now: float) -> Any:
    points: list[Point] = [(each.time, each.waiting) for each in history.slots]
    return sparkline(points, now, f"Waiting over the last hour{_summary(points, '')}")


def _summary(points: list[Point], unit: str) -> str:
    known = [value for _, value in points if value is not None]
    if not known:
        return ": nothing is known yet"
    return f": now {known[-1]:g}{unit}, at most {max(known):g}{unit}"


def _charts(history: History, now: float) -> list[dict[str, Any]]:
    return [
        _one_chart(history, now, "waiting", "waiting", "Waiting"),
        _one_chart(history, now, "arrivals", "arrivals", "Arrivals a second"),
        _one_chart(history, now, "completions", "completions", "Completions a second"),
        _one_chart(history, now, "errors", "failures", "Failures a second"),
    ]


def _one_chart(history: History, now: float, kind: str, name: str, title: str) -> dict[str, Any]:
    is_rate = name != "waiting"
    slots = [each for each in history.slots if not is_rate or each.time + SLOT_SECONDS <= now]
    return _drawn([(each.time, _value(each, name, is_rate)) for each in slots], now, kind, title)


def _drawn(points: list[Point], now: float, kind: str, title: str) -> dict[str, Any]:
    known = [value for _, value in points if value is not None]
    label = f"{title} over the last hour{_summary(points, '')}"
    return {
        "title": title,
        "most": max(known, default=0),
        "now": known[-1] if known else None,
        "svg": chart(points, now, kind, label),
    }


def _value(slot: Any, name: str, is_rate: bool) -> float | None:
    value: float | None = getattr(slot, name)
    return value if not is_rate or value is None else value / SLOT_SECONDS


def _all(seen: Seen) -> list[dict[str, Any]]:
    """The charts of all queues together."""
    drawn = []
    for kind, name, title in (
        ("waiting", "waiting", "Waiting"),
        ("arrivals", "arrivals", "Arrivals a second"),
        ("completions", "completions", "Completions a second"),
        ("errors", "failures", "Failures a second"),
    ):
        sums: dict[float, float] = {}
        for each in seen.site.shown.values():
            for slot in each.history.slots:
                # The rates of a slot are known when it has ended.
                if name != "waiting" and slot.time + SLOT_SECONDS > seen.now:
                    continue
                value = _value(slot, name, name != "waiting")
                if value is not None:
                    sums[slot.time] = sums.get(slot.time, 0.0) + value
        drawn.append(_drawn(sorted(sums.items()), seen.now, kind, title))
    return drawn
