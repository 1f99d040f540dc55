"""taskiq with taskiq-redis: its list broker, the fastest it has (it acknowledges nothing: what a
worker that dies held is lost). It has a result backend only where results are awaited; by default
there is none. It has no call for many at once.
"""

import asyncio

from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from benchmarks.peers import jobs
from benchmarks.peers.adapter import CONCURRENCY, HAS_RESULTS, POLL_SECONDS, URL, Producer
from benchmarks.peers.order import JobName

broker = ListQueueBroker(URL)
if HAS_RESULTS:
    broker = broker.with_result_backend(RedisAsyncResultBackend(URL))
TASKS = {
    "note": broker.register_task(jobs.note, task_name="note"),
    "nap": broker.register_task(jobs.nap, task_name="nap"),
    "answer": broker.register_task(jobs.answer, task_name="answer"),
}


def work() -> None:
    asyncio.run(run_receiver_task(broker, max_async_tasks=CONCURRENCY, run_startup=True))


class TaskiqProducer(Producer):
    async def open(self) -> None:
        await broker.startup()

    async def push(self, job: JobName, number: int, text: str) -> None:
        await TASKS[job].kiq(number, text)

    async def call(self, number: int, text: str) -> object:
        task = await TASKS["answer"].kiq(number, text)
        result = await task.wait_result(check_interval=POLL_SECONDS)
        return result.return_value

    async def close(self) -> None:
        await broker.shutdown()


PRODUCER = TaskiqProducer
