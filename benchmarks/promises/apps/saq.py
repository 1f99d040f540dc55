"""saq: one attempt, as by default, and with retries and a heartbeat ("retry").

The time limit is three times the job, so it is never the reason. It looks for stuck jobs once a
second.
"""

import asyncio
from typing import Any

from saq import Queue, Worker

from benchmarks.promises import journal

IS_RETRIED = journal.VARIANT == "retry"
OPTIONS = {"retries": journal.ATTEMPTS, "heartbeat": journal.LEASE_SECONDS} if IS_RETRIED else {}


async def run(context: dict[str, Any]) -> None:
    await journal.run_async()


def push() -> None:
    async def enqueue() -> None:
        queue = Queue.from_url(journal.URL)
        await queue.enqueue("run", timeout=int(journal.JOB_SECONDS) * 3, **OPTIONS)
        await queue.disconnect()

    asyncio.run(enqueue())


def work() -> None:
    async def start() -> None:
        queue = Queue.from_url(journal.URL)
        worker: Worker[Any] = Worker(
            queue,
            functions=[run],
            timers={"sweep": 1, "schedule": 1},
            shutdown_grace_period_s=journal.STOP_SECONDS,
        )
        await worker.start()

    asyncio.run(start())


if __name__ == "__main__":
    journal.main(push, work)
