"""Everything that is decoded: the table of decoders, and what each must keep to.

Owns how bytes from anywhere reach each decoder, good examples to begin from, and which errors it
may raise. A new decoder is a line in `DECODERS`.
"""

import asyncio
import base64
import functools
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from attacks.examples import CLASSICS, ENVELOPES, ITEMS, METHOD, PICKLES, SQS_BODIES
from attacks.trust import (
    SEALED,
    SIGNED_ITEMS,
    TYPED_CALLS,
    encrypted_call,
    signed_item,
    typed_call,
)
from deferrable import lifecycle, pickling
from deferrable._codec.inert import load_class_names, load_reference, read_inert
from deferrable._codec.json import dump, load_item
from deferrable._codec.python2 import classic as _classic
from deferrable._codec.serializers import ClassicSerializer, PickleSerializer, serializer_for
from deferrable.aio import Deferrable
from deferrable.aio.backend.dockets._moves import as_redelivery, as_unreadable
from deferrable.aio.backend.dockets._wire import Entry, delivery_in, error_item
from deferrable.aio.backend.memory import InMemoryBackendFactory
from deferrable.aio.backend.sqs._bodies import decode, encode
from deferrable.aio.backend.sqs._reading import Source, buried_by_sqs, unreadable
from deferrable.aio.envelope import Envelope
from deferrable.aio.error_items import ErrorItem
from deferrable.errors import UnreadableItem
from deferrable.item import copy_item
from deferrable.lifecycle import is_expired
from deferrable.testing import MovingClock

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
    dump(delivery_in(data)[0])


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


def _sqs_body(data: bytes) -> None:
    texts = (
        _text(data),
        base64.b64encode(data).decode(),
        "zlib:" + base64.b64encode(data).decode(),
        "zlib:" + base64.b64encode(zlib.compress(data)).decode(),
    )
    read = [_sqs_item(text) for text in texts]
    if not any(read):
        raise UnreadableItem("none of them holds an item")


def _sqs_item(body: str) -> bool:
    """Whether there is one; if not, the whole body is in what is buried."""
    try:
        item = decode(body, MOST_BYTES)
    except UnreadableItem as error:
        # Without its traceback: to write that, Python reads files and compiles.
        buried = unreadable(body, UnreadableItem(str(error)), {"MessageId": "1"}, 1.5)
        assert load_item(dump(buried))["raw"] == load_item(dump({"raw": body}))["raw"]
        return False
    text = dump(item)
    assert len(text) <= max(len(body), 8 * MOST_BYTES)  # JSON writes a character as six, or less
    # Not the item itself: two halves of a pair, apart in a body, are one character in JSON.
    assert decode(encode(text, 0)) == load_item(text)
    assert dump(buried_by_sqs(item, {"MessageId": "1"}, Source("queue", "behind", 20), 1.5))
    return True


MOST_BYTES = 1_000_000


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


class _Consumer:
    """Makes attempts at items, one after another, on its own event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        factory = InMemoryBackendFactory(clock=MovingClock())
        self.backend = factory.create_backend_for_group(None)
        instance = self.instance = Deferrable(self.backend)
        for name in ("m:f", "module:function"):
            instance.deferrable(name=name)(lambda *args, **kwargs: None)

    async def run(self, item: dict[str, Any]) -> None:
        queue, error_queue = self.backend.queue, self.backend.error_queue
        await queue.flush()
        await error_queue.flush()
        await queue.push(item)
        outcome = await self.instance.run_once()
        assert outcome is not None
        left, buried = await queue.stats(), await error_queue.stats()
        places = (left["available"] + left["delayed"], left["in_flight"], buried["available"])
        assert places == PLACES_OF[outcome.status]


PLACES_OF = {
    "completed": (0, 0, 0),
    "expired": (0, 0, 0),
    "errored": (0, 0, 1),
    "retried": (1, 0, 0),
    "hopped": (1, 0, 0),
}


@functools.cache
def _consumer() -> _Consumer:
    return _Consumer()


def _attempt(data: bytes) -> None:
    item = load_item(data)
    item.pop("delay", None)  # what producers write, and nobody may read
    consumer = _consumer()
    consumer.loop.run_until_complete(consumer.run(item))


DECODERS: dict[str, Decoder] = {
    "item": Decoder(_item, ITEMS),
    "item's fields": Decoder(_fields, ITEMS),
    "Dockets envelope": Decoder(_envelope, ENVELOPES),
    "Dockets entry": Decoder(_entry, ENVELOPES),
    "Dockets moves": Decoder(_moves, ENVELOPES),
    "SQS body": Decoder(_sqs_body, SQS_BODIES),
    "signature": Decoder(signed_item, SIGNED_ITEMS),
    "encrypted call": Decoder(encrypted_call, SEALED),
    "JSON call": Decoder(typed_call, TYPED_CALLS),
    "classic text": Decoder(_classic.unescape, CLASSICS),
    "classic reference": Decoder(load_reference, CLASSICS),
    "classic error classes": Decoder(load_class_names, CLASSICS),
    "pickle, looked at": Decoder(read_inert, PICKLES),
    "call, shown": Decoder(_shown, PICKLES + CLASSICS),
    "pickled call": Decoder(_pickle_call, PICKLES, may_unpickle=True),
    "classic call": Decoder(_classic_call, CLASSICS, may_unpickle=True),
    "attempt": Decoder(_attempt, ITEMS, may_unpickle=True),
    "metadata": Decoder(
        _metadata,
        CLASSICS + tuple(base64.b64encode(each) for each in PICKLES),
        may_unpickle=True,
    ),
}
"""Every decoder; those that are written as text are given it byte for byte."""
