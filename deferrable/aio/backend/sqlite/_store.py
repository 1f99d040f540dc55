"""What each verb does to the tables, inside a transaction that the caller holds.

Owns the order of items, who holds which and until when, and when an item has been delivered too
often. It opens no transaction and reads no clock.

The one rule: a delivery is named by row and token. A statement that settles or touches one names
both, and the state, and that the lease has not ended, so a stale holder changes nothing.
"""

import math
import secrets
import socket
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from deferrable import lifecycle
from deferrable._codec.json import dump, load_item
from deferrable.aio.backend.sqlite import _statements as sql
from deferrable.aio.backend.sqlite._schema import AVAILABLE, DELAYED, HELD
from deferrable.errors import DuplicateCall, SerializationError, UnreadableItem
from deferrable.pause import Pause

__all__ = ["Delivery", "Entry", "Lane", "Lease", "Now", "Store", "Taken", "as_text"]

_MOST_MOVED: Final = 5_000
"""How many late items one step moves, and at how many rows a page looks, so that it is short."""

_MOST_ROWS: Final = 1_000_000
_LAST_ROW: Final = 2**63 - 1


class Now(NamedTuple):
    """The moment: delays end by `time`; leases, as all processes see them, by `lease`."""

    time: float
    lease: float
    monotonic: float


@dataclass(frozen=True, slots=True)
class Lane:
    """One queue of the file.

    Attributes:
        name: of the queue.
        errors_name: of the queue where items are buried; None: they come back for ever.
        max_redeliveries: more failed deliveries than that bury an item.
    """

    name: str
    errors_name: str | None
    max_redeliveries: float


class Lease(NamedTuple):
    """One delivery of one row."""

    row: int
    token: int


class Delivery(NamedTuple):
    """A row that was just taken."""

    lease: Lease
    redeliveries: int
    text: bytes


class Entry(NamedTuple):
    """An item to be added: its text, its delay in seconds, and its unique key."""

    text: str
    delay: float
    unique_key: str | None = None


class Taken(NamedTuple):
    """What a pop found, when, in how many seconds something becomes available by itself, and the
    queue's pause.
    """

    deliveries: list[Delivery]
    now: Now
    rest_seconds: float
    pause: Pause | None = None


class Store:
    """The tables, through one connection, or one cursor.

    Attributes:
        woken: names of queues in which the open transaction has made something available, or
            due earlier.
        is_lent: the transaction is the user's, which is given no other work than its own.
    """

    is_lent = False

    def __init__(self, connection: sqlite3.Connection | sqlite3.Cursor) -> None:
        self._execute = connection.execute
        self._execute_many = connection.executemany
        self.woken: set[str] = set()
        self._ids: dict[str, int] = {}

    def forget(self) -> None:
        """Forget what the last transaction did, which was rolled back."""
        self.woken.clear()
        self._ids.clear()

    def forget_ids(self) -> None:
        """Look the ids of queues up again: somebody else may have rolled back."""
        self._ids.clear()

    def rows(self, statement: str, *parameters: Any) -> list[Any]:
        """All rows of a query. A statement that is not read to its end would stay open."""
        return self._execute(statement, parameters).fetchall()

    def change(self, statement: str, *parameters: Any) -> int:
        """How many rows a statement has changed."""
        return self._execute(statement, parameters).rowcount

    def known_id(self, name: str) -> int | None:
        """The id of a queue that was used before."""
        found = self._ids.get(name)
        if found is None:
            rows = self.rows(sql.QUEUE_ID, name)
            if not rows:
                return None
            found = self._ids[name] = rows[0][0]
        return found

    def id_of(self, name: str) -> int:
        """The id of a queue, which is written down if it is new."""
        found = self.known_id(name)
        if found is None:
            self.change(sql.NEW_QUEUE, name)
            ((found,),) = self.rows(sql.QUEUE_ID, name)
            self._ids[name] = found
        return found

    # Push and pop.

    def push(self, lane: Lane, entries: Sequence[tuple[str, float]], now: Now) -> None:
        """Add items at the back, or among the delayed ones.

        Args:
            entries: text and delay in seconds of each.
        """
        queue = self.id_of(lane.name)
        if not self.is_lent:
            self.catch_up(lane, now)
        rows = [
            (queue, DELAYED, now.time + delay, now.time, text)
            if delay > 0
            else (queue, AVAILABLE, 0.0, now.time, text)
            for text, delay in entries
        ]
        self._execute_many(sql.ADD, rows)
        self.woken.add(lane.name)

    def push_unique(
        self, lane: Lane, entries: Sequence[Entry], now: Now
    ) -> list[DuplicateCall | None]:
        """Add items some of which have a unique key; see `push`.

        Returns:
            for each None, or why it was not added.
        """
        outcomes: list[DuplicateCall | None] = []
        for entry in entries:
            holder_id = None
            if entry.unique_key is None:
                self.push(lane, [entry[:2]], now)
            else:
                holder_id = self._push_one(lane, entry, now)
            outcomes.append(None if holder_id is None else DuplicateCall(holder_id))
        return outcomes

    def _push_one(self, lane: Lane, entry: Entry, now: Now) -> str | None:
        """Add an item with a key; if another one holds that, its id."""
        queue = self.id_of(lane.name)
        if not self.is_lent:
            self.catch_up(lane, now)
        held = self.rows(sql.KEY_HOLDER, queue, entry.unique_key)
        if held:
            return _id_in(held[0][0])
        state, at = (DELAYED, now.time + entry.delay) if entry.delay > 0 else (AVAILABLE, 0.0)
        self.change(sql.ADD_UNIQUE, queue, state, at, now.time, entry.text, entry.unique_key)
        self.woken.add(lane.name)
        return None

    def take(self, lane: Lane, count: int, now: Now, lease_seconds: float) -> list[Delivery]:
        """Hold up to `count` items from the front."""
        queue = self.id_of(lane.name)
        self.catch_up(lane, now)
        rows = self.rows(sql.FRONT, queue, queue, now.time, min(count, _MOST_ROWS))
        if not rows:
            return []
        token, end_time = secrets.randbits(62), now.lease + lease_seconds
        # What was found is exactly what stands before the last one found.
        self.change(sql.HOLD_FRONT, end_time, token, queue, rows[-1][0])
        return [Delivery(Lease(row, token), missed, text) for row, missed, text in rows]

    def take_rows(
        self, lane: Lane, keys: Sequence[tuple[int, float]], now: Now, lease_seconds: float
    ) -> list[Delivery | None]:
        """Hold the available ones of these rows, each named with when it was pushed."""
        queue = self.id_of(lane.name)
        self.catch_up(lane, now)
        token, end_time = secrets.randbits(62), now.lease + lease_seconds
        taken: list[Delivery | None] = []
        for row, pushed in keys:
            found = self.rows(sql.IS_FREE, row, queue, pushed)
            if found:
                self.change(sql.HOLD_ROW, end_time, token, row)
            taken.append(Delivery(Lease(row, token), *found[0]) if found else None)
        return taken

    # What happens by itself.

    def catch_up(self, lane: Lane, now: Now) -> None:
        """Make due items available, and take back those that were held for too long.

        They go behind what waits, in the order of their moments.
        """
        queue = self.known_id(lane.name)
        due = self.rows(sql.LATE, queue, DELAYED, now.time, _MOST_MOVED)
        ended = self.rows(sql.LATE, queue, HELD, now.lease, _MOST_MOVED)
        if not due and not ended:
            return
        moments = [(at - now.time, row, None) for row, at, _ in due]
        moments += [(at - now.lease, row, missed) for row, at, missed in ended]
        for _, row, missed in sorted(moments, key=lambda each: each[:2]):
            if missed is None or not self._miss(lane, row, missed, now):
                self._to_back(row)
        self.woken.add(lane.name)

    def _miss(self, lane: Lane, row: int, missed: int, now: Now) -> bool:
        """Count one more delivery that ended without settlement; True: it was one too many.

        Then the item is buried.
        """
        if lane.errors_name is None or missed < lane.max_redeliveries:
            self.change(sql.MISS, row)
            return False
        self.bury(lane, row, lifecycle.TooManyDeliveries(missed + 1, lane.max_redeliveries), now)
        return True

    def _to_back(self, row: int) -> None:
        """Put a row behind all others, as an available one; a new id is a new place."""
        self.change(sql.TO_BACK, row)

    def bury(self, lane: Lane, row: int, error: Exception, now: Now) -> None:
        """Move a row to the error queue, with a record of `error`.

        An item that cannot be read or written here is kept as text. In a lane without an error
        queue the record replaces the row's text.
        """
        ((text,),) = self.rows(sql.TEXT, row)
        buried = _with_error(text, error, now.time)
        if lane.errors_name is None:
            self.change(sql.REWRITE, buried, row)
            self._to_back(row)
        else:
            errors = self.id_of(lane.errors_name)
            self.change(sql.ADD, errors, AVAILABLE, 0.0, now.time, buried)
            self.change(sql.DROP, row)
        self.woken.add(lane.errors_name or lane.name)

    # What a holder does.

    def holds(self, lease: Lease, now: Now) -> bool:
        """Whether the delivery was neither settled nor ended."""
        return bool(self.rows(sql.HOLDS, *lease, now.lease))

    def touch(self, lease: Lease, seconds: float, now: Now) -> bool:
        """Move the end of a lease, never back; False: it is not held any more."""
        return self.change(sql.TOUCH, now.lease + seconds, *lease, now.lease) == 1

    def remove(self, lease: Lease, now: Now) -> bool:
        """Forget a held item; False: it is not held any more."""
        return self.change(sql.REMOVE, *lease, now.lease) == 1

    def replace(
        self, lane: Lane, lease: Lease, to: Lane, entry: Entry, now: Now
    ) -> DuplicateCall | None:
        """Replace an item that is held by a new one of a lane; or say why this was not done.

        A copy in the same lane has the key only if the original still has it.
        """
        if entry.unique_key is not None and to.name == lane.name:
            ((key,),) = self.rows(sql.KEY_OF, lease.row)
            if as_text(key) != entry.unique_key:
                entry = entry._replace(unique_key=None)
            self.change(sql.DROP, lease.row)
            self.push_unique(to, [entry], now)
            return None
        (duplicate,) = self.push_unique(to, [entry], now)
        if duplicate is None:
            self.change(sql.DROP, lease.row)
        return duplicate

    def free_key(self, lease: Lease, now: Now) -> bool:
        """Let go of the key of a held item; False: it is not held any more."""
        return self.change(sql.FREE_KEY, *lease, now.lease) == 1

    def release(
        self,
        lane: Lane,
        lease: Lease,
        now: Now,
        delay_seconds: float,
        *,
        to_front: bool,
        is_counted: bool,
    ) -> bool:
        """Give a held item back; False: it is not held any more."""
        held = self.rows(sql.HOLDS, *lease, now.lease)
        if not held:
            return False
        row = lease.row
        if is_counted and self._miss(lane, row, held[0][0], now):
            return True
        self.woken.add(lane.name)
        if delay_seconds:
            self.change(sql.PUT, DELAYED, now.time + delay_seconds, row)
        elif to_front:
            self.change(sql.PUT, AVAILABLE, 0.0, row)
        else:
            self._to_back(row)
        return True

    # Looking.

    def outlook(self, lane: Lane, now: Now) -> tuple[float, Pause | None]:
        """In how many seconds something is to be taken without a push, and the queue's pause.

        0: there is something now.
        """
        queue = self.known_id(lane.name)
        if queue is None:
            return math.inf, None
        ((is_available, is_paused),) = self.rows(sql.LOOK, queue, queue, now.time)
        if is_paused:
            pause = self.pause_of(lane)
            until = None if pause is None else pause.until_time
            return math.inf if until is None else until - now.time, pause
        if is_available:
            return 0.0, None
        rest = math.inf
        for state, moment in ((DELAYED, now.time), (HELD, now.lease)):
            ((at,),) = self.rows(sql.NEXT, queue, state)
            if at is not None:
                rest = min(rest, at - moment)
        return max(rest, 0.0), None

    def page(
        self, lane: Lane, first_row: int, count: int
    ) -> tuple[list[tuple[int, float, bytes]], int | None]:
        """Items from a row on, held or not, and the row to go on with; None: there are no more.

        It looks at a part of the file only, so there may be none on a page.
        """
        end = self.rows(sql.PAGE_END, first_row, _MOST_MOVED)
        end_row = end[0][0] if end else _LAST_ROW
        rows = self.rows(sql.PAGE, first_row, end_row, self.known_id(lane.name), count)
        if len(rows) == count:
            return rows, rows[-1][0] + 1
        return rows, end_row if end else None

    def stats(self, lane: Lane, now: Now) -> Mapping[str, float]:
        """How many items are in each state, and how old the next one to pop is."""
        queue = self.known_id(lane.name)
        counts: dict[str, float] = {"available": 0, "in_flight": 0, "delayed": 0}
        names = {AVAILABLE: "available", DELAYED: "delayed", HELD: "in_flight"}
        for state, is_late, number in self.rows(sql.COUNTS, now.lease, now.time, queue):
            counts["available" if is_late else names[state]] += number
        for state, moment in ((AVAILABLE, 0.0), (DELAYED, now.time), (HELD, now.lease)):
            oldest = self.rows(sql.FIND, queue, state, moment)
            if oldest:
                counts["oldest_age_seconds"] = max(now.time - oldest[0][0], 0.0)
                break
        pause = self.pause_of(lane)
        if pause is not None and not pause.is_over(now.time):
            counts["paused_seconds"] = max(now.time - pause.since_time, 0.0)
        return counts

    def flush(self, lane: Lane) -> None:
        """Forget all items of a queue."""
        self.change(sql.FLUSH, self.known_id(lane.name))

    # Pauses.

    def keep_pause(self, lane: Lane, pause: Pause) -> None:
        """Pause a queue. Waiting consumers are woken, so that they see it."""
        since, until = pause.since_time, pause.until_time
        self.change(sql.KEEP_PAUSE, self.id_of(lane.name), since, until, pause.reason)
        self.woken.add(lane.name)

    def drop_pause(self, lane: Lane, now: Now) -> bool:
        """End the pause of a queue; False: it was not paused."""
        pause = self.pause_of(lane)
        self.change(sql.DROP_PAUSE, self.known_id(lane.name))
        self.woken.add(lane.name)
        return pause is not None and not pause.is_over(now.time)

    def pause_of(self, lane: Lane) -> Pause | None:
        """The pause that a queue has or had; None: it has none."""
        rows = self.rows(sql.PAUSE, self.known_id(lane.name))
        if not rows:
            return None
        since, until, reason = rows[0]
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
        return Pause(since, until, text)


def as_text(value: bytes | str | None) -> str | None:
    """A text as a connection gives it: ours as bytes, a user's as it is set to."""
    return value.decode() if isinstance(value, bytes) else value


def _id_in(text: bytes | str) -> str:
    """The id of an item; empty if it cannot be read."""
    try:
        return str(load_item(text).get("id"))
    except UnreadableItem:
        return ""


def _with_error(text: bytes | str, error: Exception, now: float) -> str:
    raw = text.decode(errors="backslashreplace") if isinstance(text, bytes) else text
    hostname = socket.gethostname()
    try:
        return dump(lifecycle.with_error(load_item(raw), error, now, hostname))
    except SerializationError:
        return dump(lifecycle.with_error({"raw": raw}, error, now, hostname))
