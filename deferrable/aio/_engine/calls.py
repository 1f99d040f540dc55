"""Answer for the calls of one instance: where they are, and cancel them.

Owns where a call is looked for, what its place means, and the order of a cancellation. The queues
find and remove items; this module knows that a call may also be in the error queue, and that a
debounce window may wait for it.

The one rule: nothing is guessed. A call that no queue has is ``unknown``, unless something
remembers how it ended.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from deferrable._durations import seconds_of
from deferrable._fork import notice_fork
from deferrable._option_conflicts import NO_RESULT_STORE
from deferrable._pauses import growing_seconds
from deferrable.aio._contract.inspecting import Found
from deferrable.aio._engine.emitting import emit
from deferrable.aio._engine.instance import Instance
from deferrable.aio._engine.keeping import (
    ending_in,
    kept_result,
    raise_failure,
    status_in,
    value_in,
)
from deferrable.aio._engine.registry import job_of
from deferrable.aio._engine.running import AwaitingDoor, Door, blocking_driver
from deferrable.aio.clock import Clock, sleep
from deferrable.aio.debounce import DebounceKey
from deferrable.aio.peeked import DescribedCall, PeekedCall
from deferrable.aio.results import ResultStore
from deferrable.debounce import classic_keys
from deferrable.errors import BackendError, BackendUnavailable, ResultExpired, Unsupported
from deferrable.handles import CallState, CallStatus, CancelAnswer
from deferrable.item import Item, copy_item

__all__ = ["InstanceCalls", "Wanted", "state_of"]

T = TypeVar("T")

_logger = logging.getLogger("deferrable")

_MOST_TRIES = 100
"""How often an item that moves away just before it is removed is looked for again."""

_PAGE = 500

_CHECK_SECONDS = 1.0
"""After this much waiting for a result, somebody looks whether the call still exists."""

_LONGEST_CHECK_SECONDS = 60.0

_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
"""Whose turn it is on a loop to look whether a call still exists."""

_awaiting = AwaitingDoor()


class Wanted:
    """Which calls are shown or cancelled.

    Args:
        state: only those in this state; None: all.
        job: only those of this job, given itself or by its name; None: all.
        ids: only those whose ids begin with one of these texts; empty: all.
    """

    def __init__(
        self, state: CallStatus | None = None, job: object = None, ids: Iterable[str] = ()
    ) -> None:
        name = job if job is None or isinstance(job, str) else job_of(job).name
        if isinstance(ids, str):
            raise TypeError(
                f"ids= takes several ids, got the text {ids!r:.80}; write [{ids!r:.80}]"
            )
        self._state = state
        self._job = name
        self._ids = tuple(ids)

    def includes(self, peeked: PeekedCall) -> bool:
        """Whether it is one of them."""
        if self._state not in (None, peeked.state.status):
            return False
        if self._ids and not (peeked.id or "").startswith(self._ids):
            return False
        return self._job in (None, peeked.job)


class InstanceCalls:
    """Finds and cancels the calls of an instance.

    Args:
        door: waits and calls on behalf of these coroutines.
    """

    __slots__ = ("_door", "_instance")

    def __init__(self, instance: Instance, door: Door = _awaiting) -> None:
        self._instance = instance
        self._door = door

    def drive(self, start: Callable[["InstanceCalls"], Coroutine[Any, Any, T]], instead: str) -> T:
        """See `deferrable.handles.Calls.drive`."""
        notice_fork()
        instance = self._instance
        return blocking_driver().drive(lambda door: start(InstanceCalls(instance, door)), instead)

    async def state(self, call_id: str) -> CallState:
        """Where the call is now; see `deferrable.handles.HandleVerbs.state`."""
        return await self._door.wait(self._state(call_id))

    async def _state(self, call_id: str) -> CallState:
        backend = self._instance.backend
        if backend.queue.SUPPORTS_INSPECTION:
            # Before the store, although that is cheaper: a call that was requeued, or whose worker
            # died after its result was stored, has a result and will run again.
            found = await backend.queue.find(call_id)
            if found is not None:
                return state_of(found)
        store = self._instance.results
        text = None if store is None else await store.get(call_id)
        if text is not None:
            return CallState(status_in(self._instance, call_id, text))
        if not backend.queue.SUPPORTS_INSPECTION:
            await backend.queue.find(call_id)  # which says which backends can
        if backend.error_queue.SUPPORTS_INSPECTION:
            failed = await backend.error_queue.find(call_id)
            if failed is not None:
                return CallState("errored", attempt=_attempt(failed, is_over=True))
        return CallState("unknown")

    async def describe(self, call_id: str) -> DescribedCall | None:
        """What is known of the call; None: nothing.

        The call itself is known while a queue has it, and afterwards from a result that was kept
        with ``keep_call``.
        """
        return await self._door.wait(self._describe(call_id))

    async def _describe(self, call_id: str) -> DescribedCall | None:
        instance = self._instance
        queue, error_queue = instance.backend.queue, instance.backend.error_queue
        found = await queue.find(call_id) if queue.SUPPORTS_INSPECTION else None
        if found is not None and found.place != "cancelled":
            return DescribedCall(instance, found.item, state_of(found))
        text = None if instance.results is None else await instance.results.get(call_id)
        if text is not None:
            return _described(instance, ending_in(instance, call_id, text))
        failed = await error_queue.find(call_id) if error_queue.SUPPORTS_INSPECTION else None
        if failed is not None:
            state = CallState("errored", attempt=_attempt(failed, is_over=True))
            error = failed.item.get("error")
            ending = {"error": error} if isinstance(error, dict) else {}
            return DescribedCall(instance, failed.item, state, ending)
        return None if found is None else DescribedCall(instance, {}, state_of(found))

    async def result(self, call_id: str | None, timeout_seconds: float | None) -> Any:
        """What the job returned; see `deferrable.handles.HandleVerbs.result`."""
        instance, store = self._instance, self._instance.results
        if store is None:
            raise Unsupported(f"{instance!r} has no results: {NO_RESULT_STORE}")
        if call_id is None:
            raise ResultExpired(
                "this call was skipped, and its window does not know the id of the call that runs "
                "instead"
            )
        if timeout_seconds is not None:
            timeout_seconds = seconds_of("timeout_seconds", timeout_seconds)
        text = await self._door.wait(self._await_result(store, call_id, timeout_seconds))
        return value_in(instance, call_id, text)

    async def _await_result(
        self, store: ResultStore, call_id: str, timeout_seconds: float | None
    ) -> str:
        """The text of the result, as soon as there is one."""
        if timeout_seconds == 0:
            text = await store.get(call_id)
            if text is None:
                await self._check_awaited(store, call_id)
                raise _no_result(call_id, 0)
            return text
        clock = self._instance.waiting_clock or self._instance.clock
        waiting = asyncio.ensure_future(store.wait(call_id))
        checking = asyncio.ensure_future(self._check_later(store, call_id, clock))
        try:
            if not await one_ends_within([waiting, checking], clock, timeout_seconds):
                raise _no_result(call_id, timeout_seconds)
            return waiting.result() if waiting.done() else checking.result()
        finally:
            await _end([waiting, checking])

    async def _check_later(self, store: ResultStore, call_id: str, clock: Clock) -> str:
        """Raise, after a while, why a call will have no result, or return one that is there.

        It looks again and again, because not every end of a call is told: an item may be buried by
        its queue, or flushed. Many may wait, and each check searches the queue. So there is one
        check at a time, for a tenth of the time, and the pauses grow.
        """
        turn = _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        looks, text = 0, None
        while text is None:
            looks += 1
            await sleep(clock, growing_seconds(looks, _CHECK_SECONDS, _LONGEST_CHECK_SECONDS))
            async with turn:
                start_time = time.monotonic()
                with suppress(BackendUnavailable):  # the next look may work
                    text = await self._check_awaited(store, call_id)
                await asyncio.sleep(9 * (time.monotonic() - start_time))
        return text

    async def _check_awaited(self, store: ResultStore, call_id: str) -> str | None:
        """Refuse to wait for a call that will have no result, as far as this can be known.

        Returns:
            the text of a result that was stored meanwhile.
        """
        backend = self._instance.backend
        if not backend.queue.SUPPORTS_INSPECTION:
            return None
        found = await backend.queue.find(call_id)
        if found is not None and found.place != "cancelled":
            if not found.item.get("keep_results_seconds"):
                raise _not_kept(call_id)
            return None
        text = await store.get(call_id)
        if text is None and found is not None:
            raise_failure(call_id, "cancelled", None)
        if text is None and backend.error_queue.SUPPORTS_INSPECTION:
            failed = await backend.error_queue.find(call_id)
            if failed is not None:
                raise_failure(call_id, "errored", failed.item.get("error"))
        if text is None:
            raise _not_kept(call_id)
        return text

    async def cancel(self, call_id: str, *, stop: bool = False) -> CancelAnswer:
        """Cancel the call; see `deferrable.handles.HandleVerbs.cancel`."""
        queue = self._instance.backend.queue
        for _ in range(_MOST_TRIES):
            found = await self._door.wait(queue.find(call_id))
            if found is None:
                return "ended"
            answer = await self.cancel_found(found, stop=stop)
            if answer is not None:
                return answer
        raise _moving(call_id)

    async def cancel_found(self, found: Found, *, stop: bool = False) -> CancelAnswer | None:
        """Cancel a call that was found just now. None: it has moved meanwhile; find it again."""
        queue = self._instance.backend.queue
        if found.place == "cancelled":
            return "cancelled"
        if found.place == "in flight":
            if stop and not await self._door.wait(queue.ask_to_stop(found)):
                return None
            return "running"
        # Before it is removed, or a call in between would be skipped because of it.
        await self._leave_window(found.item)
        if not await self._door.wait(queue.cancel(found)):
            return None
        await self._wake_waiters(found.item)
        await self._emit("cancel", found.item)
        return "cancelled"

    async def _wake_waiters(self, item: Item) -> None:
        """Have those who wait for the result of a cancelled call hear of it."""
        store, kept = self._instance.results, kept_result(self._instance, item, "cancelled")
        if store is None or kept is None:
            return
        try:
            await self._door.wait(store.put([kept]))
        except BackendError as error:
            _logger.warning(
                "call %s is cancelled; its result was not stored: %s", item["id"], error
            )

    async def run_now(self, call_id: str) -> bool:
        """Make a delayed call available now; see `deferrable.handles.HandleVerbs.run_now`."""
        instance = self._instance
        queue, group = instance.backend.queue, instance.backend.group
        for _ in range(_MOST_TRIES):
            found = await self._door.wait(queue.find(call_id))
            if found is None or found.place != "delayed":
                return found is not None and found.place == "queued"
            instance.protection.check(found.item, group)
            item = copy_item(found.item)
            item.pop("due_time", None)
            item["delay"] = 0
            item = instance.protection.signed(item, group)
            # Or calls that come after this run would be skipped because of it.
            await self._leave_window(found.item)
            if await self._door.wait(queue.hasten(found, item)):
                return True
        raise _moving(call_id)

    async def peek(self, count: int, wanted: Wanted) -> list[PeekedCall]:
        """The first calls that fit; see `deferrable.aio.Deferrable.peek`."""
        peeked: list[PeekedCall] = []
        cursor: str | None = ""
        while cursor is not None and len(peeked) < count:
            page, cursor = await self._page(cursor, _PAGE, wanted)
            peeked += [each for _, each in page]
        return peeked[:count]

    async def cancel_calls(self, wanted: Wanted, *, stop: bool) -> dict[CancelAnswer, int]:
        """Cancel all calls of a job; see `deferrable.aio.Deferrable.cancel_calls`."""
        counts: dict[CancelAnswer, int] = {"cancelled": 0, "running": 0}
        for _ in range(_MOST_TRIES):
            # What is removed moves the rest, so that a page may miss some.
            is_repeated, counts["running"] = False, 0
            cursor: str | None = ""
            while cursor is not None:
                page, cursor = await self._page(cursor, _PAGE, wanted)
                for found, _ in page:
                    answer = await self.cancel_found(found, stop=stop)
                    if answer is not None:
                        counts[answer] += 1
                    is_repeated = is_repeated or answer != "running"
            if not is_repeated:
                return counts
        raise BackendError(
            f"{counts['cancelled']} calls were cancelled, and after {_MOST_TRIES} times there are "
            "more; stop what defers them, and try again"
        )

    async def _page(
        self, cursor: str, count: int, wanted: Wanted
    ) -> tuple[list[tuple[Found, PeekedCall]], str | None]:
        instance = self._instance
        page, next_cursor = await self._door.wait(instance.backend.queue.inspect(cursor, count))
        each = [(found, PeekedCall(instance, found.item, state_of(found))) for found in page]
        return [pair for pair in each if wanted.includes(pair[1])], next_cursor or None

    async def _leave_window(self, item: Item) -> None:
        """Have no later call be skipped because this one was to be pending."""
        store, text = self._instance.debounce_store, item.get("debounce_window")
        if store is None or not isinstance(text, str) or item.get("attempts"):
            return
        is_classic = item.get("serializer") in (None, "classic")
        key = DebounceKey(text, classic_keys(item) if is_classic else None)
        try:
            await self._door.wait(store.withdraw(key, item["id"], item.get("due_time")))
        except BackendError as error:
            _logger.warning(
                "a debounce window may skip calls because of call %s, which is not pending: %s",
                item["id"],
                error,
            )

    async def _emit(self, event: str, item: Item) -> None:
        consumers = self._instance.event_consumers
        if consumers:
            await emit(self._door, consumers, event, item, None)


async def one_ends_within(
    waiting: Sequence[asyncio.Future[Any]], clock: Clock, seconds: float | None
) -> bool:
    """Whether one of several ends within some seconds of `clock`; None: for ever."""
    woken = asyncio.Event()
    timer = None if seconds is None else clock.call_later(seconds, woken.set)

    def wake(_: object) -> None:
        woken.set()

    for each in waiting:
        each.add_done_callback(wake)
    try:
        await woken.wait()
    finally:
        for each in waiting:
            each.remove_done_callback(wake)
        if timer is not None:
            timer.cancel()
    return any(each.done() for each in waiting)


async def _end(waiting: Sequence[asyncio.Future[Any]]) -> None:
    """Cancel what is left, and wait for its end."""
    for each in waiting:
        each.cancel()
    await asyncio.wait(waiting)
    for each in waiting:
        if not each.cancelled():
            each.exception()  # Read it, or the loop would complain.


def _not_kept(call_id: str) -> ResultExpired:
    return ResultExpired(
        f"no result of call {call_id} is kept: it never was, or it has expired; set "
        "keep_results_seconds to the time in which it is read"
    )


def _no_result(call_id: str, seconds: float | None) -> TimeoutError:
    return TimeoutError(f"call {call_id} has no result within {seconds} seconds; it may have later")


def _moving(call_id: str) -> BackendError:
    return BackendError(
        f"call {call_id} has moved each of the {_MOST_TRIES} times that it was found; try again"
    )


def state_of(found: Found) -> CallState:
    """The state of a call whose item was found in the main queue."""
    attempt = _attempt(found)
    if found.place == "cancelled":
        return CallState("cancelled")
    if found.place == "in flight":
        return CallState(
            "running",
            None,
            attempt,
            found.running_since,
            found.worker,
            found.lease_until,
        )
    status: CallStatus = "queued" if found.place == "queued" else "delayed"
    if attempt is not None and attempt > 1:
        status = "retrying"
    return CallState(status, found.available_time, attempt)


def _described(instance: Instance, ending: Item) -> DescribedCall:
    item: Item = ending.get("call") or {}
    attempts = item.get("attempts")
    has_run = ending["status"] in ("completed", "errored")
    attempt = attempts + has_run if isinstance(attempts, int) else None
    return DescribedCall(instance, item, CallState(ending["status"], attempt=attempt), ending)


def _attempt(found: Found, *, is_over: bool = False) -> int | None:
    finished = found.item.get("attempts", 0)
    return finished + (not is_over) if isinstance(finished, int) else None
