"""Who wrote an item: its signature.

Owns the bytes that are signed, the signature, and what is a key. It may not know queues or
serializers. The one rule: everything that decides what runs, with what, where, how often and until
when is signed: the whole item, but for the signature itself and the record of an error.

Source: RFC 2104 (HMAC), FIPS 180-4 (SHA-256).
"""

import hashlib
import hmac
import json
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from deferrable.errors import InvalidOptions
from deferrable.item import Item

__all__ = ["SigningKeys", "is_signed", "read_keys", "sign"]

SigningKeys: TypeAlias = Sequence[bytes | str]

MIN_KEY_BYTES = 16
"""Of random bytes, what nobody can guess; for full strength, RFC 2104 asks for 32 with SHA-256."""

_UNSIGNED = frozenset({"signature", "error"})


def read_keys(keys: Iterable[bytes | str]) -> tuple[bytes, ...]:
    """The keys as bytes, in their order.

    Raises:
        InvalidOptions: it is one key, or one of them is no key. No key is in the message.
    """
    if isinstance(keys, bytes | str):
        raise InvalidOptions(
            f"signing_keys is a sequence of keys, got one {type(keys).__name__}; write (key,)"
        )
    return tuple(_read_key(number, key) for number, key in enumerate(keys, start=1))


def _read_key(number: int, key: object) -> bytes:
    data = key.encode() if isinstance(key, str) else key
    if not isinstance(data, bytes):
        raise InvalidOptions(
            f"signing key {number} is a {type(key).__name__}; keys are bytes or text, such as "
            "secrets.token_bytes(32)"
        )
    if len(data) < MIN_KEY_BYTES:
        raise InvalidOptions(
            f"signing key {number} has {len(data)} bytes, which can be guessed; take at least "
            f"{MIN_KEY_BYTES} random ones, such as secrets.token_bytes(32)"
        )
    return data


def sign(item: Item, queue: str, key: bytes) -> str:
    """The signature of `item` for one queue.

    Args:
        queue: the name of the main queue, so that it is worth nothing in another group.

    Raises:
        TypeError, ValueError, RecursionError: the item is not made of JSON values.
    """
    return hmac.new(key, _canonical(item, queue), hashlib.sha256).hexdigest()


def is_signed(item: Item, queue: str, keys: Sequence[bytes]) -> bool:
    """Whether one of the keys made the signature of `item`, told in the same time for each.

    Raises:
        TypeError, ValueError, RecursionError: the item is not made of JSON values.
    """
    signature = item.get("signature")
    if not isinstance(signature, str) or not signature.isascii():
        return False
    data = _canonical(item, queue)
    made = [hmac.new(key, data, hashlib.sha256).hexdigest() for key in keys]
    return sum(hmac.compare_digest(signature, each) for each in made) > 0


def _canonical(item: Item, queue: str) -> bytes:
    signed = {field: value for field, value in item.items() if field not in _UNSIGNED}
    return json.dumps(
        [queue, signed], sort_keys=True, separators=(",", ":"), allow_nan=False
    ).encode()
