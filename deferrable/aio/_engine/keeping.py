"""The text of a result: written by a consumer, read by those who wait for it.

Owns what a result holds, and how it is protected: serialized, signed and encrypted like an item. An
error travels as its type, text and traceback, never as a pickled exception.

The one rule: a text is checked before anything in it is decoded, and it must be of the call that it
was asked for.
"""

import logging
import math
from typing import Any, Literal, TypeAlias

from deferrable._codec.json import dump, load_item
from deferrable._codec.refusals import describe
from deferrable._durations import is_number
from deferrable._protection import EncryptedSerializer
from deferrable.aio._engine.instance import Instance
from deferrable.aio.results import KeptResult, ResultStore
from deferrable.errors import (
    JobFailed,
    SerializationError,
    UnreadableItem,
    UnserializableCall,
)
from deferrable.item import Item

__all__ = [
    "Ending",
    "TooLarge",
    "ending_in",
    "kept_result",
    "raise_failure",
    "result_store",
    "status_in",
    "value_in",
]

_logger = logging.getLogger("deferrable")

Ending: TypeAlias = Literal["completed", "errored", "expired", "cancelled"]


_CALL_FIELDS = (
    *("id", "group", "method", "object", "args", "kwargs", "serializer", "encrypted"),
    *("attempts", "first_push_time"),
)
"""The fields of an item that say what was called, and when."""


class TooLarge:
    """Stands for a value that the store has refused because of its size."""

    def __init__(self, refusal: Exception) -> None:
        self.refusal = refusal


def result_store(instance: Instance) -> ResultStore | None:
    """Where a consumer stores the results that its items ask for; None: nowhere."""
    store = instance.results
    if store is None and not instance.has_warned_of_results:
        instance.has_warned_of_results = True
        _logger.warning(
            "an item asks to keep the result of its call, and %r has no store; give this consumer "
            "the results= of its producers",
            instance,
        )
    return store


def keep_seconds(item: Item) -> float:
    """How long the result of an item's call is kept; 0: not at all."""
    seconds = item.get("keep_results_seconds")
    return seconds if is_number(seconds) and 0 < seconds < math.inf else 0.0


def kept_result(
    instance: Instance,
    item: Item,
    status: Ending,
    value: object = None,
    error: object = None,
    start_time: float | None = None,
) -> KeptResult | None:
    """What to store of a call that has ended; None: nothing.

    Args:
        value: what a completed job returned.
        error: the ``error`` of an item that goes to the error queue.
        start_time: when its last attempt began; None: it did not begin.
    """
    seconds, call_id = keep_seconds(item), item.get("id")
    if not seconds or not isinstance(call_id, str):
        return None
    serializer = instance.serializer
    record: Item = {"id": call_id, "status": status, "time": instance.clock.time()}
    record |= _marks(instance)
    if item.get("keep_call") and not isinstance(value, TooLarge):
        record["call"] = {name: item[name] for name in _CALL_FIELDS if name in item}
        record["start_time"] = start_time
    if status == "completed":
        try:
            if isinstance(value, TooLarge):
                record["unserializable"] = describe(value.refusal)
            else:
                record["value"] = serializer.dump_value(value)
        except UnserializableCall as refusal:
            record["unserializable"] = str(refusal)
    elif isinstance(error, dict):
        record["error"] = {
            name: error.get(name) for name in ("error_type", "error_text", "traceback")
        }
    try:
        text = dump(instance.protection.signed(record, instance.backend.group))
    except SerializationError as refusal:
        record.pop("value", None)
        record.pop("call", None)
        record["unserializable"] = describe(refusal)
        text = dump(instance.protection.signed(record, instance.backend.group))
    return KeptResult(call_id, text, seconds)


def _marks(instance: Instance) -> Item:
    """The fields by which a reader knows the serializer, as in an item."""
    serializer = instance.serializer
    marks: Item = {} if serializer.name == "classic" else {"serializer": serializer.name}
    return {**marks, "encrypted": True} if isinstance(serializer, EncryptedSerializer) else marks


def read(instance: Instance, call_id: str, text: str) -> Item:
    """A result that may be trusted.

    Raises:
        UnreadableItem: it is damaged, not signed, or of another call.
    """
    record = load_item(text)
    instance.protection.check(record, instance.backend.group)
    if record.get("id") != call_id or "status" not in record:
        raise UnreadableItem(f"what is stored as the result of call {call_id} is not its result")
    return record


def status_in(instance: Instance, call_id: str, text: str) -> Ending:
    """How a call ended, as its result says."""
    status: Ending = read(instance, call_id, text)["status"]
    return status


def ending_in(instance: Instance, call_id: str, text: str) -> Item:
    """What is stored of the end of a call, with a decoded ``value`` if its job returned one.

    Raises:
        UnreadableItem: see `read`; or the value cannot be decoded.
    """
    record = read(instance, call_id, text)
    if "value" in record:
        value = instance.protection.serializer_for(record).load_value(record["value"])
        return {**record, "value": value}
    return record


def value_in(instance: Instance, call_id: str, text: str) -> Any:
    """What a job returned.

    Raises:
        JobFailed: it raised an error, expired, or was cancelled.
        UnreadableItem: see `read`; or the value cannot be decoded.
        SerializationError: the job returned something that cannot be sent.
    """
    record = read(instance, call_id, text)
    if record["status"] != "completed":
        raise_failure(call_id, record["status"], record.get("error"))
    if "unserializable" in record:
        raise SerializationError(
            f"call {call_id} is completed, but what its job returned cannot be sent: "
            f"{record['unserializable']}"
        )
    return instance.protection.serializer_for(record).load_value(record.get("value"))


def raise_failure(call_id: str, status: Ending, error: object) -> None:
    """Raise what the result of a failed call is.

    Args:
        error: the fields of its error, if it has one.
    """
    fields = error if isinstance(error, dict) else {}
    raise JobFailed(
        call_id,
        status,
        str(fields.get("error_type") or ""),
        str(fields.get("error_text") or ""),
        str(fields.get("traceback") or ""),
    )
