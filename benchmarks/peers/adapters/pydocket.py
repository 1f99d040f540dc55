"""pydocket: execution records are not kept (a ttl of 0); many at once through `add_many`.

A pool of 100 connections, redis-py's default, is too small for its worker at `CONCURRENCY`: jobs
fail with MaxConnectionsError and come back much later. And it looks for work every 0.01 s: by its
default of 0.25 s, which it sleeps whenever all slots are taken, naps would be those of the look.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from docket import Docket, Worker

from benchmarks.peers import jobs
from benchmarks.peers.adapter import CONCURRENCY, URL, Producer
from benchmarks.peers.order import JobName

LOOK = timedelta(milliseconds=10)
TASKS = {"note": jobs.note, "nap": jobs.nap}


def make_docket() -> Docket:
    return Docket(name="benchmark", url=f"{URL}?max_connections=1000", execution_ttl=timedelta(0))


async def work_until_ended() -> None:
    async with make_docket() as docket:
        for task in TASKS.values():
            docket.register(task)
        async with Worker(docket, concurrency=CONCURRENCY, minimum_check_interval=LOOK) as worker:
            await worker.run_forever()


def work() -> None:
    asyncio.run(work_until_ended())


class DocketProducer(Producer):
    async def open(self) -> None:
        self._docket = make_docket()
        await self._docket.__aenter__()

    async def push(self, job: JobName, number: int, text: str) -> None:
        await self._docket.add(TASKS[job])(number, text)

    async def push_batch(self, job: JobName, calls: Sequence[tuple[int, str]]) -> None:
        call, task = self._docket.call, TASKS[job]
        # Each `call` draws its own key; calls of one key are one job.
        await self._docket.add_many([call(task)(number, text) for number, text in calls])

    async def close(self) -> None:
        await self._docket.__aexit__(None, None, None)


PRODUCER = DocketProducer
