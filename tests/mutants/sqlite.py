"""Bugs in the SQL of the SQLite backend, and in what its statements are given.

Owns statements that forget one condition. A change must still take as many parameters.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from deferrable.aio.backend.sqlite import _finding as finding
from deferrable.aio.backend.sqlite import _statements as sql
from deferrable.aio.backend.sqlite._store import Lane, Lease, Now, Store
from mutants.planting import mutant

REUSED = "a_stale_holder_leaves_a_later_item_alone"


class _Changed(Store):
    """Executes other statements: those in which a part was replaced."""

    changes: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """Statement -> the part, and what stands there instead."""

    def __init__(self, connection: sqlite3.Connection | sqlite3.Cursor) -> None:
        raise NotImplementedError("only the class of a store that exists is changed")

    def rows(self, statement: str, *parameters: Any) -> list[Any]:
        return super().rows(self._changed(statement), *parameters)

    def change(self, statement: str, *parameters: Any) -> int:
        return super().change(self._changed(statement), *parameters)

    def _changed(self, statement: str) -> str:
        part, other = self.changes.get(statement, ("", ""))
        assert part in statement, f"{part!r} is not in {statement!r} any more"
        return statement.replace(part, other, 1) if part else statement


ANY_TOKEN = ("token = ?", "? IS NOT NULL")


@mutant(REUSED)
class CompletesByRowAlone(_Changed):
    changes: ClassVar = {sql.REMOVE: ANY_TOKEN}


@mutant(REUSED)
class TouchesByRowAlone(_Changed):
    changes: ClassVar = {sql.TOUCH: ANY_TOKEN}


@mutant(REUSED)
class ReleasesByRowAlone(_Changed):
    changes: ClassVar = {sql.HOLDS: ANY_TOKEN}


@mutant("a_touch_never_moves_the_end_of_a_lease_back")
class SetsTheEndOfALease(_Changed):
    changes: ClassVar = {sql.TOUCH: ("max(at, ?)", "?")}


@mutant("a_touch_keeps_an_item_hidden_for_longer")
class TouchesWithoutEffect(_Changed):
    changes: ClassVar = {sql.TOUCH: ("max(at, ?)", "max(at, 0 * ?)")}


@mutant("items_come_in_the_order_in_which_they_were_pushed")
class TakesFromTheBack(_Changed):
    changes: ClassVar = {sql.FRONT: ("ORDER BY id", "ORDER BY id DESC")}


@mutant("pops_made_at_once_get_different_items")
class HoldsNothing(_Changed):
    changes: ClassVar = {sql.HOLD_FRONT: ("id <= ?", "id < ? - 1000")}


@mutant("abandoned_item_returns_after_visibility_timeout")
class ForgetsEndedLeases(_Changed):
    changes: ClassVar = {sql.LATE: ("at <= ?", "at <= ? - 1000")}


@mutant("an_item_abandoned_too_often_goes_to_the_error_queue_and_says_so")
class CountsNoDelivery(_Changed):
    changes: ClassVar = {sql.MISS: ("redeliveries + 1", "redeliveries")}


@mutant("what_waits_already_is_not_overtaken_by_what_becomes_due")
class PutsDueItemsWhereTheyWere(Store):
    def _to_back(self, row: int) -> None:
        self.change(sql.PUT, 1, 0.0, row)


@mutant("flush_removes_what_is_available_delayed_and_in_flight")
class FlushesWhatIsAvailable(_Changed):
    changes: ClassVar = {sql.FLUSH: ("queue = ?", "queue = ? AND state = 1")}


@mutant("stats_see_what_became_due_or_was_abandoned")
class CountsByTheColumnAlone(_Changed):
    changes: ClassVar = {sql.COUNTS: ("at <= CASE state WHEN 3 THEN ? ELSE ? END", "(? + ? < 0)")}


@mutant("what_is_held_or_gone_is_not_taken")
class TakesWhatIsHeld(_Changed):
    changes: ClassVar = {sql.IS_FREE: ("state = 1", "state > 0")}


@mutant("an_item_that_was_taken_meanwhile_is_neither_cancelled_nor_withdrawn")
class CancelsWhatIsHeld(_Changed):
    changes: ClassVar = {finding._TAKE_OUT: ("state IN (?, ?)", "state > 0 * ? * ?")}


@mutant("the_queue_and_its_error_queue_are_apart")
class MixesItsQueues(Store):
    def known_id(self, name: str) -> int | None:
        return 1


@mutant("a_single_release_goes_back_to_the_front")
class ReleasesToTheBack(Store):
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
        return super().release(
            lane, lease, now, delay_seconds, to_front=False, is_counted=is_counted
        )


@mutant("a_delay_is_kept_or_refused_as_the_flag_says")
class PushesAtOnce(Store):
    def push(self, lane: Lane, entries: Sequence[tuple[str, float]], now: Now) -> None:
        super().push(lane, [(text, 0.0) for text, _ in entries], now)
