"""How long an item is worth running, and when it is due."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deferrable.errors import UnreadableItem
from deferrable.item import Item
from deferrable.lifecycle import add_ttl, expiry_time, is_expired, seconds_until_due, set_delay

moments = st.floats(min_value=0, max_value=4e9)
seconds = st.floats(min_value=0.001, max_value=1e8)


def test_an_item_without_ttl_never_expires() -> None:
    assert not is_expired({}, now=1e12)


def test_an_item_may_still_start_at_the_very_end_of_its_ttl() -> None:
    item: Item = {}
    add_ttl(item, 10, now=100)

    expired = [is_expired(item, now) for now in (100, 110, 110.001)]

    assert expired == [False, False, True]


@given(moments, seconds, seconds)
def test_an_item_expires_once_and_for_all(now: float, ttl: float, later: float) -> None:
    item: Item = {}
    add_ttl(item, ttl, now)
    end = expiry_time(item)
    assert end is not None

    assert is_expired(item, end + later)
    assert not is_expired(item, now)


@pytest.mark.parametrize("ttl", [0, None])
def test_a_ttl_of_nothing_is_without_end(ttl: float | None) -> None:
    item = {"ttl_seconds": ttl, "item_queued_timestamp": 1}

    assert not is_expired(item, now=1e12)


@pytest.mark.parametrize("field", ["ttl_seconds", "item_queued_timestamp"])
@pytest.mark.parametrize("value", ["soon", True, [], {}])
def test_a_ttl_that_is_no_number_is_unreadable_and_named(field: str, value: Any) -> None:
    item = {"ttl_seconds": 1, "item_queued_timestamp": 1, field: value}

    with pytest.raises(UnreadableItem, match=field):
        is_expired(item, now=100)


@given(moments, seconds)
def test_a_delayed_item_is_due_when_its_delay_has_passed(now: float, delay: float) -> None:
    item: Item = {}

    set_delay(item, delay, now, math.inf)

    assert item["due_time"] == now + delay
    assert item["delay"] == delay
    assert seconds_until_due(item, now + delay) == 0
    assert seconds_until_due(item, now) == pytest.approx(delay, abs=1e-6)


def test_a_delay_over_the_brokers_maximum_asks_it_for_the_maximum_only() -> None:
    item: Item = {}

    set_delay(item, 2000, 100, max_seconds=900)

    assert item == {"due_time": 2100, "delay": 900}


@pytest.mark.parametrize("seconds", [0, -1])
def test_without_a_delay_an_item_is_due_at_once(seconds: float) -> None:
    item: Item = {"due_time": 5}

    set_delay(item, seconds, 100, max_seconds=900)

    assert item == {"delay": 0}
    assert seconds_until_due(item, 0) == 0


def test_an_item_of_the_past_is_due() -> None:
    assert seconds_until_due({"due_time": 100}, now=101) == 0


@pytest.mark.parametrize("due_time", ["tomorrow", False, [1]])
def test_a_due_time_that_is_no_number_is_unreadable_and_named(due_time: Any) -> None:
    with pytest.raises(UnreadableItem, match="due_time"):
        seconds_until_due({"due_time": due_time}, now=100)
