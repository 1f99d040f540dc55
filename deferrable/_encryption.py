"""Who can read an item: arguments and metadata, encrypted by a hook of the user's.

Owns what is encrypted and how it stands in an item. It may not know how: the hook does it. What
decides where an item goes (the job's name, attempts, times) stays readable, as brokers, consumers
and tools go by it. The one rule: what is decrypted is handed to a serializer, and shown nowhere.
"""

import binascii
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from deferrable._codec import json as _json
from deferrable._codec.contract import DecodedCall, JSONValue, Serializer
from deferrable._codec.refusals import any_field, reject, told
from deferrable.errors import UnreadableItem, UnserializableCall

__all__ = ["EncryptedSerializer", "Encryption"]


class Encryption(Protocol):
    """What encrypts and decrypts, such as a ``cryptography.fernet.Fernet``. Any thread may call."""

    def encrypt(self, data: bytes, /) -> bytes:
        """Return `data` so that only who has the key can read it."""
        ...

    def decrypt(self, data: bytes, /) -> bytes:
        """Return what `encrypt` was given. It must raise if that is not what it returned."""
        ...


class EncryptedSerializer:
    """A serializer whose arguments and values only those can read who have the key."""

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
                f"encryption= has not encrypted {len(data)} bytes: {told(error)}. Nothing was "
                "pushed; its encrypt takes bytes and returns bytes"
            ) from error

    def _open(self, field: str, text: object) -> Any:
        if not isinstance(text, str):
            reject(field, text, "encrypted text")
        try:
            return _json.load(self._encryption.decrypt(binascii.a2b_base64(text, strict_mode=True)))
        except Exception as error:
            raise UnreadableItem(
                f"the item's {field} cannot be decrypted: {told(error)}; give this consumer the "
                "encryption= of its producers"
            ) from error
