"""Items in the error queue that this library did not bury.

Owns the item that stands for a message without a readable item, and the error of an item that SQS
itself has moved there. It does no I/O.
"""

import socket
from collections.abc import Mapping
from typing import Any

from deferrable import lifecycle
from deferrable.errors import UnreadableItem
from deferrable.item import Item

__all__ = ["buried_by_sqs", "unreadable"]


def buried_by_sqs(
    item: Item, message: Mapping[str, Any], queue_name: str, max_receive_count: int, now: float
) -> Item:
    """`item`, popped from an error queue, with an error if it has none: SQS has moved it there.

    Args:
        queue_name: the queue of the message, if the message does not say it.
        max_receive_count: how often it was received without a settlement.
    """
    if "error" in item:
        return item
    attributes = message.get("Attributes", {})
    source = attributes.get("DeadLetterQueueSourceArn", queue_name).rpartition(":")[2]
    error = lifecycle.TooManyDeliveries(max_receive_count, max_receive_count - 1)
    record = lifecycle.error_record(error, _moved_time(attributes, now), socket.gethostname())
    record["error_text"] += f"; SQS moved it here from {source}"
    # The same at each reading, as readers of the error queue expect.
    record["id"] = message["MessageId"]
    return {**item, "error": record}


def unreadable(body: str, error: UnreadableItem, message_id: str, now: float) -> Item:
    """The item for the error queue for a message without an item: it holds the whole message."""
    item = lifecycle.bury({"raw": body}, error, now, socket.gethostname()).item
    item["error"]["id"] = message_id
    return item


def _moved_time(attributes: Mapping[str, Any], now: float) -> float:
    try:
        return int(attributes["ApproximateFirstReceiveTimestamp"]) / 1000
    except (KeyError, ValueError):
        return now
