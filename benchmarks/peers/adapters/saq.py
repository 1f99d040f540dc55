"""saq: jobs and results are not kept (a ttl below zero) unless they are awaited. It has no call for
many jobs at once.

`Queue.map` and `Queue.batch` wait for results; enqueueing alone goes through `Queue.enqueue`.

Its sweep, which a worker makes as it begins, may take a job that was popped and is not marked yet
for an abandoned one, and have it run twice; on a full queue it did so in most runs, which then have
no speed. A sweep before the worker begins holds its next one back for 60 s.
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


async def answer(context: dict[str, Any], *, number: int, text: str) -> int:
    return await jobs.answer(number, text)


async def work_until_ended() -> None:
    queue = Queue.from_url(URL)
    await queue.connect()
    await queue.sweep()
    worker: Worker[Any] = Worker(queue, functions=[note, nap, answer], concurrency=CONCURRENCY)
    await worker.start()


def work() -> None:
    asyncio.run(work_until_ended())


class SaqProducer(Producer):
    async def open(self) -> None:
        self._queue = Queue.from_url(URL)
        await self._queue.connect()

    async def push(self, job: JobName, number: int, text: str) -> None:
        await self._queue.enqueue(job, number=number, text=text, ttl=NOT_KEPT)

    async def call(self, number: int, text: str) -> object:
        return await self._queue.apply("answer", number=number, text=text)

    async def close(self) -> None:
        await self._queue.disconnect()


PRODUCER = SaqProducer
