"""The backoff: the old library's formula, and its properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deferrable.lifecycle import MAX_BACKOFF_SECONDS, backoff_seconds

attempts = st.integers(min_value=1, max_value=10**30)
draws = st.floats(min_value=0, max_value=1)


def test_the_backoff_is_the_old_librarys_series() -> None:
    series = [backoff_seconds(attempts) for attempts in range(1, 12)]

    assert series == [4, 6, 10, 18, 34, 66, 130, 258, 514, 900, 900]


@given(attempts)
def test_the_backoff_never_shrinks_and_never_exceeds_its_maximum(attempts: int) -> None:
    seconds, next_seconds = backoff_seconds(attempts), backoff_seconds(attempts + 1)

    assert 4 <= seconds <= next_seconds <= MAX_BACKOFF_SECONDS


@given(attempts, draws)
def test_a_jittered_backoff_is_between_half_and_all_of_it(attempts: int, draw: float) -> None:
    whole = backoff_seconds(attempts)

    jittered = backoff_seconds(attempts, draw)

    assert whole / 2 <= jittered <= whole


@given(attempts, draws, draws)
def test_a_larger_draw_never_waits_less(attempts: int, draw: float, other: float) -> None:
    low, high = sorted([draw, other])

    assert backoff_seconds(attempts, low) <= backoff_seconds(attempts, high)


@pytest.mark.parametrize("attempts", [10**6, 10**300])
def test_an_absurd_number_of_attempts_is_no_overflow(attempts: int) -> None:
    assert backoff_seconds(attempts) == MAX_BACKOFF_SECONDS
