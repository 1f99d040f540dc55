"""Items in the error queue that this library did not bury.

Owns the item that stands for a message without a readable item, and its way back; and the error of
an item that SQS itself has moved there. It does no I/O.
"""

import socket
from collections.abc import Mapping
from typing import Any

from deferrable import lifecycle
from deferrable.aio.backend.sqs._attributes import attributes_in
from deferrable.aio.backend.sqs._bodies import decode, starts_with
from deferrable.errors import UnreadableItem
from deferrable.item import Item

__all__ = ["as_it_was", "buried_by_sqs", "is_put_aside", "unreadable"]

_RAW = '{"raw":'
_RAW_FIELDS = frozenset({"raw", "attributes", "error", "attempts", "last_push_time"})
"""Those of an item that stands for a message, in the error queue or requeued."""


def buried_by_sqs(
    item: Item, message: Mapping[str, Any], queue_name: str, max_receive_count: int, now: float
) -> Item:
    """`item`, popped from an error queue, with an error if it has none: SQS has moved it there.

    One that a redrive had moved back, and that SQS has moved here again, still has its old error.

    Args:
        queue_name: the queue of the message, if the message does not say it.
        max_receive_count: how often it was received without a settlement.
    """
    attributes = message.get("Attributes", {})
    if "error" in item and "DeadLetterQueueSourceArn" not in attributes:
        return item
    source = attributes.get("DeadLetterQueueSourceArn", queue_name).rpartition(":")[2]
    error = lifecycle.TooManyDeliveries(max_receive_count, max_receive_count - 1)
    record = lifecycle.error_record(error, _moved_time(attributes, now), socket.gethostname())
    record["error_text"] += f"; SQS moved it here from {source}"
    # The same at each reading, as readers of the error queue expect.
    record["id"] = message["MessageId"]
    return {**item, "error": record}


def unreadable(body: str, error: UnreadableItem, message: Mapping[str, Any], now: float) -> Item:
    """The item for the error queue for a message without an item: it holds the whole message.

    Args:
        body: its body.
    """
    whole: Item = {"raw": body}
    attributes = attributes_in(message)
    if attributes:
        whole["attributes"] = attributes
    item = lifecycle.bury(whole, error, now, socket.gethostname()).item
    item["error"]["id"] = message["MessageId"]
    return item


def is_put_aside(item: Item) -> bool:
    """Whether it is `unreadable`'s, still in the error queue."""
    return isinstance(item.get("raw"), str) and isinstance(item.get("error"), dict)


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
    return {**message, "Body": item["raw"], "MessageAttributes": kept}


def _stands_for_a_message(item: Item) -> bool:
    """Whether it is one of ours: other programs may have a field ``raw``, too."""
    is_ours = "last_push_time" in item or isinstance(item.get("error"), dict)
    return isinstance(item["raw"], str) and is_ours and item.keys() <= _RAW_FIELDS


def _moved_time(attributes: Mapping[str, Any], now: float) -> float:
    try:
        return int(attributes["ApproximateFirstReceiveTimestamp"]) / 1000
    except (KeyError, ValueError):
        return now
