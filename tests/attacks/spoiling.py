"""Bad bytes.

Owns how good examples are spoilt, by chance from a seed, and the monsters that chance would not
find: what is nested, huge, or far more than it looks.
"""

import json
import pickle
from collections.abc import Iterator
from random import Random
from typing import Any

__all__ = ["TOKENS", "bombs", "monsters", "spoil"]

TOKENS = [
    *(b'{"', b"}", b"[", b"]", b",", b":", b'"', b"\\u0000", b"\\ud800", b"\\udfff", b"\x00"),
    *(b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0.0", b"9" * 400, b"null", b"true", b"1.5"),
    *(b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\\", b"\\x", b"\\x0", b"\\n", b"'", b"="),
    *(b"cos\nsystem\n", b"cbuiltins\neval\n", b"(", b"t", b"R", b".", b"I1\n", b"S'a'\n", b"p1\n"),
    *(b"g1\n", b"\x80\x05", b"\x8c\x01a", b"\x93", b"\x85", b"\x94", b"h\x00", b"b", b"o", b"i"),
    *(b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f", b"X\xff\xff\xff\x7f", b"\x82\x01", b"N", b"K\x01"),
    *(
        b'"item":',
        b'"attempts":',
        b'"serializer":"pickle"',
        b'"due_time":',
        b'"error":',
        b'"args":',
    ),
    *(b'"retry_on":', b'"metadata":', b'"ttl_seconds":', b'"max_attempts":', b'"object":"x"'),
]


ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 0.5, 1e308, -1e308, 2**31, 2**63, 10**400, "", "x", "\ud800"),
    *("\x00", "9", "m:f", "classic", "json", "N.", "K\x01.", [], {}, [None], [[]], {"": {}}),
    *({"id": 5}, {"id": "\udfff"}, ["builtins:ValueError"], {"space": "N."}, [1, "a"]),
]


def spoil(example: bytes, other: bytes, chance: Random) -> bytes:
    """`example` with a few things wrong; `other` is one to take from."""
    if example.startswith(b"{") and chance.random() < 0.6:
        return _with_odd_fields(json.loads(example), chance)
    data = bytearray(example)
    for _ in range(chance.choice((1, 1, 2, 3, 5))):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(8):
            case 0 if data:
                data[place % len(data)] ^= 1 << chance.randrange(8)
            case 1:
                data[place:place] = chance.choice(TOKENS)
            case 2:
                del data[place : place + chance.choice((1, 2, 8, 50))]
            case 3:
                data[place:place] = chance.randbytes(chance.choice((1, 2, 8)))
            case 4:
                start = chance.randrange(len(other) + 1)
                data[place:] = other[start:]
            case 5:
                end = place + chance.choice((1, 3, 10))
                data[place:place] = data[place:end] * chance.choice((2, 10, 100))
            case 6:
                data[place : place + 4] = chance.choice(TOKENS)
            case 7:
                del data[place:]
    return bytes(data)


def _with_odd_fields(fields: dict[str, Any], chance: Random) -> bytes:
    """Valid JSON with wrong content."""
    inner = fields.get("item")
    holder = inner if isinstance(inner, dict) and chance.random() < 0.7 else fields
    for _ in range(chance.choice((1, 1, 2, 3))):
        name = chance.choice([*holder, "object", "retry_on", "timeout_seconds", "backoff_jitter"])
        if chance.random() < 0.2:
            holder.pop(name, None)
        else:
            holder[name] = chance.choice(ODD)
    return json.dumps(fields).encode()


HUGE = 10_000_000
DEEP = 100_000


def monsters(huge: int = HUGE) -> Iterator[tuple[str, bytes]]:
    """Each with its name; a long one has about so many bytes."""
    yield "nothing", b""
    yield "deep lists", b"[" * DEEP
    yield "deep lists, closed", b'{"item":{"a":' + b"[" * DEEP + b"]" * DEEP + b"}}"
    yield "deep objects", b'{"item":' * DEEP + b"1" + b"}" * DEEP
    yield "deep lists that can just be read", b'{"item":{"a":' + b"[" * 900 + b"]" * 900 + b"}}"
    yield "a long text", b'{"item":{"a":"' + b"x" * huge + b'"}}'
    yield "a long text of escapes", b'{"item":{"a":"' + b"\\u0000" * (huge // 6) + b'"}}'
    yield "a wide list", b'{"item":{"a":[' + b"1," * (huge // 20) + b"1]}}"
    yield "many fields", b"{" + b",".join(b'"%d":1' % n for n in range(DEEP)) + b',"item":{}}'
    yield "one field, again and again", b"{" + b'"item":{},' * DEEP + b'"item":{"a":1}}'
    yield "a long number", b'{"item":{"a":' + b"9" * 1_000_000 + b"}}"
    yield "a number out of range", b'{"item":{"a":1e999},"attempts":1e999}'
    yield "no number", b'{"item":{"a":NaN,"b":-Infinity}}'
    yield "lone surrogates", b'{"item":{"\\ud800":"\\udfff\\ud800"}}'
    yield "zeros", b"\x00" * DEEP
    yield "a long escaped text", b"\\x41" * (huge // 4)
    yield "backslashes", b"\\" * (huge // 10 + 1)
    yield "a pickle that is deep", b"N" + b"\x85" * DEEP + b"."
    yield "a pickle that is deep, in text", b"(" * DEEP + b"t" * DEEP + b"."
    yield "a pickle of many lists", b"]" * DEEP + b"a" * (DEEP - 1) + b"."
    yield "a pickle that calls deep", b"cx\ny\n" + b"(NtR" * 5000 + b"."
    yield "a pickle of a long text", pickle.dumps("x" * huge)
    yield "a pickle of a long text, in text", pickle.dumps("x" * huge, 0)


def bombs() -> Iterator[tuple[str, bytes]]:
    """Pickles of a few bytes that are, or say that they are, huge; each with its name."""
    yield "a pickle that calls with what is deep", b"cx\ny\n(" + b"N" + b"\x85" * DEEP + b"tR."
    yield "a pickle that doubles", _doubling(40)
    yield "a pickle that calls and doubles", b"cx\ny\n(" + _doubling(40)[:-1] + b"tR."
    for code in (b"\x8e", b"\x8d", b"\x96", b"\x95"):
        for size in (2**31, 2**40, 2**62):
            yield (
                f"a pickle that claims {size} bytes by {code!r}",
                (b"\x80\x05" + code + size.to_bytes(8, "little") + b"."),
            )
    yield "a pickle that claims a long number", b"\x80\x04\x8b\xff\xff\xff\x7f."


def _doubling(levels: int) -> bytes:
    """Of 2 ** `levels` elements, all but one the same."""
    return b"(NNt" + b"".join(b"p%d\n(g%d\ng%d\nt" % (n, n, n) for n in range(levels)) + b"."
