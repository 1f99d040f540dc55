"""The program that runs deferrable's in-memory backend, producer and worker in one process.

It prints what JOBS no-ops took from the first push to the last outcome, as JSON.
Usage: ``python -m benchmarks.peers.in_memory JOBS``
"""

import asyncio
import json
import sys
import time

from benchmarks.peers.jobs import note
from benchmarks.peers.order import BATCH
from deferrable.aio import Deferrable
from deferrable.aio.backend import InMemoryBackendFactory


async def run(jobs: int) -> float:
    factory = InMemoryBackendFactory(timeout=1)
    instance = Deferrable(factory.create_backend_for_group("benchmark"))
    job = instance.deferrable(note)
    start_time = time.perf_counter()
    for first in range(0, jobs, BATCH):
        calls = [(number, "abcde") for number in range(first, min(first + BATCH, jobs))]
        await job.later_many_async(calls)
    async with instance, instance.worker() as worker:
        for _ in range(jobs):
            outcome = await anext(worker)
            assert outcome.status == "completed", outcome
        return time.perf_counter() - start_time


if __name__ == "__main__":
    print(json.dumps({"seconds": asyncio.run(run(int(sys.argv[1])))}))
