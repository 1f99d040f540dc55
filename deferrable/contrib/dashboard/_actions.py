"""What visitors may change, if the dashboard allows actions.

Owns the check of each form, the line in the log for each action, and where the browser goes next.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from starlette.requests import Request

from deferrable.contrib.dashboard._errors import ErrorFilter, look_at_errors
from deferrable.contrib.dashboard._guard import is_from_our_form
from deferrable.contrib.dashboard._rendering import query
from deferrable.contrib.dashboard._settling import ACTIONS, shown
from deferrable.contrib.dashboard._views import NotFound, Seen

__all__ = ["DOING", "Refused", "fields_of", "settle_errors", "who"]

_logger = logging.getLogger("deferrable.dashboard")

_MOST_FORM_BYTES = 65_536


class Refused(Exception):
    """The form is not accepted: a status and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


async def fields_of(request: Request) -> dict[str, str]:
    """The fields of a form that one of our pages sent.

    Raises:
        Refused: it is too large, or it comes from elsewhere.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_FORM_BYTES:
            raise Refused(413, "The form is too large.")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=50)
    except ValueError:
        raise Refused(400, "The form cannot be read.") from None
    fields = dict(pairs)
    if not is_from_our_form(request, fields.pop("form_token", "")):
        raise Refused(403, "This form is not from this page. Load the page again, then try again.")
    return fields


def who(request: Request, user_of: Callable[[Any], str] | None) -> str:
    """The visitor, for the log."""
    if user_of is not None:
        return str(user_of(request))
    return request.client.host if request.client else "unknown"


def note(user: str, action: str, queue: str) -> None:
    """Write the line of an action to the log, before it is done."""
    _logger.info("%s: %s, queue %s", shown(user), action, shown(queue))


Doing: TypeAlias = Callable[[Seen, str], Awaitable[str]]
"""Does what a form asks for, and returns the address to go to."""


async def settle_errors(seen: Seen, user: str) -> str:
    """Requeue or discard errors."""
    place, action, wanted = seen.shown, seen.params.get("do", ""), ErrorFilter.of(seen.params)
    if action not in ACTIONS:
        raise NotFound(f"There is no action called {action!r}.")
    total, is_exact = 1, True
    if not wanted.id:
        entries, are_more, _ = await look_at_errors(place, wanted)
        reading = place.history.last
        known = reading.items.get("errors", 0) if reading else 0
        is_exact = place.can_look_at_errors and not are_more
        total = len(entries) if is_exact else known
    count = f"{total}" if is_exact else f"about {total}"
    note(
        user,
        f"{action} {count} {'error' if total == 1 else 'errors'}{_filter_text(wanted)}",
        place.name,
    )
    work = await seen.works.begin(place, action, wanted, total)
    await seen.site.refresh(place)
    return f"/errors?{query(queue=place.name, work=work.id)}"


def _filter_text(wanted: ErrorFilter) -> str:
    """Which errors are meant, in words; empty: all."""
    values = {name: getattr(wanted, name) for name in ("id", "job", "type", "text")}
    return "".join(f", {name} {shown(text)}" for name, text in values.items() if text)


async def change_call(seen: Seen, user: str) -> str:
    """Cancel a call, or run a delayed one now."""
    place, action, call_id = seen.shown, seen.params.get("do", ""), seen.params.get("id", "")
    stops = action == "cancel" and seen.params.get("stop") == "yes"
    if not call_id:
        raise NotFound("The form names no call.")
    note(user, f"{action}{' and stop' if stops else ''}, call {shown(call_id)}", place.name)
    handle = place.instance.call(call_id)
    if action == "cancel":
        answer = str(await handle.cancel_async(stop=stops))
    elif action == "run now":
        answer = "available now" if await handle.run_now_async() else "not delayed any more"
    else:
        raise NotFound(f"There is no action called {action!r}.")
    await seen.site.refresh(place)
    return f"/queue?{query(queue=place.name, said=f'{call_id}: {answer}')}"


async def run_schedule(seen: Seen, user: str) -> str:
    """Push the call of a schedule now."""
    place, name = seen.shown, seen.params.get("schedule", "")
    found = [each for each in place.instance.schedules() if each.name == name]
    if not found:
        raise NotFound(f"There is no schedule called {name!r}.")
    note(user, f"run now, schedule {shown(name)}", place.name)
    receipt = await found[0].later_async()
    await seen.site.refresh(place)
    return f"/schedules?{query(said=f'{name}: {receipt.status} as {receipt.id}')}"


async def pause_queue(seen: Seen, user: str) -> str:
    """Pause a queue, or resume it."""
    place, action = seen.shown, seen.params.get("do", "")
    if action not in ("pause", "resume") or not place.can_pause:
        raise NotFound("This queue cannot be paused.")
    note(user, action, place.name)
    if action == "pause":
        await place.instance.pause(reason=f"by {user}, on the dashboard")
    else:
        await place.instance.resume()
    await seen.site.refresh(place)
    return f"/queue?{query(queue=place.name, said=f'{action}d')}"


DOING: dict[str, Doing] = {
    "/errors/settle": settle_errors,
    "/call/change": change_call,
    "/schedules/run": run_schedule,
    "/queue/pause": pause_queue,
}
