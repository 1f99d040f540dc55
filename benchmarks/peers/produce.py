"""The program that enqueues, in the library's own environment. It prints what that took, as JSON.

Owns the ways of enqueueing. Usage: ``python -m benchmarks.peers.produce ADAPTER ORDER``, the order
being the JSON of an `Order`.
"""

import asyncio
import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Sequence

from benchmarks.peers.adapter import BlockingProducer, Producer
from benchmarks.peers.order import BATCH, GATHERED, THREADS, JobName, Order

WARM_UPS = 20
"""Pushes before the clock starts, so that connections and caches are there; of jobs, too."""

Calls = Sequence[tuple[int, str]]


class Stopwatch:
    """Seconds of the wall and of this process's CPU."""

    def __init__(self) -> None:
        self._start, self._start_cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        return {
            "seconds": time.perf_counter() - self._start,
            "cpu_seconds": time.process_time() - self._start_cpu,
        }


async def produce(producer: Producer, order: Order) -> dict[str, float]:
    ways = {"single": singly, "concurrent": concurrently, "batch": in_batches}
    calls = order.calls
    await producer.open()
    try:
        if order.way == "paced":
            await paced(producer, order)
            return {}
        if order.way == "awaited":
            return await call_each(producer, order)
        warm_ups = min(WARM_UPS, order.jobs // 2)
        for number, text in calls[:warm_ups]:
            await producer.push(order.job, number, text)
        watch = Stopwatch()
        await ways[order.way](producer, order.job, calls[warm_ups:])
        return {**watch.read(), "jobs": order.jobs - warm_ups}
    finally:
        await producer.close()


async def singly(producer: Producer, job: JobName, calls: Calls) -> None:
    for number, text in calls:
        await producer.push(job, number, text)


async def concurrently(producer: Producer, job: JobName, calls: Calls) -> None:
    for start in range(0, len(calls), GATHERED):
        some = calls[start : start + GATHERED]
        await asyncio.gather(*(producer.push(job, number, text) for number, text in some))


async def in_batches(producer: Producer, job: JobName, calls: Calls) -> None:
    for start in range(0, len(calls), BATCH):
        await producer.push_batch(job, calls[start : start + BATCH])


async def paced(producer: Producer, order: Order) -> None:
    from benchmarks.peers.jobs import LEDGER

    due_time = time.monotonic()
    for number, text in order.calls:
        LEDGER.send(number)
        await producer.push(order.job, number, text)
        due_time += order.interval_seconds
        await asyncio.sleep(max(0.0, due_time - time.monotonic()))


async def call_each(producer: Producer, order: Order) -> dict[str, float]:
    """A number of callers, each of which makes its next call when it has its answer."""
    calls = order.calls
    warm_ups = min(WARM_UPS, order.jobs // 2)
    await call_some(producer, calls[:warm_ups])
    rest = calls[warm_ups:]
    watch = Stopwatch()
    await asyncio.gather(*(call_some(producer, rest[at::GATHERED]) for at in range(GATHERED)))
    return {**watch.read(), "jobs": len(rest)}


async def call_some(producer: Producer, calls: Calls) -> None:
    for number, text in calls:
        check_answer(number, await producer.call(number, text))


def check_answer(number: int, answer: object) -> None:
    if answer != number:
        raise SystemExit(f"job {number} gave {answer!r:.200}")


def produce_blocking(producer: BlockingProducer, order: Order) -> dict[str, float]:
    if order.way == "paced_blocking":
        paced_blocking(producer, order)
        return {}
    calls = order.calls
    warm_ups = min(WARM_UPS, order.jobs // 2)
    do = call_all if order.way == "awaited_blocking" else push_all
    do(producer, calls[:warm_ups])
    rest = calls[warm_ups:]
    count = 1 if order.way == "blocking" else THREADS
    shares = [rest[index::count] for index in range(count)]
    threads = [threading.Thread(target=do, args=(producer, share)) for share in shares]
    watch = Stopwatch()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {**watch.read(), "jobs": len(rest)}


def push_all(producer: BlockingProducer, calls: Calls) -> None:
    for number, text in calls:
        producer.push(number, text)


def call_all(producer: BlockingProducer, calls: Calls) -> None:
    for number, text in calls:
        check_answer(number, producer.call(number, text))


def paced_blocking(producer: BlockingProducer, order: Order) -> None:
    from benchmarks.peers.jobs import LEDGER

    due_time = time.monotonic()
    for number, text in order.calls:
        LEDGER.send(number)
        producer.push(number, text)
        due_time += order.interval_seconds
        time.sleep(max(0.0, due_time - time.monotonic()))


def main(adapter: str, order: Order) -> None:
    module = importlib.import_module(f"benchmarks.peers.adapters.{adapter}")
    if order.way in ("blocking", "threads", "paced_blocking", "awaited_blocking"):
        figures = produce_blocking(module.BLOCKING_PRODUCER(), order)
    else:
        figures = asyncio.run(produce(module.PRODUCER(), order))
    print(json.dumps(figures), flush=True)
    # At once: ardiq's threads may crash an interpreter that winds up, after all is done.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], Order(**json.loads(sys.argv[2])))
