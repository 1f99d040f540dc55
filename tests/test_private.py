"""Names that other packages keep private: what happens when a later version renames one."""

import ast
import asyncio
import logging
import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import boto3
import pytest
import redis
import redis.asyncio
from redis_server import start_redis
from sqs_proxy import Proxy
from sqs_server import SQSServer

from deferrable.aio._contract.private import TESTED, private
from deferrable.aio.backend._redis.link import RedisLinks, RedisSettings
from deferrable.aio.backend._redis.thread import ThreadLine
from deferrable.aio.backend.sqs._link import SQSLink
from deferrable.aio.backend.sqs._settings import AWSSettings
from deferrable.errors import BackendError

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent
PROJECT = ROOT / "pyproject.toml"
DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def message(name: str, *packages: str) -> str:
    """A pattern of the message for `name`, which the installed `packages` do not have any more."""
    words = [f"has no usable {name},"]
    for package in packages:
        words.append(f" {'redis-py' if package == 'redis' else package} {version(package)}")
        if package in TESTED:
            words.append("(tested: {} to {})".format(*TESTED[package]))
    return ".*".join(map(re.escape, words))


def sqs_client() -> Any:
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    return boto3.session.Session().client("sqs", region_name="eu-west-1", **keys)


async def test_awaited_connection_without_its_writer_is_refused() -> None:
    class Renamed(redis.asyncio.Connection):
        async def connect(self) -> None:
            await super().connect()
            self.writer = self._writer
            del self._writer

        async def disconnect(self, nowait: bool = False) -> None:
            self.writer.close()

    with start_redis() as server:
        pool = redis.asyncio.ConnectionPool.from_url(server.url, connection_class=Renamed)
        links = RedisLinks(RedisSettings.of(redis.asyncio.Redis(connection_pool=pool)))
        with pytest.raises(BackendError, match=message("_writer", "redis")):
            await links.here().call(("PING",))
        await links.close()


def test_blocking_connection_without_its_socket_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Renamed(redis.Connection):
        def connect(self) -> None:
            super().connect()
            self._sock.close()
            del self._sock

        def disconnect(self, *args: object) -> None:
            pass

    with start_redis() as server:
        settings = RedisSettings.of(server.url)
        made = Renamed(host=server.host, port=server.port)
        monkeypatch.setattr(settings, "blocking_connection", lambda timeout_seconds: made)

        with pytest.raises(BackendError, match=message("_sock", "redis")):
            ThreadLine(settings).exchange([("PING",)])


@pytest.mark.parametrize("kind", [redis.sentinel.Sentinel, redis.asyncio.Sentinel])
def test_sentinel_that_does_not_tell_a_forced_host_is_refused(kind: Any) -> None:
    client = kind([("one.example", 26379)], force_master_ip="forced.example").master_for("mail")
    del client.connection_pool.sentinel_manager._force_master_ip

    with pytest.raises(BackendError, match=message("_force_master_ip", "redis")):
        RedisSettings.of(client)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ([], "_endpoint"),
        (["_endpoint", "http_session"], "_verify"),
        ([], "_request_signer"),
        (["_request_signer"], "_credentials"),
    ],
)
async def test_client_of_sqs_that_does_not_tell_who_it_is_is_refused(
    path: list[str], name: str
) -> None:
    client = sqs_client()
    delattr(private(client, *path), name)

    with pytest.raises(BackendError, match=message(name, "aiobotocore", "botocore")):
        await AWSSettings("sqs", client).create_client()


def test_sockets_of_a_closed_loop_that_cannot_be_closed_are_logged(
    sqs_server: SQSServer,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sqs_server.set_environment(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    link, loop = SQSLink(AWSSettings("sqs")), asyncio.new_event_loop()
    loop.run_until_complete(link.call("ListQueues", {}, "here"))
    client = link._calling._client
    (session,) = client._endpoint.http_session._sessions.values()
    idle = session.connector._conns
    loop.close()

    with monkeypatch.context() as patch:
        patch.delattr(session.connector, "_conns")
        with caplog.at_level(logging.WARNING, "deferrable"):
            link.abandon()
    link._calling._client = client
    link.abandon()

    assert re.search(message("_conns", "aiohttp"), caplog.text)
    assert not idle


def test_object_of_no_known_package_is_named() -> None:
    class Double:
        pass

    with pytest.raises(BackendError, match=r"test_private\..*Double has no usable _sock"):
        private(Double(), "_sock")


@pytest.mark.parametrize("package", ["redis", "aiobotocore"])
def test_oldest_tested_version_is_the_oldest_that_may_be_installed(package: str) -> None:
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    wanted = [*extras["redis"], *extras["sqs"]]
    (oldest,) = [
        found[1] for each in wanted if (found := re.match(rf"{package}\b.*>=\s*([\d.]*\d)", each))
    ]

    assert TESTED[package][0] == oldest


OF_PYTHON = {
    *("_Pickler", "_Unpickler", "_call_connection_lost", "_current_frames", "_exit"),
    *("_get_running_loop", "_getframe", "_run_exitfuncs", "_ssl_protocol", "_transport"),
    "_value_",
}
"""Private names of Python's own modules that are read; the tests under each Python cover them."""


def test_private_names_of_other_packages_are_read_with_the_check_only() -> None:
    trees = [ast.parse(path.read_text()) for path in sorted((ROOT / "deferrable").rglob("*.py"))]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    ours = {node.name for node in nodes if isinstance(node, DEFINITIONS)}
    ours |= {node.id for node in nodes if isinstance(node, ast.Name)}
    ours |= {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "cls")
    }

    read = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    read |= {
        str(node.args[1].value)
        for node in nodes
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr"
        if isinstance(node.args[1], ast.Constant)
    }
    private_names = {name for name in read if name.startswith("_") and not name.endswith("__")}

    assert private_names - ours <= OF_PYTHON
