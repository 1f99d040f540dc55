"""SQS, or what gives out credentials for it, cannot be reached for a while: nothing fails."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqs_proxy import Proxy, answer
from sqs_server import SQSServer

from deferrable.aio import Deferrable
from deferrable.aio.backend import SQSBackendFactory
from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.sqs import _settings as _sqs_settings
from deferrable.testing import wait_until

pytestmark = pytest.mark.anyio


class Forwarder:
    """Listens on its own port while it is up; while it is down, connections are refused."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url).port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    async def up(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    def down(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        on_reader, on_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, on_writer}
        await asyncio.gather(_pipe(reader, on_writer), _pipe(on_reader, writer))


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture
async def forwarder(sqs_server: SQSServer) -> AsyncIterator[Forwarder]:
    forwarder = Forwarder(sqs_server.url)
    yield forwarder
    forwarder.down()


@pytest.fixture
async def backend(
    sqs_server: SQSServer, sqs_group: str, forwarder: Forwarder
) -> AsyncIterator[Backend]:
    url = f"http://127.0.0.1:{forwarder.port}"
    factory = SQSBackendFactory(sqs_server.connection(url), wait_time=1)
    async with factory.create_backend_for_group(sqs_group) as backend:
        await forwarder.up()
        await backend.queue.stats()
        await backend.error_queue.stats()
        yield backend


async def requests(backend: Backend) -> float:
    """How many requests were made about the queue; no I/O."""
    return backend.queue._remote.request_count  # type: ignore[attr-defined, no-any-return]


async def test_push_during_an_outage_arrives_after_it(
    backend: Backend, forwarder: Forwarder
) -> None:
    forwarder.down()
    before = await requests(backend)
    pushing = asyncio.ensure_future(backend.queue.push({"number": 1}))

    async def was_refused_twice() -> bool:
        return await requests(backend) >= before + 2

    await wait_until(was_refused_twice, "it was refused twice", 10)
    await forwarder.up()
    await pushing

    assert (await backend.queue.stats())["available"] == 1


async def test_jobs_that_end_during_an_outage_run_once(
    backend: Backend, forwarder: Forwarder
) -> None:
    instance = Deferrable(backend)
    ran: list[int] = []
    may_end = asyncio.Event()

    @instance.deferrable(name="job")
    async def job(number: int) -> None:
        ran.append(number)
        await may_end.wait()

    await job.later_many_async([(number,) for number in range(10)])
    async with instance.worker() as worker:
        await wait_until(lambda: len(ran) == 10, "all run", 10)
        forwarder.down()
        before = await requests(backend)
        may_end.set()

        async def was_refused() -> bool:
            return await requests(backend) >= before + 3

        await wait_until(was_refused, "a delete was refused", 10)
        await forwarder.up()
        outcomes = [await anext(worker) for _ in range(10)]

    assert [outcome.status for outcome in outcomes] == ["completed"] * 10
    assert sorted(ran) == list(range(10))
    stats = await backend.queue.stats()
    assert (stats["available"], stats["in_flight"]) == (0, 0)


# Credentials.


@pytest.fixture
async def keys(
    sqs_server: SQSServer, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator["Keys"]:
    """An environment with a file of keys, absent yet, and a metadata service in trouble."""
    keys = Keys(tmp_path / "credentials")
    server = await asyncio.start_server(keys.refuse, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    sqs_server.set_environment(monkeypatch)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys.path))
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setattr(_sqs_settings, "_REREAD_SECONDS", 0.0)
    yield keys
    server.close()


class Keys:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked = 0

    def write(self, key: str) -> None:
        text = f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n"
        self.path.write_text(text)

    async def refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        writer.write(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()


async def test_credentials_that_were_not_there_at_first_are_found_later(
    keys: Keys, proxy: Proxy, sqs_group: str
) -> None:
    async with SQSBackendFactory(wait_time=0).create_backend_for_group(sqs_group) as backend:
        pushing = asyncio.ensure_future(backend.queue.push({"number": 1}))
        await wait_until(lambda: keys.asked > 1, "nobody knew any credentials", 10)
        keys.write("LATER")
        await pushing

    assert "Credential=LATER/" in proxy.sent("SendMessageBatch")[0].headers["Authorization"]


async def test_credentials_that_expired_are_read_again(
    keys: Keys, proxy: Proxy, sqs_group: str
) -> None:
    keys.write("FIRST")
    async with SQSBackendFactory(wait_time=0).create_backend_for_group(sqs_group) as backend:
        await backend.queue.push({"number": 1})
        keys.write("SECOND")
        proxy.script("SendMessageBatch", answer(400, "ExpiredTokenException"))
        await backend.queue.push({"number": 2})

    used = [each.headers["Authorization"] for each in proxy.sent("SendMessageBatch")]
    assert ["Credential=FIRST/" in each for each in used] == [True, True, False]
    assert "Credential=SECOND/" in used[2]
