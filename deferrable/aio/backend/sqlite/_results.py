"""Results in the file of the queues, and who waits for them.

Owns the rows of the results. Each event loop has one waiter, which is woken like a waiting pop. It
reads the new results, and hands them to those who wait for them.

The one rule: a result that replaces another gets a new number. So what is new since the last look
is what has a larger number.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from deferrable.aio._contract.loops import PerLoop
from deferrable.aio.backend.sqlite._store import Store
from deferrable.aio.backend.sqlite._waking import Waiter
from deferrable.aio.backend.sqlite._writer import Writer
from deferrable.aio.clock import Clock, SystemClock
from deferrable.aio.results import KeptResult, ResultStore
from deferrable.errors import BackendUnavailable

__all__ = ["SQLiteResults"]

_NAME: Final = "deferrable results"
"""What waiters for results are woken by; no queue has a name with a blank before its group."""
_SWEPT_AT_ONCE: Final = 50
_LONGEST_WAIT_SECONDS: Final = 3600.0
_PAUSE_SECONDS: Final = 0.2

_PUT: Final = "INSERT OR REPLACE INTO deferrable_results (id, text, end_time) VALUES (?, ?, ?)"
_GET: Final = "SELECT text FROM deferrable_results WHERE id = ? AND end_time > ?"
_FORGET: Final = "DELETE FROM deferrable_results WHERE id = ?"
_LAST: Final = "SELECT max(number) FROM deferrable_results"
_NEW: Final = "SELECT number, id, text FROM deferrable_results WHERE number > ? ORDER BY number"
_SWEEP: Final = """
DELETE FROM deferrable_results WHERE id IN
(SELECT id FROM deferrable_results WHERE end_time < ? ORDER BY end_time LIMIT ?)
"""


class SQLiteResults(ResultStore):
    """Results in a file, for all processes that use it. A factory makes it for its backends.

    Args:
        writer: of the file.
        clock: the source of time; None: the machine's.
    """

    def __init__(self, writer: Writer, clock: Clock | None) -> None:
        self._writer = writer
        self._clock: Clock = SystemClock() if clock is None else clock
        self._hubs = PerLoop(self._open_hub)

    def __repr__(self) -> str:
        return f"<SQLiteResults {self._writer.place.shown}>"

    async def put(self, results: Sequence[KeptResult]) -> None:
        def put(store: Store) -> None:
            now = self._clock.time()
            for result in results:
                store.change(_PUT, result.call_id, result.text, now + result.seconds)
            store.change(_SWEEP, now, max(_SWEPT_AT_ONCE, 2 * len(results)))
            store.woken.add(_NAME)

        await self._writer.perform(put)

    async def get(self, call_id: str) -> str | None:
        def get(store: Store) -> list[str]:
            rows = store.rows(_GET, call_id, self._clock.time())
            return [_text(row[0]) for row in rows]

        texts = await self._writer.perform(get, get)
        return texts[0] if texts else None

    async def forget(self, call_id: str) -> None:
        await self._writer.perform(lambda store: store.change(_FORGET, call_id))

    async def wait(self, call_id: str) -> str:
        hub = self._hubs.get()
        waiting = hub.begin(call_id)
        try:
            await hub.ready.wait()
            text = await self.get(call_id)
            return await waiting if text is None else text
        finally:
            hub.end(call_id, waiting)

    async def _open_hub(self) -> "AsyncGenerator[_Hub, None]":
        hub = _Hub(self._writer)
        try:
            yield hub
        finally:
            hub.close()

    async def close(self) -> None:
        await self._hubs.close()


class _Hub:
    """Those who wait for results on one event loop."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._waiting: dict[str, set[asyncio.Future[str]]] = {}
        self.ready = asyncio.Event()
        """Set once every result from then on is seen."""
        self._watching: asyncio.Task[None] | None = None
        self._waiter: Waiter | None = None

    def begin(self, call_id: str) -> "asyncio.Future[str]":
        """A future that a result resolves which is stored once this is ready."""
        waiting: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(call_id, set()).add(waiting)
        if self._watching is None:
            self.ready = asyncio.Event()
            self._waiter = Waiter(_NAME, self)
            self._writer.waking.add(self._waiter)
            self._watching = asyncio.get_running_loop().create_task(self._watch(self._waiter))
        return waiting

    def end(self, call_id: str, waiting: "asyncio.Future[str]") -> None:
        """It is not waited for any more."""
        if waiting.done() and not waiting.cancelled():
            waiting.exception()  # Read it, or the loop would complain.
        waiting.cancel()
        futures = self._waiting.get(call_id)
        if futures is not None:
            futures.discard(waiting)
            if not futures:
                del self._waiting[call_id]
        if not self._waiting:
            self.close()

    async def _watch(self, waiter: Waiter) -> None:
        clock, seen = SystemClock(), 0
        try:
            while True:
                waiter.rearm()
                for number, call_id, text in await self._look_patiently(seen):
                    seen = max(seen, number)
                    for waiting in self._waiting.get(call_id, ()):
                        if not waiting.done():
                            waiting.set_result(text)
                self.ready.set()
                await waiter.wait(clock, clock.monotonic() + _LONGEST_WAIT_SECONDS)
        except Exception as error:  # nobody may wait for a watch that has ended
            for waiting in [each for futures in self._waiting.values() for each in futures]:
                if not waiting.done():
                    waiting.set_exception(error)
            self.ready.set()
            self._watching = None
            self._writer.waking.remove(waiter)

    async def _look_patiently(self, seen: int) -> list[tuple[int, str, str]]:
        while True:
            try:
                return await self._look(seen)
            except BackendUnavailable:
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _look(self, seen: int) -> list[tuple[int, str, str]]:
        def look(store: Store) -> list[tuple[int, str, str]]:
            if not self.ready.is_set():
                # Those who wait look for older ones themselves.
                ((last,),) = store.rows(_LAST)
                return [(last or 0, "", "")]
            return [
                (number, _text(call_id), _text(text))
                for number, call_id, text in store.rows(_NEW, seen)
            ]

        return await self._writer.perform(look, look)

    def close(self) -> None:
        """Watch no longer."""
        watching, self._watching = self._watching, None
        if watching is not None and not watching.get_loop().is_closed():
            watching.cancel()
        if self._waiter is not None:
            self._writer.waking.remove(self._waiter)
            self._waiter = None


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
