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

_FIELDS: Mapping[str, tuple[type, str]] = {
    "messageId": (str, "a string"),
    "body": (str, "a string"),
    "attributes": (Mapping, "an object"),
    "eventSourceARN": (str, "a string"),
}
_DEFAULTS: Mapping[str, object] = {"attributes": {}, "eventSourceARN": ""}
_MISSING = object()


def messages_in(event: object, queue_name: str) -> Iterator[Message]:
    """The messages in an event of Lambda.

    Args:
        queue_name: of the queue from which they have to be.

    Raises:
        InvalidOptions: it is an event of something else, or of another queue, or a record has no
            message.
    """
    records = event.get("Records") if isinstance(event, Mapping) else None
    if not isinstance(records, list) or not all(map(_is_of_sqs, records)):
        raise InvalidOptions(
            "handle_sqs_event takes an event that SQS has caused, with a list of Records, got "
            f"{short_repr(event)}; is another trigger connected to this function?"
        )
    for index, record in enumerate(records):
        _check_fields(index, record)
        arn = record.get("eventSourceARN", "")
        name = arn.rpartition(":")[2]
        if name and name != queue_name:
            raise InvalidOptions(
                f"the event is of the queue {name!r}, and this instance's queue is {queue_name!r}; "
                "retries would go to another queue than the one that calls this function"
            )
    return map(_message, records)


def _is_of_sqs(record: object) -> bool:
    return isinstance(record, Mapping) and record.get("eventSource", "aws:sqs") == "aws:sqs"


def _check_fields(index: int, record: Mapping[str, Any]) -> None:
    """Refuse a record without what every message has, as in an event that was written by hand."""
    for name, (kind, expected) in _FIELDS.items():
        value = record.get(name, _DEFAULTS.get(name, _MISSING))
        if isinstance(value, kind):
            continue
        found = "which is missing" if value is _MISSING else f"got {short_repr(value)}"
        raise InvalidOptions(
            f"record {index} of the event of SQS (messageId: {short_repr(record.get('messageId'))})"
            f" needs {name!r}, {expected}, {found}; was this event written by hand?"
        )


def _message(record: Mapping[str, Any]) -> Message:
    return {
        "MessageId": record["messageId"],
        "ReceiptHandle": record.get("receiptHandle", ""),
        "Body": record["body"],
        "Attributes": record.get("attributes", {}),
        "MessageAttributes": record.get("messageAttributes", {}),
    }
