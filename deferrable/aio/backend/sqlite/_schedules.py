"""Schedules in the file, and the admission that pushes in the same transaction.

Owns their rows. The decisions are those of `deferrable._ticks`.

The one rule: what is kept of a schedule is read, decided on and written in one transaction, with
the push if its queue is in the same file.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from deferrable._ticks import (
    KEPT_SECONDS,
    Plan,
    Proposal,
    Record,
    admit,
    confirm,
    is_superseded,
    renew,
)
from deferrable.aio.backend.sqlite._queue import SQLiteQueue
from deferrable.aio.backend.sqlite._store import Store
from deferrable.aio.backend.sqlite._writer import Writer
from deferrable.aio.clock import Clock, SystemClock
from deferrable.aio.queue import Push, Queue
from deferrable.aio.schedules import Admission, JoinedTick, ScheduleStore, Standing

__all__ = ["SQLiteScheduleStore"]


class SQLiteScheduleStore(ScheduleStore):
    """Schedules in the file of the queues. A factory makes it for its backends.

    Args:
        writer: of the file.
        clock: the source of time; None: the machine's.
    """

    def __init__(self, writer: Writer, clock: Clock | None) -> None:
        self.writer = writer
        self.injected_clock = clock
        self._clock: Clock = SystemClock() if clock is None else clock

    def __repr__(self) -> str:
        return f"<SQLiteScheduleStore {self.writer.place.shown}>"

    async def renew(self, name: str, plans: Sequence[Plan], *, is_start: bool) -> list[Standing]:
        def run(store: Store) -> list[Standing]:
            now = self._clock.time()
            standings = list[Standing]()
            for plan in plans:
                record = renew(_read(store, name, plan.name), now, plan.version, is_start=is_start)
                _keep(store, name, plan.name, record)
                gone = is_superseded(record, plan.version)
                standings.append(Standing(record.last_time, gone, now))
            store.change(
                "DELETE FROM deferrable_schedules WHERE seen_time <= ?", now - KEPT_SECONDS
            )
            return standings

        return await self.writer.perform(run)

    async def reserve(self, name: str, proposal: Proposal, token: str) -> Admission:
        return await self.writer.perform(
            lambda store: _admit(store, name, proposal, self._clock.time(), token)
        )

    async def confirm(self, name: str, proposal: Proposal, token: str) -> None:
        def run(store: Store) -> None:
            record = confirm(_read(store, name, proposal.name), proposal.tick_time, token)
            if record is not None:
                _keep(store, name, proposal.name, record)

        await self.writer.perform(run)

    def joined_with(self, queue: Queue) -> JoinedTick | None:
        if not isinstance(queue, SQLiteQueue) or queue.writer is not self.writer:
            return None
        # The delayed items' time must be the schedules' time.
        return _JoinedTick(queue) if queue.injected_clock is self.injected_clock else None


@dataclass(frozen=True, slots=True)
class _JoinedTick:
    """A `JoinedTick` onto `queue`."""

    queue: SQLiteQueue

    async def __call__(self, name: str, proposal: Proposal, push: Push) -> Admission:
        queue = self.queue

        def run(store: Store) -> Admission:
            now = queue.now()
            admission = _admit(store, name, proposal, now.time, None)
            if admission.verdict == "admitted":
                store.push(queue.lane, [(push.text, push.delay_seconds)], now)
            return admission

        return await queue.run(run)


def _admit(store: Store, name: str, proposal: Proposal, now: float, token: str | None) -> Admission:
    verdict, record = admit(_read(store, name, proposal.name), now, proposal, token)
    _keep(store, name, proposal.name, record)
    return Admission(verdict, record.last_time, now)


def _read(store: Store, queue: str, name: str) -> Record | None:
    rows = store.rows(
        "SELECT last_time, version, seen_time, tick_time, token, reserved_until "
        "FROM deferrable_schedules WHERE queue = ? AND name = ?",
        queue,
        name,
    )
    if not rows:
        return None
    last_time, version, seen_time, tick_time, token, reserved_until = rows[0]
    return Record(last_time, _text(version), seen_time, tick_time, _text(token), reserved_until)


def _text(value: str | bytes) -> str:
    """A text of a connection that gives bytes."""
    return value.decode() if isinstance(value, bytes) else value


def _keep(store: Store, queue: str, name: str, record: Record) -> None:
    store.change(
        "INSERT OR REPLACE INTO deferrable_schedules VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        queue,
        name,
        record.last_time,
        record.version,
        record.seen_time,
        record.tick_time,
        record.token,
        record.reserved_until,
    )
