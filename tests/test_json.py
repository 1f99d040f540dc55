"""Items as JSON text: two encoders and two decoders, with the same results."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deferrable._codec.json import as_read_back, dump, load
from deferrable.errors import SerializationError, UnreadableItem

texts = st.text(st.characters(codec=None))  # lone surrogates, too
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4)
)
items = st.dictionaries(texts, values, max_size=6)


@given(items)
def test_what_was_written_is_read_as_it_was(item: dict[str, Any]) -> None:
    text = dump(item)

    assert repr(load(text)) == repr(item)
    assert repr(load(text.encode())) == repr(item)


@given(items)
def test_what_was_written_is_ascii_and_the_standard_library_reads_it(item: dict[str, Any]) -> None:
    text = dump(item)

    assert text.isascii()
    assert repr(json.loads(text)) == repr(item)


@given(items)
def test_what_is_known_to_be_plain_is_written_as_it_would_be_after_a_look(
    item: dict[str, Any],
) -> None:
    assert dump(item, is_plain=True) == dump(item)


def test_what_was_wrongly_known_to_be_plain_is_written_as_it_would_be_after_a_look() -> None:
    class Seconds(float):
        pass

    class Text(str):
        __slots__ = ()

    item = {"a": Seconds(1.5), "b": [Text("ü")], Text("c"): 2**70}

    assert dump(item, is_plain=True) == dump(item)


@given(values, st.sampled_from([None, 2]))
def test_what_the_standard_library_wrote_is_read(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)

    assert repr(load(text)) == repr(value)


@given(st.recursive(values, lambda inner: st.lists(inner, max_size=3).map(tuple)))
def test_a_value_is_what_the_standard_library_reads_of_what_it_wrote(value: Any) -> None:
    assert repr(as_read_back(value)) == repr(json.loads(json.dumps(value)))


@pytest.mark.parametrize("value", [(math.nan,), [1, (math.inf,)], {"a": [-math.inf]}])
def test_a_number_that_json_does_not_have_is_not_read_back_as_something_else(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        as_read_back(value)


@pytest.mark.parametrize(
    "wrap", [lambda value: {"a": value}, lambda value: {"a": {"b": [1, value]}}]
)
@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, (1,), {1: 2}, {None: 1}, b"bytes", {1}, object()]
)
def test_what_json_would_change_is_refused(wrap: Any, value: Any) -> None:
    with pytest.raises(SerializationError):
        dump(wrap(value))


@pytest.mark.parametrize("text", ["1e400", "-1e400", "[NaN]", "Infinity", "[1,]", "", "\ufeff1"])
def test_what_is_no_json_or_no_number_of_ours_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableItem):
        load(text)


def test_nesting_beyond_the_stack_is_refused_in_both_directions() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]

    with pytest.raises(SerializationError):
        dump({"a": deep})
    with pytest.raises(UnreadableItem):
        load("[" * 100_000 + "]" * 100_000)
