"""Find and show the items of a Dockets queue, without taking them.

Owns the order in which the places are looked at, and the size of each look. Redis has no index of
items by their id, so every entry is looked at, on the server. A small queue is searched in one
atomic step. A large one is searched a page at a time, so that no step blocks the server for long. A
cancelled item far from both ends of the list leaves a gap, for the same reason.

The one rule: places are looked at in the order in which an item passes them: delayed, queued, in
flight. So an item that moves on meanwhile is still seen. A list grows at its head, where the look
begins, so a push hides nothing.
"""

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from deferrable._codec.json import dump_value, load_item
from deferrable.aio._contract.inspecting import REMEMBERED_SECONDS, Found
from deferrable.aio._contract.uniqueness import unique_key_of
from deferrable.aio.backend._redis.link import script
from deferrable.aio.backend.dockets._commands import Commands
from deferrable.aio.backend.dockets._outside import Outside
from deferrable.aio.backend.dockets._wire import GAP, delivery_in, error_item
from deferrable.aio.clock import Clock
from deferrable.errors import UnreadableItem
from deferrable.item import Item, new_id

__all__ = ["Finder", "Page", "Spot", "look", "look_through"]

_MOST_IN_ONE_STEP = 1000
_MOST_BYTES_IN_ONE_STEP = 500_000
"""What one step looks at: some milliseconds of the server's time."""

_FIRST_PAGE = 100
_LARGEST_PAGE = 500
_PAGE_BYTES = 250_000

_LEAST_STOP_SECONDS = 3600.0
"""How long the wish to stop a job lasts, at least; its consumer reads it at each heartbeat."""

FAR = 20_000
"""An item that is so far from both ends of the list is not removed from it, which would take more
than 3 ms of the server's time; a gap takes its place."""

_WINDOW = 1_000
_FEW_PLACES = 500
_MOST_WINDOWS = 100
"""So far may pushes have moved an item since it was seen; else it has to be found again."""

_PASSES = 3
"""How often a large queue is searched before an item counts as gone."""

Kind: TypeAlias = Literal["list", "hash"]


@dataclass(frozen=True, slots=True)
class Spot:
    """Where an entry was seen.

    Attributes:
        raw: its bytes.
        delayed_id: its id among the delayed ones; empty: it is not one of them.
        worker: whose working list it is in; None: it is in none.
        place: its number in the queue's list, about.
    """

    raw: bytes
    delayed_id: bytes = b""
    worker: str | None = None
    place: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list or hash.

    Attributes:
        cursor: where to go on; empty: this is the last part.
        seen, size: how many entries were looked at, and their bytes.
        now: the moment, by the clock that delays follow.
        entries: id, due time or empty, and text of each shown entry.
    """

    cursor: bytes
    seen: int
    size: int
    now: float
    entries: list[tuple[bytes, bytes, bytes]]

    def next_count(self) -> int:
        """How large the next page may be."""
        if not self.seen:
            return _LARGEST_PAGE
        return max(1, min(_LARGEST_PAGE, _PAGE_BYTES * self.seen // max(self.size, 1)))


async def look(
    commands: Commands, kind: Kind, keys: Sequence[str], cursor: str, count: int, needle: str = ""
) -> Page:
    """A page of the list or hash at the first of `keys`; see the script."""
    args = (commands.now(), kind, cursor or "0", count, needle)
    reply = await commands.link.run(script("dockets_look"), keys, args)
    next_cursor, seen, size, now, *rest = reply
    entries = list(zip(rest[::3], rest[1::3], rest[2::3], strict=True))
    return Page(next_cursor, seen, size, float(now), entries)


async def look_through(
    commands: Commands, kind: Kind, keys: Sequence[str], needle: str
) -> AsyncIterator[Page]:
    """Every page, each about as large as the server can search in a millisecond."""
    cursor, count = "", _FIRST_PAGE
    while True:
        page = await look(commands, kind, keys, cursor, count, needle)
        yield page
        cursor, count = page.cursor.decode(), page.next_count()
        if not cursor:
            return


def item_in(raw: bytes, now: float) -> Item:
    """The item of an entry; of an unreadable one, what the error queue would show of it."""
    try:
        return delivery_in(raw)[0]
    except UnreadableItem as error:
        return load_item(error_item(raw, str(error), now, new_id()))


class Finder:
    """Searches one queue.

    Args:
        clock: the machine's, or an injected one.
    """

    def __init__(self, commands: Commands, outside: Outside, clock: Clock) -> None:
        self._commands = commands
        self._outside = outside
        self._clock = clock

    async def find(self, item_id: str) -> Found | None:
        """The item with this id; None: it was not found."""
        needle = dump_value(item_id)
        workers = await self._commands.workers()
        for _ in range(_PASSES):
            reply = await self._search_at_once(item_id, needle, workers)
            if reply[0] == b"found":
                return await self._choose(item_id, reply[1:]) or await self._find_outside(
                    item_id, needle, workers
                )
            found = await self._search(item_id, needle, workers)
            if found is not None:
                return found
            workers = await self._commands.workers()
        if await self._is_cancelled(item_id):
            return Found({}, "cancelled")
        return await self._find_outside(item_id, needle, workers)

    async def _search_at_once(
        self, item_id: str, needle: str, workers: Sequence[str]
    ) -> list[bytes]:
        keys = self._commands.keys
        names = (
            keys.queue,
            keys.delayed,
            keys.payload,
            keys.workers,
            keys.cancelled(item_id),
            *map(keys.working, workers),
        )
        limits = (_MOST_IN_ONE_STEP, _MOST_BYTES_IN_ONE_STEP)
        args = (self._commands.now(), needle, *limits, *workers)
        reply: list[bytes] = await self._commands.link.run(script("dockets_find"), names, args)
        return reply

    async def _choose(self, item_id: str, reply: Sequence[bytes]) -> Found | None:
        for place, entry_id, raw, due in zip(
            reply[::4], reply[1::4], reply[2::4], reply[3::4], strict=True
        ):
            if place == b"cancelled":
                return Found({}, "cancelled")
            is_delayed = place in (b"delayed", b"due")
            spot = Spot(
                raw,
                entry_id if is_delayed else b"",
                entry_id.decode() if place == b"in flight" else None,
            )
            found = await self._found(item_id, spot, float(due) if place == b"delayed" else None)
            if found is not None:
                return found
        return None

    async def _found(self, item_id: str, spot: Spot, due_time: float | None) -> Found | None:
        """The entry at `spot`, if it is of the item."""
        now = self._clock.time()
        item = item_in(spot.raw, now)
        if item.get("id") != item_id:
            return None
        if spot.worker is None:
            return _waiting(item, spot, due_time)
        seconds = (await self._commands.heartbeats([spot.worker]))[spot.worker]
        return _held(item, spot, now + seconds)

    async def _search(self, item_id: str, needle: str, workers: Sequence[str]) -> Found | None:
        keys = self._commands.keys
        delayed = (keys.payload, keys.delayed)
        async for page in look_through(self._commands, "hash", delayed, needle):
            for delayed_id, due, raw in page.entries:
                due_time = float(due) if due and float(due) > page.now else None
                found = await self._found(item_id, Spot(raw, delayed_id), due_time)
                if found is not None:
                    return found
        found = await self._search_list(item_id, needle, keys.queue, None)
        if found is not None:
            return found
        return await self._search_workers(item_id, needle, workers)

    async def find_held(self, item_id: str, workers: Sequence[str]) -> Found | None:
        """The item with this id, if one of these consumers holds it; None: it was not found."""
        return await self._search_workers(item_id, dump_value(item_id), workers)

    async def _search_workers(
        self, item_id: str, needle: str, workers: Sequence[str]
    ) -> Found | None:
        for worker in workers:
            working = self._commands.keys.working(worker)
            found = await self._search_list(item_id, needle, working, worker)
            if found is not None:
                return found
        return None

    async def _search_list(
        self, item_id: str, needle: str, key: str, worker: str | None
    ) -> Found | None:
        async for page in look_through(self._commands, "list", (key,), needle):
            for place, _, raw in page.entries:
                spot = Spot(raw, worker=worker, place=int(place))
                found = await self._found(item_id, spot, None)
                if found is not None:
                    return found
        return None

    async def _find_outside(
        self, item_id: str, needle: str, workers: Sequence[str]
    ) -> Found | None:
        """Look at the consumers of the Python 2 library that are known by now."""
        held = await self._outside.known(workers)
        return await self._search_workers(item_id, needle, list(held))

    async def _is_cancelled(self, item_id: str) -> bool:
        key = self._commands.keys.cancelled(item_id)
        (reply,) = await self._commands.link.call(("EXISTS", key))
        return bool(reply)

    # What is done with a found item.

    async def cancel(self, found: Found, *, is_remembered: bool) -> bool:
        """Remove it, if it is still where it was seen."""
        spot, keys = _spot_of(found), self._commands.keys
        item_id = found.item.get("id")
        mark = keys.cancelled(str(item_id))
        seconds = REMEMBERED_SECONDS if is_remembered and isinstance(item_id, str) else 0
        key = unique_key_of(found.item)
        unique = ("", "") if key is None else (key, str(item_id))
        names = (keys.queue, keys.delayed, keys.payload, mark, keys.unique, keys.gaps)
        # Cancelled neighbours move it to the head, and pushes move it away from there.
        start = max(0, spot.place - _FEW_PLACES)
        for _ in range(_MOST_WINDOWS):
            reply: int = await self._commands.link.run(
                script("dockets_gap", "dockets_unique", "dockets_cancel"),
                names,
                (spot.raw, spot.delayed_id, spot.place, seconds, *unique, FAR, start, _WINDOW),
            )
            if reply >= 0:
                return reply == 1
            start = -reply
        return False

    async def hasten(self, found: Found, text: str) -> bool:
        """Make it available as `text`, if it is still delayed."""
        spot, keys = _spot_of(found), self._commands.keys
        reply = await self._commands.link.run(
            script("dockets_hasten"),
            (keys.queue, keys.delayed, keys.payload),
            (spot.raw, spot.delayed_id, text),
        )
        return bool(reply == 1)

    async def ask_to_stop(self, found: Found, lease_seconds: float) -> bool:
        """Ask its consumer to stop its job, if that still holds it."""
        spot, keys = _spot_of(found), self._commands.keys
        worker = spot.worker or ""
        seconds = math.ceil(max(_LEAST_STOP_SECONDS, 3 * lease_seconds))
        reply = await self._commands.link.run(
            script("dockets_stop"),
            (keys.working(worker), keys.stops(worker)),
            (spot.raw, seconds),
        )
        return bool(reply == 1)

    async def note_cancelled(self, item_id: str) -> None:
        """Remember for a day that it was cancelled."""
        mark = self._commands.keys.cancelled(item_id)
        await self._commands.link.call(("SET", mark, "1", "EX", REMEMBERED_SECONDS))

    # A page of everything.

    async def inspect(self, cursor: str, count: int) -> tuple[list[Found], str]:
        """See `Inspecting.inspect`. A cursor names the place, and where to go on there."""
        keys = self._commands.keys
        place, _, rest = (cursor or "delayed ").partition(" ")
        if place == "delayed":
            page = await look(self._commands, "hash", (keys.payload, keys.delayed), rest, count)
            shown = [self._shown_delayed(page, *entry) for entry in page.entries]
            next_cursor = page.cursor.decode()
            return shown, f"delayed {next_cursor}" if next_cursor else "queued "
        if place == "queued":
            page = await look(self._commands, "list", (keys.queue,), rest, count)
            shown = [
                _waiting(item_in(raw, page.now), Spot(raw, place=int(place)), None)
                for place, _, raw in page.entries
                if raw != GAP
            ]
            next_cursor = page.cursor.decode()
            return shown, f"queued {next_cursor}" if next_cursor else "held "
        return await self._inspect_held(rest, count)

    def _shown_delayed(self, page: Page, delayed_id: bytes, due: bytes, raw: bytes) -> Found:
        due_time = float(due) if due and float(due) > page.now else None
        return _waiting(item_in(raw, page.now), Spot(raw, delayed_id), due_time)

    async def _inspect_held(self, rest: str, count: int) -> tuple[list[Found], str]:
        members = await self._commands.workers()
        workers = sorted({*members, *(await self._outside.known(members))})
        current, _, start = rest.partition(" ")
        left = [worker for worker in workers if worker >= current]
        if not left:
            return [], ""
        worker = left[0]
        start = start if worker == current else ""
        key = self._commands.keys.working(worker)
        page = await look(self._commands, "list", (key,), start, count)
        seconds = (await self._commands.heartbeats([worker]))[worker]
        lease_until = self._clock.time() + seconds
        shown = [
            _held(item_in(raw, page.now), Spot(raw, worker=worker), lease_until)
            for _, _, raw in page.entries
            if raw != GAP
        ]
        if page.cursor:
            return shown, f"held {worker} {page.cursor.decode()}"
        return shown, f"held {left[1]}" if len(left) > 1 else ""


def _spot_of(found: Found) -> Spot:
    return cast(Spot, found.key)


def _held(item: Item, spot: Spot, lease_until: float) -> Found:
    return Found(item, "in flight", spot, worker=spot.worker, lease_until=lease_until)


def _waiting(item: Item, spot: Spot, due_time: float | None) -> Found:
    place: Literal["queued", "delayed"] = "queued" if due_time is None else "delayed"
    return Found(item, place, spot, available_time=due_time)
