"""Answer for the calls of one instance: where they are.

Owns where a call is looked for, and what its place means. The queues find items; this module knows
that a call may also be in the error queue.

The one rule: nothing is guessed. A call that no queue has is ``unknown``, unless something
remembers how it ended.
"""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from deferrable._fork import notice_fork
from deferrable.aio._contract.inspecting import Found
from deferrable.aio._engine.instance import Instance
from deferrable.aio._engine.running import blocking_driver
from deferrable.handles import CallState, CallStatus

__all__ = ["InstanceCalls", "state_of"]

T = TypeVar("T")


class InstanceCalls:
    """Finds the calls of an instance."""

    __slots__ = ("_instance",)

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def drive(self, start: Callable[[], Coroutine[Any, Any, T]], instead: str) -> T:
        return blocking_driver().drive(lambda door: door.wait(start()), instead)

    async def state(self, call_id: str) -> CallState:
        """Where the call is now; see `deferrable.handles.HandleVerbs.state`."""
        notice_fork()
        backend = self._instance.backend
        found = await backend.queue.find(call_id)
        if found is not None:
            return state_of(found)
        if backend.error_queue.SUPPORTS_INSPECTION:
            failed = await backend.error_queue.find(call_id)
            if failed is not None:
                return CallState("errored", attempt=_attempt(failed, is_over=True))
        return CallState("unknown")


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
