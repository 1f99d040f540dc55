"""taskiq with taskiq-redis: its list broker, the fastest it has (it acknowledges nothing: what a
worker that dies held is lost). No result backend, its default. It has no call for many at once.
"""

import asyncio

from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker

from benchmarks.peers import jobs
from benchmarks.peers.adapter import CONCURRENCY, URL, Producer
from benchmarks.peers.order import JobName

broker = ListQueueBroker(URL)
TASKS = {
    "note": broker.register_task(jobs.note, task_name="note"),
    "nap": broker.register_task(jobs.nap, task_name="nap"),
}


def work() -> None:
    asyncio.run(run_receiver_task(broker, max_async_tasks=CONCURRENCY, run_startup=True))


class TaskiqProducer(Producer):
    async def open(self) -> None:
        await broker.startup()

    async def push(self, job: JobName, number: int, text: str) -> None:
        await TASKS[job].kiq(number, text)

    async def close(self) -> None:
        await broker.shutdown()


PRODUCER = TaskiqProducer
