"""``GET /health``, for supervisors of the process.

Owns the small HTTP server. It has its own thread and event loop, so it also answers, and reports
it, when a job blocks the worker's loop.
"""

import asyncio
import json
import socket
import threading
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import Self

from deferrable.aio.worker import Health
from deferrable.cli.command_error import CommandError

__all__ = ["HealthServer", "listen"]

REQUEST_SECONDS = 5.0
_REASONS = {
    200: "OK",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound to the address for health.

    Raises:
        CommandError: the address is in use, or not allowed.
    """
    try:
        return socket.create_server((host, port), family=_family_of(host))
    except OSError as error:
        raise CommandError(
            f"cannot serve health on {host}:{port}: {error.strerror or error}; choose another "
            "--health-port or --health-host"
        ) from error


def _family_of(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class HealthServer:
    """Answers requests from the beginning of the ``with`` block to its end."""

    def __init__(self, health: Health, listener: socket.socket) -> None:
        self._health = health
        self._listener = listener
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="deferrable-health", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
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
            server = runner.run(asyncio.start_server(self._answer, sock=self._listener))
            self._loop.run_forever()
            server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(
            OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError
        ):
            async with asyncio.timeout(REQUEST_SECONDS):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._response_to(request))
                await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    def _response_to(self, request: bytes) -> bytes:
        verb, _, rest = request.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if path != b"/health":
            return _response(404, {"error": "only /health exists"}, verb)
        if verb not in (b"GET", b"HEAD"):
            return _response(405, {"error": "only GET and HEAD"}, verb)
        is_healthy = self._health.is_healthy
        queues = {name: asdict(each) for name, each in self._health.queues().items()}
        answer = {"status": "healthy" if is_healthy else "unhealthy", "queues": queues}
        return _response(200 if is_healthy else 503, answer, verb)


def _response(status: int, answer: object, verb: bytes) -> bytes:
    body = json.dumps(answer).encode() + b"\n"
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if verb == b"HEAD" else body)
