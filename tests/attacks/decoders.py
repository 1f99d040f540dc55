"""Everything that is decoded: the table of decoders, and what each must keep to.

Owns how bytes from anywhere reach each decoder, good examples to begin from, and which errors it
may raise. A new decoder is a line in `DECODERS`. It may not know how the bytes are made.
"""

import base64
import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deferrable import _classic, lifecycle, pickling
from deferrable._inert import load_class_names, load_reference, read_inert
from deferrable._json import dump, load_item
from deferrable.aio.backend._dockets_moves import as_redelivery, as_unreadable
from deferrable.aio.backend._dockets_wire import Entry, error_item, item_in
from deferrable.aio.envelope import Envelope
from deferrable.aio.error_items import ErrorItem
from deferrable.errors import UnreadableItem
from deferrable.item import copy_item
from deferrable.serialization import ClassicSerializer, PickleSerializer, serializer_for
from deferrable.ttl import is_expired

__all__ = ["DECODERS", "Decoder"]


@dataclass(frozen=True)
class Decoder:
    """One thing that is decoded.

    Attributes:
        decode: takes bytes; raises nothing but `UnreadableItem`.
        examples: of what it takes, to be spoilt.
        may_unpickle: it makes objects, as its documentation says; else no code may run.
    """

    decode: Callable[[bytes], object]
    examples: tuple[bytes, ...]
    may_unpickle: bool = False


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


# What travels.


def _item(data: bytes) -> None:
    item = load_item(data)
    assert load_item(dump(item)) == item  # what was read can be written, as it was
    copy_item(item)


def _envelope(data: bytes) -> None:
    dump(item_in(data))


def _entry(data: bytes) -> None:
    entry = Entry.read(data).redelivered(1.5)
    again = Entry.read(entry.text().encode())
    assert again.attempts == entry.attempts
    assert again.fields["item"] == entry.fields["item"]  # byte for byte
    load_item(entry.item_text_with({"id": "1"}))


def _moves(data: bytes) -> None:
    for most in (-1, 10**6):
        move = as_redelivery(data, 1.5, most)
        text = move.text if isinstance(move.text, str) else move.text.decode()
        if move.where == "errors":
            assert load_item(text)["error"]["id"] == move.key
    assert load_item(as_unreadable(data, UnreadableItem("why"), 1.5).text)
    assert load_item(error_item(data, "why", 1.5, "1"))


# What an item says, before anything of it is run.


def _fields(data: bytes) -> None:
    item = load_item(data)
    for look in (_name, _retries, _due, _expiry, _failed):
        try:
            look(item)
        except UnreadableItem:
            continue
    assert dump(lifecycle.bury(item, ValueError(), 1.5, "host").item)
    assert dump(lifecycle.requeued(item, 1.5))
    pickling.pretty_unpickle(item)
    entry = ErrorItem(None, None, Envelope(None, 0.0, 0.0), item)  # type: ignore[arg-type]
    assert repr(entry)
    assert entry.error is not None


def _name(item: Mapping[str, Any]) -> None:
    serializer_for(item).load_name(item)


def _retries(item: Mapping[str, Any]) -> None:
    serializer_for(item).load_retry_names(item)


def _due(item: dict[str, Any]) -> None:
    lifecycle.before_run(item, 1.5, 900)


def _expiry(item: dict[str, Any]) -> None:
    is_expired(item, 1.5)


def _failed(item: dict[str, Any]) -> None:
    verdict = lifecycle.after_error(
        item,
        ValueError(),
        is_retriable=True,
        now=1.5,
        draw=lambda: 0.5,
        max_delay_seconds=900,
        hostname="host",
    )
    dump(verdict.item)


def _shown(data: bytes) -> None:
    text = _text(data)
    for method in (text, "m:f"):
        pickling.pretty_unpickle({"method": method, "args": text, "kwargs": text})
    base64_text = base64.b64encode(data).decode()
    shown = pickling.pretty_unpickle({"serializer": "pickle", "method": "m", "args": base64_text})
    assert len(shown) < 5000


# What makes objects.


def _pickle_call(data: bytes) -> None:
    text = base64.b64encode(data).decode() if data[:1] != b"=" else _text(data[1:])
    serializer = PickleSerializer()
    call = serializer.dump_call("m:f", (), {})
    kwargs = {**call, "kwargs": text}
    try:
        serializer.load_call(kwargs)
    except UnreadableItem:
        serializer.load_call({**call, "args": text})


def _classic_call(data: bytes) -> None:
    item = {"method": METHOD, "args": _text(data), "kwargs": "(lp1\n."}
    ClassicSerializer().load_call(item)


def _metadata(data: bytes) -> None:
    text = _text(data)
    for serializer in (PickleSerializer(), ClassicSerializer()):
        try:
            serializer.load_value(text)
        except UnreadableItem:
            continue


METHOD = _classic.dump_reference("module", "function")
CALL: dict[str, Any] = {
    "id": "1",
    "method": METHOD,
    "args": _classic.dumps((1, "é", [2.5, None])),
    "kwargs": _classic.dumps_kwargs({"a": b"\xff"}),
    "error_classes": _classic.dump_error_classes([ValueError, OSError]),
    "attempts": 1,
    "max_attempts": 3,
    "delay": 5,
    "due_time": 7.5,
    "ttl_seconds": 60,
    "item_queued_timestamp": 1.0,
    "use_exponential_backoff": True,
    "metadata": {"space": _classic.dumps("value")},
    "error": {"id": "1", "error_type": "ValueError"},
}
NEW_CALL: dict[str, Any] = {
    **CALL,
    **PickleSerializer().dump_call("m:f", (1, "é"), {"a": [2]}),
    **PickleSerializer().dump_error_classes([ValueError]),
}
ITEMS = (dump(CALL).encode(), dump(NEW_CALL).encode(), b'{"a" : [], "b":1.10,"c":"\\ud800"}')
ENVELOPES = tuple(
    b'{"first_ts":1.5,"ts":1.5,"item":' + item + b',"v":1,"ttl":null,"attempts":0}'
    for item in ITEMS
)
VALUES = [
    (1, "é"),
    {"a": [b"\xff", 2.5]},
    {1, 2},
    frozenset([3]),
    2**70,
    bytearray(b"x"),
    ValueError(1),
]
PICKLES = tuple(pickle.dumps(value, protocol) for value in VALUES for protocol in (0, 2, 4, 5))
CLASSICS = tuple(
    text.encode()
    for text in [
        METHOD,
        _classic.dumps((1, "é", [b"\xff"])),
        _classic.dumps_kwargs({"a": 1}),
        str(_classic.dump_error_classes([ValueError, OSError])),
    ]
)

DECODERS: dict[str, Decoder] = {
    "item": Decoder(_item, ITEMS),
    "item's fields": Decoder(_fields, ITEMS),
    "Dockets envelope": Decoder(_envelope, ENVELOPES),
    "Dockets entry": Decoder(_entry, ENVELOPES),
    "Dockets moves": Decoder(_moves, ENVELOPES),
    "classic text": Decoder(_classic.unescape, CLASSICS),
    "classic reference": Decoder(load_reference, CLASSICS),
    "classic error classes": Decoder(load_class_names, CLASSICS),
    "pickle, looked at": Decoder(read_inert, PICKLES),
    "call, shown": Decoder(_shown, PICKLES + CLASSICS),
    "pickled call": Decoder(_pickle_call, PICKLES, may_unpickle=True),
    "classic call": Decoder(_classic_call, CLASSICS, may_unpickle=True),
    "metadata": Decoder(
        _metadata,
        CLASSICS + tuple(base64.b64encode(each) for each in PICKLES),
        may_unpickle=True,
    ),
}
"""Every decoder; those that are written as text are given it byte for byte."""

assert json.loads(ITEMS[0])["id"] == "1"
