"""The attributes that queues are created with.

Owns which of them the user may give, which of them the error queue has as well, and how a queue
that exists differs from them. It does no I/O.

The one rule: a queue that exists is never changed. Its owner has set what it has.

Source: SQS API reference, CreateQueue and GetQueueAttributes.
"""

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from deferrable._codec.refusals import kind_of
from deferrable.errors import InvalidOptions

__all__ = ["AttributeValue", "differences", "of_error_queue", "of_queue"]

AttributeValue: TypeAlias = str | int | bool | Mapping[str, Any]
"""As SQS writes it; or a number, a boolean, or a policy that is not JSON text yet."""

_OURS = {
    "FifoQueue": "end the name of the group in .fifo",
    "RedrivePolicy": "set max_receive_count=",
}
_OF_BOTH = frozenset(
    {
        "DeduplicationScope",
        "FifoThroughputLimit",
        "KmsDataKeyReusePeriodSeconds",
        "KmsMasterKeyId",
        "MaximumMessageSize",
        "SqsManagedSseEnabled",
    }
)
"""What protects jobs must protect their errors, too; and those hold whole jobs."""
_OF_ONE = frozenset(
    {
        "ContentBasedDeduplication",
        "DelaySeconds",
        "MessageRetentionPeriod",
        "Policy",
        "ReceiveMessageWaitTimeSeconds",
        "RedriveAllowPolicy",
        "VisibilityTimeout",
    }
)
_POLICIES = frozenset({"Policy", "RedriveAllowPolicy"})


def of_queue(given: Mapping[str, AttributeValue] | None) -> dict[str, str]:
    """The attributes of a main queue, as SQS takes them.

    Raises:
        InvalidOptions: one is unknown, or set by this library, or has no possible value.
    """
    return _read("queue_attributes", given)


def of_error_queue(
    given: Mapping[str, AttributeValue] | None, of_errors: Mapping[str, AttributeValue] | None
) -> dict[str, str]:
    """The attributes of its error queue: `of_errors`, and what both have.

    Raises:
        InvalidOptions: one is unknown, or set by this library, or has no possible value.
    """
    shared = {name: value for name, value in of_queue(given).items() if name in _OF_BOTH}
    return {**shared, **_read("error_queue_attributes", of_errors)}


def _read(option: str, given: Mapping[str, AttributeValue] | None) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InvalidOptions(
            f"{option} is a mapping of names such as KmsMasterKeyId, got {kind_of(given)}"
        )
    return {name: _text_of(option, name, value) for name, value in given.items()}


def _text_of(option: str, name: str, value: object) -> str:
    if name in _OURS:
        raise InvalidOptions(f"{option} has {name}, which this library sets; {_OURS[name]}")
    if name not in _OF_BOTH | _OF_ONE:
        known = ", ".join(sorted(_OF_BOTH | _OF_ONE))
        raise InvalidOptions(f"{option} has {name!r:.200}, which SQS does not have; use {known}")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping) and name in _POLICIES:
        return json.dumps(value)
    if isinstance(value, str | int):
        return str(value)
    raise InvalidOptions(
        f"{option} has {kind_of(value)} for {name}; write a text, a number or a boolean, or a "
        "mapping for a policy"
    )


def differences(wanted: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """How a queue with the attributes `found` differs from `wanted`, in words."""
    return [
        f"{name} is {found.get(name, 'not set')}, not {value}"
        for name, value in wanted.items()
        if not _are_equal(name, value, found.get(name))
    ]


def _are_equal(name: str, wanted: str, found: str | None) -> bool:
    if found is None or name not in _POLICIES:
        return wanted == found
    try:
        return bool(json.loads(wanted) == json.loads(found))
    except ValueError:
        return wanted == found
