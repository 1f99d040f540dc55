"""An SQS (and S3) for tests.

Owns where it is, how a test reaches it, and that a test leaves nothing behind. It may not know what
is tested, nor the library's own adapter. What it needs is imported late: it takes a second, and few
tests want it.

``DEFERRABLE_TEST_SQS_ENDPOINT``, if set, is the URL of an SQS to use instead of one started here;
who sets it sets ``AWS_ACCESS_KEY_ID`` and the like, too, if that one looks at them.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from redis_server import unique_group

if TYPE_CHECKING:
    from sqs_proxy import Proxy

__all__ = ["REGION", "SQSServer", "moto", "proxy", "sqs_group", "sqs_server"]

REGION = "eu-west-1"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
OTHERS = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_SQS",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_SESSION_TOKEN",
)


class SQSServer:
    """Where an SQS is.

    Attributes:
        url: the endpoint; S3 is there, too, unless the endpoint is another's.
    """

    def __init__(self, url: str, keys: dict[str, str], *, is_ours: bool = False) -> None:
        self.url = url
        self._keys = keys
        self._is_ours = is_ours
        self._clients: dict[str, Any] = {}

    def arguments(self, url: str | None = None) -> dict[str, Any]:
        """What any client of boto's family is made with; `url` is a proxy to go through."""
        arguments = {"endpoint_url": url or self.url, "region_name": REGION}
        return arguments | {name.lower(): value for name, value in self._keys.items()}

    def connection(
        self, url: str | None = None, **options: Any
    ) -> Callable[[], AbstractAsyncContextManager[Any]]:
        """What a backend's ``sqs_connection`` may be: a callable that returns a client to enter."""
        from aiobotocore.session import get_session

        return lambda: get_session().create_client("sqs", **self.arguments(url), **options)

    def client(self, service: str = "sqs") -> Any:
        """A blocking client, for looking at what is there, of which a test knows more than users.

        It is shared by all tests, as making one takes half a second.
        """
        if service not in self._clients:
            import boto3
            from botocore.config import Config

            config = Config(retries={"total_max_attempts": 1}, read_timeout=30)
            session = boto3.session.Session()
            self._clients[service] = session.client(service, config=config, **self.arguments())
        return self._clients[service]

    def close(self) -> None:
        """Close the shared clients."""
        for client in self._clients.values():
            client.close()

    def set_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have the environment name this server, and nothing else of this machine's."""
        for name in OTHERS:
            monkeypatch.delenv(name, raising=False)
        for name, value in self._keys.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", self.url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)

    async def pass_time(self, prefix: str, seconds: float) -> None:
        """Let `seconds` pass for the messages in queues whose names begin with `prefix`."""
        if not self._is_ours:
            await anyio.sleep(seconds + 0.5)
            return
        from moto.core import DEFAULT_ACCOUNT_ID
        from moto.sqs.models import sqs_backends

        milliseconds = seconds * 1000
        for name, queue in list(sqs_backends[DEFAULT_ACCOUNT_ID][REGION].queues.items()):
            for message in list(queue._messages) if name.startswith(prefix) else ():
                message.visible_at -= milliseconds
                message.delayed_until -= milliseconds
                message.sent_timestamp -= milliseconds

    def queue_urls(self, prefix: str) -> Sequence[str]:
        urls: Sequence[str] = self.client().list_queues(QueueNamePrefix=prefix).get("QueueUrls", [])
        return urls


@pytest.fixture(scope="session")
def sqs_server() -> Iterator[SQSServer]:
    """The SQS of $DEFERRABLE_TEST_SQS_ENDPOINT, or one of this session's own."""
    named = os.environ.get("DEFERRABLE_TEST_SQS_ENDPOINT")
    with ExitStack() as stack:
        keys = {} if named and "AWS_ACCESS_KEY_ID" in os.environ else KEYS
        url = named or stack.enter_context(moto())
        server = SQSServer(url, keys, is_ours=not named)
        stack.callback(server.close)
        yield server


@contextmanager
def moto() -> Iterator[str]:
    """The URL of an SQS and S3 of this process's own; it ends with the block."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def proxy(sqs_server: SQSServer) -> "Iterator[Proxy]":
    """A proxy of this test's own before that SQS."""
    from sqs_proxy import proxy_to

    with proxy_to(sqs_server.url) as proxy:
        yield proxy


@pytest.fixture
def sqs_group(sqs_server: SQSServer) -> Iterator[str]:
    """A group that no other test has; its queues are deleted after the test."""
    group = unique_group("sqs-")
    yield group
    for url in sqs_server.queue_urls(f"deferrable_{group}"):
        sqs_server.client().delete_queue(QueueUrl=url)
