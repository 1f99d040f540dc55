"""Fixtures that every test may ask for."""

import gc
import os
import signal
from collections.abc import Generator, Iterator

import pytest
from faces import face as face
from faces import how as how
from faces import kind as kind
from faces import make_face as make_face
from handle_shop import shop as shop
from handle_shop import shop_backend as shop_backend
from handle_shop import shop_clock as shop_clock
from hypothesis import HealthCheck, settings
from redis_server import KINDS, RedisServer, find_kind, start_redis
from sizes import sized
from sqs_server import exact_time as exact_time
from sqs_server import proxy as proxy
from sqs_server import sqs_group as sqs_group
from sqs_server import sqs_server as sqs_server
from sqs_server import standing_time as standing_time
from turns import pytest_collection_modifyitems as pytest_collection_modifyitems
from turns import pytest_xdist_make_scheduler as pytest_xdist_make_scheduler

# How long an example takes depends on what else the machine does, so no test is judged by it.
settings.register_profile(
    "any machine",
    max_examples=sized(25, 100),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("any machine")


@pytest.fixture
def anyio_backend() -> str:
    """asyncio is the one loop of this library."""
    return "asyncio"


def pytest_configure() -> None:
    """Have interrupts arrive in the programs that tests start.

    A shell makes its background jobs ignore them, and so does every program started from there.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Have no later garbage collection look at thousands of tests that stay until the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis of this session. A test that stops or reconfigures one starts another."""
    with start_redis() as server:
        yield server


@pytest.fixture(scope="module", params=KINDS)
def each_redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server of each kind that the README names, one after another."""
    with start_redis(program=find_kind(request.param)) as server:
        yield server


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> str:
    """The URL of a Redis: $REDIS_URL, or one started for this session."""
    named = os.environ.get("REDIS_URL")
    return named if named else str(request.getfixturevalue("redis_server").url)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make every report encodable: tests log texts that are not, and reports cross processes."""
    report = yield
    report.sections = [
        (title, text.encode("utf-8", "backslashreplace").decode())
        for title, text in report.sections
    ]
    return report
