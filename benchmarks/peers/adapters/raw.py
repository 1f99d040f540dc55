"""redis-py alone: LPUSH of the very bytes that deferrable pushes. The floor; it has no worker."""

from collections.abc import Sequence

import redis
import redis.asyncio

from benchmarks.peers.adapter import URL, BlockingProducer, Producer
from benchmarks.peers.adapters import deferrable
from benchmarks.peers.order import JobName

KEY = "raw"


def bytes_of_a_job() -> bytes:
    """What deferrable pushes for one; it leaves nothing behind."""
    with redis.Redis.from_url(URL) as client:
        deferrable.NOTE.later(0, "abcde")
        (raw,) = client.lrange("queue.deferrable_benchmark", 0, -1)
        client.flushdb()
    assert isinstance(raw, bytes)
    return raw


class RawProducer(Producer):
    async def open(self) -> None:
        self._bytes = bytes_of_a_job()
        self._client = redis.asyncio.Redis.from_url(URL)
        await self._client.ping()

    async def push(self, job: JobName, number: int, text: str) -> None:
        await self._client.lpush(KEY, self._bytes)

    async def push_batch(self, job: JobName, calls: Sequence[tuple[int, str]]) -> None:
        await self._client.lpush(KEY, *[self._bytes] * len(calls))

    async def close(self) -> None:
        await self._client.aclose()


class BlockingRawProducer(BlockingProducer):
    def __init__(self) -> None:
        self._bytes = bytes_of_a_job()
        self._client = redis.Redis.from_url(URL)

    def push(self, number: int, text: str) -> None:
        self._client.lpush(KEY, self._bytes)


PRODUCER = RawProducer
BLOCKING_PRODUCER = BlockingRawProducer
