"""What happens to a message that was received.

Owns its way to an item: from S3 if its payload is there, or by the user's function if somebody else
wrote it. A message without a readable item goes to the error queue; one that stands for several
calls is replaced by them.

The one rule: a message leaves the queue only after everything that stands for it was pushed.
Whatever fails before that raises `ComesBack`, and SQS delivers the message once more.
"""

import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from deferrable._codec.json import dump
from deferrable.aio._contract.popping import Popped
from deferrable.aio.backend.sqs._arrivals import ComesBack
from deferrable.aio.backend.sqs._attributes import attributes_in
from deferrable.aio.backend.sqs._bodies import decode
from deferrable.aio.backend.sqs._held import MAX_LEASE_SECONDS, Delivery, delivery_of
from deferrable.aio.backend.sqs._pointers import reference_in, with_payload
from deferrable.aio.backend.sqs._queue_settings import QueueSettings
from deferrable.aio.backend.sqs._reading import (
    Source,
    as_it_was,
    buried_by_sqs,
    group_in,
    shown,
    unreadable,
)
from deferrable.aio.backend.sqs._receiving import Message
from deferrable.aio.backend.sqs._retries import RetryWay, crashes_counted, in_place
from deferrable.aio.backend.sqs._s3_store import S3Store
from deferrable.aio.backend.sqs._sending import Sender
from deferrable.aio.backend.sqs._settling import Settler
from deferrable.aio.clock import Clock
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Push, Queue
from deferrable.errors import BackendError, DeferrableError, UnreadableItem
from deferrable.item import CALL_FIELDS, Item

__all__ = ["MessageReader"]

_logger = logging.getLogger("deferrable")


class MessageReader:
    """Reads the messages of one queue.

    Args:
        sender: pushes the calls that stand for a message to the same queue.
        settler: completes that message.
        replace: pushes an item to another queue, then completes the message.
        errors: the queue for unreadable messages; None: this is an error queue.
        source: the queue whose errors these are; None: this is a main queue.
        keeps_groups: the items of one group are popped in their order.
    """

    def __init__(
        self,
        settings: QueueSettings,
        clock: Clock,
        sender: Sender,
        settler: Settler,
        replace: Callable[[Envelope, Push, Queue], Awaitable[None]],
        *,
        errors: Queue | None,
        source: Source | None,
        keeps_groups: bool,
    ) -> None:
        self._lease_seconds = settings.visibility_timeout
        self._max_receive_count = settings.max_receive_count
        self._large_items = settings.large_items
        self._foreign = settings.foreign
        self._retry: RetryWay = settings.retry
        self._clock = clock
        self._sender = sender
        self._settler = settler
        self._replace = replace
        self._errors = errors
        self._source = source
        self._keeps_groups = keeps_groups

    def envelope(self, message: Message, start_time: float) -> Envelope:
        """The envelope of a message.

        Args:
            start_time: a moment before which it was not handed over.
        """
        attributes = message.get("Attributes", {})
        receives = int(attributes.get("ApproximateReceiveCount", 1))
        latest_time = start_time + MAX_LEASE_SECONDS
        return Envelope(
            Delivery(message["ReceiptHandle"]),
            start_time,
            start_time + self._lease_seconds,
            redeliveries=crashes_counted(self._retry, receives),
            order_key=attributes.get("MessageGroupId") if self._keeps_groups else None,
            in_place=in_place(self._retry, receives, self._max_receive_count, latest_time),
        )

    def read(
        self, envelope: Envelope, message: Message
    ) -> Popped | Coroutine[Any, Any, Popped | None]:
        """The item in a message, or work that ends with it; see `Arrivals`."""
        message = self._restored(message)
        body = message.get("Body", "")
        if self._large_items is not None:
            reference = reference_in(body, is_foreign=self._foreign is not None)
            if reference is not None:
                return self._fetch(envelope, message, self._large_items, reference)
        try:
            items = self._items_in(message, body)
        except UnreadableItem as error:
            return self._put_aside(envelope, message, error)
        if len(items) == 1:
            return self._popped(envelope, items[0], message)
        return self._spread(envelope, message, items)

    async def _fetch(
        self, envelope: Envelope, message: Message, large_items: S3Store, reference: str
    ) -> Popped | None:
        body = message["Body"]
        try:
            text = await large_items.get(reference)
            if reference != body:  # it is wrapped
                text = with_payload(body, text)
            fetched = {**message, "Body": text}
            whole = self._restored(fetched)
            if whole is not fetched:  # if nobody can read it now either, this is what is kept
                message = whole
                delivery_of(envelope).reference = reference
            items = self._items_in(whole, whole["Body"])
        except UnreadableItem as error:
            return await self._put_aside(envelope, message, error)
        except BackendError as error:
            _logger.warning("%r comes back after its lease, unread: %s", envelope, error)
            raise ComesBack from error
        if reference == body:  # a notification has other subscribers, who may read it later
            delivery_of(envelope).reference = reference
        if len(items) == 1:
            return self._popped(envelope, items[0], message)
        return await self._spread(envelope, message, items)

    def _restored(self, message: Message) -> Message:
        """A message that held no item, as it was before the error queue had it."""
        return as_it_was(message) if self._source is None else message

    def _items_in(self, message: Message, text: str) -> list[Item]:
        """The items that `text` holds, or for which it stands. Only foreign ones may be several.

        Raises:
            UnreadableItem: there is none, and nobody knows what the text means.
        """
        foreign = self._foreign
        if foreign is None:
            return [decode(text)]
        if self._source is not None:  # nobody asks the user's function only to look at errors
            return [shown(text, message)]
        return foreign.items(message, text, self._clock.time())

    async def _spread(
        self, envelope: Envelope, message: Message, items: Sequence[Item]
    ) -> Popped | None:
        """Push the calls that stand for one message, then complete it.

        If one is not pushed, the message comes back, and the others may run twice.
        """
        outcomes = await self._sender.send([Push(item, dump(item), 0) for item in items])
        failure = next((each for each in outcomes if each is not None), None)
        if failure is None:
            (failure,) = await self._settler.complete([envelope])
        if failure is not None:
            _logger.warning(
                "%r stands for %d calls, and comes back after its lease: %s",
                envelope,
                len(items),
                failure,
            )
            raise ComesBack from failure
        return None

    def _popped(self, envelope: Envelope, item: Item, message: Message) -> Popped:
        """`item`, with an error if it was popped from an error queue and has none."""
        if self._source is not None:
            return envelope, buried_by_sqs(item, message, self._source, self._clock.time())
        if not item.keys() >= CALL_FIELDS:
            delivery = delivery_of(envelope)
            delivery.attributes, delivery.group_id = attributes_in(message), group_in(message)
        return envelope, item

    async def _put_aside(
        self, envelope: Envelope, message: Message, error: UnreadableItem
    ) -> Popped | None:
        """Bury a message that holds no item; one in an error queue stays there."""
        body = message.get("Body", "")
        item = unreadable(body, error, message, self._clock.time())
        if self._errors is None:
            return envelope, item
        message_id = message["MessageId"]
        _logger.error(
            "message %s is unreadable and goes to %r: %s", message_id, self._errors, error
        )
        try:
            await self._replace(envelope, Push(item, dump(item), 0), self._errors)
        except DeferrableError as failure:
            _logger.warning(
                "message %s is unreadable, and comes back after its lease: %s", message_id, failure
            )
            raise ComesBack from failure
        return None
