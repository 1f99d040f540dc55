"""deferrable on Redis and on SQLite.

On Redis there are two variants: plain, and with a time limit and a log line on each job. On SQLite
the variant is the durability. All else is its default: leases kept, retries, the pickle serializer.
"""

import asyncio
import logging
from collections.abc import Sequence

from benchmarks.peers import jobs
from benchmarks.peers.adapter import (
    CONCURRENCY,
    IS_FULL,
    PREFETCH,
    URL,
    BlockingProducer,
    Producer,
)
from benchmarks.peers.order import JobName
from deferrable.aio import Deferrable
from deferrable.aio.backend import from_url
from deferrable.aio.job import Job

TIMEOUT_SECONDS = 60
KEPT_SECONDS = 3600

IS_ON_SQLITE = URL.startswith("sqlite:")
IS_WATCHED = IS_FULL and not IS_ON_SQLITE
SETTINGS = {"durability": "full" if IS_FULL else "process"} if IS_ON_SQLITE else {}
instance = Deferrable(from_url(URL, **SETTINGS).create_backend_for_group("benchmark"))
register = instance.deferrable(timeout_seconds=TIMEOUT_SECONDS if IS_WATCHED else None)
JOBS: dict[str, Job[[int, str], object]] = {
    "note": register(jobs.note),
    "nap": register(jobs.nap),
}
ANSWER = instance.deferrable(keep_results_seconds=KEPT_SECONDS)(jobs.answer)
NOTE = JOBS["note"]


async def work_until_ended() -> None:
    log = logging.getLogger("benchmark")
    async with instance, instance.worker(CONCURRENCY, prefetch=PREFETCH) as worker:
        async for outcome in worker:
            if IS_WATCHED:
                log.info("%s %s", outcome.item["method"], outcome.status)


def work() -> None:
    if IS_WATCHED:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(work_until_ended())


class DeferrableProducer(Producer):
    async def push(self, job: JobName, number: int, text: str) -> None:
        await JOBS[job].later_async(number, text)

    async def push_batch(self, job: JobName, calls: Sequence[tuple[int, str]]) -> None:
        await JOBS[job].later_many_async(calls)

    async def call(self, number: int, text: str) -> object:
        receipt = await ANSWER.later_async(number, text)
        return await receipt.result_async()

    async def close(self) -> None:
        await instance.close()


class BlockingDeferrableProducer(BlockingProducer):
    def push(self, number: int, text: str) -> None:
        NOTE.later(number, text)


PRODUCER = DeferrableProducer
BLOCKING_PRODUCER = BlockingDeferrableProducer
