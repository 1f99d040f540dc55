"""A pickle that claims more memory than it could use is refused before it is read."""

import base64
import pickle
import pickletools
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deferrable._codec.claims import check_claims
from deferrable._codec.inert import load_class_names, read_inert, show
from deferrable._codec.python2.classic import escape
from deferrable._codec.serializers import get_serializer
from deferrable.errors import UnreadableItem
from deferrable.pickling import loads, pretty_unpickle

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner)
        | st.frozensets(st.integers() | st.text())
        | st.builds(bytearray, st.binary())
        | st.builds(Exception, inner)
    ),
    max_leaves=20,
)
CLAIMS = {
    "a number for the memo": b"r\xff\xff\xff\x7f",
    "a number in text": b"p2000000000\n",
    "a number in text with zeros": b"p" + b"0" * 30 + b"2000000000\n",
    "a long bytearray": b"\x96" + (1 << 40).to_bytes(8, "little"),
    "long bytes": b"\x8e" + (1 << 40).to_bytes(8, "little"),
    "long text": b"X\xff\xff\xff\xff",
    "a long integer": b"\x8b\xff\xff\xff\x7f",
}
CLAIM = pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS.keys())


@given(VALUES, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_no_pickle_that_python_writes_is_refused(value: Any, protocol: int) -> None:
    check_claims(pickle.dumps(value, protocol))
    check_claims(pickletools.optimize(pickle.dumps(value, protocol)))


@given(VALUES, st.integers(0, pickle.HIGHEST_PROTOCOL), st.sampled_from(list(CLAIMS.values())))
def test_a_claim_is_found_behind_whatever_stands_before_it(
    value: Any, protocol: int, claim: bytes
) -> None:
    data = pickle.dumps(value, protocol)
    assert data.endswith(b".")

    with pytest.raises(pickle.UnpicklingError, match="claims room for"):
        check_claims(data[:-1] + claim + b".")


@given(st.binary())
def test_what_is_no_pickle_is_left_to_others(data: bytes) -> None:
    with suppress(pickle.UnpicklingError):
        check_claims(data)


def test_every_opcode_is_known() -> None:
    """Each one, with an argument as short as it can be, leads to the claim behind it."""
    shortest = {
        "uint1": b"\0", "uint2": b"\0" * 2, "int4": b"\0" * 4, "uint4": b"\0" * 4,
        "uint8": b"\0" * 8, "float8": b"\0" * 8, "long1": b"\0", "long4": b"\0" * 4,
        "string1": b"\0", "string4": b"\0" * 4, "bytes1": b"\0", "bytes4": b"\0" * 4,
        "bytes8": b"\0" * 8, "bytearray8": b"\0" * 8, "unicodestring1": b"\0",
        "unicodestring4": b"\0" * 4, "unicodestring8": b"\0" * 8,
        "stringnl_noescape_pair": b"a\nb\n",
    }  # fmt: skip
    for opcode in pickletools.opcodes:
        if opcode.name == "STOP":
            continue
        argument = b"" if opcode.arg is None else shortest.get(opcode.arg.name, b"1\n")

        with pytest.raises(pickle.UnpicklingError):
            check_claims(opcode.code.encode("latin-1") + argument + b"r\xff\xff\xff\x7f")


@CLAIM
@pytest.mark.parametrize(
    "read",
    [
        lambda data: get_serializer("pickle").load_value(base64.b64encode(data).decode()),
        lambda data: loads(escape(data)),
        read_inert,
        lambda data: load_class_names(escape(data)),
    ],
    ids=["pickle", "classic", "inert", "error classes"],
)
def test_a_claim_makes_an_item_unreadable(claim: bytes, read: Callable[[bytes], Any]) -> None:
    with pytest.raises(UnreadableItem):
        read(b"N" + claim + b".")


@pytest.mark.parametrize("claim", [each for each in CLAIMS.values() if each[:1] in b"pr"])
def test_a_number_for_the_memo_is_refused_before_room_is_made(claim: bytes) -> None:
    text = base64.b64encode(b"N" + claim + b".").decode()

    with pytest.raises(UnreadableItem, match="claims room for"):
        get_serializer("pickle").load_value(text)


# --- What is shared and nested --------------------------------------------------------------------

DEEP = 200
TWICE_TUPLES = b")" + b"2\x86" * DEEP
SHARED = {
    "tuples": TWICE_TUPLES,
    "lists": b"]" + b"".join(b"q%c]q%c(h%ch%ce" % (n, n + 1, n, n) for n in range(DEEP)),
    "a key": b"}" + TWICE_TUPLES + b"Ns",
    "keys": b"}(" + TWICE_TUPLES + b"Nu",
    "a key of an old dict": b"(" + TWICE_TUPLES + b"Nd",
    "members of a set": b"\x8f(" + TWICE_TUPLES + b"\x90",
    "members of a frozenset": b"(" + TWICE_TUPLES + b"\x91",
    "arguments": b"cshop\nOrder\n" + TWICE_TUPLES + b"R",
    "a state": b"cshop\nOrder\n)R" + TWICE_TUPLES + b"b",
}


@pytest.mark.parametrize("data", SHARED.values(), ids=SHARED.keys())
def test_what_would_be_endless_when_written_out_is_shown_in_short(data: bytes) -> None:
    text = base64.b64encode(data + b".").decode()

    shown = pretty_unpickle({"method": "m:f", "args": text, "kwargs": text})

    assert 100 < len(shown) < 3000
    assert "unreadable" not in shown


@pytest.mark.parametrize("data", SHARED.values(), ids=SHARED.keys())
def test_what_would_be_endless_is_no_error_class(data: bytes) -> None:
    names: tuple[str, ...] = ()
    with suppress(UnreadableItem):
        names = load_class_names(escape(data + b"."))

    assert names == ()


def test_one_long_tuple_for_many_calls_is_kept_once() -> None:
    calls = 20_000
    data = b"(" + b"N" * 20_000 + b"tq\x01(" + b"cshop\nOrder\nh\x01R" * calls + b"l."

    read = read_inert(data)

    assert len(read) == calls
    assert read[0].arguments is read[1].arguments


def test_one_long_collection_of_error_classes_in_many_places_is_looked_at_once() -> None:
    many = 300_000  # Looked at each time, it would outlast the test's time limit.
    data = b"cexceptions\nOSError\nq\x00(" + b"h\x00" * many + b"lq\x01(" + b"h\x01" * many

    assert load_class_names(escape(data + b"l.")) == ("builtins:OSError",)


def test_plain_values_are_shown_as_python_writes_them() -> None:
    value = ("x", 1, 2.5, None, True, [b"y"], {"k": (1,)}, {5}, set(), frozenset())

    assert show(read_inert(pickle.dumps(value, 4)), 1000) == (
        "('x', 1, 2.5, None, True, [b'y'], {'k': (1,)}, {5}, set(), set())"
    )


@given(VALUES, st.integers(0, 200))
def test_a_text_is_never_longer_than_asked(value: Any, limit: int) -> None:
    assert len(show(read_inert(pickle.dumps(value)), limit)) <= limit
