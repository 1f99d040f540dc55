"""What the processes of ``attacks.unique`` do until they are killed."""

import asyncio
import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis

from deferrable import Retry
from deferrable.aio import Deferrable, current_attempt
from deferrable.aio.backend import from_url
from deferrable.aio.backend.dockets._wire import Keys

__all__ = ["GROUP", "KEYS", "act", "instance_of"]

GROUP = "unique"
KEYS = 40
_LEASE_SECONDS = 3


def instance_of(url: str, log: Path) -> tuple[Any, Any, Any]:
    """An instance, its job, which notes each run, and a job that frees its key when it starts."""
    settings: dict[str, Any] = {"wait_time": 0.2, "visibility_timeout": _LEASE_SECONDS}
    if url.startswith("sqlite"):
        settings["durability"] = "process"
    instance = Deferrable(from_url(url, **settings).create_backend_for_group(GROUP))
    chance = random.Random()

    @instance.deferrable(name="job", error_classes=[ValueError], use_exponential_backoff=False)
    async def job(number: int) -> None:
        item = current_attempt().item
        with log.open("a") as file:
            file.write(f"{item['unique_key']} {item['id']}\n")
        await asyncio.sleep(chance.random() * 0.02)
        how = chance.random()
        if how < 0.2:
            raise ValueError("retried at once")
        if how < 0.3:
            raise Retry(after_seconds=0.05)
        if how < 0.35:
            raise KeyError("for good")

    @instance.deferrable(name="early", unique=True, unique_until="start", max_attempts=3)
    async def early(number: int) -> None:
        await asyncio.sleep(chance.random() * 0.02)
        if chance.random() < 0.2:
            raise Retry(after_seconds=0.05)

    return instance, job, early


def act(role: str, url: str, log: Path, seed: int, ready: int) -> None:
    """Do it for ever.

    Args:
        ready: a file to which something is written after the first work.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    random.seed(seed)

    def tell() -> None:
        with suppress(OSError):  # the reader may have gone
            os.write(ready, b".")

    if role == "take as Python 2":
        _take_as_python2(url, tell)
    else:
        asyncio.run({"produce": _produce, "consume": _consume}[role](url, log, tell))


async def _produce(url: str, log: Path, tell: Callable[[], None]) -> None:
    _, job, early = instance_of(url, log)
    job = job.options(unique=True)
    while True:
        number, how = random.randrange(KEYS), random.random()
        if how < 0.6:
            await job.later_async(number)
        elif how < 0.8:
            await job.options(delay_seconds=random.random() / 5).later_async(number)
        elif how < 0.85:
            await early.later_async(number)
        elif how < 0.92:
            await job.later_many_async([(random.randrange(KEYS),) for _ in range(5)])
        else:
            receipt = await job.later_async(number)
            await receipt.cancel_async()
        tell()


async def _consume(url: str, log: Path, tell: Callable[[], None]) -> None:
    instance, _, _ = instance_of(url, log)
    async with instance.worker(concurrency=4) as worker:
        tell()
        async for _ in worker:
            pass


def _take_as_python2(url: str, tell: Callable[[], None]) -> None:
    client, keys = redis.Redis.from_url(url), Keys(f"deferrable_{GROUP}")
    working = keys.working(f"old-{os.getpid()}")
    while True:
        if client.rpoplpush(keys.queue, working):
            time.sleep(random.random() * 0.02)
            client.lpop(working)
        tell()
        time.sleep(0.01)
