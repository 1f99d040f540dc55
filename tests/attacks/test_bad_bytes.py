"""No bytes make a process crash, hang, grow or run code.

The short version of ``attacks.fuzz``: Hypothesis spoils the examples, so that a failure is shrunk.
"""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sizes import sized

from attacks.decoders import DECODERS
from attacks.feeding import feed, warm_up
from attacks.fuzz import Feeding, spoilt
from attacks.guard import CodeRan, watching
from attacks.spoiling import TOKENS, bombs, monsters

HUGE = sized(2_000_000, 10_000_000)
PIECES = st.one_of(st.binary(max_size=20), st.sampled_from(TOKENS))


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    warm_up()


@pytest.fixture(autouse=True)
def silence(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """To write a traceback, logging opens files, which would count as an attack."""
    with caplog.at_level(logging.CRITICAL + 1, logger="deferrable"):
        yield


@st.composite
def spoilt_example(draw: st.DrawFn, name: str) -> bytes:
    """An example with some pieces cut out and others put there."""
    data = draw(st.sampled_from(DECODERS[name].examples))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.integers(0, 10))
        data = data[:start] + draw(PIECES) + data[end:]
    return data


@pytest.mark.parametrize("name", DECODERS)
def test_decoder_refuses_bad_bytes_and_runs_nothing(name: str) -> None:
    @settings(
        max_examples=sized(20, 100),
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(spoilt_example(name), st.lists(PIECES, max_size=8).map(b"".join)))
    def check(data: bytes) -> None:
        feed(DECODERS[name], data)

    check()


def test_decoders_refuse_thousands_of_spoilt_examples() -> None:
    feeding = Feeding()

    for name, data, told in spoilt(seed=2, count=3000):
        feeding(name, data, told)

    assert feeding.failures == 0
    assert set(feeding.read) == set(DECODERS)  # not all is refused at first sight


@pytest.mark.parametrize("name", DECODERS)
def test_decoder_bears_what_is_nested_and_what_is_huge(name: str) -> None:
    for _, data in monsters(HUGE):
        feed(DECODERS[name], data)


@pytest.mark.parametrize("name", DECODERS)
def test_decoder_bears_pickles_that_are_more_than_they_look(name: str) -> None:
    for _, data in bombs():
        feed(DECODERS[name], data)


def test_code_that_runs_is_seen() -> None:
    with pytest.raises(CodeRan, match="open"), watching(may_make_objects=True):
        open("/dev/null").close()
    with pytest.raises(CodeRan, match="compile"), watching(may_make_objects=False):
        compile("1", "x", "eval")
    open("/dev/null").close()
