"""What the body of an SQS message says: the forms that are written, and those that are read."""

import base64
import contextlib
import json
import math
import pickle
import random
import re
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deferrable._codec.json import dump
from deferrable._codec.python2.classic import dumps, escape
from deferrable.aio.backend.sqs import _bodies as _sqs_bodies
from deferrable.aio.backend.sqs._bodies import decode, encode
from deferrable.errors import UnreadableItem

NEVER = math.inf

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # JSON reads a pair of surrogates as the character that they stand for.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=20,
)
items = st.dictionaries(st.text(), json_values)
LARGE = {"id": "1", "args": "word " * 1000}


def python2_body(value: object) -> str:
    """As the first library wrote it, and boto around that."""
    return base64.b64encode(dumps(value).encode("ascii")).decode("ascii")


# What is written is read.


@given(items, st.sampled_from([0, 100, NEVER]))
@example(LARGE, 0)
def test_body_holds_the_item_that_it_was_written_for(item: Any, compress_over: float) -> None:
    body = encode(dump(item), compress_over)

    assert decode(body) == item


@given(items, st.sampled_from([0, 100, NEVER]))
@example(LARGE, 0)
def test_body_is_ascii_and_never_longer_than_the_text(item: Any, compress_over: float) -> None:
    text = dump(item)

    body = encode(text, compress_over)

    assert body.isascii()
    assert len(body) <= len(text)


def test_body_at_the_threshold_is_the_text_itself() -> None:
    text = dump(LARGE)

    assert encode(text, len(text)) == text
    assert len(encode(text, len(text) - 1)) < len(text) / 10


def test_text_that_compression_would_make_longer_stays_as_it_is() -> None:
    text = dump({"id": random.Random(1).randbytes(50).hex()})

    assert encode(text, 0) == text


def test_body_compressed_by_zlib_is_read_by_every_python() -> None:
    body = "zlib:" + base64.b64encode(zlib.compress(dump(LARGE).encode())).decode()

    assert decode(body) == LARGE


@pytest.mark.skipif(_sqs_bodies.zstd is not None, reason="this Python has zstd")
def test_body_compressed_by_what_this_python_lacks_says_which_python_has_it() -> None:
    with pytest.raises(UnreadableItem, match=r"zstd, which Python has from 3\.14 on"):
        decode("zstd:KLUv/SAAAQAA")


# Bodies are bounded.


def test_compressed_body_is_not_unfolded_beyond_the_limit() -> None:
    bomb = "zlib:" + base64.b64encode(zlib.compress(b" " * 50_000_000)).decode()
    tracemalloc.start()

    try:
        with pytest.raises(UnreadableItem, match="more than 1000000 bytes of text after decompr"):
            decode(bomb, 1_000_000)

        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_compressed_body_of_just_the_limit_is_read() -> None:
    text = dump(LARGE)

    assert decode(encode(text, 0), len(text)) == LARGE
    with pytest.raises(UnreadableItem):
        decode(encode(text, 0), len(text) - 1)


def shared_many_times(depth: int) -> list[Any]:
    """A small pickle, and ten to the power of `depth` members in JSON."""
    value: list[Any] = ["x"]
    for _ in range(depth):
        value = [value] * 10
    return value


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize("value", [shared_many_times(12), endless()], ids=["wide", "endless"])
def test_pickle_that_repeats_itself_is_not_unfolded_beyond_the_limit(value: object) -> None:
    with pytest.raises(UnreadableItem, match="not of an item"):
        decode(python2_body({"id": value}), 100_000)


# What Python 2 wrote.


@given(st.dictionaries(st.text(), st.recursive(st.integers() | st.text(), st.lists)))
def test_body_of_python2_is_read(item: Any) -> None:
    assert decode(python2_body(item)) == item


def test_body_of_python2_is_read_whatever_its_lines() -> None:
    body = base64.encodebytes(dumps(LARGE).encode()).decode()

    assert "\n" in body.strip()
    assert decode(body) == LARGE


def test_byte_strings_of_python2_that_are_no_text_are_kept_readable() -> None:
    pickled = rb"""(dS'id'
S'1'
sS'error_text'
S'caf\xe9'
s."""
    body = base64.b64encode(escape(pickled).encode()).decode()

    assert decode(body) == {"id": "1", "error_text": "caf\\xe9"}


class Exploit:
    """What runs when it is unpickled by the usual means."""

    ran = False

    def __reduce__(self) -> Any:
        return run, ()


def run() -> str:
    Exploit.ran = True
    return "ran"


@pytest.mark.parametrize("value", [Exploit(), {"id": Exploit()}], ids=["whole", "within"])
def test_nothing_in_a_pickle_is_run(value: object) -> None:
    with pytest.raises(UnreadableItem):
        decode(python2_body(value))

    assert not Exploit.ran


# What is no body.


def test_reference_without_a_store_says_what_its_reader_lacks() -> None:
    with pytest.raises(UnreadableItem, match=r"s3://bucket/name.*large_items=S3Store"):
        decode("s3://bucket/name")


UNREADABLE = {
    "empty": "",
    "list": "[1]",
    "number": "1234",
    "text": "hello",
    "broken JSON": '{"id": ',
    "deep JSON": '{"id":' + "[" * 100_000,
    "base64 of nothing known": base64.b64encode(b"hello").decode(),
    "pickle of a list": python2_body([1]),
    "pickle of numbered keys": python2_body({1: 2}),
    "pickle of keys that are tuples": python2_body({(1, 2): 2}),
    "pickle of infinity": python2_body({"id": math.inf}),
    "pickle of a new protocol, cut": base64.b64encode(pickle.dumps({"id": 1})[:-2]).decode(),
    "compressed nothing": "zlib:",
    "compressed, not base64": "zlib:*",
    "compressed, other data": "zlib:" + base64.b64encode(b"hello").decode(),
    "compressed, cut": "zlib:" + base64.b64encode(zlib.compress(b"{}")[:-1]).decode(),
    "compressed, and more": "zlib:" + base64.b64encode(zlib.compress(b"{}") + b"!").decode(),
    "compressed list": "zlib:" + base64.b64encode(zlib.compress(json.dumps([1]).encode())).decode(),
    "compressed non-text": "zlib:" + base64.b64encode(zlib.compress(b"\xff")).decode(),
    "surrogate": "\ud800",
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_body_that_holds_no_item_is_unreadable(body: str) -> None:
    with pytest.raises(UnreadableItem) as raised:
        decode(body)

    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("body", ["an  order of\t5", "zlib:a b"])
def test_error_of_a_body_shows_the_body_as_it_is(body: str) -> None:
    with pytest.raises(UnreadableItem, match=re.escape(repr(body))):
        decode(body)


@given(st.text() | st.binary().map(lambda data: "zlib:" + base64.b64encode(data).decode()))
def test_any_text_is_an_item_or_unreadable(body: str) -> None:
    with contextlib.suppress(UnreadableItem):
        assert isinstance(decode(body), dict)
