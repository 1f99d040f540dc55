"""streaq: results are not kept (a ttl of 0); many at once through `enqueue_many`."""

from collections.abc import Sequence
from contextlib import AsyncExitStack

from streaq import Worker

from benchmarks.peers import jobs
from benchmarks.peers.adapter import CONCURRENCY, URL, Producer
from benchmarks.peers.order import JobName

worker = Worker(redis_url=URL, concurrency=CONCURRENCY)
TASKS = {
    "note": worker.task(ttl=0)(jobs.note),
    "nap": worker.task(ttl=0)(jobs.nap),
}


def work() -> None:
    worker.run_sync()


class StreaqProducer(Producer):
    async def open(self) -> None:
        self._stack = AsyncExitStack()
        await self._stack.enter_async_context(worker)

    async def push(self, job: JobName, number: int, text: str) -> None:
        await TASKS[job].enqueue(number, text)

    async def push_batch(self, job: JobName, calls: Sequence[tuple[int, str]]) -> None:
        task = TASKS[job]
        await worker.enqueue_many([task.enqueue(number, text) for number, text in calls])

    async def close(self) -> None:
        await self._stack.aclose()


PRODUCER = StreaqProducer
