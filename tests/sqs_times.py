"""How time passes on an SQS of the tests.

Owns the three ways: the moto of this process, whose messages are moved; the server of
`second_sqs`, which moves its own clock; and any other server, where a test has to wait.

The one rule: a test that needs more real time than `MOST_REAL_SECONDS` is skipped on other servers,
and its skip says by which move of the clock. So is one that needs exact times.
"""

import json
import math
import time
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import anyio
import anyio.to_thread
import pytest

__all__ = [
    "MOST_REAL_SECONDS",
    "REGION",
    "MotoTime",
    "MovedTime",
    "RealTime",
    "ServerTime",
]

REGION = "eu-west-1"
MOST_REAL_SECONDS = 5.0


class ServerTime(Protocol):
    """The time of a server."""

    async def pass_time(self, prefix: str, seconds: float) -> None:
        """Let `seconds` pass, at least for queues whose names begin with `prefix`."""
        ...

    def standing(self) -> AbstractContextManager[None]:
        """Until the end of the block, time passes by `pass_time` only, where that is possible."""
        ...


class RealTime:
    """Nobody can move it."""

    async def pass_time(self, prefix: str, seconds: float) -> None:
        if seconds > MOST_REAL_SECONDS:
            pytest.skip(f"long move of the clock: {seconds:g} s, and this SQS has its own time")
        await anyio.sleep(seconds + 0.5)

    @contextmanager
    def standing(self) -> Iterator[None]:
        yield


class MovedTime:
    """That of the server of `second_sqs` at `url`."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/_time"

    async def pass_time(self, prefix: str, seconds: float) -> None:
        await anyio.to_thread.run_sync(self._ask, {"move": seconds})

    @contextmanager
    def standing(self) -> Iterator[None]:
        self._ask({"stand": True})
        try:
            yield
        finally:
            self._ask({"stand": False})

    def _ask(self, what: dict[str, object]) -> None:
        request = urllib.request.Request(self._url, json.dumps(what).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=60) as response:
            assert response.status == 200


class MotoTime:
    """That of the moto of this process."""

    def __init__(self) -> None:
        self._now: float | None = None

    async def pass_time(self, prefix: str, seconds: float) -> None:
        if self._now is not None:
            self._now += seconds * 1000
            return
        from moto.core import DEFAULT_ACCOUNT_ID
        from moto.sqs.models import sqs_backends

        milliseconds = seconds * 1000
        for name, queue in list(sqs_backends[DEFAULT_ACCOUNT_ID][REGION].queues.items()):
            for message in list(queue._messages) if name.startswith(prefix) else ():
                message.visible_at -= milliseconds
                message.delayed_until -= milliseconds
                message.sent_timestamp -= milliseconds

    @contextmanager
    def standing(self) -> Iterator[None]:
        from moto.sqs import models

        def milliseconds() -> float:
            # Never the same twice: moto has what is hidden for 0 seconds come back only later.
            assert self._now is not None
            self._now = math.nextafter(self._now, math.inf)
            return self._now

        self._now = time.time() * 1000
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(models, "unix_time_millis", milliseconds)
                yield
        finally:
            self._now = None
