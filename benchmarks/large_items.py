"""What a large item costs: time, Redis's memory, and how long small calls wait meanwhile.

``python benchmarks/large_items.py``
"""

import asyncio
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / "tests"), str(Path(__file__).parent.parent)]

import redis  # noqa: E402
from redis_server import start_redis  # noqa: E402

from deferrable.aio import Deferrable  # noqa: E402
from deferrable.aio.backend import DocketsBackendFactory  # noqa: E402

SIZES = (1_000, 1_000_000, 10_000_000, 50_000_000)


def keep(data: bytes) -> None: ...


async def main(url: str) -> None:
    # A factory each, so that the small calls have their own connection.
    large, small = (
        Deferrable(DocketsBackendFactory(url, wait_time=0).create_backend_for_group(group))
        for group in ("large", "small")
    )
    large_job, small_job = (each.deferrable(name="keep")(keep) for each in (large, small))
    server = redis.Redis.from_url(url)
    async with large, small:
        await small_job.later_async(b"")
        for size in SIZES:
            before = server.info("memory")["used_memory"]
            start_time = time.perf_counter()
            await large_job.later_async(b"x" * size)
            push_seconds = time.perf_counter() - start_time
            used = server.info("memory")["used_memory"] - before
            popping = asyncio.create_task(asyncio.to_thread(asyncio.run, take(url)))
            longest = 0.0
            while not popping.done():
                start_time = time.perf_counter()
                await small_job.later_async(b"")
                longest = max(longest, time.perf_counter() - start_time)
            print(
                f"{size:>11,} bytes: pushed in {push_seconds:.3f} s, run in {await popping:.3f} s, "
                f"{used:,} bytes in Redis, a small call waited for up to {longest:.3f} s"
            )


async def take(url: str) -> float:
    """Run the large item, and how long it took from the pop to its completion."""
    factory = DocketsBackendFactory(url, wait_time=0)
    async with Deferrable(factory.create_backend_for_group("large")) as instance:
        instance.deferrable(name="keep")(keep)
        start_time = time.perf_counter()
        outcome = await instance.run_once()
        assert outcome is not None
        return time.perf_counter() - start_time


if __name__ == "__main__":
    with start_redis() as server:
        asyncio.run(main(server.url))
