"""Message attributes of SQS: those of a received message, and those of an item that is sent.

Owns their forms. An item has all of them as texts in its field ``attributes``, which decides what a
job reads; SQS also gets them with the message, for other readers and for filters. It does no I/O.

Limits. Source: SQS developer guide, "Message metadata"; API reference, MessageAttributeValue.
"""

import binascii
from collections.abc import Mapping
from typing import Any

from deferrable._option_checks import is_attribute
from deferrable.item import Item

__all__ = [
    "SIZE_ATTRIBUTES",
    "TRACE_HEADER",
    "attribute_bytes",
    "attributes_in",
    "notification_attributes",
    "sent_attributes",
]

TRACE_HEADER = "AWSTraceHeader"
"""The one attribute that SQS has for itself. It counts for no limit."""

SIZE_ATTRIBUTES = ("ExtendedPayloadSize", "SQSLargePayloadSize")
"""They say that the body is a pointer to S3, and mean nothing once the pointer was followed."""

_MOST = 9
"""SQS takes 10; one is left for the size of an item that is kept in S3."""


def attributes_in(message: Mapping[str, Any]) -> dict[str, str]:
    """The attributes of a message as SQS or Lambda gives it."""
    found = {
        name: _text_of(value)
        for name, value in (message.get("MessageAttributes") or {}).items()
        if isinstance(value, Mapping) and name not in SIZE_ATTRIBUTES
    }
    header = message.get("Attributes", {}).get(TRACE_HEADER)
    return found if header is None else {**found, TRACE_HEADER: header}


def notification_attributes(attributes: object) -> dict[str, str]:
    """The attributes of a notification by SNS that is wrapped in JSON."""
    if not isinstance(attributes, Mapping):
        return {}
    return {
        str(name): str(value.get("Value"))
        for name, value in attributes.items()
        if isinstance(value, Mapping) and name not in SIZE_ATTRIBUTES
    }


def _text_of(value: Mapping[str, Any]) -> str:
    # SQS and Lambda write the names differently. Lambda has base64 already.
    text = value.get("StringValue", value.get("stringValue"))
    if text is None:
        text = value.get("BinaryValue", value.get("binaryValue", ""))
    if isinstance(text, bytes):
        return binascii.b2a_base64(text, newline=False).decode("ascii")
    return str(text)


def sent_attributes(item: Item) -> dict[str, Any]:
    """The fields of a batch entry for the attributes of `item`.

    What SQS would refuse stays in the item only: a message with too many attributes, say a
    notification by SNS, must not fail each time it is retried.
    """
    attributes = item.get("attributes")
    if not isinstance(attributes, dict) or not attributes:
        return {}
    fields: dict[str, Any] = {}
    header = attributes.get(TRACE_HEADER)
    if isinstance(header, str) and is_attribute("any", header):
        fields["MessageSystemAttributes"] = {TRACE_HEADER: _string(header)}
    names = [name for name, value in attributes.items() if _is_sendable(name, value)][:_MOST]
    if names:
        fields["MessageAttributes"] = {name: _string(attributes[name]) for name in names}
    return fields


def attribute_bytes(entry: Mapping[str, Any]) -> int:
    """How many bytes of the limit of a message its attributes use."""
    attributes: Mapping[str, Any] = entry.get("MessageAttributes", {})
    return sum(
        len(name.encode()) + sum(len(each.encode()) for each in value.values())
        for name, value in attributes.items()
    )


def _string(value: str) -> dict[str, str]:
    return {"DataType": "String", "StringValue": value}


def _is_sendable(name: object, value: object) -> bool:
    return name not in (TRACE_HEADER, *SIZE_ATTRIBUTES) and is_attribute(name, value)
