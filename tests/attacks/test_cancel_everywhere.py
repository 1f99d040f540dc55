"""Cancelled at any await, or with any call failing, nothing is lost.

The short version of ``attacks.cancel``: in memory every point of every scenario, but for the
longest, of which it takes some; on a real Redis, in a file and on SQS a handful.
"""

import logging
from collections.abc import Iterator
from functools import partial

import pytest

from attacks.places import PLACES
from attacks.scenarios import SCENARIOS
from attacks.sqs_place import MovedSQS, start_moved_sqs
from attacks.striking import STRIKES, Figures, Strike, strike_everywhere


@pytest.fixture(autouse=True)
def silence(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What a strike breaks is logged, thousands of times."""
    with caplog.at_level(logging.CRITICAL + 1, logger="deferrable"):
        yield


@pytest.mark.parametrize("strike", STRIKES, ids=str)
@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_lost_wherever_it_is_struck(name: str, strike: Strike) -> None:
    figures = Figures()
    stride = 5 if SCENARIOS[name].is_long else 1

    points = strike_everywhere(
        lambda: PLACES["memory"].make(None), name, strike, figures, stride=stride
    )

    assert figures.runs == points // stride + 1
    assert figures.lost == 0


@pytest.mark.parametrize("strike", [STRIKES[0], STRIKES[2], STRIKES[4], STRIKES[5]], ids=str)
@pytest.mark.parametrize("name", ["run", "retry", "error", "debounce, delayed"])
def test_nothing_is_lost_on_redis_wherever_it_is_struck(
    name: str, strike: Strike, redis_url: str
) -> None:
    figures = Figures()

    strike_everywhere(partial(PLACES["dockets"].make, redis_url), name, strike, figures, stride=3)

    assert figures.lost == 0


@pytest.mark.parametrize("strike", [STRIKES[0], STRIKES[2], STRIKES[4], STRIKES[5]], ids=str)
@pytest.mark.parametrize("name", ["run", "retry", "error", "debounce, delayed"])
def test_nothing_is_lost_in_a_file_wherever_it_is_struck(name: str, strike: Strike) -> None:
    figures, kind = Figures(), PLACES["sqlite"]

    with kind.start() as path:
        strike_everywhere(partial(kind.make, path), name, strike, figures, stride=3)

    assert figures.lost == 0


@pytest.fixture(scope="module")
def sqs() -> Iterator[MovedSQS]:
    with start_moved_sqs() as sqs:
        yield sqs


@pytest.mark.parametrize("strike", [STRIKES[0], STRIKES[1], STRIKES[5]], ids=str)
@pytest.mark.parametrize("name", ["run", "retry"])
def test_nothing_is_lost_on_sqs_wherever_it_is_struck(
    name: str, strike: Strike, sqs: MovedSQS
) -> None:
    figures = Figures()
    stride = 1 if strike.moment else 20

    strike_everywhere(
        partial(PLACES["sqs"].make, sqs), name, strike, figures, first=stride - 1, stride=stride
    )

    assert figures.runs > 1
    assert figures.lost == 0
