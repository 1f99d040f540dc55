"""Results in Redis, and who waits for them.

Owns the keys and channels of results. Each result has a key, which expires, and a channel of the
same name, on which it is published. All who wait on one event loop share one connection.

The one rule: subscribe first, then look, then wait. When the connection breaks, everybody who waits
subscribes and looks again, so nothing that was published meanwhile is missed.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

from deferrable.aio._contract.loops import PerLoop
from deferrable.aio.backend._redis.connection import RedisConnection
from deferrable.aio.backend._redis.errors import ReplyError, refused
from deferrable.aio.backend._redis.link import RedisLinks, script
from deferrable.aio.backend._redis.store import RedisStore
from deferrable.aio.results import KeptResult, ResultStore
from deferrable.errors import BackendUnavailable

if TYPE_CHECKING:
    from redis import Redis, RedisCluster
    from redis.asyncio import Redis as AsyncRedis
    from redis.asyncio import RedisCluster as AsyncRedisCluster

__all__ = ["RedisResults"]

_PREFIX = "deferrable.result."
_MOST_AT_ONCE = 200
_MOST_BYTES_AT_ONCE = 1_000_000
_RECONNECT_SECONDS = 0.2


class RedisResults(RedisStore, ResultStore):
    """Results in Redis, for all processes that use it.

    A result is the key ``deferrable.result.ID``, which expires. It is stored and published by one
    command for all results of a batch, or for each on a Redis Cluster. A command whose answer was
    lost may be sent again.

    Args:
        redis_client: a ``redis.asyncio.Redis``, a ``redis.Redis``, one of their cluster clients, or
            a URL. Only its settings are used: there is no I/O on it, and it is never closed. A
            backend's own store gets the links of its queues.

    Raises:
        InvalidOptions: the client has a setting that is not supported.
    """

    def __init__(
        self,
        redis_client: "AsyncRedis | Redis | AsyncRedisCluster | RedisCluster | str | RedisLinks",
    ) -> None:
        super().__init__(redis_client)
        self._listeners = PerLoop(self._open_listener)

    async def put(self, results: Sequence[KeptResult]) -> None:
        for batch in self._batches(results):
            keys = [_PREFIX + result.call_id for result in batch]
            args: list[str | int] = []
            for result in batch:
                args += [result.text, max(1, math.ceil(result.seconds * 1000))]
            await self._links.here().run(script("results_put"), keys, args)

    def _batches(self, results: Sequence[KeptResult]) -> list[list[KeptResult]]:
        """Results that one command may store: on a cluster they have no common node."""
        batches: list[list[KeptResult]] = []
        most = 1 if self.settings.is_cluster else _MOST_AT_ONCE
        size = 0
        for result in results:
            size += len(result.text)
            if not batches or len(batches[-1]) == most or size > _MOST_BYTES_AT_ONCE:
                batches.append([])
                size = len(result.text)
            batches[-1].append(result)
        return batches

    async def get(self, call_id: str) -> str | None:
        (text,) = await self._links.here().call(("GET", _PREFIX + call_id))
        return None if text is None else text.decode()

    async def forget(self, call_id: str) -> None:
        await self._links.here().call(("UNLINK", _PREFIX + call_id))

    async def wait(self, call_id: str) -> str:
        listener = self._listeners.get()
        while True:
            waiter = listener.begin(_PREFIX + call_id)
            try:
                await listener.listen()
                text = await self.get(call_id)
                if text is not None:
                    return text
                return (await waiter).decode()
            except (_Broken, BackendUnavailable):
                # The caller waits still, and Redis may be back soon.
                await asyncio.sleep(_RECONNECT_SECONDS)
            finally:
                listener.end(_PREFIX + call_id, waiter)

    async def _open_listener(self) -> "AsyncGenerator[_Listener, None]":
        listener = _Listener(self._links)
        try:
            yield listener
        finally:
            await listener.close()

    async def close(self) -> None:
        await self._listeners.close()
        await super().close()


class _Broken(Exception):
    """The connection of the listener broke; look again."""


class _Listener:
    """The one connection of a loop on which results are published."""

    def __init__(self, links: RedisLinks) -> None:
        self._links = links
        self._waiters: dict[str, set[asyncio.Future[bytes]]] = {}
        self._connection: RedisConnection | None = None
        self._subscribed: set[str] = set()
        self._wanted: list[str] = []
        self._unwanted: list[str] = []
        self._changing: asyncio.Task[None] | None = None

    def begin(self, channel: str) -> "asyncio.Future[bytes]":
        """A future that a message on `channel` resolves, once `listen` has returned."""
        waiter: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(channel, set())
        waiters.add(waiter)
        if channel not in self._subscribed:
            self._subscribed.add(channel)
            self._wanted.append(channel)
        return waiter

    async def listen(self) -> None:
        """Return once every channel that was begun is subscribed."""
        while self._wanted or self._changing is not None:
            changing = self._changing
            if changing is None:
                changing = asyncio.get_running_loop().create_task(self._change())
                self._changing = changing
            await asyncio.wait([changing])
            if self._changing is changing:
                self._changing = None
            # All who waited for it, or each would try once more at once.
            changing.result()

    def end(self, channel: str, waiter: "asyncio.Future[bytes]") -> None:
        """Nobody waits with `waiter` any more."""
        waiters = self._waiters.get(channel)
        if waiters is not None:
            waiters.discard(waiter)
            if not waiters:
                del self._waiters[channel]
                if channel in self._subscribed:
                    self._unwanted.append(channel)
        if waiter.done() and not waiter.cancelled():
            waiter.exception()  # Read it, or the loop would complain.
        else:
            waiter.cancel()

    async def _change(self) -> None:
        """Subscribe to all wanted channels, and leave those that nobody waits for, in one write."""
        await asyncio.sleep(0)  # for others that begin in the same pass of the loop
        connection = self._connection
        if connection is None:
            connection = await self._connect()
        wanted, self._wanted = self._wanted, []
        unwanted, self._unwanted = self._unwanted, []
        leaving = {channel for channel in unwanted if channel not in self._waiters}
        self._subscribed -= leaving
        commands = [("UNSUBSCRIBE", channel) for channel in leaving]
        commands += [("SUBSCRIBE", channel) for channel in wanted if channel not in leaving]
        if commands:
            try:
                replies = await connection.exchange(commands)
            except BaseException:
                self._break()  # or the other channels would wait unsubscribed
                raise
            for reply in replies:
                if isinstance(reply, ReplyError):
                    self._break()
                    raise refused(self._links.settings.where(), str(reply))

    async def _connect(self) -> RedisConnection:
        link = self._links.here()
        connection = await link.open_listener(_PREFIX, self._note_message, self._break)
        self._connection = connection
        # What was subscribed on the connection before.
        self._wanted = list(self._waiters)
        self._subscribed = set(self._waiters)
        return connection

    def _note_message(self, channel: bytes, text: bytes) -> None:
        for waiter in self._waiters.get(channel.decode(), ()):
            if not waiter.done():
                waiter.set_result(text)

    def _break(self) -> None:
        """The connection is lost: all who wait look again."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.abort()
        self._subscribed.clear()
        self._wanted.clear()
        self._unwanted.clear()
        for waiters in self._waiters.values():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(_Broken())

    async def close(self) -> None:
        """Close the connection. Nobody is woken any more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
