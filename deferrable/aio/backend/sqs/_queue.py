"""A queue in SQS.

Owns what each verb of the contract does in SQS.

The one rule: a receipt handle is trusted only within the lease as this process counts it. SQS may
delete a message by an old handle.

Limits. Source: SQS developer guide, message quotas; API reference, ReceiveMessage, PurgeQueue.
"""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Coroutine, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from deferrable._codec.json import dump
from deferrable.aio._contract.handed import Handed
from deferrable.aio._contract.loops import PerLoop
from deferrable.aio._contract.popping import Popped
from deferrable.aio.backend.sqs._arrivals import Arrivals, ComesBack
from deferrable.aio.backend.sqs._batches import (
    MAX_BATCH_BYTES,
    MAX_BATCH_SIZE,
    BatchEntry,
    perform,
)
from deferrable.aio.backend.sqs._bodies import decode
from deferrable.aio.backend.sqs._errors import Refused, is_in, is_lost_handle
from deferrable.aio.backend.sqs._foreign import ForeignReader
from deferrable.aio.backend.sqs._held import (
    MAX_LEASE_SECONDS,
    Delivery,
    beyond_maximum,
    delivery_of,
    lost,
    rest_seconds,
    visibility_seconds,
    warn_of_maximum,
)
from deferrable.aio.backend.sqs._lambda import messages_in
from deferrable.aio.backend.sqs._pointers import reference_in, with_payload
from deferrable.aio.backend.sqs._reading import as_it_was, buried_by_sqs, unreadable
from deferrable.aio.backend.sqs._receiving import Message, Receiver
from deferrable.aio.backend.sqs._remote import RemoteQueue
from deferrable.aio.backend.sqs._retries import (
    RetryWay,
    crashes_counted,
    in_place,
    receive_size,
)
from deferrable.aio.backend.sqs._s3_store import S3Store
from deferrable.aio.backend.sqs._sending import Sender
from deferrable.aio.clock import Clock
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Push, Queue, Release, Touch
from deferrable.errors import BackendError, DeferrableError, UnreadableItem
from deferrable.item import Item, new_id

__all__ = ["QueueSettings", "SQSFifoQueue", "SQSQueue"]

_MOST_DELAY_SECONDS = 900
_COUNTS = {
    "available": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}
_PURGE_PAUSE_SECONDS = 60
_ERROR_WAIT_SECONDS = 1
"""Readers of an error queue do not want to wait at its end; with 0, SQS would not ask all of its
servers.
"""

_logger = logging.getLogger("deferrable")


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """The common part of the queues of one factory."""

    retry: RetryWay
    visibility_timeout: float
    wait_seconds: int
    max_receive_count: int
    max_lease_seconds: float
    compress_over_bytes: float
    offload_over_bytes: float
    large_items: S3Store | None
    clock: Clock | None
    foreign: ForeignReader | None = None


class SQSQueue(Queue):
    """A producer and consumer of one queue in SQS. Made by `SQSBackendFactory`.

    Args:
        remote: sends the requests about it.
        errors: the queue for unreadable messages; None: this is an error queue.
        source: the name of the queue whose errors these are; None: this is a main queue.
    """

    FIFO: ClassVar[bool] = False
    MAX_PUSH_BATCH_SIZE: ClassVar[int] = MAX_BATCH_SIZE
    MAX_POP_BATCH_SIZE: ClassVar[int] = MAX_BATCH_SIZE
    MAX_TOUCH_BATCH_SIZE: ClassVar[int] = MAX_BATCH_SIZE
    MAX_COMPLETE_BATCH_SIZE: ClassVar[int] = MAX_BATCH_SIZE
    MAX_RELEASE_BATCH_SIZE: ClassVar[int] = MAX_BATCH_SIZE
    BATCHES_AT_ONCE: ClassVar[int] = 5
    COUNTS_RELEASES: ClassVar[bool] = True
    POPS_AHEAD: ClassVar[int] = MAX_BATCH_SIZE
    COMPLETE_GATHER_SECONDS: ClassVar[float] = 0.05
    MAX_ITEM_BYTES: float = MAX_BATCH_BYTES
    KEEPS_GROUPS_IN_ORDER: ClassVar[bool] = False
    """The groups of a standard queue only share it fairly."""
    MAX_DELAY_SECONDS: ClassVar[float] = _MOST_DELAY_SECONDS

    def __init__(
        self,
        remote: RemoteQueue,
        settings: QueueSettings,
        *,
        errors: "SQSQueue | None" = None,
        source: str | None = None,
    ) -> None:
        super().__init__(
            settings.visibility_timeout,
            max_lease_seconds=settings.max_lease_seconds,
            max_redeliveries=max(0, settings.max_receive_count - 1),
            clock=settings.clock,
        )
        self.READS_FOREIGN = settings.foreign is not None
        self._remote = remote
        self._settings = settings
        self._errors = errors
        self._source = source
        self._retry: RetryWay = settings.retry if source is None else "behind"
        self._receive_size = receive_size(self._retry, is_fifo=self.FIFO)
        wait_seconds = settings.wait_seconds
        self._receiver = Receiver(
            remote,
            wait_seconds if source is None else min(wait_seconds, _ERROR_WAIT_SECONDS),
            settings.visibility_timeout,
            self.clock,
            None if errors is None else errors._remote,
            reads_foreign=settings.foreign is not None,
        )
        self._sender = Sender(
            remote,
            self._routing,
            self._most_item_bytes,
            self._too_large,
            settings.large_items,
            compress_over_bytes=settings.compress_over_bytes,
            offload_over_bytes=settings.offload_over_bytes,
        )
        self._arrivals = PerLoop(self._open_arrivals)
        self._pushed_count = self._completed_count = 0
        self._flush_time: float | None = None
        remote.links.join(self)
        if settings.large_items is not None:
            settings.large_items.join(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._remote!r}>"

    @property
    def identity(self) -> Hashable:
        return self._remote.identity

    async def locate(self) -> Hashable:
        return await self._remote.locate()

    # Push.

    async def _push_batch(self, pushes: Sequence[Push]) -> Sequence[Exception | None]:
        outcomes = await self._sender.send(pushes)
        self._pushed_count += outcomes.count(None)
        return outcomes

    def _most_item_bytes(self) -> float:
        most = self._remote.most_bytes
        return self.MAX_ITEM_BYTES if most is None else min(most, self.MAX_ITEM_BYTES)

    def _travelling_bytes(self, text: str, *, is_new: bool) -> int:
        return self._sender.travelling_bytes(text, is_new=is_new)

    def _routing(self, push: Push) -> BatchEntry:
        """The fields of a batch entry, without its body."""
        # Always given: the queue may have its own default delay.
        entry: dict[str, object] = {"DelaySeconds": math.ceil(push.delay_seconds)}
        group_id = push.item.get("message_group_id")
        if group_id is not None:
            entry["MessageGroupId"] = group_id
        return entry

    # Pop and touch.

    async def _open_arrivals(self) -> AsyncGenerator[Arrivals, None]:
        yield Arrivals(
            self._receiver.receive,
            self._read,
            self._return_unasked,
            self.clock,
            is_ordered=self.FIFO,
        )

    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        arrivals = self._arrivals.get()
        count = min(count, self._receive_size * self.BATCHES_AT_ONCE)
        return await arrivals.pop(count, self.BATCHES_AT_ONCE, self.longest_poll_seconds)

    def _interrupt_pop(self) -> None:
        self._receiver.end_waits()

    async def end_pops(self) -> None:
        self._receiver.end_waits()
        await self._arrivals.get().end()

    async def take_event(self, event: object, seconds: float) -> list[Handed]:
        start_time, taken = self.clock.monotonic(), []
        for message in messages_in(event, self._remote.name):
            envelope = self._envelope(message, start_time)
            envelope.lease_end_time = start_time + seconds
            delivery = delivery_of(envelope)
            delivery.is_handed_over = True
            read = self._read_body(envelope, message)
            popped = None
            with suppress(ComesBack):
                popped = read if isinstance(read, tuple) else await read
            is_done = partial(_is_done, delivery)
            taken.append(Handed(message["MessageId"], popped, is_done, envelope.order_key))
        return taken

    def _read(
        self, message: Message, start_time: float
    ) -> Popped | Coroutine[Any, Any, Popped | None]:
        return self._read_body(self._envelope(message, start_time), message)

    def _envelope(self, message: Message, start_time: float) -> Envelope:
        attributes = message.get("Attributes", {})
        receives = int(attributes.get("ApproximateReceiveCount", 1))
        most = self._settings.max_receive_count
        return Envelope(
            Delivery(message["ReceiptHandle"]),
            start_time,
            start_time + self.lease_seconds,
            redeliveries=crashes_counted(self._retry, receives),
            order_key=attributes.get("MessageGroupId") if self.KEEPS_GROUPS_IN_ORDER else None,
            in_place=in_place(self._retry, receives, most, start_time + MAX_LEASE_SECONDS),
        )

    def _read_body(
        self, envelope: Envelope, message: Message
    ) -> Popped | Coroutine[Any, Any, Popped | None]:
        message = self._restored(message)
        body = message.get("Body", "")
        if self._settings.large_items is not None:
            reference = reference_in(body, is_foreign=self._settings.foreign is not None)
            if reference is not None:
                return self._fetch(envelope, message, self._settings.large_items, reference)
        try:
            items = self._items_in(message, body)
        except UnreadableItem as error:
            return self._put_aside(envelope, message, error)
        if len(items) == 1:
            return envelope, self._explained(items[0], message)
        return self._spread(envelope, message, items)

    async def _fetch(
        self, envelope: Envelope, message: Message, large_items: S3Store, reference: str
    ) -> Popped | None:
        body = message["Body"]
        try:
            text = await large_items.get(reference)
            if reference != body:  # it is wrapped
                text = with_payload(body, text)
            whole = self._restored({**message, "Body": text})
            items = self._items_in(whole, whole["Body"])
        except UnreadableItem as error:
            return await self._put_aside(envelope, message, error)
        except BackendError as error:
            _logger.warning("%r comes back after its lease, unread: %s", envelope, error)
            raise ComesBack from error
        if reference == body:  # a notification has other subscribers, who may read it later
            delivery_of(envelope).reference = reference
        if len(items) == 1:
            return envelope, self._explained(items[0], message)
        return await self._spread(envelope, message, items)

    def _restored(self, message: Message) -> Message:
        """A message that held no item, as it was before the error queue had it."""
        is_main = self._source is None
        return as_it_was(message) if is_main and self._settings.foreign is not None else message

    def _items_in(self, message: Message, text: str) -> list[Item]:
        """The items that `text` holds, or for which it stands. Only foreign ones may be several.

        Raises:
            UnreadableItem: there is none, and nobody knows what the text means.
        """
        foreign = self._settings.foreign
        if foreign is None:
            return [decode(text)]
        return foreign.items(message, text, self.clock.time())

    async def _spread(
        self, envelope: Envelope, message: Message, items: Sequence[Item]
    ) -> Popped | None:
        """Push the calls that stand for one message, then complete it.

        If one is not pushed, the message comes back, and the others may run twice.
        """
        if self._errors is None:  # who reads errors gets the message whole
            several = UnreadableItem(f"the message stands for {len(items)} calls")
            return await self._put_aside(envelope, message, several)
        outcomes = await self._push_batch([Push(item, dump(item), 0) for item in items])
        failure = next((each for each in outcomes if each is not None), None)
        if failure is None:
            (failure,) = await self._complete_batch([envelope])
        if failure is not None:
            _logger.warning(
                "%r stands for %d calls, and comes back after its lease: %s",
                envelope,
                len(items),
                failure,
            )
            raise ComesBack from failure
        return None

    def _explained(self, item: Item, message: Message) -> Item:
        """`item`, with an error if it was popped from an error queue and has none."""
        if self._source is None:
            return item
        return buried_by_sqs(
            item, message, self._source, self._settings.max_receive_count, self.clock.time()
        )

    async def _put_aside(
        self, envelope: Envelope, message: Message, error: UnreadableItem
    ) -> Popped | None:
        """Bury a message that holds no item; one in an error queue stays there."""
        body = message.get("Body", "")
        item = unreadable(body, error, message, self.clock.time())
        if self._errors is None:
            return envelope, self._explained(item, message)
        await self._bury(envelope, item)
        return None

    async def _bury(self, envelope: Envelope, item: Item) -> None:
        assert self._errors is not None
        _logger.error("%r is unreadable and goes to %r", envelope, self._errors)
        try:
            await self._replace(envelope, Push(item, dump(item), 0), self._errors)
        except DeferrableError as error:
            _logger.warning("%r is unreadable, and comes back after its lease: %s", envelope, error)
            raise ComesBack from error

    async def _touch_batch(self, touches: Sequence[Touch]) -> Sequence[Exception | None]:
        now = self.clock.monotonic()
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
        return await self._perform_on("ChangeMessageVisibilityBatch", envelopes, entries)

    # Settlement.

    async def _complete_batch(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        entries = [{"ReceiptHandle": delivery_of(each).receipt_handle} for each in envelopes]
        outcomes = await self._perform_on(
            "DeleteMessageBatch", envelopes, entries, is_settlement=True
        )
        self._completed_count += outcomes.count(None)
        large_items = self._settings.large_items
        if large_items is not None:
            references = [
                delivery_of(envelope).reference
                for envelope, outcome in zip(envelopes, outcomes, strict=True)
                # Lambda may fail to delete what it handed over; then it is read once more.
                if outcome is None and not delivery_of(envelope).is_handed_over
            ]
            await asyncio.gather(
                *(large_items.delete(each) for each in references if each is not None)
            )
        return outcomes

    async def _release_batch(self, releases: Sequence[Release]) -> Sequence[Exception | None]:
        now = self.clock.monotonic()
        entries = [_visibility(each.envelope, each.delay_seconds, now) for each in releases]
        envelopes = [each.envelope for each in releases]
        return await self._perform_on(
            "ChangeMessageVisibilityBatch", envelopes, entries, is_settlement=True
        )

    async def _perform_on(
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
        now = self.clock.monotonic()
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
                return BackendError(f"{operation} on {self!r} failed for one item: {text}")
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

    # The rest.

    async def _flush(self) -> None:
        try:
            await self._remote.call("PurgeQueue")
        except Refused as error:
            if not is_in(error.code, ("purgequeueinprogress",)):
                raise
            raise BackendError(
                f"{self!r} was flushed less than {_PURGE_PAUSE_SECONDS} s ago, and SQS allows "
                f"one flush in that time; flush again {self._next_flush_text()}"
            ) from error
        self._flush_time = self.clock.monotonic()

    def _next_flush_text(self) -> str:
        if self._flush_time is None:
            return f"in {_PURGE_PAUSE_SECONDS} s"
        seconds = self._flush_time + _PURGE_PAUSE_SECONDS - self.clock.monotonic()
        return f"in {max(1, math.ceil(seconds))} s"

    async def _stats(self) -> Mapping[str, float]:
        answer, _ = await self._remote.call(
            "GetQueueAttributes", AttributeNames=list(_COUNTS.values())
        )
        attributes = answer.get("Attributes", {})
        stats: dict[str, float] = {
            key: int(attributes[name]) for key, name in _COUNTS.items() if name in attributes
        }
        stats["requests"] = requests = self._remote.request_count
        stats["jobs"] = jobs = max(self._pushed_count, self._completed_count)
        if jobs:
            stats["requests_per_job"] = requests / jobs
        return stats

    async def _close(self) -> None:
        await self._arrivals.get().end()
        await self._arrivals.close()
        await self._remote.links.leave(self)
        if self._settings.large_items is not None:
            await self._settings.large_items.leave(self)


class SQSFifoQueue(SQSQueue):
    """A queue whose name ends in ``.fifo``.

    Items are popped in the order in which they were pushed, group by group: while one is in flight,
    the rest of its group waits. A group is the option ``message_group_id`` of a job; without it
    there is one group for the whole queue. There are no delays; a release may have one.
    """

    FIFO: ClassVar[bool] = True
    SUPPORTS_DELAY: ClassVar[bool] = False
    RECLAIMS_TO_BACK_OF_QUEUE: ClassVar[bool] = False
    KEEPS_GROUPS_IN_ORDER: ClassVar[bool] = True
    SUPPORTS_DEDUPLICATION: ClassVar[bool] = True
    BATCHES_AT_ONCE: ClassVar[int] = 1
    MAX_DELAY_SECONDS: ClassVar[float] = MAX_LEASE_SECONDS

    def _routing(self, push: Push) -> BatchEntry:
        group_id = push.item.get("message_group_id")
        if self._source is not None:
            # Failed items have no order. A reader holds many, and could not see the others of
            # their groups.
            group_id = new_id()
        return {
            "MessageGroupId": self._remote.name if group_id is None else group_id,
            # One for each push, and the same for each resend of it: by the item's id, SQS would
            # drop every copy that is to be tried again.
            "MessageDeduplicationId": push.deduplication_id or new_id(),
        }


def _is_done(delivery: Delivery) -> bool:
    return delivery.is_done


def _hides(entry: BatchEntry) -> bool:
    """Whether it hides a message for some time: Lambda itself can only report it as failed."""
    return bool(entry.get("VisibilityTimeout"))


def _visibility(envelope: Envelope, seconds: float, now: float) -> BatchEntry:
    return {
        "ReceiptHandle": delivery_of(envelope).receipt_handle,
        "VisibilityTimeout": visibility_seconds(envelope, seconds, now),
    }
