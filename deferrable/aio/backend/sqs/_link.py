"""The link to one SQS, shared by all queues of a factory.

Owns the clients of each event loop and the way of a request: sent, answered or refused with one of
our errors, and sent again while the failure may pass.

Each loop has two clients, because long polls would starve all other requests on one pool. One
polls, and sends nothing twice, because a poller polls again anyway. The other one does the rest.
botocore's own retries are off.

The one rule: every request here may be sent twice. A send may then duplicate; the others change
nothing the second time.
"""

import asyncio
import io
import logging
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any, TypeAlias

from deferrable._pauses import growing_seconds, jittered
from deferrable.aio._contract.loops import SharedPerLoop
from deferrable.aio._contract.private import private
from deferrable.aio.backend.sqs._errors import credentials_are_stale, translated
from deferrable.aio.backend.sqs._extra import botocore
from deferrable.aio.backend.sqs._settings import AWSSettings, Credentials
from deferrable.errors import BackendError, BackendUnavailable, DeferrableError

__all__ = [
    "MARGIN_SECONDS",
    "Answer",
    "SQSLink",
    "SQSLinks",
    "longest_seconds",
    "pause_seconds",
]

_logger = logging.getLogger("deferrable")

Answer: TypeAlias = Mapping[str, Any]

MARGIN_SECONDS = 10.0
"""How long an answer may take beyond the requested wait."""
CONNECT_SECONDS = 5.0

_PATIENCE_SECONDS = 10.0
"""After this time no request is sent again."""
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0

_LONGEST_WAIT_SECONDS = 20
_LONGEST_SECONDS = 120.0
"""For a whole request. The time-outs of a client count from byte to byte, and a wait for a free
connection does not count."""
_SLOWEST_BYTES = 65_536
"""A large body has one more second for each of so many bytes."""
_LARGE_BYTES = 2**20 - 1
"""Source: aiohttp, payload.py, TOO_LARGE_BYTES_BODY."""

_OPTIONS: Mapping[str, Any] = {
    # A short one: building botocore's own costs 15 to 20 % of a call.
    "user_agent": "deferrable",
    "connect_timeout": CONNECT_SECONDS,
    "retries": {"total_max_attempts": 1, "mode": "standard"},
    "parameter_validation": False,
    "tcp_keepalive": True,
}


def pause_seconds(failures: int, draw: float) -> float:
    """The wait after a number of failures in a row (at least 1): half of it is random.

    Args:
        draw: a number from 0 to 1.
    """
    return jittered(growing_seconds(failures, _FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS), draw)


class SQSLink:
    """The clients of one event loop; each is made on first use.

    Attributes:
        finding: held while a queue is looked up, so that it is looked up once.
    """

    def __init__(self, settings: AWSSettings) -> None:
        self.finding = asyncio.Lock()
        self._polls: set[asyncio.Future[Answer]] = set()
        self._calling = _Client(settings, MARGIN_SECONDS, 50)
        self._polling = _Client(settings, _LONGEST_WAIT_SECONDS + MARGIN_SECONDS, 100)

    async def call(
        self,
        operation: str,
        parameters: Mapping[str, Any],
        where: str,
        note_request: Callable[[], None] | None = None,
    ) -> tuple[Answer, bool]:
        """Send a request until it is answered, or `_PATIENCE_SECONDS` are over.

        Args:
            operation: as in the API reference, ``SendMessageBatch``.
            where: the queue that it is about, for messages.
            note_request: called for each request that goes out.

        Returns:
            the answer, and whether an earlier try may have taken effect already.

        Raises:
            BackendUnavailable: it was not answered, or the server asked to try later.
            Refused: the server refused it.
            BackendError: it could not be sent.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE_SECONDS
        failures = 0
        while True:
            try:
                answer = await self._calling.send(operation, parameters, where, note_request)
                return answer, failures > 0
            except BackendUnavailable:
                failures += 1
                pause = pause_seconds(failures, random.random())
                if loop.time() + pause > deadline:
                    raise
            await asyncio.sleep(pause)

    async def poll(
        self,
        parameters: Mapping[str, Any],
        where: str,
        note_request: Callable[[], None] | None = None,
    ) -> Answer:
        """Send a ReceiveMessage, once; see `call`."""
        polling = asyncio.ensure_future(
            self._polling.send("ReceiveMessage", parameters, where, note_request)
        )
        self._polls.add(polling)
        polling.add_done_callback(self._polls.discard)
        return await polling

    async def close(self) -> None:
        """Close both: polls after their answer; other running requests fail as unavailable."""
        if self._polls:
            await asyncio.wait(self._polls)
        await self._calling.close()
        await self._polling.close()

    def abandon(self) -> None:
        """Free the sockets although the event loop is closed already."""
        self._calling.abandon()
        self._polling.abandon()


class _Client:
    """A client of aiobotocore, made on first use."""

    def __init__(self, settings: AWSSettings, answer_seconds: float, connections: int) -> None:
        self._settings = settings
        self._options = {
            **_OPTIONS,
            "read_timeout": answer_seconds,
            "max_pool_connections": connections,
        }
        self._client: Any = None
        self._credentials: Credentials | None = None
        self._making = asyncio.Lock()

    async def send(
        self,
        operation: str,
        parameters: Mapping[str, Any],
        where: str,
        note_request: Callable[[], None] | None,
    ) -> Answer:
        try:
            client = self._client or await self._make()
            if note_request is not None:
                note_request()
            async with asyncio.timeout(longest_seconds(len(parameters.get("Body", b"")))):
                answer: Answer = await getattr(client, _method(operation))(**parameters)
            _check_origin(answer, operation, where)
        except DeferrableError:
            raise
        except Exception as error:
            if self._credentials is not None and credentials_are_stale(error):
                self._credentials.forget()
            raise translated(error, operation, where) from error
        return answer

    async def _make(self) -> Any:
        async with self._making:
            if self._client is None:
                client, self._credentials = await self._settings.create_client(**self._options)
                client.meta.events.register("before-send", _stream_large_body)
                self._client = client
            return self._client

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def abandon(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        try:
            _free_all(client)
        except BackendError as error:
            # It must not fail the work on another loop.
            _logger.warning("sockets of a closed event loop are not closed: %s", error)


def longest_seconds(size: int) -> float:
    """How long the transport of a body of `size` bytes may take."""
    return _LONGEST_SECONDS + size / _SLOWEST_BYTES


def _check_origin(answer: Answer, operation: str, where: str) -> None:
    """Refuse a page of a proxy or a portal. botocore takes it for an empty answer.

    Raises:
        BackendUnavailable: the answer is not in JSON.
    """
    kind = str(answer["ResponseMetadata"]["HTTPHeaders"].get("content-type", ""))
    if not where.startswith("s3:") and ("html" in kind or "xml" in kind):
        raise BackendUnavailable(
            f"{operation} on {where} was answered with {kind} instead of JSON; is the endpoint an "
            "SQS, and does a proxy or a login page answer in its place?"
        )


@cache
def _method(operation: str) -> str:
    """``send_message_batch`` for ``SendMessageBatch``."""
    return str(botocore.xform_name(operation))


def _stream_large_body(request: Any, **_: Any) -> None:
    """Let aiohttp write a large body in parts; it warns about others, in a test as an error."""
    if isinstance(request.body, bytes) and len(request.body) > _LARGE_BYTES:
        request.body = io.BytesIO(request.body)


def _free_all(client: Any) -> None:
    """Close the idle sockets of a client whose loop is gone. No public call does."""
    sessions = private(client, "_endpoint", "http_session", "_sessions") or {}
    for session in [each for each in sessions.values() if not each.closed]:
        idle = private(session.connector, "_conns")
        for connection in [each for connections in idle.values() for each, *_ in connections]:
            _free(connection)
        idle.clear()
        session.detach()


def _free(connection: Any) -> None:
    """Close the socket of a connection whose loop is gone."""
    transport = connection.transport
    tls = getattr(transport, "_ssl_protocol", None)
    with suppress(Exception):
        transport.abort()
    with suppress(Exception):
        getattr(tls, "_transport", transport)._call_connection_lost(None)


class SQSLinks(SharedPerLoop[SQSLink]):
    """An `SQSLink` for each running event loop, made from one description of an SQS."""

    def __init__(self, settings: AWSSettings) -> None:
        super().__init__(self._open, SQSLink.abandon)
        self.settings = settings

    async def _open(self) -> AsyncGenerator[SQSLink, None]:
        link = SQSLink(self.settings)
        try:
            yield link
        finally:
            await link.close()
