"""How the messages that this process holds are kept, given back and completed.

Owns the requests about them: which are sent at all, and what it means that one was refused.

The one rule: a receipt handle is trusted only within the lease as this process counts it. SQS may
delete a message by an old handle.
"""

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import Future

from deferrable.aio.backend.sqs._batches import BatchEntry, perform
from deferrable.aio.backend.sqs._errors import is_lost_handle
from deferrable.aio.backend.sqs._held import (
    beyond_maximum,
    delivery_of,
    lost,
    rest_seconds,
    visibility_seconds,
    warn_of_maximum,
)
from deferrable.aio.backend.sqs._remote import RemoteQueue
from deferrable.aio.backend.sqs._s3_store import S3Store
from deferrable.aio.clock import Clock
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Queue, Release, Touch
from deferrable.errors import BackendError

__all__ = ["Settler"]

_LONGEST_TOUCH_SECONDS = 5.0
"""A release waits no longer for the answer to a touch."""


class Settler:
    """Settles what was popped from one queue.

    Args:
        remote: the queue in SQS.
        queue: the same, as errors name it.
        large_items: where the payloads of some messages are; None: they are all in the messages.

    Attributes:
        completed_count: how many messages were completed.
    """

    def __init__(
        self, remote: RemoteQueue, queue: Queue, large_items: S3Store | None, clock: Clock
    ) -> None:
        self._remote = remote
        self._queue = queue
        self._large_items = large_items
        self._clock = clock
        self.completed_count = 0

    async def touch(self, touches: Sequence[Touch]) -> list[Exception | None]:
        """Hide their messages for longer; None, or why it was not done, for each in their order."""
        touching: Future[None] = Future()
        touching.set_running_or_notify_cancel()  # so that nobody who waits for it cancels it
        for touch in touches:
            delivery_of(touch.envelope).touching = touching
        try:
            return await self._touch(touches)
        finally:
            touching.set_result(None)

    async def _touch(self, touches: Sequence[Touch]) -> list[Exception | None]:
        now = self._clock.monotonic()
        entries: list[BatchEntry | Exception] = []
        for touch in touches:
            envelope = touch.envelope
            warn_of_maximum(envelope, now)
            # SQS counts from now, and would move the end of a lease back.
            seconds = max(touch.seconds, envelope.lease_end_time - now)
            if seconds >= rest_seconds(envelope, now) + 1:
                entries.append(beyond_maximum(envelope, touch.seconds))
            else:
                entries.append(_visibility(envelope, seconds, now))
        envelopes = [touch.envelope for touch in touches]
        return await self._perform("ChangeMessageVisibilityBatch", envelopes, entries)

    async def complete(self, envelopes: Sequence[Envelope]) -> list[Exception | None]:
        """Delete their messages, and then what they keep in S3; outcomes as of `touch`."""
        entries = [{"ReceiptHandle": delivery_of(each).receipt_handle} for each in envelopes]
        outcomes = await self._perform("DeleteMessageBatch", envelopes, entries, is_settlement=True)
        self.completed_count += outcomes.count(None)
        if self._large_items is not None:
            completed = zip(envelopes, outcomes, strict=True)
            await self._delete_payloads(
                self._large_items, [each for each, outcome in completed if outcome is None]
            )
        return outcomes

    async def _delete_payloads(self, large_items: S3Store, completed: Iterable[Envelope]) -> None:
        references = [
            delivery.reference
            for delivery in map(delivery_of, completed)
            # Lambda may fail to delete what it handed over; then it is read once more.
            if delivery.reference is not None and not delivery.is_handed_over
        ]
        await asyncio.gather(*(large_items.delete(each) for each in references))

    async def release(self, releases: Sequence[Release]) -> list[Exception | None]:
        """Hide their messages for their delay only; outcomes as of `touch`.

        A touch that SQS gets after a release would replace its delay. So a touch that is under way
        ends first, unless it takes so long that the lease might end.
        """
        await self._wait_for_touches([each.envelope for each in releases if each.delay_seconds])
        now = self._clock.monotonic()
        entries = [_visibility(each.envelope, each.delay_seconds, now) for each in releases]
        envelopes = [each.envelope for each in releases]
        return await self._perform(
            "ChangeMessageVisibilityBatch", envelopes, entries, is_settlement=True
        )

    async def _wait_for_touches(self, envelopes: Sequence[Envelope]) -> None:
        touches = {delivery_of(each).touching for each in envelopes}
        waiting = [asyncio.wrap_future(each) for each in touches if each and not each.done()]
        if waiting:
            end_time = min(each.lease_end_time for each in envelopes)
            seconds = max(0.0, end_time - self._clock.monotonic()) / 2
            await asyncio.wait(waiting, timeout=min(_LONGEST_TOUCH_SECONDS, seconds))

    async def _perform(
        self,
        operation: str,
        envelopes: Sequence[Envelope],
        entries: Sequence[BatchEntry | Exception],
        *,
        is_settlement: bool = False,
    ) -> list[Exception | None]:
        """Send a batch about messages that are still ours, as far as this process knows.

        Args:
            entries: for each envelope, or why it is not sent.
        """
        now = self._clock.monotonic()
        outcomes: list[Exception | None] = [None] * len(envelopes)
        sent: dict[int, BatchEntry] = {}
        for index, (envelope, entry) in enumerate(zip(envelopes, entries, strict=True)):
            if isinstance(entry, Exception):
                outcomes[index] = entry
            elif now > envelope.lease_end_time:
                outcomes[index] = lost(envelope, "its lease ended before SQS got the request")
            elif delivery_of(envelope).is_handed_over and not _hides(entry):
                if operation == "DeleteMessageBatch":
                    delivery_of(envelope).is_done = True
            else:
                sent[index] = entry
        indexes = list(sent)

        def judge(position: int, code: str, text: str, is_repeat: bool) -> Exception | None:
            if not is_lost_handle(code):
                return BackendError(f"{operation} on {self._queue!r} failed for one item: {text}")
            if is_repeat and is_settlement:
                # Its lease lasts, so nobody else had it: the first try has settled it.
                return None
            return lost(envelopes[indexes[position]], text)

        results = await perform(
            self._remote, operation, list(sent.values()), [0] * len(sent), judge
        )
        for index, result in zip(indexes, results, strict=True):
            outcomes[index] = result
        return outcomes


def _hides(entry: BatchEntry) -> bool:
    """Whether it hides a message for some time: Lambda itself can only report it as failed."""
    return bool(entry.get("VisibilityTimeout"))


def _visibility(envelope: Envelope, seconds: float, now: float) -> BatchEntry:
    return {
        "ReceiptHandle": delivery_of(envelope).receipt_handle,
        "VisibilityTimeout": visibility_seconds(envelope, seconds, now),
    }
