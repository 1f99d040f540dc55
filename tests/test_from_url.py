"""Factories from a URL: what each URL means, what is refused, and that no password is shown."""

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from processes import DEADLINE_SECONDS, ROOT, run_program
from redis_server import unique_group
from sqs_server import SQSServer
from warm_python import run_python

import deferrable
import deferrable.aio
from deferrable._extras import install_command
from deferrable.aio import backend as awaiting
from deferrable.aio.backend._url import factory_call
from deferrable.errors import InvalidOptions
from deferrable.testing import MovingClock

PASSWORD = "pass-of-the-broker"

each_api = pytest.mark.parametrize("api", [deferrable.backend, awaiting], ids=["blocking", "aio"])


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEFERRABLE_URL", raising=False)


# What a URL makes.


@each_api
@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("memory://", "InMemoryBackendFactory"),
        ("sqlite:///jobs.db", "SQLiteBackendFactory"),
        ("sqlite:////var/lib/app/jobs.db", "SQLiteBackendFactory"),
        ("redis://localhost:6379/0", "DocketsBackendFactory"),
        ("rediss://localhost", "DocketsBackendFactory"),
        ("unix:///run/redis.sock?db=2", "DocketsBackendFactory"),
        ("sqs://", "SQSBackendFactory"),
        ("sqs://eu-west-1", "SQSBackendFactory"),
        ("REDIS://localhost", "DocketsBackendFactory"),
        (" memory:// \n", "InMemoryBackendFactory"),
    ],
)
def test_url_gives_the_factory_of_its_backend(api: Any, url: str, name: str) -> None:
    factory = api.from_url(url)

    assert type(factory) is getattr(api, name)
    assert isinstance(factory.create_backend_for_group("jobs"), api.Backend)


@each_api
def test_variable_is_read_without_a_url(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFERRABLE_URL", "memory://?visibility_timeout=7")

    backend = api.from_url().create_backend_for_group("jobs")

    assert backend.queue.lease_seconds == 7


@each_api
def test_given_url_overrides_the_variable(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFERRABLE_URL", "sqs://")

    assert isinstance(api.from_url("memory://"), api.InMemoryBackendFactory)


def test_factory_shows_where_its_backends_are_and_no_password() -> None:
    blocking, core = deferrable.backend.from_url, awaiting.from_url
    url = f"redis://user:{PASSWORD}@host:7000/3"

    assert repr(core(url)) == "<DocketsBackendFactory host:7000 (database 3)>"
    assert repr(blocking(url)) == f"<blocking {core(url)!r}>"


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@host:7000/3?socket_timeout=5",
        "rediss://user:secret@host?ssl_cert_reqs=none",
        "unix:///run/redis.sock?db=4&password=a%26b",
    ],
)
def test_redis_py_gets_its_own_parameters_as_they_are_written(url: str) -> None:
    call = factory_call(f"{url}&wait_time=2&visibility_timeout=60", {})

    assert call.arguments == (url,)
    assert call.settings == {"wait_time": 2, "timeout": 60}


@pytest.mark.parametrize("backend", ["memory://", "sqlite:///a.db", "redis://localhost", "sqs://"])
def test_lease_and_wait_have_one_name_for_every_backend(backend: str) -> None:
    by_url = awaiting.from_url(f"{backend}?visibility_timeout=60&wait_time=2")
    by_code = awaiting.from_url(backend, visibility_timeout=60, wait_time=2)

    assert by_url.create_backend_for_group("a").queue.lease_seconds == 60
    assert by_code.create_backend_for_group("a").queue.lease_seconds == 60
    waits = factory_call(f"{backend}?wait_time=2", {}).settings.values()
    assert list(waits) == [2]


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///jobs.db", "jobs.db"),
        ("sqlite:///some/folder/jobs.db", "some/folder/jobs.db"),
        ("sqlite:////var/lib/app/jobs.db", "/var/lib/app/jobs.db"),
        ("sqlite:///the%20jobs%3F.db", "the jobs?.db"),
        ("sqlite:///jobs@home.db?wait_time=1", "jobs@home.db"),
    ],
)
def test_path_of_a_file_follows_three_slashes(url: str, path: str) -> None:
    assert factory_call(url, {}).arguments == (path,)


def test_durability_of_a_file_is_a_setting() -> None:
    call = factory_call("sqlite:///jobs.db?durability=process&max_redeliveries=3", {})

    assert call.settings == {"durability": "process", "max_redeliveries": 3}
    awaiting.from_url("sqlite:///jobs.db?durability=process")


def test_setting_in_the_url_overrides_the_one_in_the_code() -> None:
    factory = awaiting.from_url("memory://?visibility_timeout=60", visibility_timeout=5)

    assert factory.create_backend_for_group("a").queue.lease_seconds == 60


def test_objects_are_given_in_the_code() -> None:
    clock = MovingClock()

    backend = awaiting.from_url("memory://", clock=clock).create_backend_for_group("a")

    assert backend.queue.clock is clock


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("create=false", False),
        ("create=True", True),
        ("create=0", False),
        ("create=1", True),
        ("max_receive_count=7", 7),
        ("wait_time=0", 0.0),
        ("visibility_timeout=1.5", 1.5),
        ("compress_over_bytes=20000", 20_000.0),
        ("name_suffix=staging", "staging"),
        ("name_suffix=a%2Db", "a-b"),
        ("queue_url=https://sqs.eu-west-1.amazonaws.com/1/a", None),
        ("endpoint_url=http%3A%2F%2Flocalhost%3A4566", "http://localhost:4566"),
    ],
)
def test_parameter_becomes_a_value_of_its_type(parameter: str, value: object) -> None:
    (found,) = factory_call(f"sqs://?{parameter}", {}).settings.values()

    expected = parameter.partition("=")[2] if value is None else value
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("backend", "objects"),
    [
        ("memory", {"clock"}),
        ("sqlite", {"clock"}),
        ("redis", {"clock"}),
        (
            "sqs",
            {
                *("clock", "error_queue_attributes", "foreign", "large_items"),
                *("queue_attributes", "sqs_connection", "tags"),
            },
        ),
    ],
)
def test_text_can_say_every_setting_but_objects(backend: str, objects: set[str]) -> None:
    backend = "sqlite:///a.db" if backend == "sqlite" else f"{backend}://"
    factory = factory_call(backend, {}).factory
    readable = set()
    for name in inspect.signature(factory).parameters:
        try:
            factory_call(f"{backend}?{name}=1", {})
        except InvalidOptions as error:
            if "which is an object" not in str(error):
                continue
        else:
            continue
        readable.add(name)

    assert readable == objects


def test_region_of_the_url_is_the_one_of_the_queue() -> None:
    call = factory_call("sqs://ap-south-1/?name_suffix=a", {"region_name": "eu-west-1"})

    assert call.settings == {"region_name": "ap-south-1", "name_suffix": "a"}


# What is refused.


@each_api
@pytest.mark.parametrize("value", [None, "", " \n"])
def test_missing_variable_is_an_error_with_examples(
    api: Any, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is not None:
        monkeypatch.setenv("DEFERRABLE_URL", value)

    with pytest.raises(
        InvalidOptions, match=r"DEFERRABLE_URL is not set.*sqlite:///.*redis://.*sqs://"
    ):
        api.from_url()


REFUSED = [
    ("", "begins with SCHEME://"),
    ("jobs.db", "begins with SCHEME://"),
    ("://host", "begins with SCHEME://"),
    ("my scheme://host", "begins with SCHEME://"),
    ("amqp://host", "begins with amqp://; write one such as"),
    ("redis+sentinel://host/primary", "give the client of redis-py to DocketsBackendFactory"),
    ("valkey://host", "write redis://"),
    ("sqlite://", "three slashes"),
    ("sqlite:///", "three slashes"),
    ("sqlite:////", "three slashes"),
    ("sqlite://jobs.db", "three slashes"),
    ("sqlite:///folder/", "three slashes"),
    ("sqlite:///:memory:", "InMemoryBackendFactory"),
    ("sqlite:///jobs.db?durability=none", "durability is 'full'"),
    ("sqlite:///jobs.db?mode=ro", "no setting 'mode'; it has .*durability"),
    ("memory://host", "no host and no path"),
    ("memory:///path", "no host and no path"),
    ("memory://?waittime=3", "no setting 'waittime'; it has max_lease_seconds, .*, wait_time$"),
    ("memory://?timeout=3", "write visibility_timeout for its lease, or wait_time"),
    ("redis://host?timeout=3", "write visibility_timeout for its lease, or wait_time"),
    ("redis://host?wait_tme=3", "no setting 'wait_tme'; it has .*wait_time"),
    ("redis://host/jobs", "not a number"),
    ("sqs://localhost:4566", r"sqs://\?endpoint_url=http://HOST:PORT"),
    ("sqs://eu-west-1?region_name=eu-west-2", "region_name twice"),
    ("sqs://?wait_time=1&wait_time=2", "wait_time twice"),
    ("sqs://?max_redeliveries=3", "no setting 'max_redeliveries'; it has .*max_receive_count"),
    ("sqs://?tags=a", "tags, which is an object"),
    ("sqs://?create=no", "create is true or false; the URL has 'no'"),
    ("sqs://?create", "create is true or false; the URL has ''"),
    ("sqs://?max_receive_count=2.5", "a whole number such as 10; the URL has '2.5'"),
    ("sqs://?name_suffix=", "name_suffix needs a value"),
    ("sqs://?compress_over_bytes=many", "a number such as 20000; the URL has 'many'"),
    ("sqs://?queue_url=http://[::1", "is not the URL of a queue"),
    *(
        (f"memory://?wait_time={text}", "wait_time must be a number of seconds")
        for text in ("5s", "", "-1", "nan", "inf", "1e3", "1_000", "%205", "9" * 400)
    ),
    ("redis://host?visibility_timeout=0", "visibility_timeout must be a number of seconds over 0"),
]


@each_api
@pytest.mark.parametrize(("url", "message"), REFUSED, ids=[url[:40] for url, _ in REFUSED])
def test_what_no_backend_can_use_is_refused_with_a_reason(api: Any, url: str, message: str) -> None:
    with pytest.raises(InvalidOptions, match=message):
        api.from_url(url)


@each_api
def test_setting_that_the_backend_does_not_have_is_refused(api: Any) -> None:
    with pytest.raises(InvalidOptions, match="SQS backend has no setting 'max_redeliveries'"):
        api.from_url("sqs://", max_redeliveries=3)
    with pytest.raises(InvalidOptions, match="visibility_timeout must be a number of seconds"):
        api.from_url("redis://localhost", visibility_timeout="60")


@pytest.mark.parametrize("value", [7, b"redis://localhost", Path("jobs")])
def test_what_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(InvalidOptions, match=f"got a value of type {type(value).__name__}"):
        awaiting.from_url(value)


@pytest.mark.parametrize(
    "url",
    [
        PASSWORD,
        f"user:{PASSWORD}@host",
        f"postgres://user:{PASSWORD}@host/0",
        f"memory://:{PASSWORD}@host",
        f"redis://:{PASSWORD}/tail@host/0",
        f"redis://:a?{PASSWORD}=1@host/0",
        f"redis://:a?wait_time={PASSWORD}@host/0",
        f"redis://:{PASSWORD}@host/0?wait_tme=1",
        f"redis://:{PASSWORD}@host/0?wait_time=x",
        f"redis://host/0?password={PASSWORD}&wait_time=x",
        f"redis://host:{PASSWORD}",
        f"sqlite://user:{PASSWORD}@host/jobs.db",
        f"sqs://KEY:{PASSWORD}@",
        f"sqs://KEY:{PASSWORD}@eu-west-1?create=maybe",
        f"sqs://KEY:{PASSWORD}",
    ],
)
def test_no_error_shows_a_password(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFERRABLE_URL", url)
    with pytest.raises(InvalidOptions) as caught:
        awaiting.from_url()

    error: BaseException | None = caught.value
    while error is not None:
        assert PASSWORD not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [("redis://localhost", "redis", "redis"), ("sqs://", "aiobotocore", "sqs")],
)
@pytest.mark.parametrize("api", ["deferrable.backend", "deferrable.aio.backend"])
def test_missing_extra_is_named(api: str, url: str, package: str, extra: str) -> None:
    (message,) = run_program(
        f"""
        import sys
        sys.modules[{package!r}] = None
        import {api}
        {api}.from_url("memory://")
        try:
            {api}.from_url({url!r})
        except ImportError as error:
            print(error)
        """
    )

    assert install_command(extra) in message


def test_both_apis_take_the_same_parameters_and_document_them() -> None:
    blocking, core = deferrable.backend.from_url, awaiting.from_url

    assert inspect.signature(blocking).parameters == inspect.signature(core).parameters
    assert get_type_hints(blocking)["return"] is deferrable.BackendFactory
    assert get_type_hints(core)["return"] is deferrable.aio.BackendFactory
    assert blocking.__doc__
    assert core.__doc__


# One unchanged program.

PROGRAM = """
import os
import sys

from deferrable import Deferrable, backend

shop = Deferrable(backend.from_url(wait_time=1).create_backend_for_group(os.environ["GROUP"]))


@shop.deferrable(error_classes=[ConnectionError], use_exponential_backoff=False)
def charge(order, attempts=[]):
    attempts.append(order)
    if order == 2 and attempts.count(2) == 1:
        raise ConnectionError("the bank does not answer")
    return f"charged {order}"


@shop.deferrable
def ship(order):
    raise KeyError(order)


if "push" in sys.argv:
    for order in (1, 2, 3):
        charge.later(order)
    ship.options(delay_seconds=1).later(3)
    print("pushed")
if "run" in sys.argv:
    outcomes = []
    while len(outcomes) < 5:
        outcome = shop.run_once()
        if outcome is not None:
            outcomes.append(f"{outcome.status}: {outcome.result or repr(outcome.error)}")
    print(*sorted(outcomes), sep="\\n")
    for entry in shop.errors():
        print("error queue:", entry.call.args, entry.error["error_type"])
        entry.discard()
    shop.close()
"""
OUTCOMES = """\
completed: charged 1
completed: charged 2
completed: charged 3
errored: KeyError(3)
retried: ConnectionError('the bank does not answer')
error queue: (3,) KeyError
"""


@pytest.fixture(params=["memory", "sqlite", "redis", "sqs"])
def variables(request: pytest.FixtureRequest) -> Mapping[str, str]:
    """The environment of the program, which differs in the one variable."""
    if request.param == "memory":
        return {"DEFERRABLE_URL": "memory://"}
    if request.param == "sqlite":
        return {"DEFERRABLE_URL": "sqlite:///jobs.db"}
    if request.param == "redis":
        return {"DEFERRABLE_URL": request.getfixturevalue("redis_url")}
    server: SQSServer = request.getfixturevalue("sqs_server")
    request.getfixturevalue("sqs_group")
    server.set_environment(request.getfixturevalue("monkeypatch"))
    return {"DEFERRABLE_URL": f"sqs://?endpoint_url={server.url}&create=true"}


def test_one_variable_moves_an_unchanged_program(
    variables: Mapping[str, str], tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(PROGRAM)
    environment = {
        **os.environ,
        "GROUP": unique_group(),
        "PYTHONPATH": str(ROOT),
        **variables,
    }
    is_in_memory = variables["DEFERRABLE_URL"].startswith("memory")
    printed = ""

    # A producer and a consumer are two processes, but for the backend in this process's memory.
    for words in [("push", "run")] if is_in_memory else [("push",), ("run",)]:
        done = run_python(
            ["shop.py", *words], cwd=tmp_path, env=environment, timeout=DEADLINE_SECONDS
        )
        assert done.returncode == 0, done.stderr
        printed += done.stdout

    assert printed == f"pushed\n{OUTCOMES}"
