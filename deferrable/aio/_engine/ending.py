"""How one attempt ends.

Owns what is done with the item: complete, retry, bury or release it, or leave it to the consumer
that has its lease now. Then it logs that and emits the events. `deferrable.lifecycle` decides what
happens to an item; this module does it.

The one rule: an item is settled before anybody hears about it.
"""

import logging
import random
import socket
from contextvars import Context
from typing import Any

from deferrable._codec import names as _names
from deferrable._codec.serializers import Serializer
from deferrable._ended import Ended, Raised, Returned, value_of, value_of_awaited
from deferrable._tame import tame
from deferrable.aio._engine.emitting import emit, log_or_raise
from deferrable.aio._engine.failures import log_failure, log_lost, log_retry
from deferrable.aio._engine.instance import Instance
from deferrable.aio._engine.keeping import Ending, TooLarge, kept_result, result_store
from deferrable.aio._engine.running import AttemptDoor, Control, NotStarted, name_of_attempt
from deferrable.aio.clock import Clock
from deferrable.aio.envelope import Envelope, InPlace
from deferrable.aio.queue import Queue
from deferrable.errors import BackendError, ItemTooLarge, LeaseLost, UnreadableItem
from deferrable.item import Item, id_text
from deferrable.lifecycle import (
    Bury,
    RetryLater,
    Verdict,
    after_error,
    bury,
    kept_whole,
    read_count,
    shortened,
    with_error,
)
from deferrable.outcome import Outcome, OutcomeStatus
from deferrable.retry import checked

__all__ = ["AttemptEnding", "Expired", "longest_delay"]

_logger = logging.getLogger("deferrable")

_UNREADABLE = "an item that cannot be read is never retried"


def longest_delay(queue: Queue) -> float:
    """The longest delay of a retry that a queue takes, in seconds; 0: it cannot delay."""
    return queue.MAX_DELAY_SECONDS if queue.SUPPORTS_DELAY else 0.0


class Expired(Exception):
    """The item's ttl had passed before the job could start."""


class AttemptEnding:
    """The end of an `Attempt`, which sets these attributes."""

    __slots__ = (
        "_clock",
        "_door",
        "_instance",
        "_item",
        "_job_name",
        "_refusal",
        "_start_time",
        "context",
        "control",
        "envelope",
        "error_to_raise",
        "keeps_result",
        "queue",
    )

    _instance: Instance
    _door: AttemptDoor
    _item: Item
    _clock: Clock
    _start_time: float
    _refusal: UnreadableItem | None
    _job_name: str
    queue: Queue
    envelope: Envelope
    context: Context
    control: Control
    error_to_raise: BaseException | None
    keeps_result: bool

    @property
    def name(self) -> str:
        """The job's name, once it is known, and the item's id, for logs."""
        return name_of_attempt(self._job_name, self._item)

    @property
    def start_time(self) -> float:
        """When the attempt began, in epoch seconds."""
        return self._clock.time() - (self._clock.monotonic() - self._start_time)

    async def _settle(self, ended: Ended[Any]) -> Outcome:
        return self.told(await self._settled(ended))

    async def _settled(self, ended: Ended[Any]) -> Outcome:
        if isinstance(ended, Raised):
            ended = Raised(tame(ended.error))
        if self.control.reason == "lease lost":
            return await self._lost(ended.error if isinstance(ended, Raised) else None)
        try:
            if isinstance(ended, Returned):
                if self.keeps_result:
                    await self._keep("completed", value=ended.value)
                await self._complete()
                return self.outcome("completed", result=ended.value)
            return await self._settle_error(ended.error)
        except LeaseLost as error:
            return await self._lost(error)

    async def _settle_error(self, error: BaseException) -> Outcome:
        if isinstance(error, Expired):
            await self._keep("expired")
            await self._complete("expire")
            return self.outcome("expired")
        if isinstance(error, KeyboardInterrupt | SystemExit) and not self._door.exits_are_failures:
            self.error_to_raise = error
            # An interrupt comes from the operator; an exit comes from the job, perhaps every time.
            return await self._release(error, is_counted=isinstance(error, SystemExit))
        if self.control.reason == "call cancelled" and (
            isinstance(error, NotStarted) or self.control.has_cancelled("call cancelled")
        ):
            return await self._cancel(error)
        if isinstance(error, NotStarted) or self.control.has_cancelled("cancelled"):
            return await self._release(error)
        error = checked(error)
        verdict = self._judge(error)
        if isinstance(verdict, RetryLater):
            return await self._retry(verdict, error)
        return await self._bury(verdict, error)

    def _judge(self, error: BaseException) -> Verdict:
        now, hostname = self._clock.time(), socket.gethostname()
        in_place, item = self.envelope.in_place, kept_whole(self._item)
        if error is self._refusal:
            return Bury(with_error(item, error, now, hostname, _UNREADABLE), _UNREADABLE)
        try:
            retry_names = self._serializer().load_retry_names(self._item)
            return after_error(
                item,
                error,
                is_retriable=not retry_names.isdisjoint(_names.class_names(error)),
                now=now,
                draw=random.random,
                max_delay_seconds=longest_delay(self.queue),
                hides_early=self.queue.SUPPORTS_RELEASE_DELAY,
                is_last=in_place is not None and in_place.is_last,
                hostname=hostname,
                retry_names=retry_names,
            )
        except UnreadableItem as unreadable:
            if isinstance(error, UnreadableItem):
                return bury(item, error, now, hostname, _UNREADABLE)
            unreadable.__cause__ = error  # so that its traceback shows both
            return bury(item, unreadable, now, hostname, _UNREADABLE)

    async def _complete(self, *events: str) -> None:
        await self._door.finish(lambda: self.queue.complete(self.envelope))
        if self._instance.event_consumers:
            for event in (*events, "complete"):
                await self._emit(event)

    async def _keep(self, status: Ending, *, value: object = None, error: object = None) -> None:
        """Store how the call ends, if this is wanted: before its item is settled."""
        if not self.keeps_result:
            return
        kept = kept_result(self._instance, self._item, status, value, error, self.start_time)
        store = result_store(self._instance)
        if kept is None or store is None:
            return
        try:
            await self._door.finish(lambda: store.put([kept]))
        except ItemTooLarge as refusal:
            # It would be refused for ever, and the job would run again each time.
            small = kept_result(self._instance, self._item, status, TooLarge(refusal))
            if small is not None:
                await self._door.finish(lambda: store.put([small]))

    async def _cancel(self, error: BaseException) -> Outcome:
        await self._keep("cancelled")
        await self._door.finish(lambda: self.queue.complete(self.envelope))
        call_id = self._item.get("id")
        try:
            if isinstance(call_id, str):  # items of the Python 2 library may have none
                await self._door.wait(self.queue.note_cancelled(call_id))
        except BackendError as unnoted:
            _logger.warning(
                "%s was cancelled, but its handles cannot show that: %s", self.name, unnoted
            )
        for event in ("cancel", "complete"):
            await self._emit(event)
        return self.outcome("cancelled", error)

    async def _retry(self, verdict: RetryLater, error: BaseException) -> Outcome:
        in_place = self.envelope.in_place
        if in_place is not None and self._stays(in_place, verdict):
            await self._retry_in_place(in_place, verdict)
        else:
            await self._replace(verdict.item, self.queue)
        log_retry(self.name, self._job_name, self.outcome("retried", error), verdict.seconds)
        await self._emit("retry", verdict.item)
        await self._emit("complete")
        return self.outcome("retried", error)

    async def _bury(self, verdict: Bury, error: BaseException) -> Outcome:
        errors = self._instance.backend.error_queue
        item = shortened(verdict.item, errors.excess_bytes(verdict.item))
        if self._refusal is None:
            await self._keep("errored", error=item.get("error"))
        in_place = self.envelope.in_place
        if verdict.is_exhausted and in_place is not None and in_place.is_buried:
            await self._door.finish(lambda: self.queue.release(self.envelope))
            in_place.comes_back = True
        else:
            await self._replace(item, errors)
        try:
            log_failure(self.name, self._job_name, self.outcome("errored", error), verdict.reason)
        except (Exception, SystemExit) as second:
            # The text of a cause may raise an error that no log handler catches.
            kind = type(second).__name__
            _logger.error("%s failed for good; logging its error raised %s", self.name, kind)
        await self._emit("error", item)
        await self._emit("complete")
        return self.outcome("errored", error)

    async def _replace(self, item: Item, to: Queue) -> None:
        is_read = self._refusal is None
        # An item that must not be read stays unchanged: another consumer may have the key.
        kept = self._signed(item) if is_read else item
        await self._door.finish(
            lambda: self.queue.replace(self.envelope, kept, to, is_delayed=is_read)
        )

    def _stays(self, in_place: InPlace, verdict: RetryLater) -> bool:
        """Whether the item itself comes back, and no copy of it."""
        if self.envelope.order_key is not None:
            return True  # a copy would lose its place in the group
        end_time = self.queue.clock.monotonic() + verdict.seconds
        return self._is_counted(verdict) and end_time <= in_place.latest_time

    def _is_counted(self, verdict: RetryLater) -> bool:
        return bool(verdict.item["attempts"] > read_count(self._item, "attempts", 0))

    async def _retry_in_place(self, in_place: InPlace, verdict: RetryLater) -> None:
        seconds = verdict.seconds
        if in_place.may_rest and self._door.keeps_for(seconds):
            in_place.attempts += self._is_counted(verdict)
            in_place.rest_end_time = self.queue.clock.monotonic() + seconds
        else:
            await self._door.finish(lambda: self.queue.release(self.envelope, seconds))
            in_place.comes_back = True

    def _serializer(self) -> Serializer:
        return self._instance.protection.serializer_for(self._item)

    def _signed(self, item: Item) -> Item:
        return self._instance.protection.signed(item, self._instance.backend.group)

    async def _release(self, error: BaseException, is_counted: bool = False) -> Outcome:
        await self._door.finish(lambda: self.queue.release(self.envelope, is_counted=is_counted))
        await self._emit("release")
        return self.outcome("released", error)

    async def _lost(self, error: BaseException | None) -> Outcome:
        log_lost(self.name, self._job_name, self.outcome("lost", error))
        await self._emit("lease_lost")
        return self.outcome("lost", error)

    async def _interrupted(self, error: BaseException) -> Raised:
        if isinstance(error, Exception):
            # The broker refused the settlement: the lease ends, the item comes back.
            return Raised(error)
        returned = await value_of_awaited(self.give_back())
        return returned if isinstance(returned, Raised) else Raised(error)

    async def give_back(self) -> None:
        """Release the item if an interruption left it unsettled and this is still possible."""
        if self.envelope.settlement != "open":
            return
        try:
            await self._door.finish(lambda: self.queue.release(self.envelope))
        except BackendError as error:
            _logger.warning(
                "item %s could not be released and comes back after its lease: %s",
                id_text(self._item),
                error,
            )
            return
        await self._emit("release")

    async def _emit(self, event: str, item: Item | None = None) -> None:
        consumers = self._instance.event_consumers
        if consumers:
            lent = self._item if item is None else item
            await emit(self._door, consumers, event, lent, self.context)

    def told(self, outcome: Outcome) -> Outcome:
        """The outcome, once the middleware knows it."""
        middleware = self._instance.around
        if middleware is not None:
            for after in middleware.ends:
                ended = value_of(self.context.copy().run, after, outcome)
                try:
                    if isinstance(ended, Raised):
                        log_or_raise(self._door, after.__qualname__, ended.error)
                finally:
                    del ended  # an error's traceback holds this frame
        return outcome

    def outcome(
        self, status: OutcomeStatus, error: BaseException | None = None, result: Any = None
    ) -> Outcome:
        """An outcome of this attempt, as of now."""
        duration_seconds = self._clock.monotonic() - self._start_time
        return Outcome(self._item, status, error, result, duration_seconds)
