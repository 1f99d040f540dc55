"""Answer for the calls of one instance: where they are, and cancel them.

Owns where a call is looked for, what its place means, and the order of a cancellation. The queues
find and remove items; this module knows that a call may also be in the error queue, and that a
debounce window may wait for it.

The one rule: nothing is guessed. A call that no queue has is ``unknown``, unless something
remembers how it ended.
"""

import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from deferrable._fork import notice_fork
from deferrable.aio._contract.inspecting import Found
from deferrable.aio._engine.emitting import emit
from deferrable.aio._engine.instance import Instance
from deferrable.aio._engine.running import AwaitingDoor, Door, blocking_driver
from deferrable.aio.debounce import DebounceKey
from deferrable.aio.peeked import PeekedCall
from deferrable.debounce import classic_keys
from deferrable.errors import BackendError
from deferrable.handles import CallState, CallStatus, CancelAnswer
from deferrable.item import Item, copy_item

__all__ = ["InstanceCalls", "Wanted", "state_of"]

T = TypeVar("T")

_logger = logging.getLogger("deferrable")

_MOST_TRIES = 100
"""How often an item that moves away just before it is removed is looked for again."""

_PAGE = 500

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
        name = job if job is None or isinstance(job, str) else getattr(job, "name", job)
        if name is not None and not isinstance(name, str):
            raise TypeError(f"job= takes a job or its name, got {type(job).__name__}")
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
        found = await backend.queue.find(call_id)
        if found is not None:
            return state_of(found)
        if backend.error_queue.SUPPORTS_INSPECTION:
            failed = await backend.error_queue.find(call_id)
            if failed is not None:
                return CallState("errored", attempt=_attempt(failed, is_over=True))
        return CallState("unknown")

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
        await self._emit("cancel", found.item)
        return "cancelled"

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
        is_repeated = True
        while is_repeated:
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
        return counts

    async def _page(
        self, cursor: str, count: int, wanted: Wanted
    ) -> tuple[list[tuple[Found, PeekedCall]], str | None]:
        instance = self._instance
        page, next_cursor = await self._door.wait(instance.backend.queue.inspect(cursor, count))
        each = [(found, PeekedCall(instance, found.item, state_of(found))) for found in page]
        return [pair for pair in each if wanted.includes(pair[1])], next_cursor or None

    async def _leave_window(self, item: Item) -> None:
        """Have no later call be skipped because this one is pending."""
        store, text = self._instance.debounce_store, item.get("debounce_window")
        if store is None or not isinstance(text, str) or item.get("attempts"):
            return
        is_classic = item.get("serializer") in (None, "classic")
        key = DebounceKey(text, classic_keys(item) if is_classic else None)
        try:
            await self._door.wait(store.withdraw(key, item["id"], item.get("due_time")))
        except BackendError as error:
            _logger.warning(
                "a debounce window may skip calls because of the cancelled call %s: %s",
                item["id"],
                error,
            )

    async def _emit(self, event: str, item: Item) -> None:
        consumers = self._instance.event_consumers
        if consumers:
            await emit(self._door, consumers, event, item, None)


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


def _attempt(found: Found, *, is_over: bool = False) -> int | None:
    finished = found.item.get("attempts", 0)
    return finished + (not is_over) if isinstance(finished, int) else None
