"""No argument, password or key in what people read: logs, errors, objects' texts, the terminal."""

import asyncio
import logging
import signal
import socket
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

import pytest
from commands import Command, PythonProcess, run_command
from dockets_place import Place
from faces import LEASE_SECONDS, Face, MakeFace
from redis_server import RedisServer, free_port, start_redis

from deferrable import MetadataProducerConsumer
from deferrable._codec.serializers import get_serializer
from deferrable.aio import Deferrable, Queue
from deferrable.aio.backend import DocketsBackendFactory, RedisDebounceStore
from deferrable.aio.backend._redis.errors import refused
from deferrable.backend import DocketsBackendFactory as BlockingFactory
from deferrable.errors import (
    BackendError,
    InvalidOptions,
    SerializationError,
    UnserializableCall,
)
from deferrable.outcome import Outcome

pytestmark = pytest.mark.anyio

SECRET = "4111-1111-1111-1111"
PASSWORD = "pass-of-the-broker"
SERIALIZERS = ("pickle", "json", "classic")


class Colour(Enum):
    RED = "red"


@dataclass
class Card:
    number: str
    lock: Any = None


class Tracer(MetadataProducerConsumer):
    NAMESPACE = "trace"

    def produce_metadata(self) -> str:
        return SECRET


class BrokenConsumer:
    def on_pop(self, item: Any) -> NoReturn:
        raise LookupError("a handler that is broken")


def succeed(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def fail(*args: Any, **kwargs: Any) -> NoReturn:
    raise ValueError("a job that is broken")


def paint(colour: Colour) -> None: ...


def defer_again(number: str) -> NoReturn:
    get_serializer("json").dump_call("m:f", (Card(number, object()),), {})
    raise AssertionError


def shown(records: list[logging.LogRecord]) -> str:
    """Everything that is logged above DEBUG, with tracebacks."""
    formatter = logging.Formatter("%(name)s %(message)s")
    return "\n".join(formatter.format(each) for each in records if each.levelno > logging.DEBUG)


def told(error: BaseException | None) -> str:
    return "" if error is None else "".join(traceback.format_exception(error))


async def run_all(face: Face) -> list[Outcome]:
    """Run what is there, and what it leaves, until nothing is."""
    outcomes: list[Outcome] = []
    while True:
        outcome = await face.run_once()
        if outcome is None:
            if (await face.stats())[2] == 0:
                return outcomes
            face.clock.advance(1000)
        else:
            outcomes.append(outcome)


@pytest.mark.parametrize("serializer", SERIALIZERS)
async def test_no_argument_shows_in_logs_errors_or_outcomes(
    make_face: MakeFace, serializer: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    # `paint` is deferred with what is no colour, as by a producer that is older than its consumer.
    face = make_face(serializer=serializer, check_arguments=False)
    face.instance.register_metadata_producer_consumer(Tracer())
    face.instance.register_event_consumer(BrokenConsumer())
    options: dict[str, Any] = {"name": None}  # a classic item has no other name than its function's
    for job in (
        face.job(succeed, **options),
        face.job(fail, **options, error_classes=[ValueError], max_attempts=2),
        face.job(paint, **options),
    ):
        await face.later(job, SECRET, **({} if job.function is paint else {"key": [SECRET]}))
        await face.later(job.options(ttl_seconds=1), SECRET)
    item = await face.take()
    assert item is not None
    for change in BROKEN:
        await face.broker.queue.push({**item, **change})
        await face.broker.queue.push(
            {key: value for key, value in item.items() if key not in change}
        )
    encoded = item["args"] if isinstance(item["args"], str) else SECRET

    outcomes = await run_all(face)

    assert {each.status for each in outcomes} >= {"completed", "errored", "retried"}
    texts = [shown(caplog.records), *map(repr, outcomes), *(told(each.error) for each in outcomes)]
    assert "a handler that is broken" in texts[0]
    assert not [text for text in texts if SECRET in text or encoded in text]


BROKEN: list[dict[str, Any]] = [
    {"args": get_serializer("pickle").dump_value([SECRET])},
    {"args": get_serializer("classic").dump_value(SECRET)},
    {"args": SECRET},
    {"args": {"number": SECRET}},
    {"kwargs": SECRET},
    {"kwargs": [SECRET]},
    {"kwargs": get_serializer("pickle").dump_value({SECRET.encode(): 1})},
    {"kwargs": get_serializer("classic").dump_value([[SECRET]])},
    {"method": [SECRET]},
    {"metadata": SECRET},
    {"metadata": {"trace": [SECRET]}},
]


async def test_a_call_that_is_refused_inside_a_job_shows_no_argument(
    face: Face, caplog: pytest.LogCaptureFixture
) -> None:
    await face.later(face.job(defer_again), SECRET)

    outcome = await face.run()

    assert isinstance(outcome.error, UnserializableCall)
    assert "test_secrets.Card" in str(outcome.error)
    assert SECRET not in shown(caplog.records) + told(outcome.error)


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_a_refused_call_names_the_argument_by_type(serializer: str) -> None:
    with pytest.raises(UnserializableCall, match=r"'card' of m:f .*test_secrets\.Card") as e:
        get_serializer(serializer).dump_call("m:f", (), {"card": Card(SECRET, lambda: 0)})

    assert SECRET not in told(e.value)


async def test_an_item_that_is_no_json_is_told_by_its_fields(
    face: Face, caplog: pytest.LogCaptureFixture
) -> None:
    item = {"id": "x", "args": [SECRET], "lock": {SECRET}}

    assert [ok for _, ok in await face.broker.queue.push_batch([item])] == [False]
    with pytest.raises(SerializationError, match="'id', 'args', 'lock'"):
        await face.broker.queue.push(item)

    assert "not made of JSON values" in shown(caplog.records)
    assert SECRET not in shown(caplog.records)


async def test_a_lease_lost_or_given_back_shows_no_argument(
    face: Face, caplog: pytest.LogCaptureFixture
) -> None:
    async def outlast() -> None:
        face.clock.advance(LEASE_SECONDS * 100)

    await face.later(face.job(lambda number: outlast(), name="job"), SECRET)

    outcome = await face.run()

    assert outcome.status == "lost"
    assert SECRET not in shown(caplog.records) + repr(outcome)


async def test_what_cannot_be_read_in_redis_shows_no_argument(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    place = Place(redis_server)
    place.put(f'{{"item": "{SECRET}"}}', f'{{"item": {SECRET}', f'["{SECRET}"]')
    place.dead_worker(f'{{"item": {SECRET}', f'{{"item": "{SECRET}"}}')
    queue: Queue = place.queue(wait_time=0)

    for _ in range(3):
        assert await queue.pop() == (None, None)

    assert "unreadable" in shown(caplog.records)
    assert SECRET not in shown(caplog.records)
    assert len(place.errors()) == 5
    assert not [each for each in place.errors().values() if SECRET in str(each["error"])]
    await place.close()


# --- Credentials --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locked_server() -> Iterator[RedisServer]:
    with start_redis(config={"requirepass": PASSWORD}) as server:
        yield server


def with_password(url: str, password: str = PASSWORD) -> str:
    return url.replace("//", f"//ann:{password}@")


async def test_no_password_shows_in_the_text_of_an_object_or_a_log(
    locked_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = locked_server.url.replace("//", f"//:{PASSWORD}@")
    factory = DocketsBackendFactory(url, wait_time=0)
    backend = factory.create_backend_for_group(None)
    instance = Deferrable(backend, url)
    job = instance.deferrable(name="job", debounce_seconds=10)(fail)

    await job.later_async(1)
    outcome = await instance.run_once()
    objects = [
        factory, backend, backend.queue, backend.error_queue, instance, instance.debounce_store,
        job, outcome, instance.errors(), instance.worker(), RedisDebounceStore(url),
        BlockingFactory(url), BlockingFactory(url).create_backend_for_group(None).queue,
    ]  # fmt: skip
    await instance.close()

    assert PASSWORD not in shown(caplog.records)
    assert not [each for each in map(repr, objects) if PASSWORD in each]


async def failure_of(url: str) -> BackendError:
    factory = DocketsBackendFactory(url, wait_time=0)
    async with factory.create_backend_for_group(None) as backend:
        with pytest.raises(BackendError) as caught:
            await backend.queue.push({})
    return caught.value


async def test_no_password_shows_when_the_broker_sends_us_away(locked_server: RedisServer) -> None:
    error = await failure_of(with_password(locked_server.url, "wrong-pass-of-ann"))

    assert "refused the connection" in str(error)
    assert "wrong-pass-of-ann" not in told(error)


async def test_no_password_shows_when_the_broker_is_away() -> None:
    error = await failure_of(with_password(f"redis://127.0.0.1:{free_port()}/0"))

    assert "cannot be reached" in str(error)
    assert PASSWORD not in told(error)


async def test_no_password_shows_when_a_server_repeats_it() -> None:
    """As one without AUTH does: ``unknown command 'AUTH', with args beginning with: ...``."""

    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words = (await reader.read(1000)).decode().split("\r\n")
        writer.write(
            f"-ERR unknown command 'AUTH', with args beginning with: {words}\r\n".encode() * 5
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(repeat, "127.0.0.1", 0, family=socket.AF_INET)
    port = server.sockets[0].getsockname()[1]
    error = await failure_of(with_password(f"redis://127.0.0.1:{port}/0"))
    server.close()
    await server.wait_closed()

    assert "unknown command 'AUTH'" in str(error)
    assert PASSWORD not in told(error)


def test_an_error_reply_is_shown_without_the_arguments_that_it_repeats() -> None:
    error = refused("here", f"ERR unknown command 'EVALSHA', with args beginning with: '{SECRET}'")

    assert "unknown command 'EVALSHA'" in str(error)
    assert SECRET not in told(error)


@pytest.mark.parametrize(
    "url",
    [
        "redis://ann:pw/of-ann@localhost:6379/0",
        "redis://ann:12/of-ann@localhost:6379/0",
        "redis://ann:pw#of-ann@localhost:6379/0",
        "redis://ann:pw?of-ann@localhost:6379/0",
        "redis://ann:of-ann@localhost:port/0",
        "redis://ann:of-ann℀@localhost:6379/0",
        "redis://ann:of-ann@[::1/0",
        "rediss://ann:of-ann@localhost/0?port=of-ann&max_connections=of-ann",
        "amqp://ann:of-ann@localhost",
    ],
)
def test_a_url_that_is_none_is_not_shown(url: str) -> None:
    with pytest.raises(InvalidOptions, match="percent-encoded") as caught:
        DocketsBackendFactory(url)

    assert "of-ann" not in told(caught.value)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("url", ["redis://ann:p%2Fw%40@localhost:6379/0", "unix:///a@b.sock"])
def test_a_url_with_an_encoded_password_is_read(url: str) -> None:
    assert "ann" not in repr(DocketsBackendFactory(url))


def write_app(folder: Path, url: str) -> None:
    (folder / "app.py").write_text(
        "from deferrable import Deferrable\n"
        "from deferrable.backend import DocketsBackendFactory\n"
        f"factory = DocketsBackendFactory({url!r}, wait_time=0.1)\n"
        "instance = Deferrable(\n"
        "    factory.create_backend_for_group(None), signing_keys=['a key that is long']\n"
        ")\n"
        "@instance.deferrable\n"
        "def send(number, fails):\n"
        "    assert not fails, 'a job that is broken'\n"
    )


def check_silent(text: str) -> None:
    assert text
    assert not [each for each in (SECRET, PASSWORD, "a key that") if each in text], text


def test_the_command_line_shows_neither_password_nor_key(
    locked_server: RedisServer, tmp_path: Path
) -> None:
    write_app(tmp_path, locked_server.url.replace("//", f"//:{PASSWORD}@"))
    for fails in (False, True):
        program = f"import app; app.send.later({SECRET!r}, {fails})"
        with PythonProcess(["-c", program], variables={}, folder=tmp_path) as producer:
            assert producer.end() == 0

    with Command("worker", "app:instance", variables={}, folder=tmp_path) as worker:
        worker.wait_for("completed")
        worker.wait_for("failed for good")
        worker.send(signal.SIGTERM)
        worker.end()
        check_silent(worker.text)
    for command in (["stats"], ["jobs"], ["errors", "list"]):
        done = run_command(*command, "app:instance", variables={}, folder=tmp_path)
        assert done.returncode == 0
        check_silent(done.stdout)


@pytest.mark.parametrize("command", ["stats", "worker"])
def test_the_command_line_shows_no_password_when_it_is_wrong_or_the_broker_away(
    locked_server: RedisServer, tmp_path: Path, command: str
) -> None:
    for url in (locked_server.url, f"redis://127.0.0.1:{free_port()}/0"):
        write_app(tmp_path, with_password(url))
        with Command(command, "app:instance", "--debug", variables={}, folder=tmp_path) as running:
            running.wait_for("127.0.0.1")
            running.wait_for("Redis")
            running.send(signal.SIGTERM)
            running.end()
            check_silent(running.text)
