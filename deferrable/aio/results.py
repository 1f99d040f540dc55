"""Stores of results: the contract, the store in memory, and waiting for many results.

Owns what a store promises. What is stored is a text that `deferrable.aio._engine.keeping` writes
and reads; a store neither reads nor changes it.

The one rule: a result is stored before its item is completed. So a result that can be read belongs
to a call that ran to its end.
"""

import asyncio
import threading
from abc import abstractmethod
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from deferrable._fork import on_fork, set_aside
from deferrable.aio._contract.closing import Closing
from deferrable.aio.clock import Clock, SystemClock
from deferrable.handles import HandleVerbs

__all__ = [
    "EndedCall",
    "Ending",
    "InMemoryResults",
    "KeptResult",
    "ResultStore",
    "gather_results",
    "results_as_they_end",
]


@dataclass(frozen=True, slots=True)
class KeptResult:
    """A result to store.

    Attributes:
        call_id: of the call; a second result of the same call replaces the first.
        text: what is stored (ASCII).
        seconds: how long it is kept, over 0.
    """

    call_id: str
    text: str
    seconds: float


class ResultStore(Closing):
    """Keeps the results of calls. Implement it to keep them elsewhere.

    The methods may be called from several event loops at once. An error of `put` is retried while
    the lease of the item lasts: the item is not completed without it.
    """

    @abstractmethod
    async def put(self, results: Sequence[KeptResult]) -> None:
        """Store results, and wake everybody who waits for one of them.

        Raises:
            BackendError: it is unknown which were stored. Storing them again is allowed.
        """

    @abstractmethod
    async def get(self, call_id: str) -> str | None:
        """The text of a result; None: there is none, or not any more. It stays stored."""

    @abstractmethod
    async def wait(self, call_id: str) -> str:
        """The text of a result, as soon as there is one. It must not ask again and again.

        It must first be ready to be woken, then look, then wait, so that no result is missed in
        between. The caller cancels it after its time.
        """

    async def forget(self, call_id: str) -> None:  # a store may keep it
        """Forget a result, because its call is to run again. It may do nothing.

        Raises:
            BackendError: it may be forgotten or not.
        """

    async def close(self) -> None:
        """Close the store's connections, on every loop. Results stay. May be called twice."""
        return


_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[str]"]


class InMemoryResults(ResultStore):
    """Results in this process, for tests and for programs of one process.

    Any thread and any event loop may use it. A forked child starts with a copy.

    Args:
        clock: the source of time; None: the machine's.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock: Clock = SystemClock() if clock is None else clock
        self._kept: dict[str, tuple[str, float]] = {}
        self._next_sweep_size = _LEAST_SWEEP_SIZE
        self._waiters: dict[str, list[_Waiter]] = {}
        self._lock = threading.Lock()
        on_fork(self._reset_after_fork)

    async def forget(self, call_id: str) -> None:
        with self._lock:
            self._kept.pop(call_id, None)

    def _reset_after_fork(self) -> None:
        set_aside(self._waiters)  # they belong to the parent
        self._waiters = {}
        self._lock = threading.Lock()

    async def put(self, results: Sequence[KeptResult]) -> None:
        now = self._clock.monotonic()
        woken: list[tuple[_Waiter, str]] = []
        with self._lock:
            for result in results:
                self._kept[result.call_id] = (result.text, now + result.seconds)
                waiters = self._waiters.pop(result.call_id, ())
                woken += [(waiter, result.text) for waiter in waiters]
            if len(self._kept) >= self._next_sweep_size:
                self._kept = {name: kept for name, kept in self._kept.items() if kept[1] > now}
                # Twice what is left, so that a sweep costs each result the same on average.
                self._next_sweep_size = max(_LEAST_SWEEP_SIZE, 2 * len(self._kept))
        for (loop, future), text in woken:
            try:
                loop.call_soon_threadsafe(_resolve, future, text)
            except RuntimeError:
                if not loop.is_closed():
                    raise

    async def get(self, call_id: str) -> str | None:
        with self._lock:
            return self._text_of(call_id)

    def _text_of(self, call_id: str) -> str | None:
        text, end_time = self._kept.get(call_id, (None, 0.0))
        return text if self._clock.monotonic() < end_time else None

    async def wait(self, call_id: str) -> str:
        loop = asyncio.get_running_loop()
        waiter: _Waiter = (loop, loop.create_future())
        with self._lock:
            text = self._text_of(call_id)
            if text is not None:
                return text
            self._waiters.setdefault(call_id, []).append(waiter)
        try:
            return await waiter[1]
        finally:
            self._forget(call_id, waiter)

    def _forget(self, call_id: str, waiter: _Waiter) -> None:
        with self._lock:
            waiters = self._waiters.get(call_id)
            if waiters is not None and waiter in waiters:
                waiters.remove(waiter)
                if not waiters:
                    del self._waiters[call_id]


_LEAST_SWEEP_SIZE = 256


def _resolve(future: "asyncio.Future[str]", text: str) -> None:
    if not future.done():
        future.set_result(text)


# Many results.


@dataclass(frozen=True, slots=True)
class EndedCall:
    """How one of several calls ended.

    Attributes:
        call: the receipt or handle that was given.
        value: what its job returned.
        error: what ``call.result()`` raises instead.
    """

    call: HandleVerbs
    value: Any = None
    error: Exception | None = None


Ending: TypeAlias = AsyncGenerator[EndedCall, None]


async def gather_results(
    calls: Iterable[HandleVerbs], *, timeout_seconds: float | None = None
) -> list[Any]:
    """The results of several calls, in their order.

    Args:
        calls: receipts or handles, also of several instances.
        timeout_seconds: how long to wait for all of them; None: for ever.

    Raises:
        JobFailed, ResultExpired, TimeoutError: the first of them that one of the calls raises; see
            `CallHandle.result`.
    """
    waiting = [
        asyncio.ensure_future(call.result_async(timeout_seconds=timeout_seconds)) for call in calls
    ]
    try:
        return list(await asyncio.gather(*waiting))
    finally:
        await _end(waiting)


async def results_as_they_end(
    calls: Iterable[HandleVerbs], *, timeout_seconds: float | None = None
) -> Ending:
    """How several calls ended, each as soon as it has ended.

    Args:
        calls: receipts or handles, also of several instances.
        timeout_seconds: how long to wait for all of them; None: for ever. What has not ended by
            then has a `TimeoutError`.
    """
    waiting = [asyncio.ensure_future(_ended(call, timeout_seconds)) for call in calls]
    try:
        for ending in asyncio.as_completed(waiting):
            yield await ending
    finally:
        await _end(waiting)


async def _ended(call: HandleVerbs, timeout_seconds: float | None) -> EndedCall:
    try:
        return EndedCall(call, await call.result_async(timeout_seconds=timeout_seconds))
    except Exception as error:
        return EndedCall(call, error=error)


async def _end(waiting: "Sequence[asyncio.Future[Any]]") -> None:
    left = [each for each in waiting if not each.done()]
    for each in left:
        each.cancel()
    if left:
        await asyncio.wait(left)
