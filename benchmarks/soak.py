"""Whether anything grows under mixed load: memory, file descriptors, keys in Redis.

Jobs of all kinds (async, plain, failing, retried, delayed, long, expiring, debounced) are pushed at
an even rate and run in this process, on its own Redis; errors are discarded after a
look at them. ``python benchmarks/soak.py [--seconds 3600] [--rate 200]``

It ends with status 1 if memory or descriptors have grown, or if a key is left in Redis that does
not expire and has no owner.
"""

import argparse
import asyncio
import gc
import logging
import random
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median

sys.path[:0] = [str(Path(__file__).parent.parent / "tests"), str(Path(__file__).parent.parent)]

from attacks.chaos_jobs import KINDS, Jobs, key_of  # noqa: E402
from attacks.chaos_ledger import Ledger  # noqa: E402
from redis_server import RedisServer, start_redis  # noqa: E402

from deferrable.aio.backend import DocketsBackendFactory, RedisDebounceStore  # noqa: E402
from deferrable.aio.worker import Worker  # noqa: E402
from deferrable.testing import wait_until  # noqa: E402

LEASE_SECONDS = 4.0
TICK_SECONDS = 0.25
SETTLE_SECONDS = 120.0
WARM_UP_SHARE = 0.25
GROWTH_SHARE = 0.05
GROWTH_KIBIBYTES = 2048
"""What allocators and counters may add, beside that share, between the two halves of a soak."""
BLOCK_SHARE = 0.01
"""The same for the blocks of memory that Python holds, which are told apart from pages that were
touched once and are kept."""


@dataclass(frozen=True)
class Sample:
    """What was used at one moment.

    Attributes:
        kibibytes: resident.
        blocks: of memory that Python's objects are made of.
    """

    kibibytes: int
    descriptors: int
    blocks: int

    @classmethod
    def take(cls) -> "Sample":
        gc.collect()
        resident = Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        return cls(int(resident), descriptors, sys.getallocatedblocks())


def find_growth(samples: list[Sample]) -> list[str]:
    """What has grown between the two halves of what followed the warm-up, in words."""
    settled = samples[int(len(samples) * WARM_UP_SHARE) :]
    half = len(settled) // 2
    if not half:
        return []
    found = []
    before, after = (
        median(each.kibibytes for each in part) for part in (settled[:half], settled[half:])
    )
    if after > before * (1 + GROWTH_SHARE) + GROWTH_KIBIBYTES:
        found.append(f"memory has grown from {before:.0f} to {after:.0f} KiB")
    before, after = (
        median(each.blocks for each in part) for part in (settled[:half], settled[half:])
    )
    if after > before * (1 + BLOCK_SHARE):
        found.append(f"blocks have grown from {before:.0f} to {after:.0f}")
    before, after = (
        max(each.descriptors for each in part) for part in (settled[:half], settled[half:])
    )
    if after > before:
        found.append(f"file descriptors have grown from {before} to {after}")
    return found


async def push(jobs: Jobs, end_time: float, rate: float) -> int:
    """Push calls until then; how many there were."""
    draw, numbers = random.Random(1), count()
    start_time = time.monotonic()
    pushed = 0
    while (now := time.monotonic()) < end_time:
        due = int((now - start_time) * rate) - pushed
        kinds = Counter(draw.choices(list(KINDS), list(KINDS.values()), k=due))
        for kind, number in kinds.items():
            calls = [(key_of(kind, "0", next(numbers), draw),) for _ in range(number)]
            await jobs.by_kind[kind].later_many_async(calls)
        pushed += due
        await asyncio.sleep(TICK_SECONDS)
    return pushed


async def count_outcomes(worker: Worker, outcomes: Counter[str]) -> None:
    async for outcome in worker:
        outcomes[outcome.status] += 1


async def note_samples(
    jobs: Jobs, every_seconds: float, outcomes: Counter[str], samples: list[Sample]
) -> None:
    """Print what is used, repeatedly, and empty the error queue."""
    start_time = time.monotonic()
    while True:
        await asyncio.sleep(every_seconds)
        async for entry in jobs.instance.errors():
            await entry.discard()
        samples.append(Sample.take())
        print(
            f"{time.monotonic() - start_time:6.0f} s: {samples[-1].kibibytes} KiB, "
            f"{samples[-1].blocks} blocks, {samples[-1].descriptors} descriptors, "
            f"{outcomes.total()} outcomes",
            flush=True,
        )


async def soak(server: RedisServer, options: argparse.Namespace) -> list[str]:
    """What is wrong, as text."""
    factory = DocketsBackendFactory(server.url, timeout=LEASE_SECONDS)
    backend, store = factory.create_backend_for_group("soak"), RedisDebounceStore(server.url)
    jobs = Jobs(backend, store, Ledger(Path("/dev/null"), "soak"), LEASE_SECONDS * 1.5)
    outcomes: Counter[str] = Counter()
    samples: list[Sample] = []
    every_seconds = min(60.0, options.seconds / 20)

    async def is_empty() -> bool:
        await asyncio.sleep(TICK_SECONDS)
        stats = await backend.queue.stats()
        return not sum(stats[where] for where in ("available", "in_flight", "delayed"))

    async with jobs.instance, jobs.instance.worker() as worker:
        counting = asyncio.ensure_future(count_outcomes(worker, outcomes))
        noting = asyncio.ensure_future(note_samples(jobs, every_seconds, outcomes, samples))
        pushed = await push(jobs, time.monotonic() + options.seconds, options.rate)
        noting.cancel()
        with suppress(asyncio.CancelledError):
            await noting
        await wait_until(is_empty, "everything is settled", SETTLE_SECONDS)
        worker.stop()
        await counting
        async for entry in jobs.instance.errors():
            await entry.discard()
    await store.close()
    figures = ", ".join(f"{status} {number}" for status, number in outcomes.most_common())
    print(f"{pushed} calls in {options.seconds:.0f} s; {figures}")
    kept = [f"{key} is left in Redis" for key in server.lasting_keys()]
    return [*find_growth(samples), *kept]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--rate", type=float, default=200, help="calls in a second")
    options = parser.parse_args()
    logging.getLogger("deferrable").setLevel(logging.CRITICAL)  # jobs fail by the thousand
    with start_redis() as server:
        troubles = asyncio.run(soak(server, options))
    print(*troubles or ["nothing has grown, and Redis is empty"], sep="\n")
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main())
