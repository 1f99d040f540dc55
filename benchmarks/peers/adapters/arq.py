"""arq: results are kept only where they are awaited, and it polls every 0.01 s: by its default of
0.5 s, latency and naps would be those of the poll.

It has no call for many jobs at once.
"""

from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func

from benchmarks.peers import jobs
from benchmarks.peers.adapter import CONCURRENCY, HAS_RESULTS, POLL_SECONDS, URL, Producer
from benchmarks.peers.order import JobName

SETTINGS = RedisSettings.from_dsn(URL)


async def note(context: dict[Any, Any], number: int, text: str) -> None:
    await jobs.note(number, text)


async def nap(context: dict[Any, Any], number: int, text: str) -> None:
    await jobs.nap(number, text)


async def answer(context: dict[Any, Any], number: int, text: str) -> int:
    return await jobs.answer(number, text)


def work() -> None:
    kept = {} if HAS_RESULTS else {"keep_result": 0}
    functions = [func(function, **kept) for function in (note, nap, answer)]
    Worker(functions, redis_settings=SETTINGS, max_jobs=CONCURRENCY, poll_delay=POLL_SECONDS).run()


class ArqProducer(Producer):
    async def open(self) -> None:
        self._pool = await create_pool(SETTINGS)

    async def push(self, job: JobName, number: int, text: str) -> None:
        await self._pool.enqueue_job(job, number, text)

    async def call(self, number: int, text: str) -> object:
        job = await self._pool.enqueue_job("answer", number, text)
        assert job is not None
        return await job.result(poll_delay=POLL_SECONDS)

    async def close(self) -> None:
        await self._pool.aclose()


PRODUCER = ArqProducer
