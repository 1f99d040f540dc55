"""repid: Redis streams, the arguments as JSON. It has no call for many jobs at once."""

import asyncio

from repid import RedisServer, Repid, Router

from benchmarks.peers import jobs
from benchmarks.peers.adapter import CONCURRENCY, URL, Producer
from benchmarks.peers.order import JobName

CHANNEL = "benchmark"

app = Repid()
app.servers.register_server("default", RedisServer(URL), is_default=True)
router = Router()
router.actor(jobs.note, channel=CHANNEL)
router.actor(jobs.nap, channel=CHANNEL)
app.include_router(router)


async def work_until_ended() -> None:
    async with app.servers.default.connection():
        await app.run_worker(tasks_limit=CONCURRENCY)


def work() -> None:
    asyncio.run(work_until_ended())


class RepidProducer(Producer):
    async def open(self) -> None:
        self._connection = app.servers.default.connection()
        await self._connection.__aenter__()

    async def push(self, job: JobName, number: int, text: str) -> None:
        await app.send_message_json(
            channel=CHANNEL, payload={"number": number, "text": text}, headers={"topic": job}
        )

    async def close(self) -> None:
        await self._connection.__aexit__(None, None, None)


PRODUCER = RepidProducer
