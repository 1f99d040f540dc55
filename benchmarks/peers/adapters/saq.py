"""saq: jobs and results are not kept (a ttl below zero). It has no call for many jobs at once.

`Queue.map` and `Queue.batch` wait for results; enqueueing alone goes through `Queue.enqueue`.
"""

import asyncio
from typing import Any

from saq import Queue, Worker

from benchmarks.peers import jobs
from benchmarks.peers.adapter import CONCURRENCY, URL, Producer
from benchmarks.peers.order import JobName

NOT_KEPT = -1


async def note(context: dict[str, Any], *, number: int, text: str) -> None:
    await jobs.note(number, text)


async def nap(context: dict[str, Any], *, number: int, text: str) -> None:
    await jobs.nap(number, text)


async def work_until_ended() -> None:
    worker: Worker[Any] = Worker(
        Queue.from_url(URL), functions=[note, nap], concurrency=CONCURRENCY
    )
    await worker.start()


def work() -> None:
    asyncio.run(work_until_ended())


class SaqProducer(Producer):
    async def open(self) -> None:
        self._queue = Queue.from_url(URL)
        await self._queue.connect()

    async def push(self, job: JobName, number: int, text: str) -> None:
        await self._queue.enqueue(job, number=number, text=text, ttl=NOT_KEPT)

    async def close(self) -> None:
        await self._queue.disconnect()


PRODUCER = SaqProducer
