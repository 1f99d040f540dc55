"""The text around a pickle that Python 2 wrote, and the byte strings in it.

Owns escaping, its reverse, and which of Python 2's byte strings are text. No pickle is read here.
The one rule: escaping loses no byte, and gives the same text as Python 2.

Source: CPython 2.7.18, ``Objects/stringobject.c`` (``string_escape``).
"""

import codecs

from deferrable.errors import UnreadableItem

_ESCAPED: dict[int, str] = {
    **{code: f"\\x{code:02x}" for code in range(256) if not 32 <= code < 127},
    **{ord(char): "\\" + letter for char, letter in ("\tt", "\nn", "\rr", "\\\\", "''")},
}


def escape(data: bytes) -> str:
    """Return ``data`` as Python 2's ``data.encode("string_escape")`` wrote it: pure ASCII."""
    return data.decode("latin-1").translate(_ESCAPED)


def unescape(text: str | bytes) -> bytes:
    """Return the bytes that ``escape`` was given.

    Raises:
        UnreadableItem: ``text`` is neither text nor bytes, is not ASCII, or ends inside an
            escape.
    """
    try:
        return codecs.escape_decode(text.encode("ascii") if isinstance(text, str) else text)[0]
    except Exception as error:
        raise unreadable("is not text that Python 2 escaped", error) from error


def unreadable(what: str, error: BaseException) -> UnreadableItem:
    return UnreadableItem(f"a classic string {what}: {type(error).__name__}: {error}")


def text_or_bytes(value: bytes) -> str | bytes:
    """Return a byte string of Python 2 as text if it is UTF-8, otherwise as bytes."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value
