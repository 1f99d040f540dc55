"""arq: its lease is the longest time limit of a job and 10 s.

The time limit is three times the job, so that it ends no job here. For a job that holds the event
loop it is 2 s: there arq cannot enforce it.
"""

import asyncio
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func

from benchmarks.promises import journal

SETTINGS = RedisSettings.from_dsn(journal.URL)


async def run(context: dict[Any, Any]) -> None:
    await journal.run_async()


def push() -> None:
    async def enqueue() -> None:
        pool = await create_pool(SETTINGS)
        await pool.enqueue_job("run")
        await pool.aclose()

    asyncio.run(enqueue())


def work() -> None:
    limit = journal.LEASE_SECONDS if journal.HOLDS_LOOP else journal.JOB_SECONDS * 3
    functions = [func(run, max_tries=journal.ATTEMPTS)]
    Worker(functions, redis_settings=SETTINGS, job_timeout=limit).run()


if __name__ == "__main__":
    journal.main(push, work)
