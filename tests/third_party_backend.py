"""A backend over one SQLite file, as a third party would write it: the whole of it is here."""

import json
import socket
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from deferrable.aio import Clock, Envelope, Push, Queue, Release, Touch
from deferrable.errors import BackendUnavailable, LeaseLost
from deferrable.lifecycle import bury

TABLE = """CREATE TABLE IF NOT EXISTS items (id INTEGER PRIMARY KEY, queue TEXT, text TEXT,
    available_time REAL, token TEXT, lease_end_time REAL DEFAULT 0, failures INTEGER DEFAULT 0)"""
INSERT = "INSERT INTO items (queue, text, available_time) VALUES (?, ?, ?)"
FREE = "queue = :queue AND available_time <= :now AND lease_end_time <= :now"
# What is free and has a token was abandoned.
BURY = f"DELETE FROM items WHERE {FREE} AND failures + (token IS NOT NULL) > 10 RETURNING text"
POP = f"""UPDATE items SET failures = failures + (token IS NOT NULL), lease_end_time = :end,
    token = hex(randomblob(16)) WHERE id IN (SELECT id FROM items WHERE {FREE}
    ORDER BY available_time, id LIMIT :count) RETURNING available_time, id, token, text"""
TOUCH = "UPDATE items SET lease_end_time = max(lease_end_time, ?)"
RELEASE = "UPDATE items SET token = NULL, lease_end_time = 0, failures = failures + ?"
TO_THE_BACK = ", available_time = ?, id = (SELECT max(id) + 1 FROM items)"
COUNT = """SELECT CASE WHEN available_time > :now THEN 'delayed' WHEN lease_end_time > :now
    THEN 'in_flight' ELSE 'available' END, count(*) FROM items WHERE queue = :queue GROUP BY 1"""


class SqliteQueue(Queue):
    RECLAIMS_TO_BACK_OF_QUEUE = False  # an abandoned item keeps its place

    def __init__(self, path: Path, name: str, clock: Clock, errors: str | None = None) -> None:
        super().__init__(lease_seconds=30, clock=clock)
        self.path, self.name, self.errors = path, name, errors

    @contextmanager
    def transaction(self) -> Iterator[tuple[sqlite3.Connection, dict[str, Any]]]:
        try:
            with closing(sqlite3.connect(self.path, isolation_level=None)) as db, db:
                db.executescript(f"PRAGMA synchronous = OFF; BEGIN IMMEDIATE; {TABLE}")
                yield db, {"queue": self.name, "now": self.clock.time()}
        except sqlite3.OperationalError as error:
            raise BackendUnavailable(f"{self.path}: {error}") from error

    async def _push_batch(self, pushes: Sequence[Push]) -> list[Exception | None]:
        with self.transaction() as (db, at):
            for push in pushes:
                db.execute(INSERT, (self.name, push.text, at["now"] + push.delay_seconds))
        return [None] * len(pushes)

    async def _pop_batch(self, count: int) -> list[tuple[Envelope, dict[str, Any]]]:
        lease = self.clock.monotonic(), self.clock.monotonic() + self.lease_seconds
        with self.transaction() as (db, at):
            for (text,) in db.execute(BURY, at).fetchall() if self.errors else []:
                error = LeaseLost("never settled, and delivered more often than max_redeliveries")
                buried = bury(json.loads(text), error, at["now"], socket.gethostname()).item
                db.execute(INSERT, (self.errors, json.dumps(buried), at["now"]))
            end_time = at["now"] + self.lease_seconds
            rows = sorted(db.execute(POP, {**at, "end": end_time, "count": count}).fetchall())
        return [(Envelope(row[2], *lease), json.loads(row[3])) for row in rows]

    def change_held(
        self, envelopes: Sequence[Envelope], change: Callable[[int, float], tuple[str, list[float]]]
    ) -> list[Exception | None]:
        outcomes: list[Exception | None] = []
        with self.transaction() as (db, at):
            for index, envelope in enumerate(envelopes):
                statement, values = change(index, at["now"])
                held = f"{statement} WHERE queue = ? AND token = ? AND lease_end_time > ?"
                done = db.execute(held, (*values, self.name, envelope.handle, at["now"])).rowcount
                outcomes.append(None if done else LeaseLost(f"{envelope!r} was taken back"))
        return outcomes

    async def _touch_batch(self, touches: Sequence[Touch]) -> list[Exception | None]:
        ends = [touch.seconds for touch in touches]
        envelopes = [touch.envelope for touch in touches]
        return self.change_held(envelopes, lambda index, now: (TOUCH, [now + ends[index]]))

    async def _complete_batch(self, envelopes: Sequence[Envelope]) -> list[Exception | None]:
        return self.change_held(envelopes, lambda index, now: ("DELETE FROM items", []))

    async def _release_batch(self, releases: Sequence[Release]) -> list[Exception | None]:
        def give_back(index: int, now: float) -> tuple[str, list[float]]:
            delay_seconds, is_counted = releases[index].delay_seconds, releases[index].is_counted
            if delay_seconds or releases[index].envelope.has_started:
                return RELEASE + TO_THE_BACK, [is_counted, now + delay_seconds]
            return RELEASE, [is_counted]

        return self.change_held([release.envelope for release in releases], give_back)

    async def _flush(self) -> None:
        with self.transaction() as (db, at):
            db.execute("DELETE FROM items WHERE queue = :queue", at)

    async def _stats(self) -> Mapping[str, int]:
        with self.transaction() as (db, at):
            return {"available": 0, **dict(db.execute(COUNT, at))}
