"""How soon another consumer of a Dockets queue takes over from one that died."""

import pytest
import redis.asyncio
from redis_server import unique_group

from deferrable.aio.backend import DocketsBackendFactory
from deferrable.testing import MovingClock

pytestmark = pytest.mark.anyio

LEASE_SECONDS = 2


async def test_one_that_came_and_died_between_two_looks_is_missed_within_its_lease_and_a_second(
    redis_url: str,
) -> None:
    clock, group = MovingClock(), unique_group()

    def make_queue() -> DocketsBackendFactory:
        return DocketsBackendFactory(redis_url, wait_time=0, timeout=LEASE_SECONDS, clock=clock)

    async with (
        make_queue().create_backend_for_group(group) as living,
        make_queue().create_backend_for_group(group) as dying,
        redis.asyncio.Redis.from_url(redis_url) as client,
    ):
        await living.queue.pop()  # It looks for the dead, and finds nobody.
        await living.queue.push({"number": 1})
        envelope, _ = await dying.queue.pop()
        assert envelope is not None
        async for key in client.scan_iter(f"queue.deferrable_{group}.*.active"):
            await client.delete(key)  # as the server does at the end of a lease

        clock.advance(LEASE_SECONDS + 1)
        _, item = await living.queue.pop()

    assert item == {"number": 1}
