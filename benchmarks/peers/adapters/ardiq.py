"""ardiq, whose core is in Rust: results live for the shortest time it allows; many at once through
`enqueue_many`.
"""

import asyncio
from collections.abc import Sequence

from ardiq import Ardiq

from benchmarks.peers import jobs
from benchmarks.peers.adapter import CONCURRENCY, URL, Producer
from benchmarks.peers.order import JobName

app = Ardiq(URL, concurrency=CONCURRENCY, result_ttl_ms=0)
TASKS = {"note": app.task(jobs.note), "nap": app.task(jobs.nap)}


def work() -> None:
    asyncio.run(app.run())


class ArdiqProducer(Producer):
    async def push(self, job: JobName, number: int, text: str) -> None:
        await TASKS[job].enqueue(number, text)

    async def push_batch(self, job: JobName, calls: Sequence[tuple[int, str]]) -> None:
        task = TASKS[job]
        await app.enqueue_many([task.prepare(number, text) for number, text in calls])


PRODUCER = ArdiqProducer
