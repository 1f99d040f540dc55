"""arq: results are not kept, and it polls every 0.01 s: by its default of 0.5 s, latency and naps
would be those of the poll.

It has no call for many jobs at once.
"""

from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func

from benchmarks.peers import jobs
from benchmarks.peers.adapter import CONCURRENCY, URL, Producer
from benchmarks.peers.order import JobName

POLL_SECONDS = 0.01
SETTINGS = RedisSettings.from_dsn(URL)


async def note(context: dict[Any, Any], number: int, text: str) -> None:
    await jobs.note(number, text)


async def nap(context: dict[Any, Any], number: int, text: str) -> None:
    await jobs.nap(number, text)


def work() -> None:
    functions = [func(function, keep_result=0) for function in (note, nap)]
    Worker(functions, redis_settings=SETTINGS, max_jobs=CONCURRENCY, poll_delay=POLL_SECONDS).run()


class ArqProducer(Producer):
    async def open(self) -> None:
        self._pool = await create_pool(SETTINGS)

    async def push(self, job: JobName, number: int, text: str) -> None:
        await self._pool.enqueue_job(job, number, text)

    async def close(self) -> None:
        await self._pool.aclose()


PRODUCER = ArqProducer
