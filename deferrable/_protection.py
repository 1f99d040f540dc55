"""Which items are read at all: accepted, signed and decrypted ones.

Owns the order of the checks (is the serializer accepted, is the signature right, can the item be
decrypted) and the options that enable them. It owns the signature, the bytes that are signed, and
the form of an encrypted item; the user's hook encrypts.

The rules:

- `check` runs before any field of an item is decoded or used.
- The whole item is signed, except the signature and the record of an error. So nobody can change
  what runs, with which arguments, where, how often and until when.
- The fields that decide where an item goes (the job's name, attempts, times) are not encrypted,
  because brokers, consumers and tools use them. Decrypted data goes to a serializer only and is
  never shown.

Source: RFC 2104 (HMAC), FIPS 180-4 (SHA-256).
"""

import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from deferrable._codec import json as _json
from deferrable._codec.contract import DecodedCall, JSONValue, Serializer
from deferrable._codec.refusals import any_field, describe, reject
from deferrable._codec.serializers import get_serializer, local, serializer_for
from deferrable.errors import InvalidOptions, SerializationError, UnreadableItem, UnserializableCall
from deferrable.item import Item, queue_name

__all__ = [
    "EncryptedSerializer",
    "Encryption",
    "Protection",
    "SigningKeys",
    "is_signed",
    "sign",
]

_PICKLES = ("pickle", "classic")

SigningKeys: TypeAlias = Sequence[bytes | str]

MIN_KEY_BYTES = 16
"""The fewest random bytes that nobody can guess; for full strength, RFC 2104 asks for 32."""

_UNSIGNED = frozenset({"signature", "error"})


# Signatures.


def read_keys(keys: Iterable[bytes | str]) -> tuple[bytes, ...]:
    """The keys as bytes, in their order.

    Raises:
        InvalidOptions: it is one key, or one of them is not a key. No key is in the message.
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
            f"signing key {number} is of type {type(key).__name__}; keys are bytes or text, such "
            "as secrets.token_bytes(32)"
        )
    if len(data) < MIN_KEY_BYTES:
        raise InvalidOptions(
            f"signing key {number} has {len(data)} bytes, which can be guessed; use at least "
            f"{MIN_KEY_BYTES} random ones, such as secrets.token_bytes(32)"
        )
    return data


def sign(item: Item, queue: str, key: bytes) -> str:
    """The signature of `item` for one queue.

    Args:
        queue: the name of the main queue, so that the signature is not valid in another group.

    Raises:
        TypeError, ValueError, RecursionError: the item is not made of JSON values.
    """
    return hmac.new(key, _signed_bytes(item, queue), hashlib.sha256).hexdigest()


def is_signed(item: Item, queue: str, keys: Sequence[bytes]) -> bool:
    """Whether one of the keys made the signature of `item`, in the same time for each key.

    Raises:
        TypeError, ValueError, RecursionError: the item is not made of JSON values.
    """
    signature = item.get("signature")
    if not isinstance(signature, str) or not signature.isascii():
        return False
    data = _signed_bytes(item, queue)
    made = [hmac.new(key, data, hashlib.sha256).hexdigest() for key in keys]
    return sum(hmac.compare_digest(signature, each) for each in made) > 0


def _signed_bytes(item: Item, queue: str) -> bytes:
    signed = {field: value for field, value in item.items() if field not in _UNSIGNED}
    return json.dumps(
        [queue, signed], sort_keys=True, separators=(",", ":"), allow_nan=False
    ).encode()


# Encryption.


class Encryption(Protocol):
    """An object that encrypts and decrypts, such as a ``cryptography.fernet.Fernet``. Any thread
    may call.
    """

    def encrypt(self, data: bytes, /) -> bytes:
        """Return `data` so that only owners of the key can read it."""
        ...

    def decrypt(self, data: bytes, /) -> bytes:
        """Return the data that was given to `encrypt`. It must raise for anything else."""
        ...


class EncryptedSerializer:
    """A serializer whose arguments and values can be read only with the key."""

    def __init__(self, serializer: Serializer, encryption: Encryption) -> None:
        self._serializer = serializer
        self._encryption = encryption

    @property
    def name(self) -> str:
        return self._serializer.name

    def dump_call(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        function: Callable[..., Any] | None = None,
    ) -> dict[str, Any]:
        fields = self._serializer.dump_call(name, args, kwargs, function)
        sealed = {field: self._seal(fields[field]) for field in ("args", "kwargs")}
        return {**fields, **sealed, "encrypted": True}

    def dump_value(self, value: object) -> JSONValue:
        return self._seal(self._serializer.dump_value(value))

    def load_value(self, data: Any) -> Any:
        return None if data is None else self._serializer.load_value(self._open("metadata", data))

    def load_call(
        self, item: Mapping[str, Any], function: Callable[..., Any] | None = None
    ) -> DecodedCall:
        opened = {field: self._open(field, any_field(item, field)) for field in ("args", "kwargs")}
        return self._serializer.load_call({**item, **opened}, function)

    def load_name(self, item: Mapping[str, Any]) -> str:
        return self._serializer.load_name(item)

    def dump_error_classes(self, classes: Iterable[type[BaseException]] | None) -> dict[str, Any]:
        return self._serializer.dump_error_classes(classes)

    def load_retry_names(self, item: Mapping[str, Any]) -> frozenset[str]:
        return self._serializer.load_retry_names(item)

    def _seal(self, value: JSONValue) -> str:
        data = _json.dump_value(value).encode()
        try:
            return binascii.b2a_base64(self._encryption.encrypt(data), newline=False).decode()
        except Exception as error:
            raise UnserializableCall(
                f"encryption= failed to encrypt {len(data)} bytes: {describe(error)}. Nothing was "
                "pushed; its encrypt takes bytes and returns bytes"
            ) from error

    def _open(self, field: str, text: object) -> Any:
        if not isinstance(text, str):
            reject(field, text, "encrypted text")
        try:
            return _json.load(self._encryption.decrypt(binascii.a2b_base64(text, strict_mode=True)))
        except Exception as error:
            raise UnreadableItem(
                f"the item's {field} cannot be decrypted: {describe(error)}; give this consumer "
                "the encryption= of its producers"
            ) from error


# What an instance trusts.


class Protection:
    """Which items an instance trusts, and how it makes its own items trusted.

    Args:
        serializer: the serializer of new items.
        accept: the serializers of items that are read; None: all.
        signing_keys: the first one signs, any of them verifies; none: items need no signature.
        encryption: hides arguments and metadata; None: they are not encrypted.

    Attributes:
        serializer: the serializer of new items, with encryption if there is any.
        local_serializer: the same for a queue that only this process reads.
        signs: whether items are signed, so that nobody else may change one.

    Raises:
        InvalidOptions: a name is unknown, a key is not valid, or two options contradict each other.
    """

    def __init__(
        self,
        serializer: str,
        accept: Iterable[str] | None = None,
        signing_keys: SigningKeys = (),
        encryption: Encryption | None = None,
    ) -> None:
        self._accept = None if accept is None else _read_names(accept)
        self._keys = read_keys(signing_keys)
        self.signs = bool(self._keys)
        self._encryption = encryption
        self.serializer = get_serializer(serializer)
        self.local_serializer = local(self.serializer)
        if encryption is not None:
            if serializer == "classic":
                raise InvalidOptions(
                    "encryption= does not work with serializer='classic', because Python 2 cannot "
                    "decrypt; leave it out, or use another serializer"
                )
            self.serializer = EncryptedSerializer(self.serializer, encryption)
            self.local_serializer = EncryptedSerializer(self.local_serializer, encryption)

    @property
    def reads_pickles(self) -> bool:
        """Whether it reads items that can run code: those of pickle or classic."""
        return self._accept is None or not self._accept.isdisjoint(_PICKLES)

    def check(self, item: Item, group: str | None) -> None:
        """Refuse an item that must not be read, by this group.

        Raises:
            UnreadableItem: its serializer is not accepted, or its signature is missing or wrong.
        """
        if self._accept is not None:
            self._check_accepted(item, self._accept)
        if self._keys and not self._has_signed(item, group):
            has_one = item.get("signature") is not None
            raise UnreadableItem(
                "the item's signature is wrong: none of this consumer's signing_keys made it for "
                "this item and this group; if its key was removed too early, add the key and "
                "requeue the item"
                if has_one
                else "the item is not signed, and this consumer has signing_keys, so it reads only "
                "signed items; give its producers the key"
            )

    def serializer_for(self, item: Item) -> Serializer:
        """The serializer that reads a checked item.

        Raises:
            UnreadableItem: its serializer is unknown or not accepted, or it is encrypted for
                others.
        """
        if self._accept is not None:
            self._check_accepted(item, self._accept)
        serializer = serializer_for(item)
        if not item.get("encrypted"):
            return serializer
        if self._encryption is None:
            raise UnreadableItem(
                "the item is encrypted, and this consumer has no encryption=; give it the one of "
                "its producers"
            )
        return EncryptedSerializer(serializer, self._encryption)

    def signed(self, item: Item, group: str | None) -> Item:
        """`item` for the push: signed, if there are keys.

        Raises:
            SerializationError: it is not made of JSON values.
        """
        if not self._keys:
            return item
        try:
            return {**item, "signature": sign(item, queue_name(group), self._keys[0])}
        except (TypeError, ValueError, RecursionError) as error:
            raise SerializationError(f"the item cannot be signed: {describe(error)}") from error

    def _check_accepted(self, item: Item, accept: frozenset[str]) -> None:
        name = serializer_for(item).name
        if name not in accept:
            raise UnreadableItem(
                f"the item was written by serializer {name!r}, and this consumer accepts only "
                f"{', '.join(map(repr, sorted(accept))) or 'none'}; nothing in it was decoded"
            )

    def _has_signed(self, item: Item, group: str | None) -> bool:
        try:
            return is_signed(item, queue_name(group), self._keys)
        except (TypeError, ValueError, RecursionError) as error:
            raise UnreadableItem(
                f"the item's signature cannot be checked: {describe(error)}"
            ) from error


def _read_names(accept: Iterable[str]) -> frozenset[str]:
    if isinstance(accept, str):
        raise InvalidOptions(
            f"accept is a sequence of serializers, got the text {accept!r:.80}; "
            f"write ({accept!r:.80},)"
        )
    try:
        return frozenset([get_serializer(name).name for name in accept])
    except InvalidOptions as error:
        raise InvalidOptions(f"accept names a serializer that cannot be read: {error}") from error
