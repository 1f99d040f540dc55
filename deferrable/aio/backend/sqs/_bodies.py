"""The forms of the body of an SQS message.

Owns the forms: an item's JSON text, the same compressed, what Python 2's deferrable wrote (base64
of an escaped pickle), and a reference to a body that is too large for a message. It does no I/O;
`_s3_store` reads the object that a reference names.

The one rule: nothing that a body says is run or imported, and its own size is not trusted. A JSON
object begins with ``{`` and base64 has no colon, so no form is ever mistaken for another.
"""

import binascii
import zlib
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from deferrable._codec.inert import Inert, InertDict, read_inert
from deferrable._codec.json import dump, load_item
from deferrable._codec.python2.classic import unescape
from deferrable._codec.refusals import short_repr
from deferrable.errors import SerializationError, UnreadableItem
from deferrable.item import Item

__all__ = ["MAX_TEXT_BYTES", "REFERENCE", "decode", "encode", "starts_with"]

MAX_TEXT_BYTES = 64 * 1024 * 1024
"""The largest item text that is read; a compressed body may hold much more than its size."""

REFERENCE = "s3://"
"""The begin of a body that is only a reference to the real body."""


def _import_zstd() -> ModuleType | None:
    try:
        return import_module("compression.zstd")
    except ImportError:  # before Python 3.14, or built without
        return None


zstd = _import_zstd()

_PEEK_CHARACTERS = 4096
"""Enough for zlib. With zstd, the first block may be longer. A multiple of 4, for base64."""

_ZLIB = "zlib:"
_ZSTD = "zstd:"


def encode(text: str, compress_over_bytes: float) -> str:
    """The body for an item's JSON text, ASCII like it.

    Args:
        compress_over_bytes: a longer text is compressed, where that makes it shorter: by zstd if
            this Python has it (3.14 and later), else by zlib.
    """
    if len(text) <= compress_over_bytes:
        return text
    mark, compress = _ZLIB, zlib.compress
    if zstd is not None:
        mark, compress = _ZSTD, zstd.compress
    body = mark + binascii.b2a_base64(compress(text.encode("ascii")), newline=False).decode("ascii")
    return body if len(body) < len(text) else text


def decode(body: str, max_bytes: int = MAX_TEXT_BYTES) -> Item:
    """The item that a message's body holds.

    Args:
        max_bytes: the longest text that a compressed body may hold.

    Raises:
        UnreadableItem: it holds no item, or more than `max_bytes`, or only a reference, or it is
            compressed in a way that this Python does not support.
    """
    if body.startswith("{"):
        return load_item(body)
    for mark, decompressor in _DECOMPRESSORS.items():
        if body.startswith(mark):
            data = _from_base64(body[len(mark) :], body)
            return load_item(_decompress(decompressor(), data, max_bytes))
    if body.startswith(REFERENCE):
        raise UnreadableItem(
            f"the item is kept at {short_repr(body)}; give this consumer's factory the "
            "large_items=S3Store(...) of its producers"
        )
    if body.lstrip().startswith("{"):
        return load_item(body)
    return _load_python2(body, max_bytes)


def starts_with(body: str, start: str) -> bool:
    """Whether the text of a body, compressed or not, starts so; little more of it is read."""
    for mark, decompressor in _DECOMPRESSORS.items():
        if body.startswith(mark):
            begin = len(mark) + _PEEK_CHARACTERS
            pieces = (body[len(mark) : begin], body[begin:])
            try:
                return _first_bytes(decompressor(), pieces, len(start)) == start.encode()
            except Exception:  # zlib.error and ZstdError have no other ancestor in common
                return False
    return body.startswith(start)


def _first_bytes(decompressor: Any, pieces: Sequence[str], count: int) -> bytes:
    found = b""
    for piece in pieces:
        if len(found) < count:
            found += decompressor.decompress(_from_base64(piece, piece), count - len(found))
    return found


def _from_base64(text: str, body: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise UnreadableItem(
            f"the body {short_repr(body)} is neither a JSON object nor base64: {error}"
        ) from error


def _zstd_decompressor() -> Any:
    if zstd is None:
        raise UnreadableItem(
            "the body is compressed with zstd, which Python has from 3.14 on; run consumers on "
            "3.14, or do not compress on producers until all consumers run on it"
        )
    return zstd.ZstdDecompressor()


def _decompress(decompressor: Any, data: bytes, max_bytes: int) -> bytes:
    try:
        # One more than allowed: only this shows whether it ends there.
        text: bytes = decompressor.decompress(data, max_bytes + 1)
    except Exception as error:  # zlib.error and ZstdError have no other ancestor in common
        raise UnreadableItem(f"the body cannot be decompressed: {error}") from error
    if len(text) > max_bytes:
        raise UnreadableItem(
            f"the body has more than {max_bytes} bytes of text after decompression, and more are "
            "not read"
        )
    if not decompressor.eof or decompressor.unused_data:
        raise UnreadableItem("the body cannot be decompressed: it does not end where its data does")
    return text


_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    _ZLIB: zlib.decompressobj,
    _ZSTD: _zstd_decompressor,
}


_MEMBER_BYTES = 64  # about what a list or dict needs for a member


def _load_python2(body: str, max_bytes: int) -> Item:
    """The item of a pickled dict; none of its pickle is run. (boto wrote the base64.)"""
    value = read_inert(unescape(_from_base64("".join(body.split()), body)))
    try:
        item: Item = _Plain(max_bytes)(value)
        dump(item)
    except (SerializationError, TypeError, RecursionError) as error:
        raise UnreadableItem(f"the body is a pickle, but not of an item: {error}") from error
    return item


class _Plain:
    """Converts the content of a pickle to JSON values that need about `max_bytes` at most.

    One list may stand in many places of a pickle, or in itself: a short one may be of any size.
    """

    def __init__(self, max_bytes: int) -> None:
        self._bytes_left = max_bytes

    def __call__(self, value: Any) -> Any:
        self._count(_MEMBER_BYTES)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "backslashreplace")
        if isinstance(value, str):
            self._count(len(value))
        elif isinstance(value, list | tuple):
            return [self(member) for member in value]
        elif isinstance(value, InertDict):
            return {self(key): self(member) for key, member in value.pairs}
        elif not (value is None or isinstance(value, int | float)):
            name = value.name if isinstance(value, Inert) else type(value).__name__
            raise UnreadableItem(f"it holds {short_repr(name)}, which is not a JSON value")
        return value

    def _count(self, size: int) -> None:
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise UnreadableItem("its text has more characters than are read")
