"""A handle on a deferred call: where it is now, and what can be done about it.

Owns the values that a handle returns and the verbs of a handle, for both APIs. It does no I/O: an
instance's engine does what a verb asks for.

The one rule: an answer is true of one moment. What nobody can know is ``unknown``, never a guess.
"""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

__all__ = [
    "CallDescription",
    "CallHandle",
    "CallSource",
    "CallState",
    "CallStatus",
    "Calls",
    "CancelAnswer",
    "HandleVerbs",
]

T = TypeVar("T")

CallStatus: TypeAlias = Literal[
    "queued",
    "delayed",
    "running",
    "retrying",
    "completed",
    "errored",
    "expired",
    "cancelled",
    "unknown",
]


@dataclass(frozen=True, slots=True)
class CallState:
    """The state of a call at one moment; it may have changed by the time you read it.

    Attributes:
        status: ``queued`` (it waits for a consumer), ``delayed`` (it waits for its time),
            ``running`` (a consumer holds it), ``retrying`` (an attempt has failed, and it waits for
            the next one), ``errored`` (it is in the error queue), ``cancelled``, ``completed``,
            ``expired``, or ``unknown``: its queue does not have it any more, and nothing remembers
            how it ended.
        available_time: when it may run, in epoch seconds, if it is delayed.
        attempt: the number of its current attempt, or of its next one, from 1.
        running_since: when a consumer took it, in epoch seconds.
        worker: the id of the consumer that holds it.
        lease_until: when others get it unless that consumer renews its lease, in epoch seconds.

    What the broker does not know is None.
    """

    status: CallStatus
    available_time: float | None = None
    attempt: int | None = None
    running_since: float | None = None
    worker: str | None = None
    lease_until: float | None = None


CancelAnswer: TypeAlias = Literal["cancelled", "running", "ended"]
"""What a cancellation came to; see `HandleVerbs.cancel`."""


class CallDescription(Protocol):
    """What is known of a call at one moment."""

    @property
    def item(self) -> Mapping[str, Any]:
        """Its item; of a call that has ended the fields that were kept; empty if none were."""
        ...

    @property
    def ending(self) -> Mapping[str, Any]:
        """How it ended: ``value``, ``error``, ``start_time``, ``time``; empty before."""
        ...

    @property
    def state(self) -> CallState:
        """Where the call is."""
        ...

    @property
    def id(self) -> str | None:
        """The id of the call."""
        ...

    @property
    def job(self) -> str:
        """The name of its job."""
        ...

    @property
    def call(self) -> "CallArguments":
        """Its arguments, decoded now.

        Raises:
            UnreadableItem: they cannot be decoded.
        """
        ...


class CallArguments(Protocol):
    """The arguments of a call."""

    @property
    def args(self) -> tuple[Any, ...]: ...
    @property
    def kwargs(self) -> dict[str, Any]: ...


class Calls(Protocol):
    """Answers for the calls of one instance."""

    def state(self, call_id: str) -> Coroutine[Any, Any, CallState]: ...

    def describe(self, call_id: str) -> Coroutine[Any, Any, "CallDescription | None"]: ...

    def cancel(self, call_id: str, *, stop: bool) -> Coroutine[Any, Any, CancelAnswer]: ...

    def run_now(self, call_id: str) -> Coroutine[Any, Any, bool]: ...

    def result(
        self, call_id: str | None, timeout_seconds: float | None
    ) -> Coroutine[Any, Any, Any]: ...

    def drive(self, start: Callable[["Calls"], Coroutine[Any, Any, T]], instead: str) -> T:
        """The result of what `start` begins, for callers that cannot await.

        Args:
            start: gets what answers in the calling thread.

        Raises:
            CalledFromEventLoop: this is the portal's own thread; names `instead`.
        """
        ...


class CallSource(Protocol):
    """The instance that deferred a call, or one of the same queue."""

    def calls(self) -> Calls: ...


class HandleVerbs:
    """The verbs of a handle. Each exists twice: blocking, and awaited with ``_async``."""

    __slots__ = ("_source",)

    _source: CallSource

    def _call_id(self) -> str | None:
        """The id of the call, if one is known."""
        raise NotImplementedError

    def _known(self) -> tuple[Calls, str] | None:
        """The answerer and the call's id; None: no call is known."""
        call_id = self._call_id()
        return None if call_id is None else (self._calls(), call_id)

    def _calls(self) -> Calls:
        try:
            source = self._source
        except AttributeError:
            raise TypeError(
                f"{self!r} was copied, or made by hand, so it belongs to no instance; use "
                f"instance.call({self._call_id()!r})"
            ) from None
        return source.calls()

    def state(self) -> CallState:
        """Where the call is now; see `CallState`. Blocks; from a coroutine use `state_async`.

        Nothing changes for the call: no lease, no order, no attempt.

        Raises:
            Unsupported: the backend cannot find a call by its id.
            BackendUnavailable: the broker could not be reached.
            CalledFromEventLoop: this is the portal's own thread, which would wait for itself.
        """
        known = self._known()
        if known is None:
            return CallState("unknown")
        calls, call_id = known
        return calls.drive(lambda here: here.state(call_id), "await handle.state_async()")

    async def state_async(self) -> CallState:
        """Where the call is now, on the running loop; see `state`."""
        known = self._known()
        if known is None:
            return CallState("unknown")
        calls, call_id = known
        return await calls.state(call_id)

    def describe(self) -> "CallDescription | None":
        """What is known of the call: job, arguments, state and end. Blocks; see `describe_async`.

        The call itself is known while a queue has it, and afterwards if its result was kept with
        ``keep_call``.

        Returns:
            None: nothing is known.

        Raises:
            UnreadableItem: what is kept must not be read here.
            BackendUnavailable: the broker could not be reached.
            CalledFromEventLoop: this is the portal's own thread, which would wait for itself.
        """
        known = self._known()
        if known is None:
            return None
        calls, call_id = known
        return calls.drive(lambda here: here.describe(call_id), "await handle.describe_async()")

    async def describe_async(self) -> "CallDescription | None":
        """What is known of the call, on the running loop; see `describe`."""
        known = self._known()
        if known is None:
            return None
        calls, call_id = known
        return await calls.describe(call_id)

    def cancel(self, *, stop: bool = False) -> CancelAnswer:
        """Cancel the call, if no consumer has it. Blocks; from a coroutine use `cancel_async`.

        A retry that waits is cancelled, too. Calls that were skipped because this one was pending
        do not run either; later calls are not skipped because of it.

        Args:
            stop: if a consumer holds the call, ask it to stop the job at its next heartbeat, which
                is after a third of the lease at the latest. An async job is cancelled, and the call
                is then ``cancelled``. A plain function cannot be stopped; it can read
                ``current_attempt().stop_reason``.

        Returns:
            ``cancelled``: no consumer will ever start it from now on. ``running``: a consumer holds
            it, so it is too late, or it was asked to stop. ``ended``: the queue has no such call
            any more, or never had one.

        Raises:
            Unsupported: the backend cannot cancel a call.
            BackendUnavailable: the broker could not be reached; the call may or may not be
                cancelled, and cancelling again is allowed.
            CalledFromEventLoop: this is the portal's own thread, which would wait for itself.
        """
        known = self._known()
        if known is None:
            return "ended"
        calls, call_id = known
        return calls.drive(
            lambda here: here.cancel(call_id, stop=stop), "await handle.cancel_async()"
        )

    async def cancel_async(self, *, stop: bool = False) -> CancelAnswer:
        """Cancel the call, on the running loop; see `cancel`."""
        known = self._known()
        if known is None:
            return "ended"
        calls, call_id = known
        return await calls.cancel(call_id, stop=stop)

    def result(self, *, timeout_seconds: float | None = None) -> Any:
        """What the call's job returned. Blocks until then; from a coroutine use `result_async`.

        It waits until it is woken. The result may be read again, until it expires.

        Args:
            timeout_seconds: how long to wait; None: for ever; 0: not at all.

        Raises:
            JobFailed: the job failed for good, or the call expired or was cancelled.
            ResultExpired: no result of the call is kept (see ``keep_results_seconds``): it never
                was, or it has expired. This is found out after a second of waiting.
            TimeoutError: there is no result yet.
            SerializationError: the job returned something that cannot be sent, or the result must
                not be read here.
            Unsupported: the instance has no store for results.
            BackendError: the store could not be reached.
            CalledFromEventLoop: this is the portal's own thread, which would wait for itself.
        """
        calls, call_id = self._calls(), self._call_id()
        return calls.drive(
            lambda here: here.result(call_id, timeout_seconds), "await handle.result_async()"
        )

    async def result_async(self, *, timeout_seconds: float | None = None) -> Any:
        """What the call's job returned, on the running loop; see `result`."""
        return await self._calls().result(self._call_id(), timeout_seconds)

    def run_now(self) -> bool:
        """End the delay of the call, or the wait before its retry. Blocks; see `run_now_async`.

        Returns:
            whether it is available now. False: a consumer holds it, or the queue does not have it.

        Raises:
            Unsupported: the backend cannot do so.
            UnreadableItem: this instance must not read the item.
            BackendUnavailable: the broker could not be reached; calling again is allowed.
            CalledFromEventLoop: this is the portal's own thread, which would wait for itself.
        """
        known = self._known()
        if known is None:
            return False
        calls, call_id = known
        return calls.drive(lambda here: here.run_now(call_id), "await handle.run_now_async()")

    async def run_now_async(self) -> bool:
        """End the delay of the call, on the running loop; see `run_now`."""
        known = self._known()
        if known is None:
            return False
        calls, call_id = known
        return await calls.run_now(call_id)


class CallHandle(HandleVerbs):
    """A handle on the call with a known id, in any process; see `Deferrable.call`.

    Attributes:
        id: of the call, as its receipt has it.
    """

    __slots__ = ("id",)

    def __init__(self, source: CallSource, call_id: str) -> None:
        if not isinstance(call_id, str) or not call_id:
            raise TypeError(f"a call's id is a text, as in its receipt, got {call_id!r:.80}")
        self._source = source
        self.id = call_id

    def _call_id(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<CallHandle {self.id}>"
