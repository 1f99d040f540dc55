"""An SQS (and S3) of another make than moto: MiniStack, whose clock a test can move.

Owns its program, and how a test session starts it. The package comes with the dependency group
``second-sqs``, because it needs one exact version of botocore.

``POST /_time`` with ``{"move": SECONDS}`` or ``{"stand": true}`` changes the time of its queues.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from processes import DEADLINE_SECONDS

__all__ = ["second_sqs"]

SETTINGS = {
    "IOT_MTLS_ENABLED": "0",
    "LOG_LEVEL": "WARNING",
    "SERVICES": "sqs,s3,sts",
    "SFTP_ENABLED": "0",
}
"""No other services, which would listen on more ports."""


@contextmanager
def second_sqs() -> Iterator[str]:
    """The URL of a server that ends with the block."""
    environment = {**os.environ, **SETTINGS}
    program = [sys.executable, str(Path(__file__))]
    process = subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        # On a busy machine its imports take longer than a client of a test waits.
        asked = urllib.request.Request(f"{url}/_time", b"{}", method="POST")
        urllib.request.urlopen(asked, timeout=DEADLINE_SECONDS).close()
        yield url
    finally:
        process.kill()
        process.communicate(timeout=60)


class _MovedTime:
    """The module `time`, for the module of its queues."""

    def __init__(self) -> None:
        self._moved_seconds = 0.0
        self._standing_time: float | None = None

    def time(self) -> float:
        now = time.time() if self._standing_time is None else self._standing_time
        return now + self._moved_seconds

    def change(self, move: float = 0, stand: bool | None = None) -> None:
        self._moved_seconds += move
        if stand is not None:
            self._standing_time = time.time() if stand else None

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def _serve() -> None:
    place = socket.create_server(("127.0.0.1", 0))
    os.environ["GATEWAY_PORT"] = str(place.getsockname()[1])
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack.app import app
    from ministack.services import sqs

    moved = _MovedTime()
    sqs.time = moved
    receive_now = sqs._HANDLERS["ReceiveMessage"]

    async def receive_message(data: dict[str, Any], url: str) -> Any:
        """A receive waits by the real time."""
        wait_seconds = data.get("WaitTimeSeconds") or 0
        end_time = time.monotonic() + wait_seconds
        while True:
            answer = await receive_now({**data, "WaitTimeSeconds": 0}, url)
            if answer or time.monotonic() >= end_time:
                return answer
            await asyncio.sleep(0.05)

    sqs._HANDLERS["ReceiveMessage"] = receive_message

    async def serve_one(scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") != "/_time":
            await app(scope, receive, send)
            return
        data = b""
        while True:
            part = await receive()
            data += part.get("body", b"")
            if not part.get("more_body"):
                break
        moved.change(**json.loads(data))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    config = Config()
    config.bind = [f"fd://{place.fileno()}"]
    config.keep_alive_timeout = 75
    config.loglevel = "WARNING"
    # Its imports take seconds. What connects from now on waits only until the loop runs.
    print(f"http://127.0.0.1:{place.getsockname()[1]}", flush=True)
    asyncio.run(serve(serve_one, config))  # type: ignore[arg-type]


if __name__ == "__main__":
    _serve()
