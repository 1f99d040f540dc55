"""A queue in SQS.

Owns the parts of one queue, and which of them does what: `Sender` pushes, `Receiver` and `Arrivals`
bring messages, `MessageReader` turns them into items, `Settler` touches, completes and releases.

The one rule: what is decided about a message is decided in the part that owns it. This module only
connects them, and knows what concerns the whole queue: its flags, its counts and its end.

Limits. Source: SQS developer guide, message quotas; API reference, PurgeQueue.
"""

import math
from collections.abc import AsyncGenerator, Coroutine, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from deferrable._option_checks import is_group_id
from deferrable.aio._contract.handed import Handed
from deferrable.aio._contract.loops import PerLoop
from deferrable.aio._contract.popping import Popped
from deferrable.aio.backend.sqs._arrivals import Arrivals
from deferrable.aio.backend.sqs._batches import MAX_BATCH_BYTES, MAX_BATCH_SIZE, BatchEntry
from deferrable.aio.backend.sqs._errors import Refused, is_in
from deferrable.aio.backend.sqs._held import MAX_LEASE_SECONDS, Delivery, delivery_of
from deferrable.aio.backend.sqs._lambda import messages_in, read_in_time
from deferrable.aio.backend.sqs._messages import MessageReader
from deferrable.aio.backend.sqs._queue_settings import QueueSettings
from deferrable.aio.backend.sqs._reading import Source, with_attributes
from deferrable.aio.backend.sqs._receiving import Message, Receiver
from deferrable.aio.backend.sqs._remote import RemoteQueue
from deferrable.aio.backend.sqs._retries import receive_size
from deferrable.aio.backend.sqs._sending import Sender
from deferrable.aio.backend.sqs._settling import Settler
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Push, Queue, Release, Touch
from deferrable.errors import BackendError
from deferrable.item import Item, new_id

__all__ = ["SQSFifoQueue", "SQSQueue"]

_MOST_DELAY_SECONDS = 900
_COUNTS = {
    "available": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}
_PURGE_PAUSE_SECONDS = 60


class SQSQueue(Queue):
    """A producer and consumer of one queue in SQS. Made by `SQSBackendFactory`.

    Args:
        remote: sends the requests about it.
        errors: the queue for unreadable messages; None: this is an error queue.
        source: the queue whose errors these are; None: this is a main queue.
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
        source: Source | None = None,
    ) -> None:
        super().__init__(
            settings.visibility_timeout,
            max_lease_seconds=settings.max_lease_seconds,
            max_redeliveries=max(0, settings.max_receive_count - 1),
            clock=settings.clock,
        )
        self.READS_FOREIGN = settings.foreign is not None
        self._remote = remote
        self._source = source
        self._large_items = settings.large_items
        self._receive_size = receive_size(settings.retry, is_fifo=self.FIFO)
        self._receiver = Receiver(
            remote,
            settings.wait_seconds,
            settings.visibility_timeout,
            self.clock,
            None if errors is None else errors._remote,
            reads_foreign=self.READS_FOREIGN,
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
        self._settler = Settler(remote, self, settings.large_items, self.clock)
        self._reader = MessageReader(
            settings,
            self.clock,
            self._sender,
            self._settler,
            self._replace,
            errors=errors,
            source=source,
            keeps_groups=self.KEEPS_GROUPS_IN_ORDER,
        )
        self._arrivals = PerLoop(self._open_arrivals)
        self._flush_time: float | None = None
        remote.links.join(self)
        if self._large_items is not None:
            self._large_items.join(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._remote!r}>"

    @property
    def identity(self) -> Hashable:
        return self._remote.identity

    async def locate(self) -> Hashable:
        return await self._remote.locate()

    # Push.

    async def _push_batch(self, pushes: Sequence[Push]) -> Sequence[Exception | None]:
        return await self._sender.send(pushes)

    def _most_item_bytes(self) -> float:
        most = self._remote.most_bytes
        return self.MAX_ITEM_BYTES if most is None else min(most, self.MAX_ITEM_BYTES)

    def _travelling_bytes(self, text: str, *, is_new: bool) -> int:
        return self._sender.travelling_bytes(text, is_new=is_new)

    def _routing(self, push: Push) -> BatchEntry:
        """The fields of a batch entry, without its body."""
        # Always given: the queue may have its own default delay.
        entry: dict[str, object] = {"DelaySeconds": math.ceil(push.delay_seconds)}
        group_id = _group_in(push.item)
        if group_id is not None:
            entry["MessageGroupId"] = group_id
        return entry

    # Pop.

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
        start_time = self.clock.monotonic()
        messages = list(messages_in(event, self._remote.name))
        envelopes = [self._reader.envelope(message, start_time) for message in messages]
        for envelope in envelopes:
            envelope.lease_end_time = start_time + seconds
            delivery_of(envelope).is_handed_over = True
        readings = map(self._reader.read, envelopes, messages)
        popped = await read_in_time(readings, seconds, is_ordered=self.FIFO)
        return [
            Handed(
                message["MessageId"],
                each,
                partial(_is_done, delivery_of(envelope)),
                envelope.order_key,
            )
            for message, envelope, each in zip(messages, envelopes, popped, strict=True)
        ]

    def _read(
        self, message: Message, start_time: float
    ) -> Popped | Coroutine[Any, Any, Popped | None]:
        return self._reader.read(self._reader.envelope(message, start_time), message)

    # Touch and settlement.

    async def _touch_batch(self, touches: Sequence[Touch]) -> Sequence[Exception | None]:
        return await self._settler.touch(touches)

    async def _complete_batch(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        return await self._settler.complete(envelopes)

    async def _release_batch(self, releases: Sequence[Release]) -> Sequence[Exception | None]:
        return await self._settler.release(releases)

    async def _replace(self, envelope: Envelope, push: Push, to: Queue) -> None:
        delivery = delivery_of(envelope)
        whole = with_attributes(push, delivery.attributes, delivery.group_id)
        await super()._replace(envelope, whole, to)

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
        stats["jobs"] = jobs = max(self._sender.sent_count, self._settler.completed_count)
        if jobs:
            stats["requests_per_job"] = requests / jobs
        return stats

    async def _close(self) -> None:
        await self._arrivals.get().end()
        await self._arrivals.close()
        await self._remote.links.leave(self)
        if self._large_items is not None:
            await self._large_items.leave(self)


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
        group_id = _group_in(push.item)
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


def _group_in(item: Item) -> str | None:
    """The group of `item`; None: it has none that SQS would take.

    An option is checked, and an item of another program is not. With such a group each of its
    retries would be refused, and it could not even be buried.
    """
    group_id = item.get("message_group_id")
    return group_id if is_group_id(group_id) else None


def _is_done(delivery: Delivery) -> bool:
    return delivery.is_done
