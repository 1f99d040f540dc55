"""Messages that AWS Lambda has received.

Owns the shape of its event, how a record becomes a message as `ReceiveMessage` gives it, and how
long the reading of messages may take.
Source: Lambda developer guide, "Using Lambda with Amazon SQS".

The one rule: Lambda deletes what is not reported. So a delivery is done only after a completion,
and no request is sent about it.
"""

import asyncio
import re
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from deferrable._codec.refusals import short_repr
from deferrable.aio._contract.popping import Popped
from deferrable.aio.backend.sqs._arrivals import ComesBack, log_unread
from deferrable.aio.backend.sqs._receiving import Message
from deferrable.errors import InvalidOptions

__all__ = ["messages_in", "read_in_time"]

_MARGIN_SECONDS = 1.0
"""So long before the end of its time a function gives up what is not read yet, and answers."""
_READS_AT_ONCE = 10

_Reading: TypeAlias = Popped | Coroutine[Any, Any, Popped | None]

_FIELDS: Mapping[str, tuple[type, str]] = {
    "messageId": (str, "a string"),
    "body": (str, "a string"),
    "attributes": (Mapping, "an object"),
    "messageAttributes": (Mapping, "an object"),
    "eventSourceARN": (str, "a string"),
}
_RECEIVES = "ApproximateReceiveCount"
_RECEIVES_FORM = re.compile(r"[1-9]\d{0,8}", re.ASCII)
_SQS = "aws:sqs"
_DEFAULTS: Mapping[str, object] = {"attributes": {}, "messageAttributes": {}, "eventSourceARN": ""}
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
    if not isinstance(records, list) or not all(isinstance(each, Mapping) for each in records):
        raise InvalidOptions(
            "handle_sqs_event takes an event that SQS has caused, with a list of Records, got "
            f"{short_repr(event)}; is another trigger connected to this function?"
        )
    for number, record in enumerate(records, 1):
        _check_source(number, record)
        _check_fields(number, record)
        arn = record.get("eventSourceARN") or ""
        name = arn.rpartition(":")[2]
        if name and name != queue_name:
            raise InvalidOptions(
                f"the event is of the queue {name!r}, and this instance's queue is {queue_name!r}; "
                "retries would go to another queue than the one that calls this function"
            )
    return map(_message, records)


async def read_in_time(
    readings: Iterable[_Reading], seconds: float, *, is_ordered: bool
) -> list[Popped | None]:
    """What each reading ends with; None: no item, or it did not end in time.

    Args:
        seconds: for how long the messages are ours.
        is_ordered: one is read after the other.
    """
    read: list[Popped | None] = []
    turns = asyncio.Semaphore(1 if is_ordered else _READS_AT_ONCE)
    tasks: dict[int, asyncio.Task[Popped | None]] = {}
    for index, each in enumerate(readings):
        read.append(each if isinstance(each, tuple) else None)
        if not isinstance(each, tuple):
            tasks[index] = asyncio.create_task(_read_in_turn(turns, each))
    try:
        if tasks:
            await asyncio.wait(tasks.values(), timeout=max(0.0, seconds - _MARGIN_SECONDS))
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    for index, task in tasks.items():
        read[index] = _ended(task)
    return read


async def _read_in_turn(
    turns: asyncio.Semaphore, reading: Coroutine[Any, Any, Popped | None]
) -> Popped | None:
    try:
        async with turns:
            return await reading
    finally:
        reading.close()  # if it never began


def _ended(task: "asyncio.Task[Popped | None]") -> Popped | None:
    error = None if task.cancelled() else task.exception()
    if error is None:
        return None if task.cancelled() else task.result()
    if not isinstance(error, ComesBack):
        log_unread(error)
    return None


def _check_source(number: int, record: Mapping[str, Any]) -> None:
    """Refuse a record of another service. SNS writes the name of the field differently."""
    source = record.get("eventSource", record.get("EventSource", _SQS))
    if source != _SQS:
        raise InvalidOptions(
            f"handle_sqs_event takes an event that SQS has caused, and record {number} is of "
            f"{short_repr(source)}; let that service send to the queue, not call this function, "
            "and give the queue's factory foreign=, which says what its messages mean"
        )


def _check_fields(number: int, record: Mapping[str, Any]) -> None:
    """Refuse a record without what every message has, as in an event that was written by hand."""
    for name, (kind, expected) in _FIELDS.items():
        value = record.get(name, _DEFAULTS.get(name, _MISSING))
        if value is None and name in _DEFAULTS:
            continue  # other implementations of Lambda write null for an empty object
        if not isinstance(value, kind):
            raise _wrong_field(number, record, name, expected, value)
    attributes = record.get("attributes") or {}
    for name, value in attributes.items():
        if not isinstance(value, str | int):
            raise _wrong_field(number, record, f"attributes.{name}", "a string", value)
    receives = attributes.get(_RECEIVES, "1")
    if _RECEIVES_FORM.fullmatch(str(receives)) is None:
        expected = "a whole number from 1 in a string"
        raise _wrong_field(number, record, f"attributes.{_RECEIVES}", expected, receives)


def _wrong_field(
    number: int, record: Mapping[str, Any], name: str, expected: str, value: object
) -> InvalidOptions:
    found = "which is missing" if value is _MISSING else f"got {short_repr(value)}"
    return InvalidOptions(
        f"record {number} of the event of SQS (messageId: "
        f"{short_repr(record.get('messageId'))}) needs {name!r}, {expected}, {found}; was this "
        "event written by hand?"
    )


def _message(record: Mapping[str, Any]) -> Message:
    return {
        "MessageId": record["messageId"],
        "ReceiptHandle": record.get("receiptHandle", ""),
        "Body": record["body"],
        "Attributes": record.get("attributes") or {},
        "MessageAttributes": record.get("messageAttributes") or {},
    }
