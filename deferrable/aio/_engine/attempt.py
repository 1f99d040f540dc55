"""One run of one item, from the pop to its settlement.

Owns the order of an attempt: check whether it is due, consume its metadata, check whether it has
expired, run it while its lease is kept, and settle it by how it ended; how, says `ending`. A door
waits and calls on its behalf.

The one rule: whatever happens, an item is settled at most once, or its lease is left to end.

::

    popped ── run_job ──► kept ─┬─ not due ────────────────────────────────► hopped
                                ├─ unreadable ─────────────────────────────► errored
                                ├─ expired ────────────────────────────────► expired
                                ├─ stopped before it starts ───────────────► released
                                └─► running ─┬─ returned ─► to be completed ► completed
                                             ├─ raised ────────────────────► retried, errored
                                             └─ stopped from outside ──────► released
    any of them ── its lease ends, or the broker refuses the settlement ───► lost

`run_job` does all of it, for a caller of ``run_once``. A worker has it end where an item is to be
completed, and completes many items at once: then it calls `tell_completed`, or `complete` for one
that the broker did not take. What is interrupted before it is settled, `give_back` releases.
"""

import math
from asyncio import CancelledError
from collections.abc import Callable
from contextvars import Context
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from deferrable._ended import Raised, Returned, unwrap
from deferrable._tame import tame
from deferrable.aio._engine.emitting import is_its_own
from deferrable.aio._engine.ending import AttemptEnding, Expired
from deferrable.aio._engine.instance import Instance
from deferrable.aio._engine.keeping import kept_result, result_store
from deferrable.aio._engine.running import AttemptDoor, Control, NotStarted, Run
from deferrable.aio.current import CurrentAttempt, set_current_attempt
from deferrable.aio.envelope import Envelope
from deferrable.aio.middleware import put_inside
from deferrable.aio.results import KeptResult, ResultStore
from deferrable.errors import LeaseLost, UnreadableItem
from deferrable.item import Item
from deferrable.lifecycle import (
    Hop,
    before_run,
    counted,
    is_expired,
    read_seconds,
)
from deferrable.metadata import encoded_metadata
from deferrable.outcome import Outcome

__all__ = ["Attempt", "outcome_of"]

_NOT_RUN = {
    AsyncGeneratorType: "an async generator",
    CoroutineType: "a coroutine",
    GeneratorType: "a generator",
}
"""Types of results whose code has not begun to run."""


def _not_run(value: object) -> TypeError:
    return TypeError(
        f"the job returned {_NOT_RUN[type(value)]}, whose code has not run; await it or iterate "
        "over it inside the job, and return the result"
    )


def _hold_nothing() -> None:
    """Ends the keeping of an item that is not kept yet."""


class Attempt(AttemptEnding):
    """One attempt at an item of an instance, behind a door.

    Args:
        instance: has the jobs, the consumers and the backend.
        door: waits and calls on behalf of the attempt.
        envelope: of the item.
        item: as it was popped; never changed.
        context: the context of the job and of event handlers; it belongs to this attempt.
        state: the value of the instance's lifespan, for the job.

    Attributes:
        control: how others stop it.
        queue: where the item was popped.
        envelope: of the item.
        context: as given.
        popped_item: the item, as it was popped.
        error_to_raise: the error to raise to the caller of ``run_once``, once it is settled.
        keeps_result: how its call ends is stored before the item is settled, if it is wanted.
    """

    __slots__ = ("_let_go", "_returned", "popped_item")

    def __init__(
        self,
        instance: Instance,
        door: AttemptDoor,
        envelope: Envelope,
        item: Item,
        context: Context,
        state: object = None,
    ) -> None:
        self._instance = instance
        self.queue = instance.backend.queue
        self._door = door
        self.envelope = envelope
        self._item = self.popped_item = item
        self.context = context
        self._clock = instance.clock
        self._start_time = self._clock.monotonic()
        self._refusal = None
        self._job_name = "a job"
        self.control = envelope.stopper = Control()
        if envelope.is_stop_wanted:
            self.control.stop("call cancelled")
        self.error_to_raise = None
        self.keeps_result = "keep_results_seconds" in item
        self._returned: Returned[Any] | None = None
        self._let_go: Callable[[], object] = _hold_nothing
        # It does not refer to this attempt, which holds the context: that would make a cycle.
        context.run(
            set_current_attempt,
            CurrentAttempt(self.queue, envelope, item, self._clock, self.control, state),
        )

    async def run(self) -> Outcome:
        """Make the attempt.

        Raises:
            BackendError: the broker refused the settlement; the item comes back after its lease.
            KeyboardInterrupt, SystemExit: it struck in this thread, or an event handler raised
                it; if the item was not settled by then, it was released.
        """
        return outcome_of(await self.run_job(completes=True))

    async def run_job(self, *, completes: bool = False) -> Outcome | Raised | None:
        """Make the attempt, but for the completion of an item whose job has returned.

        Returns:
            None: the job has returned, and its lease is kept still. The caller completes the item,
            then calls `tell_completed`; or has `complete` do both. As a value what `run` raises: an
            interrupt that leaves a task ends the loop with it.
        """
        failure = ready = ended = None
        try:
            # In here, because an interrupt may come already. The keeper forgets an item that is
            # released, even if it is not dropped.
            self._let_go = self._door.keep(self.queue, self.envelope, self.lose)
            try:
                self._check_trusted()
                hop = before_run(
                    self._item,
                    self._clock.time(),
                    self.queue.MAX_DELAY_SECONDS,
                    is_due=self.queue.KEEPS_DELAYS,
                )
                in_place, item = self.envelope.in_place, self._item
                if in_place is not None:
                    item = counted(item, in_place.attempts)
            except UnreadableItem as error:
                await self._emit("pop")
                return await self._settle(Raised(error))
            if hop is not None:
                return await self._send_on(hop)
            self._item = item
            if self._instance.event_consumers:
                await self._emit("pop")
            if self._instance.metadata_producer_consumers:
                failure = await self._consume_metadata()
            ready = self._make_ready() if failure is None else failure
            if "unique_until" in self._item and not await self._has_freed_key(ready):
                return await self._lost(None)
            ended = ready if isinstance(ready, Raised) else await self._door.run(ready)
            if isinstance(ended, Returned) and type(ended.value) in _NOT_RUN:
                ended = Raised(_not_run(ended.value))
            if completes or isinstance(ended, Raised) or self.control.reason == "lease lost":
                return await self._settle(ended)
            self._returned = ended
            return None
        except BaseException as error:
            return await self._interrupted(error)
        finally:
            # An error's traceback holds this frame, which must not hold the error in turn.
            failure = ready = ended = None
            if self._returned is None:
                self._let_go()

    def kept_result(self) -> tuple[ResultStore, KeptResult] | None:
        """What to store of a job that has returned, before its item is completed; None: nothing."""
        if self._returned is None:
            return None
        value = self._returned.value
        kept = kept_result(
            self._instance, self._item, "completed", value, start_time=self.start_time
        )
        store = result_store(self._instance)
        return None if kept is None or store is None else (store, kept)

    async def complete(self) -> Outcome | Raised:
        """Complete the item of a job that has returned; what `run` raises is returned, too."""
        assert self._returned is not None
        try:
            return await self._settle(self._returned)
        except BaseException as error:
            return await self._interrupted(error)
        finally:
            self._let_go()

    async def tell_completed(self) -> Outcome | Raised:
        """Emit that the item of a job that has returned was completed."""
        try:
            await self._emit("complete")
        except BaseException as error:
            self._let_go()
            return Raised(error)
        return self.note_completed()

    def note_completed(self) -> Outcome:
        """Its outcome, once the item of a job that has returned was completed."""
        assert self._returned is not None
        self._let_go()
        return self.told(self.outcome("completed", result=self._returned.value))

    def raise_error(self) -> None:
        """Raise the error for the caller of ``run_once``, if there is one."""
        error, self.error_to_raise = self.error_to_raise, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # its traceback holds this frame

    @property
    def instance(self) -> Instance:
        """The instance whose job it runs."""
        return self._instance

    @property
    def has_listeners(self) -> bool:
        """Whether there is any event consumer."""
        return bool(self._instance.event_consumers)

    @property
    def has_started(self) -> bool:
        """Whether the job itself has begun to run."""
        return self.envelope.has_started

    def lose(self) -> None:
        """Its lease was found lost: stop the job, and settle nothing."""
        self.control.stop("lease lost")
        # Also not by a caller that has not read the reason yet.
        self.envelope.lease_end_time = -math.inf

    # Before the job.

    def _check_trusted(self) -> None:
        try:
            self._instance.protection.check(self._item, self._instance.backend.group)
        except UnreadableItem as error:
            self._refusal = error  # Nothing in it is trusted, not even when it is due.
            raise

    async def _send_on(self, hop: Hop) -> Outcome:
        queue, envelope = self.queue, self.envelope
        item = self._signed(hop.item)
        self._door.end_job()
        try:
            if self.queue.SUPPORTS_DELAY:
                await self._door.finish(lambda: queue.replace(envelope, item))
            else:
                await self._door.finish(lambda: queue.release(envelope, hop.item["delay"]))
        except LeaseLost as error:
            return await self._lost(error)
        await self._emit("hop")
        return self.told(self.outcome("hopped"))

    def _make_ready(self) -> Run | Raised:
        """The job to run now, or why it is not run."""
        try:
            if is_expired(self._item, self._clock.time()):
                return Raised(Expired())
            run = self._make_run()
        except Exception as error:
            return Raised(error)
        if self.control.reason is not None:
            return Raised(NotStarted())
        self.envelope.has_started = True
        return run

    async def _has_freed_key(self, ready: Run | Raised) -> bool:
        """Free the unique key of a job that starts, if it is held until then.

        Returns:
            False: the lease is lost.
        """
        if isinstance(ready, Raised) or not self.queue.SUPPORTS_UNIQUE:
            return True
        try:
            await self._door.finish(lambda: self.queue.free_key(self.envelope))
        except LeaseLost:
            return False
        return True

    async def _consume_metadata(self) -> Raised | None:
        for consumer in self._instance.metadata_producer_consumers:
            try:
                value = self._metadata_of(consumer.NAMESPACE)
            except UnreadableItem as error:
                return Raised(error)
            ended = await self._door.consume(self.context, consumer.consume_metadata, value)
            try:
                if isinstance(ended, Raised):
                    return ended if self._is_failure(ended.error) else Raised(NotStarted())
            finally:
                del ended  # an error's traceback holds this frame
        return None

    def _is_failure(self, error: BaseException) -> bool:
        """Whether a metadata consumer has failed, and was not just stopped."""
        error = tame(error)
        return not isinstance(error, CancelledError) or is_its_own(self._door, error)

    def _metadata_of(self, namespace: str | None) -> Any:
        data = encoded_metadata(self._item).get(namespace)
        return None if data is None else self._serializer().load_value(data)

    def _make_run(self) -> Run:
        call = self._instance.registry.find(self._item)
        self._job_name = self.control.job_name = call.job.name
        function, middleware = call.function, self._instance.around
        if middleware is not None:
            function = put_inside(middleware.jobs, function, is_async=call.job.is_async)
        timeout_seconds = read_seconds(self._item, "timeout_seconds")
        return Run(
            function,
            call.job.is_async,
            call.args,
            call.kwargs,
            self.context,
            call.job.settings.timeout_seconds if timeout_seconds is None else timeout_seconds,
            self.tell_overrun,
            self.control,
            self._clock,
            call.job.name,
            self._item,
        )

    async def tell_overrun(self) -> None:
        """Emit the event that the job runs, or blocks its loop, for too long."""
        try:
            await self._emit("overrun")
        except BaseException as error:
            self.error_to_raise = error  # The job still runs, and is settled first.


def outcome_of(ended: Outcome | Raised | None) -> Outcome:
    """The result of `Attempt.run_job`, for a caller of ``run_once``; raises its error."""
    assert ended is not None
    try:
        return unwrap(ended) if isinstance(ended, Raised) else ended
    finally:
        del ended  # an error's traceback holds this frame
