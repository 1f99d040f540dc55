"""One group's keys on a real Redis, as a test sees them, and consumers that use them.

Owns what tests of the Dockets protocol look at: lists, hashes and heartbeats as they are, the
commands that a server was sent, and bytes that nobody can read.
"""

import base64
import json
import socket
import uuid
from types import TracebackType
from typing import Any, Self

from redis_server import RedisServer, unique_group

from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.dockets import DocketsBackendFactory, DocketsQueue
from deferrable.aio.backend.dockets._wire import Keys
from deferrable.testing import MovingClock

__all__ = [
    "LEASE",
    "ODD",
    "UNREADABLE",
    "Monitor",
    "Place",
    "check_kept",
    "envelope",
    "is_blocked",
]

LEASE = 300.0
ODD = '{"a" : [], "big":123456789012345678901234567890,"f":1.10,"e":1E2, "u":"\\ud800\\u00e9"}'
"""An item's text that a round trip through any JSON library would change."""

UNREADABLE = {
    "no JSON": b"nonsense",
    "nothing": b"",
    "no object": b"[1, 2]",
    "no item": b'{"attempts": 1}',
    "an item that is no object": b'{"item": [1]}',
    "half an envelope": b'{"item": {"n": 1}',
    "more after the envelope": b'{"item": {"n": 1}} {}',
    "not UTF-8": b'{"item": {"n": "\xff\xfe"}}',
    "no number": b'{"item": {"n": NaN}}',
    "too deep": b'{"item": {"n": ' + b"[" * 100_000,
}


def envelope(item_text: str = '{"n":1}', **fields: Any) -> str:
    rest = "".join(f', "{name}": {json.dumps(value)}' for name, value in fields.items())
    return f'{{"item": {item_text}{rest}}}'


class Place:
    """One group on one server: the keys as they are, and backends that use them."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.group = unique_group()
        self.keys = Keys(f"deferrable_{self.group}")
        self.redis = server.client()
        self.clock = MovingClock()
        self.made: list[Backend] = []

    def backend(self, url: str | None = None, **options: Any) -> Backend:
        options = {"wait_time": 0, "timeout": LEASE, "clock": self.clock, **options}
        factory = DocketsBackendFactory(url or self.server.url, **options)
        backend = factory.create_backend_for_group(self.group)
        self.made.append(backend)
        return backend

    def queue(self, url: str | None = None, **options: Any) -> DocketsQueue:
        queue = self.backend(url, **options).queue
        assert isinstance(queue, DocketsQueue)
        return queue

    def put(self, *raws: str | bytes) -> None:
        self.redis.lpush(self.keys.queue, *raws)

    def listed(self) -> list[bytes]:
        """The queue, the next one to pop first."""
        return list(reversed(self.redis.lrange(self.keys.queue, 0, -1)))

    def items(self) -> list[Any]:
        return [json.loads(raw)["item"] for raw in self.listed()]

    def time(self) -> float:
        """The server's clock."""
        seconds, microseconds = self.redis.time()
        return seconds + microseconds / 1e6

    def workers(self) -> set[str]:
        return {each.decode() for each in self.redis.smembers(self.keys.workers)}

    def worker(self) -> str:
        (only,) = self.workers()
        return only

    def errors(self) -> dict[str, Any]:
        pairs = self.redis.hgetall(self.keys.errors).items()
        return {key.decode(): json.loads(value) for key, value in pairs}

    def dead_worker(self, *raws: str | bytes, name: str | None = None) -> str:
        """A consumer that has crashed, having taken `raws` in that order."""
        name = str(uuid.uuid4()) if name is None else name
        self.redis.sadd(self.keys.workers, name)
        if raws:
            self.redis.lpush(self.keys.working(name), *raws)
        return name

    def kill(self, worker: str) -> None:
        """Make a consumer look dead."""
        self.redis.delete(self.keys.active(worker))

    def in_flight(self, worker: str | None = None) -> list[bytes]:
        name = self.worker() if worker is None else worker
        return list(reversed(self.redis.lrange(self.keys.working(name), 0, -1)))

    async def close(self) -> None:
        for backend in self.made:
            await backend.close()
        self.redis.close()


class Monitor:
    """The commands that a server gets, as MONITOR shows them, except those of scripts."""

    def __init__(self, server: RedisServer) -> None:
        self._socket = socket.create_connection((server.host, server.port))
        self._server = server
        self._read = b""

    def __enter__(self) -> Self:
        self._socket.sendall(b"MONITOR\r\n")
        assert self._socket.recv(5) == b"+OK\r\n"
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    def commands(self, group: str) -> list[list[str]]:
        """The commands since then that name `group`."""
        mark = uuid.uuid4().hex.encode()
        with self._server.client() as client:
            client.echo(mark)
        while mark not in self._read:
            self._read += self._socket.recv(1 << 20)
        lines = [line for line in self._read.decode().splitlines() if group in line]
        self._read = b""
        return [
            [word.strip('"') for word in line.split("] ", 1)[1].split(" ")]
            for line in lines
            if " lua] " not in line
        ]

    def names(self, group: str) -> list[str]:
        return [command[0] for command in self.commands(group)]


def is_blocked(place: Place) -> bool:
    return any("b" in each["flags"] for each in place.redis.client_list())


def check_kept(place: Place, raw: bytes) -> None:
    """`raw` is in the errors hash, whole, in valid JSON with an id."""
    ((error_id, item),) = place.errors().items()
    assert item["error"]["id"] == error_id
    assert item["error"]["error_type"] == "UnreadableItem"
    assert item["error"]["error_text"]
    kept = item["raw"].encode() if "raw" in item else base64.b64decode(item["raw_base64"])
    assert kept == raw
