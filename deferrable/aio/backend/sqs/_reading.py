"""Items in the error queue that this library did not bury.

Owns the item that stands for a message without a readable item, and its way back; and the error of
an item that SQS itself has moved there. It does no I/O.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deferrable import lifecycle
from deferrable._codec.json import dump
from deferrable._option_checks import is_group_id
from deferrable._texts import stands_for_text
from deferrable.aio._contract.entries import Push
from deferrable.aio.backend.sqs._attributes import attributes_in
from deferrable.aio.backend.sqs._bodies import decode, starts_with
from deferrable.aio.backend.sqs._retries import RetryWay, receives_without_end
from deferrable.errors import UnreadableItem
from deferrable.item import CALL_FIELDS, Item

__all__ = [
    "Source",
    "as_it_was",
    "buried_by_sqs",
    "group_in",
    "is_put_aside",
    "shown",
    "unreadable",
    "with_attributes",
]

_RAW = '{"raw":'


@dataclass(frozen=True, slots=True)
class Source:
    """The main queue whose errors are in an error queue, as its consumers use it.

    Attributes:
        retry: how its failed items come back.
        max_receive_count: of its redrive policy, as far as this process knows.
    """

    name: str
    retry: RetryWay
    max_receive_count: int


class TooManyDeliveries(lifecycle.TooManyDeliveries):
    """SQS has moved an item, and does not say why its receives did not complete it."""

    def __init__(self, queue_name: str, source: Source) -> None:
        causes = receives_without_end(source.retry, is_fifo=source.name.endswith(".fifo"))
        Exception.__init__(
            self,
            f"SQS moved it here from {queue_name} by its redrive policy (max_redeliveries, and one "
            f"more), after {source.max_receive_count} receives (max_receive_count) that did not "
            "complete it. "
            f"{causes}",
        )


def buried_by_sqs(item: Item, message: Mapping[str, Any], source: Source, now: float) -> Item:
    """`item`, popped from an error queue, with an error if it has none: SQS has moved it there.

    One that a redrive had moved back, and that SQS has moved here again, still has its old error.

    Args:
        source: the queue of the message, if the message does not name another one.
    """
    attributes = message.get("Attributes", {})
    if "error" in item and "DeadLetterQueueSourceArn" not in attributes:
        return item
    queue_name = attributes.get("DeadLetterQueueSourceArn", source.name).rpartition(":")[2]
    error = TooManyDeliveries(queue_name, source)
    record = lifecycle.error_record(error, _moved_time(attributes, now), socket.gethostname())
    # The same at each reading, as readers of the error queue expect.
    record["id"] = message["MessageId"]
    return {**item, "error": record}


def unreadable(body: str, error: UnreadableItem, message: Mapping[str, Any], now: float) -> Item:
    """The item for the error queue for a message without an item: it holds the whole message.

    Args:
        body: its body.
    """
    item = lifecycle.bury(_whole(body, message), error, now, socket.gethostname()).item
    item["error"]["id"] = message["MessageId"]
    return item


def shown(text: str, message: Mapping[str, Any]) -> Item:
    """What a reader of an error queue sees of a message that may be somebody else's.

    Args:
        text: its body, or what its body refers to.
    """
    try:
        item = decode(text)
    except UnreadableItem:
        return _whole(text, message)
    return item if item.keys() >= CALL_FIELDS or is_put_aside(item) else _whole(text, message)


def with_attributes(push: Push, attributes: Mapping[str, str], group_id: str | None) -> Push:
    """`push` with what its message had beside its body, if it has a message that held no call."""
    beside = _beside(attributes, group_id)
    if "raw" not in push.item or beside.keys() <= push.item.keys():
        return push
    item = {**push.item, **beside, **push.item}  # its first field stays ``raw``
    return Push(item, dump(item), push.delay_seconds)


def group_in(message: Mapping[str, Any]) -> str | None:
    """The group of a message; None: it has none."""
    group_id: str | None = message.get("Attributes", {}).get("MessageGroupId")
    return group_id


def _whole(body: str, message: Mapping[str, Any]) -> Item:
    return {"raw": body, **_beside(attributes_in(message), group_in(message))}


def _beside(attributes: Mapping[str, str], group_id: str | None) -> Item:
    fields: Item = {"attributes": {**attributes}} if attributes else {}
    return fields if group_id is None else {**fields, "message_group_id": group_id}


def is_put_aside(item: Item) -> bool:
    """Whether it is `unreadable`'s, still in the error queue."""
    return "error" in item and stands_for_text(item)


def as_it_was(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """`message` before the error queue had it: one that held no item.

    It was requeued, or moved back by SQS or by hand, which leaves its error there.
    """
    body = message.get("Body", "")
    if not starts_with(body, _RAW):
        return message
    try:
        item = decode(body)
    except UnreadableItem:
        return message
    if not _stands_for_a_message(item):
        return message
    attributes = item.get("attributes")
    if not isinstance(attributes, dict):
        attributes = {}
    kept = {name: {"StringValue": value} for name, value in attributes.items()}
    system = message.get("Attributes", {})
    if is_group_id(item.get("message_group_id")):  # a redrive leaves that of the error queue
        system = {**system, "MessageGroupId": item["message_group_id"]}
    return {**message, "Body": item["raw"], "MessageAttributes": kept, "Attributes": system}


def _stands_for_a_message(item: Item) -> bool:
    """Whether it is one of ours: other programs may have a field ``raw``, too."""
    return not item.keys().isdisjoint(("last_push_time", "error")) and stands_for_text(item)


def _moved_time(attributes: Mapping[str, Any], now: float) -> float:
    try:
        return int(attributes["ApproximateFirstReceiveTimestamp"]) / 1000
    except (KeyError, ValueError):
        return now
