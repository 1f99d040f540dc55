"""Messages that AWS Lambda has received.

Owns the shape of its event, and how a record becomes a message as `ReceiveMessage` gives it.
Source: Lambda developer guide, "Using Lambda with Amazon SQS".

The one rule: Lambda deletes what is not reported. So a delivery is done only after a completion,
and no request is sent about it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from deferrable._codec.refusals import short_repr
from deferrable.aio.backend.sqs._receiving import Message
from deferrable.errors import InvalidOptions

__all__ = ["messages_in"]


def messages_in(event: object, queue_name: str) -> Iterator[Message]:
    """The messages in an event of Lambda.

    Args:
        queue_name: of the queue from which they have to be.

    Raises:
        InvalidOptions: it is an event of something else, or of another queue.
    """
    records = event.get("Records") if isinstance(event, Mapping) else None
    if not isinstance(records, list) or not all(map(_is_record, records)):
        raise InvalidOptions(
            "handle_sqs_event takes an event that SQS has caused, with a list of Records, got "
            f"{short_repr(event)}; is another trigger connected to this function?"
        )
    for record in records:
        arn = record.get("eventSourceARN", "")
        name = arn.rpartition(":")[2]
        if name and name != queue_name:
            raise InvalidOptions(
                f"the event is of the queue {name!r}, and this instance's queue is {queue_name!r}; "
                "retries would go to another queue than the one that calls this function"
            )
    return map(_message, records)


def _is_record(record: object) -> bool:
    return (
        isinstance(record, Mapping)
        and record.get("eventSource", "aws:sqs") == "aws:sqs"
        and isinstance(record.get("messageId"), str)
        and isinstance(record.get("body"), str)
        and isinstance(record.get("attributes", {}), Mapping)
    )


def _message(record: Mapping[str, Any]) -> Message:
    return {
        "MessageId": record["messageId"],
        "ReceiptHandle": record.get("receiptHandle", ""),
        "Body": record["body"],
        "Attributes": record.get("attributes", {}),
        "MessageAttributes": record.get("messageAttributes", {}),
    }
