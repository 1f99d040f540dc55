"""Pointers to S3 objects in the form of Amazon's extended client libraries.

Owns the form: a JSON list of a Java class and of bucket and key. It does no I/O.

Source: awslabs/payload-offloading-java-common-lib-for-aws, PayloadS3Pointer;
awslabs/amazon-sqs-java-extended-client-lib, SQSExtendedClientConstants. Version 1 has another class
and another attribute for the size.
"""

import json
from typing import Any

from deferrable.aio.backend.sqs._attributes import SIZE_ATTRIBUTES
from deferrable.aio.backend.sqs._bodies import REFERENCE

__all__ = ["pointer_in", "pointer_to", "reference_in", "size_field", "with_payload"]

_CLASS = "software.amazon.payloadoffloading.PayloadS3Pointer"
_CLASSES = (_CLASS, "com.amazon.sqs.javamessaging.MessageS3Pointer")


def pointer_to(bucket: str, key: str) -> str:
    """The body of a message whose payload is in S3."""
    return json.dumps([_CLASS, {"s3BucketName": bucket, "s3Key": key}], separators=(",", ":"))


def size_field(body: str, payload: str) -> dict[str, Any]:
    """The fields of a batch entry whose body is a pointer; none for another body.

    Without them, the libraries take the pointer for a text.
    """
    if not body.startswith("["):
        return {}
    size = {"DataType": "Number", "StringValue": str(len(payload.encode()))}
    return {"MessageAttributes": {SIZE_ATTRIBUTES[0]: size}}


def pointer_in(text: str) -> tuple[str, str] | None:
    """The bucket and the key to which `text` points; None: it is no pointer."""
    if not text.startswith("["):
        return None
    value = _load(text)
    if not isinstance(value, list) or len(value) != 2 or value[0] not in _CLASSES:
        return None
    place = value[1] if isinstance(value[1], dict) else {}
    bucket, key = place.get("s3BucketName"), place.get("s3Key")
    return (bucket, key) if isinstance(bucket, str) and isinstance(key, str) else None


def reference_in(body: str, *, is_foreign: bool) -> str | None:
    """What a body says of an object that holds the real one; None: it is no reference.

    Args:
        is_foreign: a notification that SNS has wrapped in JSON may have one, too.
    """
    if body.startswith(REFERENCE) or (body.startswith("[") and pointer_in(body) is not None):
        return body
    if not is_foreign or not any(each in body for each in _CLASSES):
        return None
    value = _load(body)
    text = value.get("Message") if isinstance(value, dict) else None
    return text if isinstance(text, str) and pointer_in(text) is not None else None


def with_payload(body: str, payload: str) -> str:
    """The body of such a notification with its payload instead of the pointer."""
    return json.dumps({**json.loads(body), "Message": payload})


def _load(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
