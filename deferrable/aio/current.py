"""What a job can see of its attempt.

Owns the object that `current_attempt` returns inside a job. It shows the attempt, and touches its
item when the job asks for it.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from deferrable._durations import Duration
from deferrable.aio._engine.running import Control, StopReason, blocking_driver
from deferrable.aio.clock import Clock
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Queue
from deferrable.item import Item, id_text
from deferrable.lifecycle import expiry_time

__all__ = ["CurrentAttempt", "current_attempt"]


class CurrentAttempt:
    """The attempt that is being made.

    Attributes:
        item: the item; the job may read it, but not change it.
        state: the value of the instance's lifespan; None without one, and outside a worker.
    """

    __slots__ = ("__weakref__", "_clock", "_control", "_envelope", "_queue", "item", "state")

    def __init__(
        self,
        queue: Queue,
        envelope: Envelope,
        item: Item,
        clock: Clock,
        control: Control,
        state: Any,
    ) -> None:
        self._queue = queue
        self._envelope = envelope
        self._clock = clock
        self._control = control
        self.item = item
        self.state = state

    @property
    def id(self) -> str | None:
        """The item's id; None for items of the Python 2 library."""
        return self.item.get("id")

    @property
    def attributes(self) -> Mapping[str, str]:
        """The texts that travel with the call: the option ``attributes`` of its ``later``.

        If the call stands for a message of somebody else, they are those of the message, such as
        ``traceparent`` or ``AWSTraceHeader``.
        """
        attributes = self.item.get("attributes")
        if not isinstance(attributes, dict):
            return {}
        return {name: value for name, value in attributes.items() if isinstance(value, str)}

    @property
    def job_name(self) -> str | None:
        """The name of the job; None until it was found, and if no such job is registered."""
        return self._control.job_name

    @property
    def number(self) -> int:
        """Which attempt this is, counted from 1."""
        in_place = self._envelope.in_place
        since = 0 if in_place is None else in_place.attempts
        return int(self.item.get("attempts") or 0) + since + 1

    @property
    def ttl_remaining_seconds(self) -> float | None:
        """How long until the item's ttl ends, which is for its start only; None without one."""
        expiry = expiry_time(self.item)
        return None if expiry is None else expiry - self._clock.time()

    @property
    def deadline_time(self) -> float | None:
        """When the job's ``timeout_seconds`` end, in epoch seconds; None without."""
        return self._control.deadline_time

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the job must stop; None: it need not.

        An async job that is cancelled finds the reason here: ``lease lost``, ``timed out`` or
        ``cancelled`` (the worker stops, or the caller of ``run_once`` gave up), or
        ``call cancelled`` (somebody cancelled the call with ``stop=True``). A plain job can check
        it while it works.
        """
        return self._control.reason

    @property
    def lease_end_time(self) -> float:
        """When the lease ends unless it is renewed, in epoch seconds. Heartbeats renew it."""
        clock = self._queue.clock
        return self._envelope.lease_end_time - clock.monotonic() + clock.time()

    @property
    def is_lease_lost(self) -> bool:
        """Whether another consumer may have the item by now: then work here is wasted."""
        has_ended = self._queue.clock.monotonic() >= self._envelope.lease_end_time
        return has_ended or self._control.reason == "lease lost"

    async def touch(self, seconds: Duration) -> None:
        """Keep the item for at least `seconds` from now, from an async job.

        Raises:
            LeaseLost: it no longer belongs to this consumer.
        """
        await self._queue.touch(self._envelope, seconds)

    def touch_blocking(self, seconds: Duration) -> None:
        """Keep the item for at least `seconds` from now, from a plain job.

        Raises:
            LeaseLost: it no longer belongs to this consumer.
            CalledFromEventLoop: from an async job of the blocking API; await `touch` there.
        """
        blocking_driver().drive(
            lambda door: door.wait(self._queue.touch(self._envelope, seconds)),
            "await current_attempt().touch(...)",
        )

    def __repr__(self) -> str:
        return f"<CurrentAttempt {self.number} of item {id_text(self.item)}>"


_current: ContextVar[CurrentAttempt] = ContextVar("deferrable_current_attempt")


def set_current_attempt(attempt: CurrentAttempt) -> None:
    """Let `current_attempt` return `attempt` in the running context."""
    _current.set(attempt)


def current_attempt() -> CurrentAttempt:
    """The attempt that is being made, from inside a job.

    Raises:
        LookupError: no job runs here.
    """
    try:
        return _current.get()
    except LookupError:
        raise LookupError(
            "current_attempt() works only inside a job, and no job runs here"
        ) from None
