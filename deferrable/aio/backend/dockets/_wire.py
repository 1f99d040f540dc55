"""The texts and keys of a Dockets queue.

Owns the names of the keys and the texts of envelopes and of entries of the errors hash. It does no
I/O and reads no clock.

The one rule: the text of an item stays byte for byte as its producer wrote it. Decoding and
encoding it again would change floats, big integers, the order of fields, and so signatures.

Source: the layout is that of Dockets 0.4.2, which runs on Python 2 and may share the Redis.
"""

import base64
import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from deferrable._codec.json import dump, load
from deferrable._durations import is_number
from deferrable.aio._contract.uniqueness import unique_key_of
from deferrable.errors import UnreadableItem
from deferrable.item import Item

__all__ = [
    "GAP",
    "TRUSTED_SECONDS",
    "Entry",
    "Key",
    "Keys",
    "delivery_in",
    "envelope_around",
    "error_item",
    "error_record",
    "key_in",
    "push_time_in",
]


TRUSTED_SECONDS = 1.0
"""For so long after it was seen, the holder of a unique key is not looked for."""


class Key(NamedTuple):
    """A unique key, and the id of the item that names it."""

    text: str
    item_id: str


GAP: Final = (
    b'{"gap":1,"first_ts":0,"ts":0,"item":{"id":"gap","method":"N.","args":"(t.","kwargs":"(t.",'
    b'"error_classes":"N.","group":null,"attempts":0,"max_attempts":1,"metadata":{},'
    b'"ttl_seconds":1,"item_queued_timestamp":0},"v":1,"ttl":null,"attempts":0,'
    b'"max_attempts":3,"error_classes":"N."}'
)
"""What stands in the queue where an item was cancelled that was far from both ends. Consumers
remove it. To one of the Python 2 library it is an item whose ttl has passed. The scripts have it,
too."""


class Keys:
    """The Redis keys of one queue."""

    def __init__(self, name: str) -> None:
        self.queue = f"queue.{name}"
        self.delayed = f"{self.queue}.delayed"
        self.payload = f"{self.queue}.payload"
        self.workers = f"{self.queue}.workers"
        self.errors = f"{self.queue}.errors"
        self.error_leases = f"{self.queue}.errors.leases"
        self.unique = f"{self.queue}.unique"
        self.paused = f"{self.queue}.paused"
        self.gaps = f"{self.queue}.gaps"
        self.reports = f"{self.queue}.reports"
        self.report_times = f"{self.queue}.reports.times"

    def working(self, consumer_id: str) -> str:
        """The list of a consumer's items in flight."""
        return f"{self.queue}.{consumer_id}.working"

    def cancelled(self, item_id: str) -> str:
        """The mark of an item that was cancelled; it ends by itself."""
        return f"{self.queue}.cancelled.{item_id}"

    def stops(self, consumer_id: str) -> str:
        """Digests of a consumer's entries whose jobs are to be stopped; it ends by itself."""
        return f"{self.queue}.{consumer_id}.stops"

    def active(self, consumer_id: str) -> str:
        """The heartbeat of a consumer."""
        return f"{self.queue}.{consumer_id}.active"


def envelope_around(now: float) -> tuple[str, str]:
    """The text before and after an item in its envelope when it is pushed.

    ``N.`` is Python 2's pickle of None.
    """
    moment = repr(now)
    return (
        f'{{"first_ts":{moment},"ts":{moment},"item":',
        ',"v":1,"ttl":null,"attempts":0,"max_attempts":3,"error_classes":"N."}',
    )


def delivery_in(raw: bytes) -> tuple[Item, int]:
    """The item in an envelope, and how many deliveries of it ended without settlement.

    Nothing else of the envelope than the item needs to be there.

    Raises:
        UnreadableItem: there is none.
    """
    envelope = load(raw)
    item = envelope.get("item") if isinstance(envelope, dict) else None
    if not isinstance(item, dict):
        raise UnreadableItem(f"{len(raw)} bytes are JSON, but not an object with an object `item`")
    attempts = envelope.get("attempts")
    return item, attempts if isinstance(attempts, int) else 0


def key_in(raw: bytes) -> Key | None:
    """The unique key of an entry."""
    if b'"unique_key"' not in raw:
        return None
    try:
        item, _ = delivery_in(raw)
    except UnreadableItem:
        return None
    key = unique_key_of(item)
    return None if key is None else Key(key, item["id"])


def push_time_in(raw: bytes) -> float | None:
    """When the item of an envelope was pushed; None: unknown."""
    try:
        envelope = load(raw)
    except UnreadableItem:
        return None
    if isinstance(envelope, dict):
        for name in ("first_ts", "ts"):
            moment = envelope.get(name)
            if is_number(moment):
                return moment
    return None


@dataclass(frozen=True)
class Entry:
    """An envelope, each of its fields in its original text.

    Attributes:
        fields: the field's name -> its text.
        attempts: how often a delivery of it ended without settlement.
    """

    fields: dict[str, str]
    attempts: int

    @classmethod
    def read(cls, raw: bytes) -> "Entry":
        """The entry that `raw` is.

        Raises:
            UnreadableItem: it is no JSON object, or has no object ``item``.
        """
        try:
            fields, values = _split_object(raw.decode())
        except (ValueError, RecursionError, IndexError) as error:
            raise UnreadableItem(f"{len(raw)} bytes are not a JSON object: {error}") from error
        if not isinstance(values.get("item"), dict):
            raise UnreadableItem(f"an envelope of {len(raw)} bytes has no object `item`")
        attempts = values.get("attempts")
        return cls(fields, attempts if isinstance(attempts, int) else 0)

    def redelivered(self, now: float) -> "Entry":
        """The envelope, with one more delivery that ended without settlement."""
        attempts = self.attempts + 1
        changed = {"attempts": str(attempts), "ts": repr(now)}
        return replace(self, fields={**self.fields, **changed}, attempts=attempts)

    def text(self) -> str:
        return _join_object(self.fields)

    def item_text_with(self, error: Item) -> str:
        """The text of the item for the errors hash: unchanged, with its ``error``."""
        fields, _ = _split_object(self.fields["item"])
        return _join_object({**fields, "error": dump(error)})


def error_record(error_type: str, error_text: str, now: float, error_id: str) -> Item:
    """The ``error`` field of an item that went to the errors hash without having failed."""
    return {
        "error_type": error_type,
        "error_text": error_text,
        "traceback": "",
        "hostname": socket.gethostname(),
        "ts": now,
        "id": error_id,
    }


def error_item(raw: bytes, error_text: str, now: float, error_id: str) -> str:
    """The text for the errors hash of something unreadable: its bytes and an ``error``."""
    error = error_record("UnreadableItem", error_text, now, error_id)
    try:
        kept = {"raw": raw.decode()}
    except UnicodeDecodeError:
        kept = {"raw_base64": base64.b64encode(raw).decode()}
    return dump({**kept, "error": error})


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse)


_blank = re.compile(r"[ \t\n\r]*")


def _split_object(text: str) -> tuple[dict[str, str], dict[str, Any]]:
    """The fields of a JSON object, as texts and as values.

    Raises:
        ValueError, IndexError: it is no JSON object.
    """
    texts: dict[str, str] = {}
    values: dict[str, Any] = {}
    index = _after("{", text, _skip_blank(text, 0))
    while text[index] != "}":
        if texts:
            index = _after(",", text, index)
        if text[index] != '"':
            raise ValueError(f"a field's name is missing at character {index}")
        name, index = _decoder.raw_decode(text, index)
        start = _after(":", text, _skip_blank(text, index))
        values[name], index = _decoder.raw_decode(text, start)
        texts[name] = text[start:index]
        index = _skip_blank(text, index)
    if _skip_blank(text, index + 1) != len(text):
        raise ValueError(f"there is more after the object, at character {index + 1}")
    return texts, values


def _skip_blank(text: str, index: int) -> int:
    match = _blank.match(text, index)
    return index if match is None else match.end()


def _after(mark: str, text: str, index: int) -> int:
    if text[index] != mark:
        raise ValueError(f"{mark!r} is missing at character {index}")
    return _skip_blank(text, index + 1)


def _join_object(texts: Mapping[str, str]) -> str:
    return "{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in texts.items()) + "}"
