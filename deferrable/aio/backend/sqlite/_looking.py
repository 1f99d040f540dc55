"""What people see of a queue in a file, and change from outside: its calls, workers and pause.

Owns the verbs that find, show, cancel and hasten items, that pause and resume their queue, and that
keep the reports of workers. None of them takes an item.
"""

import socket
from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeVar, cast

from deferrable._codec.json import dump_value, load_item
from deferrable.aio._contract.inspecting import Found
from deferrable.aio.backend.sqlite import _finding, _reporting
from deferrable.aio.backend.sqlite._store import Lane, Now
from deferrable.aio.backend.sqlite._tickets import Work
from deferrable.aio.backend.sqlite._writer import Writer
from deferrable.aio.queue import Peeked, Push, Queue
from deferrable.errors import UnreadableItem
from deferrable.item import Item
from deferrable.lifecycle import with_error
from deferrable.pause import Pause
from deferrable.worker_reports import WorkerReport

__all__ = ["LookingQueue"]

T = TypeVar("T")

_ROWS_AT_ONCE = 100


class LookingQueue(Queue):
    """The part of a queue that shows it.

    Attributes:
        lane: the queue's name, and where it buries items.
        writer: of the file.
    """

    lane: Lane
    writer: Writer

    @abstractmethod
    def now(self) -> Now:
        """The moment."""

    @abstractmethod
    async def run(self, work: Work[T]) -> T:
        """Do `work` in a transaction."""

    async def _look(self, look: Work[T]) -> T:
        return await self.writer.perform(look, look)

    async def _peek(self, cursor: str, count: int) -> tuple[Sequence[Peeked], str]:
        first = int(cursor or 0)
        rows, following = await self._look(lambda store: store.page(self.lane, first, count))
        now = self.now().time
        page = [Peeked(f"{row}-{pushed!r}", _item_of(text, now)) for row, pushed, text in rows]
        return page, "" if following is None else str(following)

    async def _find(self, item_id: str) -> Found | None:
        needle, first_row = dump_value(item_id), 0
        following: int | None = first_row
        while following is not None:
            rows, following = await self._rows(following, needle, _ROWS_AT_ONCE)
            now = self.now()
            for row in rows:
                found = _finding.found_at(row, _item_of(row.text, now.time), now)
                if found.item.get("id") == item_id:
                    return found
        is_cancelled = await self._look(
            lambda store: _finding.is_cancelled(store, self.lane, item_id, self.now())
        )
        return Found({}, "cancelled") if is_cancelled else None

    async def _inspect(self, cursor: str, count: int) -> tuple[Sequence[Found], str]:
        rows, following = await self._rows(int(cursor or 0), "", count)
        now = self.now()
        shown = [_finding.found_at(row, _item_of(row.text, now.time), now) for row in rows]
        return shown, "" if following is None else str(following)

    async def _rows(
        self, first_row: int, needle: str, count: int
    ) -> tuple[list[_finding.Row], int | None]:
        return await self._look(
            lambda store: _finding.rows_from(store, self.lane, first_row, needle, count)
        )

    async def _cancel(self, found: Found, *, is_remembered: bool) -> bool:
        row = cast(_finding.Row, found.key)
        item_id = found.item.get("id") if is_remembered else None
        return await self.run(
            lambda store: _finding.cancel(store, self.lane, row, item_id, self.now())
        )

    async def _hasten(self, found: Found, push: Push) -> bool:
        row = cast(_finding.Row, found.key)
        return await self.run(
            lambda store: _finding.hasten(store, self.lane, row, push.text, self.now())
        )

    async def _ask_to_stop(self, found: Found) -> bool:
        row = cast(_finding.Row, found.key)
        return await self.run(lambda store: _finding.ask_to_stop(store, self.lane, row, self.now()))

    async def _note_cancelled(self, item_id: str) -> None:
        await self.run(
            lambda store: _finding.remember_cancelled(store, self.lane, item_id, self.now())
        )

    async def _pause(self, pause: Pause) -> None:
        await self.run(lambda store: store.keep_pause(self.lane, pause))

    async def _resume(self) -> bool:
        return await self.run(lambda store: store.drop_pause(self.lane, self.now()))

    async def _find_pause(self) -> Pause | None:
        (pause,) = await self._look(lambda store: [store.pause_of(self.lane)])
        return None if pause is None or pause.is_over(self.now().time) else pause

    async def _report_worker(self, report: WorkerReport) -> None:
        await self.run(lambda store: _reporting.keep(store, self.lane, report, self.now()))

    async def _forget_worker(self, worker_id: str) -> None:
        await self.run(lambda store: _reporting.drop(store, self.lane, worker_id))

    async def _find_workers(self) -> Sequence[WorkerReport]:
        return await self._look(lambda store: _reporting.find(store, self.lane, self.now()))


def _item_of(text: bytes, now: float) -> Item:
    """The item of a row; if it cannot be read, a record of that."""
    try:
        return load_item(text)
    except UnreadableItem as error:
        raw = text.decode(errors="backslashreplace")
        return with_error({"raw": raw}, error, now, socket.gethostname())
