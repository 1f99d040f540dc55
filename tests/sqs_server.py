"""An SQS (and S3) for tests.

Owns where it is, how a test reaches it, and that a test leaves nothing behind. What it needs is
imported late: it takes a second, and few tests want it.

``DEFERRABLE_TEST_SQS_ENDPOINT``, if set, is the URL of an SQS to use instead of a moto of this
process. Set ``AWS_ACCESS_KEY_ID`` and the like, too, if that one checks them. The value ``second``
starts the server of `second_sqs`, and ``localstack:PYTHON`` that of `localstack_sqs`.
"""

import functools
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    ExitStack,
    contextmanager,
)
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from localstack_sqs import localstack_sqs
from redis_server import unique_group
from second_sqs import second_sqs
from sqs_times import REGION, MotoTime, MovedTime, RealTime, ServerTime

if TYPE_CHECKING:
    from sqs_proxy import Proxy

__all__ = [
    "REGION",
    "SQSServer",
    "exact_time",
    "moto",
    "proxy",
    "server_at",
    "sqs_group",
    "sqs_server",
    "standing_time",
]

SECOND = "second"
LOCALSTACK = "localstack:"
END = "-----END CERTIFICATE-----\n"
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

    Args:
        server_time: how time passes there; None: nobody can move it.
        has_move_tasks: it has ``StartMessageMoveTask``, as AWS has.

    Attributes:
        url: the endpoint; S3 is there, too, unless the endpoint is another's.
    """

    def __init__(
        self,
        url: str,
        keys: dict[str, str],
        server_time: ServerTime | None = None,
        *,
        has_move_tasks: bool = False,
    ) -> None:
        self.url = url
        self.has_move_tasks = has_move_tasks
        self._keys = keys
        self._time = RealTime() if server_time is None else server_time
        self._clients: dict[str, Any] = {}
        self._session: Any = None

    def arguments(self, url: str | None = None) -> dict[str, Any]:
        """What any client of boto's family is made with; `url` is a proxy to go through."""
        arguments = {"endpoint_url": url or self.url, "region_name": REGION}
        return arguments | {name.lower(): value for name, value in self._keys.items()}

    def connection(
        self, url: str | None = None, **options: Any
    ) -> Callable[[], AbstractAsyncContextManager[Any]]:
        """What a backend's ``sqs_connection`` may be: a callable that returns a client to enter."""
        from aiobotocore.session import get_session

        if self._session is None:  # Shared: a session of its own costs a client 0.1 s.
            self._session = get_session()
        session = self._session
        return lambda: session.create_client("sqs", **self.arguments(url), **options)

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
        """Make the environment name this server, and nothing else of this machine."""
        for name in OTHERS:
            monkeypatch.delenv(name, raising=False)
        for name, value in self._keys.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", self.url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)

    async def pass_time(self, prefix: str, seconds: float) -> None:
        """Let `seconds` pass for the messages in queues whose names begin with `prefix`."""
        await self._time.pass_time(prefix, seconds)

    def standing_time(self) -> AbstractContextManager[None]:
        """Until the end of the block, no time passes on this server but by `pass_time`.

        On a server whose time nobody can move, it passes as ever.
        """
        return self._time.standing()

    def skip_without_exact_time(self) -> None:
        """Skip a test that looks just before a moment, or counts seconds exactly."""
        if isinstance(self._time, RealTime):
            pytest.skip("exact times: this SQS has its own time")

    def delete_queues(self, prefix: str) -> None:
        """Delete the queues whose names begin with `prefix`."""
        if isinstance(self._time, MotoTime):
            from moto.core import DEFAULT_ACCOUNT_ID
            from moto.sqs.models import sqs_backends

            queues = sqs_backends[DEFAULT_ACCOUNT_ID][REGION].queues
            for name in [each for each in list(queues) if each.startswith(prefix)]:
                queues.pop(name, None)
            return
        for url in self.queue_urls(prefix):
            self.client().delete_queue(QueueUrl=url)

    def queue_urls(self, prefix: str) -> Sequence[str]:
        urls: Sequence[str] = self.client().list_queues(QueueNamePrefix=prefix).get("QueueUrls", [])
        return urls


def server_at(url: str) -> SQSServer:
    """The server of a URL that names a user: its clients have that access key."""
    user = re.sub(r".*//(.*)@.*", r"\1", url)
    return SQSServer(url.replace(f"{user}@", ""), {**KEYS, "AWS_ACCESS_KEY_ID": user})


@pytest.fixture(scope="session")
def sqs_server() -> Iterator[SQSServer]:
    """The SQS of $DEFERRABLE_TEST_SQS_ENDPOINT, or one of this session's own."""
    named = os.environ.get("DEFERRABLE_TEST_SQS_ENDPOINT")
    with ExitStack() as stack:
        if named == SECOND:
            url = stack.enter_context(second_sqs())
            server = SQSServer(url, KEYS, MovedTime(url))
        elif named and named.startswith(LOCALSTACK):
            url = stack.enter_context(localstack_sqs(named.removeprefix(LOCALSTACK)))
            server = SQSServer(url, KEYS, has_move_tasks=True)
        elif named:
            keys = {} if "AWS_ACCESS_KEY_ID" in os.environ else KEYS
            server = SQSServer(named, keys, has_move_tasks=True)
        else:
            server = SQSServer(stack.enter_context(moto()), KEYS, MotoTime())
        stack.callback(server.close)
        yield server


@pytest.fixture
def standing_time(sqs_server: SQSServer) -> Iterator[None]:
    """Time passes on that SQS by its `pass_time` only."""
    with sqs_server.standing_time():
        yield


@pytest.fixture
def exact_time(sqs_server: SQSServer) -> None:
    """The seconds of that SQS can be counted; else the test is skipped."""
    sqs_server.skip_without_exact_time()


@contextmanager
def moto() -> Iterator[str]:
    """The URL of an SQS and S3 of this process's own; it ends with the block."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        _speed_up(patch, Path(folder))
        _receive_one_after_another(patch)
        _hide_only_what_is_in_flight(patch)
        server.start()
        try:
            host, port = server.get_host_and_port()
            yield f"http://{host}:{port}"
        finally:
            server.stop()


def _speed_up(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Skip work that costs moto half of each request, and a client most of its start."""
    import certifi
    from moto import backends

    # It speaks no TLS, and each client would read more than a hundred certificates.
    bundle = folder / "one-certificate.pem"
    bundle.write_text(Path(certifi.where()).read_text().partition(END)[0] + END)
    patch.setenv("AWS_CA_BUNDLE", str(bundle))
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it logs each request
    modules = list(backends.list_of_moto_modules())  # a look at a hundred folders
    patch.setattr(backends, "list_of_moto_modules", lambda: modules)
    _share_what_sessions_compute(patch)


def _share_what_sessions_compute(patch: pytest.MonkeyPatch) -> None:
    """Have botocore compute once what each of its sessions computes again, always the same.

    A session registers a hundred handlers: it looks up the alias of each name, and at the signature
    of each function. Most tests make four sessions.
    """
    from botocore import hooks

    aliases: dict[str, str] = {}
    make, look = hooks.EventAliaser.__init__, functools.cache(hooks.accepts_kwargs)

    def make_with_shared_aliases(self: Any, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        self._alias_name_cache = aliases

    patch.setattr(hooks.EventAliaser, "__init__", make_with_shared_aliases)
    patch.setattr(hooks, "accepts_kwargs", lambda each: look(getattr(each, "__func__", each)))


def _receive_one_after_another(patch: pytest.MonkeyPatch) -> None:
    """Give no message to two receives: moto serves each in a thread and locks nothing.

    Messages of one group whose leases have ended come back together.
    """
    from moto.sqs.models import SQSBackend

    receive_now, receiving = SQSBackend.receive_message, threading.Lock()

    def receive(
        self: SQSBackend, queue_name: str, count: int, wait_seconds_timeout: int, *options: Any
    ) -> list[Any]:
        end_time = time.monotonic() + wait_seconds_timeout
        while True:
            with receiving:
                # One by one, as moto does it, the last of a group would come before the others.
                pending = self.get_queue(queue_name).pending_messages
                pending -= {each for each in pending if each.visible}
                messages: list[Any] = receive_now(self, queue_name, count, 0, *options)
            rest_seconds = end_time - time.monotonic()
            if messages or rest_seconds <= 0:
                return messages
            self.get_queue(queue_name).wait_for_messages(min(rest_seconds, 1))

    patch.setattr(SQSBackend, "receive_message", receive)


def _hide_only_what_is_in_flight(patch: pytest.MonkeyPatch) -> None:
    """Refuse a late touch, as SQS does: moto would hide a message that is visible again."""
    from moto.sqs.exceptions import ReceiptHandleIsInvalid
    from moto.sqs.models import SQSBackend

    change = SQSBackend.change_message_visibility

    def change_in_flight(
        self: SQSBackend, queue_name: str, receipt_handle: str, visibility_timeout: int
    ) -> None:
        for message in list(self.get_queue(queue_name)._messages):
            if message.visible and message.had_receipt_handle(receipt_handle):
                raise ReceiptHandleIsInvalid
        change(self, queue_name, receipt_handle, visibility_timeout)

    patch.setattr(SQSBackend, "change_message_visibility", change_in_flight)


@pytest.fixture
def proxy(sqs_server: SQSServer) -> "Iterator[Proxy]":
    """A proxy of this test in front of that SQS."""
    from sqs_proxy import proxy_to

    with proxy_to(sqs_server.url) as proxy:
        yield proxy


@pytest.fixture
def sqs_group(sqs_server: SQSServer) -> Iterator[str]:
    """A group that no other test has; its queues are deleted after the test."""
    group = unique_group("sqs-")
    yield group
    sqs_server.delete_queues(f"deferrable_{group}")
