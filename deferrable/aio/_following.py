"""Calls that were deferred: how they are found, looked at and cancelled.

Owns those methods of an instance. `InstanceCalls` asks the queue and the store of results.
"""

from collections.abc import Iterable

from deferrable._codec.refusals import check_text
from deferrable.aio._engine.calls import InstanceCalls, Wanted
from deferrable.aio._engine.instance import Instance
from deferrable.aio.peeked import PeekedCall
from deferrable.handles import CallHandle, CallStatus, CancelAnswer

__all__ = ["Following"]


class Following(Instance):
    """The part of an instance that follows calls."""

    def calls(self) -> InstanceCalls:
        """What answers for the calls of this instance, for its handles."""
        return InstanceCalls(self)

    def call(self, call_id: str) -> CallHandle:
        """A handle on a call that was deferred anywhere; no I/O is done for it.

        Args:
            call_id: from the call's receipt.

        Raises:
            InvalidOptions: no call can have this id.
        """
        if isinstance(call_id, str):
            check_text("the id of a call", call_id)
        return CallHandle(self, call_id)

    async def peek(
        self,
        count: int = 100,
        *,
        state: CallStatus | None = None,
        job: object = None,
        ids: Iterable[str] = (),
    ) -> list[PeekedCall]:
        """Look at calls that are delayed, queued or running, without taking them.

        No lease, no order and no attempt changes. A large queue is read a page at a time, and each
        state is of the moment at which its page was read.

        Args:
            count: the most calls to return.
            state: only calls in this state; None: all.
            job: only calls of this job, or of the job with this name; None: all.
            ids: only calls whose ids begin with one of these texts; empty: all.

        Raises:
            Unsupported: the backend cannot show items without taking them.
        """
        return await self.calls().peek(count, Wanted(state, job, ids))

    async def cancel_calls(
        self, job: object, *, state: CallStatus | None = None, stop: bool = False
    ) -> dict[CancelAnswer, int]:
        """Cancel all calls of a job; see `CallHandle.cancel`.

        Args:
            job: the job, or its name; None: the calls of all jobs.
            state: only calls in this state; None: all.
            stop: ask running jobs to stop.

        Returns:
            how many were ``cancelled``, and how many are ``running``.

        Raises:
            Unsupported: the backend cannot cancel calls.
        """
        return await self.calls().cancel_calls(Wanted(state, job), stop=stop)
