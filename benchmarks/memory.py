"""Whether a worker's memory stays flat: many no-op jobs, and the resident size on the way.

On a Redis of the benchmark's own, in this process, producer and worker take turns, so that the
queue stays short. ``python benchmarks/memory.py [JOBS]``
"""

import asyncio
import gc
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / "tests"), str(Path(__file__).parent.parent)]

from redis_server import start_redis  # noqa: E402

from deferrable.aio import Deferrable  # noqa: E402
from deferrable.aio.backend import DocketsBackendFactory  # noqa: E402

BATCH = 1000
STEP = 20_000


async def do_nothing() -> None:
    pass


def resident_kibibytes() -> int:
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


async def soak(url: str, jobs: int) -> None:
    instance = Deferrable(DocketsBackendFactory(url).create_backend_for_group("soak"))
    job = instance.deferrable(name="do_nothing")(do_nothing)
    sizes: list[int] = []
    start, start_cpu = time.perf_counter(), time.process_time()
    done = 0
    async with instance, instance.worker() as worker:
        while done < jobs:
            await job.later_many_async([()] * BATCH)
            for _ in range(BATCH):
                outcome = await anext(worker)
                assert outcome.status == "completed", outcome
            done += BATCH
            if done % STEP == 0:
                sizes.append(resident_kibibytes())
                print(f"{done} jobs: {sizes[-1]} KiB", flush=True)
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    print(
        f"{jobs} jobs in {seconds:.1f} s ({jobs / seconds:.0f}/s, {cpu / jobs * 1e6:.0f} us of CPU "
        f"each, pushing included); after the first {STEP}: {sizes[0]} KiB, at the end: "
        f"{sizes[-1]} KiB, grown by {sizes[-1] - sizes[0]} KiB"
    )


if __name__ == "__main__":
    with start_redis() as server:
        asyncio.run(soak(server.url, int(sys.argv[1]) if len(sys.argv) > 1 else 200_000))
