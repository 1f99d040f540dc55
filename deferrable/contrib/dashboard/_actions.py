"""What visitors may change, if the dashboard allows actions.

Owns the check of each form, the line in the log for each action, and where the browser goes next.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from starlette.requests import Request

from deferrable.contrib.dashboard._errors import ErrorFilter, look_at_errors
from deferrable.contrib.dashboard._guard import is_from_our_form
from deferrable.contrib.dashboard._rendering import query
from deferrable.contrib.dashboard._settling import ACTIONS
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


def note(user: str, action: str, queue: str, what: object) -> None:
    """Write the line of an action to the log, before it is done."""
    _logger.info("%r: %s on %r: %r", user, action, queue, what)


Doing: TypeAlias = Callable[[Seen, str], Awaitable[str]]
"""Does what a form asks for, and returns the address to go to."""


async def settle_errors(seen: Seen, user: str) -> str:
    """Requeue or discard errors."""
    shown, action, wanted = seen.shown, seen.params.get("do", ""), ErrorFilter.of(seen.params)
    if action not in ACTIONS:
        raise NotFound(f"There is no action called {action!r}.")
    note(user, action, shown.name, _meant(wanted))
    total = 1
    if not wanted.id:
        entries, are_more, _ = await look_at_errors(shown, wanted)
        reading = shown.history.last
        known = reading.items.get("errors", 0) if reading else 0
        total = known if are_more or not shown.can_look_at_errors else len(entries)
    work = await seen.works.begin(shown, action, wanted, total)
    await seen.site.refresh(shown)
    return f"/errors?{query(queue=shown.name, work=work.id)}"


def _meant(wanted: ErrorFilter) -> Mapping[str, object]:
    names = ("id", "job", "type", "text", "until")
    return {name: getattr(wanted, name) for name in names if getattr(wanted, name)}


async def change_call(seen: Seen, user: str) -> str:
    """Cancel a call, or run a delayed one now."""
    shown, action, call_id = seen.shown, seen.params.get("do", ""), seen.params.get("id", "")
    if not call_id:
        raise NotFound("The form names no call.")
    note(user, action, shown.name, call_id)
    handle = shown.instance.call(call_id)
    if action == "cancel":
        answer = str(await handle.cancel_async(stop=seen.params.get("stop") == "yes"))
    elif action == "run now":
        answer = "available now" if await handle.run_now_async() else "not delayed any more"
    else:
        raise NotFound(f"There is no action called {action!r}.")
    await seen.site.refresh(shown)
    return f"/queue?{query(queue=shown.name, said=f'{call_id}: {answer}')}"


async def run_schedule(seen: Seen, user: str) -> str:
    """Push the call of a schedule now."""
    shown, name = seen.shown, seen.params.get("schedule", "")
    found = [each for each in shown.instance.schedules() if each.name == name]
    if not found:
        raise NotFound(f"There is no schedule called {name!r}.")
    note(user, "run now", shown.name, name)
    receipt = await found[0].later_async()
    await seen.site.refresh(shown)
    return f"/schedules?{query(said=f'{name}: {receipt.status} as {receipt.id}')}"


async def pause_queue(seen: Seen, user: str) -> str:
    """Pause a queue, or resume it."""
    shown, action = seen.shown, seen.params.get("do", "")
    if action not in ("pause", "resume") or not shown.can_pause:
        raise NotFound("This queue cannot be paused.")
    note(user, action, shown.name, "")
    if action == "pause":
        await shown.instance.pause(reason=f"by {user}, on the dashboard")
    else:
        await shown.instance.resume()
    await seen.site.refresh(shown)
    return f"/queue?{query(queue=shown.name, said=f'{action}d')}"


DOING: dict[str, Doing] = {
    "/errors/settle": settle_errors,
    "/call/change": change_call,
    "/schedules/run": run_schedule,
    "/queue/pause": pause_queue,
}
