"""Find the items of a queue in a file, show where they are, and cancel them.

Owns the SQL of these steps, each inside a transaction that the caller holds.

The one rule: rows are read in the order of their ids, and a row that moves on gets a larger id. So
a row that moves during a search is still seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from deferrable.aio._contract.inspecting import REMEMBERED_SECONDS, Found
from deferrable.aio.backend.sqlite._schema import AVAILABLE, DELAYED, HELD
from deferrable.aio.backend.sqlite._statements import DROP
from deferrable.aio.backend.sqlite._store import Entry, Lane, Now, Store, as_text
from deferrable.item import Item

__all__ = [
    "Row",
    "ask_to_stop",
    "cancel",
    "found_at",
    "hasten",
    "is_cancelled",
    "remember_cancelled",
    "rows_from",
    "stops",
]

_MOST_LOOKED_AT: Final = 2000
"""At how many rows one step looks: some milliseconds."""
_LAST_ROW: Final = 2**63 - 1
_SWEPT_AT_ONCE: Final = 20

_PAGE_END: Final = "SELECT id FROM deferrable_items WHERE id >= ? ORDER BY id LIMIT 1 OFFSET ?"
_PAGE: Final = """
SELECT id, state, at, pushed, token, text FROM deferrable_items
WHERE id >= ? AND id < ? AND +queue = ? AND (? = '' OR instr(text, ?)) ORDER BY id LIMIT ?
"""
_TAKE_OUT: Final = """
DELETE FROM deferrable_items WHERE id = ? AND queue = ? AND pushed = ? AND state IN (?, ?)
"""
_DELAYED_KEY: Final = """
SELECT unique_key FROM deferrable_items WHERE id = ? AND queue = ? AND pushed = ? AND state = 2
"""
_STOP: Final = """
UPDATE deferrable_items SET stop = 1
WHERE id = ? AND queue = ? AND token = ? AND state = 3 AND at > ?
"""
_STOPS: Final = "SELECT id, token FROM deferrable_items WHERE queue = ? AND state = 3 AND stop = 1"
_REMEMBER: Final = "INSERT OR REPLACE INTO deferrable_cancelled VALUES (?, ?, ?)"
_REMEMBERS: Final = """
SELECT 1 FROM deferrable_cancelled WHERE queue = ? AND id = ? AND end_time > ?
"""
_SWEEP: Final = """
DELETE FROM deferrable_cancelled WHERE (queue, id) IN
(SELECT queue, id FROM deferrable_cancelled WHERE end_time < ? ORDER BY end_time LIMIT ?)
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it was seen; the moment of its push tells it from a later row of the same id."""

    id: int
    state: int
    at: float
    pushed: float
    token: int
    text: bytes


def rows_from(
    store: Store, lane: Lane, first_row: int, needle: str, count: int
) -> tuple[list[Row], int | None]:
    """Rows from one on whose text contains `needle`, and where to go on; None: there are no more.

    It looks at a part of the file only, so there may be none.
    """
    end = store.rows(_PAGE_END, first_row, _MOST_LOOKED_AT)
    end_row = end[0][0] if end else _LAST_ROW
    queue = store.known_id(lane.name)
    found = store.rows(_PAGE, first_row, end_row, queue, needle, needle, count)
    rows = [Row(*row) for row in found]
    if len(rows) == count:
        return rows, rows[-1].id + 1
    return rows, end_row if end else None


def found_at(row: Row, item: Item, now: Now) -> Found:
    """Where the item of a row is."""
    if row.state == HELD and row.at > now.lease:
        return Found(item, "in flight", row, lease_until=row.at - now.lease + now.time)
    if row.state == DELAYED and row.at > now.time:
        return Found(item, "delayed", row, available_time=row.at)
    return Found(item, "queued", row)


def cancel(store: Store, lane: Lane, row: Row, item_id: object, now: Now) -> bool:
    """Remove a row that nobody holds, and remember its item's id, if one is given."""
    store.catch_up(lane, now)
    queue = store.id_of(lane.name)
    if not store.change(_TAKE_OUT, row.id, queue, row.pushed, AVAILABLE, DELAYED):
        return False
    if isinstance(item_id, str):
        remember_cancelled(store, lane, item_id, now)
    return True


def hasten(store: Store, lane: Lane, row: Row, text: str, now: Now) -> bool:
    """Replace a delayed row by an available one."""
    store.catch_up(lane, now)
    queue = store.id_of(lane.name)
    found = store.rows(_DELAYED_KEY, row.id, queue, row.pushed)
    if not found:
        return False
    store.change(DROP, row.id)
    store.push_unique(lane, [Entry(text, 0.0, as_text(found[0][0]))], now)
    return True


def ask_to_stop(store: Store, lane: Lane, row: Row, now: Now) -> bool:
    """Note that the holder of a row is to stop its job."""
    queue = store.id_of(lane.name)
    return store.change(_STOP, row.id, queue, row.token, now.lease) == 1


def stops(store: Store, lane: Lane) -> Sequence[Any]:
    """Id and token of each held row whose job is to be stopped."""
    return store.rows(_STOPS, store.known_id(lane.name))


def remember_cancelled(store: Store, lane: Lane, item_id: str, now: Now) -> None:
    """Remember for a day that an item was cancelled."""
    queue = store.id_of(lane.name)
    store.change(_REMEMBER, queue, item_id, now.time + REMEMBERED_SECONDS)
    store.change(_SWEEP, now.time, _SWEPT_AT_ONCE)


def is_cancelled(store: Store, lane: Lane, item_id: str, now: Now) -> bool:
    """Whether an item was cancelled in the last day."""
    return bool(store.rows(_REMEMBERS, store.known_id(lane.name), item_id, now.time))
