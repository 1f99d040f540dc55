"""What keeps a consumer safe on a broker that others can write to, as decoders of bytes.

Owns how bytes reach the check of a signature, the hook that decrypts, and the annotations by which
JSON becomes arguments; and what must be true of each value that passes them.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any, TypedDict
from uuid import UUID

from cryptography.fernet import Fernet

from deferrable._codec.json import dump, load_item
from deferrable._codec.serializers import JSONSerializer, PickleSerializer
from deferrable._protection import EncryptedSerializer, Encryption, Protection
from deferrable.errors import UnreadableItem
from deferrable.item import Item

__all__ = [
    "JSON_CALL",
    "SEALED",
    "SIGNED_ITEMS",
    "TYPED_CALLS",
    "encrypted_call",
    "signed_item",
    "typed_call",
]

# Signatures.

KEYS = (b"a new key of enough bytes", b"an old key of enough bytes")
STRANGER = b"the key of somebody else"
GROUP = "attacked"
FIELDS: Item = {
    "id": "1",
    "group": GROUP,
    "attempts": 1,
    "max_attempts": 3,
    "retry_on": ["builtins:ValueError"],
    "error_classes": None,
    "ttl_seconds": 60,
    "item_queued_timestamp": 1.5,
    "due_time": 7.5,
    "metadata": {"space": "value", "\ud800": [None, True, 10**30]},
}


def _signed(item: Item, *keys: bytes) -> Item:
    return Protection("json", signing_keys=keys).signed(item, GROUP)


JSON_CALL: Item = JSONSerializer().dump_call("m:f", (1, "é"), {"a": [2.5, None]})
WRITTEN = (
    {**FIELDS, **JSON_CALL},
    {**FIELDS, **PickleSerializer().dump_call("m:f", (1, "é"), {"a": [2]}), "id": "2"},
)
SIGNED_ITEMS = tuple(
    dump({**signed, "error": {"id": "1"}}).encode()
    for item in WRITTEN
    for signed in (_signed(item, KEYS[0]), _signed(item, KEYS[1]), _signed(item, STRANGER), item)
)
"""The first two of each four are ours."""


def _told(item: Item) -> str:
    """All that a signature has to cover."""
    fields = {name: value for name, value in item.items() if name not in ("signature", "error")}
    return json.dumps(fields, sort_keys=True)


OURS = {_told(item) for item in WRITTEN}


def signed_item(data: bytes) -> None:
    """Check the signature: what gets past it is what was signed, and in its own group only."""
    item = load_item(data)
    elsewhere = (Protection("json", signing_keys=KEYS), "another group")
    others = (Protection("json", signing_keys=(STRANGER + b"'s other one",)), GROUP)
    for protection, group in (elsewhere, others):
        try:
            protection.check(item, group)
        except UnreadableItem:
            continue
        raise AssertionError("it was signed for nobody")
    Protection("json", signing_keys=KEYS).check(item, GROUP)
    assert _told(item) in OURS, "nobody of us has signed this"


# Encryption.


class Nothing:
    """A hook that decrypts everything, so that the code behind it sees any bytes."""

    def encrypt(self, data: bytes, /) -> bytes:
        return data

    def decrypt(self, data: bytes, /) -> bytes:
        return data


HOOKS: tuple[Encryption, ...] = (Fernet(base64.urlsafe_b64encode(bytes(32))), Nothing())
SEALED = tuple(
    base64.b64decode(EncryptedSerializer(JSONSerializer(), hook).dump_value(value))
    for hook in HOOKS
    for value in ([1, "é", {"a": None}], {"a": "\ud800"}, {}, [])
)


def encrypted_call(data: bytes) -> None:
    """Decrypt a call and a value of metadata, both from text that is base64 and from any."""
    for text in (base64.b64encode(data).decode(), data.decode("utf-8", "surrogateescape")):
        for hook in HOOKS:
            serializer = EncryptedSerializer(JSONSerializer(), hook)
            sound = serializer.dump_call("m:f", (), {})
            for item in ({**sound, "args": text}, {**sound, "kwargs": text}):
                _try_call(serializer, item)
            _try_value(serializer, text)
    EncryptedSerializer(JSONSerializer(), HOOKS[1]).load_value(base64.b64encode(data).decode())


def _try_call(serializer: EncryptedSerializer, item: Mapping[str, Any]) -> None:
    try:
        call = serializer.load_call(item)
    except UnreadableItem:
        return
    assert type(call.args) is tuple
    assert type(call.kwargs) is dict


def _try_value(serializer: EncryptedSerializer, text: str) -> None:
    try:
        serializer.load_value(text)
    except UnreadableItem:
        return


# JSON, by annotations.


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Options(TypedDict, total=False):
    when: datetime
    count: int


@dataclass
class Tree:
    price: Decimal
    branches: list["Tree"]


def job(
    number: int, tree: Tree, *more: UUID, colour: Colour = Colour.RED, **options: Options
) -> None: ...


def _is_typed(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    wanted = [int, Tree, *[UUID] * max(0, len(args) - 2)]
    return (
        all(type(value) is kind for value, kind in zip(args, wanted, strict=False))
        and all(map(_is_tree, args[1:2]))
        and type(kwargs.get("colour", Colour.RED)) is Colour
        and type(kwargs.get("number", 1)) is int
        and _is_tree(kwargs.get("tree", Tree(Decimal(1), [])))
        and all(type(value) is dict for key, value in kwargs.items() if key not in DECLARED)
    )


DECLARED = ("colour", "number", "tree")


def _is_tree(value: Any) -> bool:
    return (
        type(value) is Tree and type(value.price) is Decimal and all(map(_is_tree, value.branches))
    )


TREE = {"price": "1.50", "branches": [{"price": "2", "branches": []}]}
ID = "00000000-0000-0000-0000-000000000007"
TYPED_CALLS = tuple(
    dump({"method": "m:f", "args": args, "kwargs": kwargs, "serializer": "json"}).encode()
    for args, kwargs in [
        ([1, TREE, ID, ID], {"colour": "blue", "a": {"when": "2026-01-02T03:04:05Z", "count": 2}}),
        ([1, TREE], {}),
        ([], {"number": 2, "tree": TREE, "colour": "red"}),
    ]
)


def typed_call(data: bytes) -> None:
    """Decode a call: each argument is what the function declares."""
    item = load_item(data)
    serializer = JSONSerializer()
    call = serializer.load_call(item, job)
    assert _is_typed(call.args, call.kwargs), "an argument is not what was declared"
    serializer.load_call(item)
