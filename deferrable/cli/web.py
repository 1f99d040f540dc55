"""A small HTTP server for supervisors and collectors.

Owns the port: its thread and event loop, the reading of requests, and the limits. It has its own
loop, so it also answers when a job blocks the worker's loop.

The rule: every connection ends within seconds, whatever the other side sends or does not send, and
a new connection always gets its turn. When there are too many, the oldest one is closed.
"""

import asyncio
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeAlias
from urllib.parse import urlsplit

from deferrable.cli.command_error import CommandError

__all__ = ["Answer", "Request", "Route", "WebServer", "json_answer", "listen", "url_of"]

_logger = logging.getLogger("deferrable.cli")

REQUEST_SECONDS = 5.0
_LINGER_SECONDS = 1.0
MOST_CONNECTIONS = 64
MOST_HEAD_BYTES = 8192
_MOST_IGNORED_BYTES = 65536
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class Request:
    """A request that was understood.

    Attributes:
        verb: ``GET`` or ``HEAD``, or another one, which is refused.
        path: without the query.
        headers: by their names in lower case.
    """

    verb: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to a request."""

    status: int
    body: bytes
    content_type: str = "application/json"


Route: TypeAlias = Callable[[Request], Answer]


def json_answer(status: int, value: object) -> Answer:
    """An answer of one line of JSON."""
    return Answer(status, json.dumps(value).encode() + b"\n")


def listen(host: str, port: int, what: str, option: str = "--") -> socket.socket:
    """A socket that is bound to the address. One of ``::`` gets connections of IPv4, too.

    Args:
        host: an address or a name; one of IPv6 may stand in brackets.
        what: is served there, for the error.
        option: how the names of its options begin, for the error.

    Raises:
        CommandError: the address is in use, or not allowed.
    """
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    try:
        family = _family_of(host)
        is_dual = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server((host, port), family=family, dualstack_ipv6=is_dual)
    except OSError as error:
        # `create_server` adds the address to the text, and a failed look-up has a negative number.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror or error
        raise CommandError(
            f"cannot serve {what} on {_joined(host, port)}: {reason}; choose another "
            f"{option}port or {option}host"
        ) from error


def _family_of(host: str) -> socket.AddressFamily:
    """IPv4 if the host has such an address, else IPv6.

    Raises:
        OSError: there is no such host.
    """
    if not host:
        return socket.AF_INET
    found = {each[0] for each in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    return socket.AF_INET if socket.AF_INET in found else socket.AF_INET6


def url_of(listener: socket.socket) -> str:
    """Where a bound socket is reached, without a slash at its end."""
    host, port = listener.getsockname()[:2]
    return f"http://{_joined(host, port)}"


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class WebServer:
    """Answers requests from the beginning of the ``with`` block to its end.

    Attributes:
        summary: what is served where, for the log.

    Args:
        listener: a bound socket.
        routes: for each path, what answers there. It is called in the server's thread, and must
            not wait.
        request_seconds: how long a client may take to send its request, and again to read the
            answer.
    """

    def __init__(
        self,
        listener: socket.socket,
        routes: Mapping[str, Route],
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        self.summary = f"{', '.join(routes)} on {url_of(listener)}"
        self._listener = listener
        self._routes = routes
        self._request_seconds = request_seconds
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="deferrable-health", daemon=True)
        self._has_begun = threading.Event()
        self._open: dict[asyncio.StreamWriter, None] = {}  # oldest first

    def __enter__(self) -> Self:
        self._thread.start()
        self._has_begun.wait()  # a loop that is stopped before would raise in its thread
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                server = runner.run(
                    asyncio.start_server(self._serve, sock=self._listener, limit=MOST_HEAD_BYTES)
                )
            finally:
                self._has_begun.set()
            self._loop.run_forever()
            server.close()
            for writer in self._open:
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MOST_CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = None
        try:
            with suppress(OSError, TimeoutError):
                response = await self._response(reader)
                async with asyncio.timeout(self._request_seconds):
                    writer.write(response)
                    await writer.drain()
                if response:
                    await _linger(reader, writer)
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()

    async def _response(self, reader: asyncio.StreamReader) -> bytes:
        """The whole response; empty: the client sent nothing and left."""
        try:
            async with asyncio.timeout(self._request_seconds):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            return _encoded(_refusal(400, "the request is not complete")) if error.partial else b""
        except asyncio.LimitOverrunError:
            return _encoded(_refusal(431, f"at most {MOST_HEAD_BYTES} bytes before the body"))
        except TimeoutError:
            return _encoded(_refusal(408, f"a request may take {self._request_seconds:g} s"))
        request = _parsed(head)
        if request is None:
            return _encoded(_refusal(400, "this is no request of HTTP/1"))
        return _encoded(self._answer(request), is_head=request.verb == "HEAD")

    def _answer(self, request: Request) -> Answer:
        route = self._routes.get(request.path)
        if route is None:
            return _refusal(404, f"only {', '.join(sorted(self._routes))} exist")
        if request.verb not in ("GET", "HEAD"):
            return _refusal(405, "only GET and HEAD")
        try:
            return route(request)
        except Exception:
            _logger.exception("%s could not be answered", request.path)
            return _refusal(500, "an error; see the log")


def _parsed(head: bytes) -> Request | None:
    """The request; None if it is not one of HTTP/1."""
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        return None
    try:
        path = urlsplit(parts[1]).path
    except ValueError:
        return None
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return Request(parts[0], path, headers)


def _refusal(status: int, text: str) -> Answer:
    return json_answer(status, {"error": text})


def _encoded(answer: Answer, *, is_head: bool = False) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\n"
        f"Content-Type: {answer.content_type}\r\nContent-Length: {len(answer.body)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if is_head else answer.body)


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Let the client read the answer: a close while data is unread would destroy it."""
    writer.write_eof()
    count = 0
    async with asyncio.timeout(_LINGER_SECONDS):
        while count < _MOST_IGNORED_BYTES and (data := await reader.read(4096)):
            count += len(data)
