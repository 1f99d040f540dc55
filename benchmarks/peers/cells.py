"""The measurements that every library goes through.

Each takes a place and a scale and gives figures by name (see `results`). Owns what is measured from
when to when. The one rule: figures are given only when every job has run exactly once.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.peers.catalogue import FULL, RESULTS, Peer
from benchmarks.peers.ledger import Tally
from benchmarks.peers.measuring import Meter, Reading, resident_mebibytes
from benchmarks.peers.order import Order
from benchmarks.peers.programs import Failed, Place, Worker, open_place

__all__ = ["CELLS", "CONCURRENCY", "Cell", "SMALL", "WORKERS", "Drain", "Scale", "drain"]

CONCURRENCY = 100
WORKERS = 4
SETTLE_SECONDS = 0.5
"""After the last job: time to tell the broker, and for a job that is run again to show."""
START_SECONDS = 60.0
PRODUCER_WARM_UPS = 10
"""Paced jobs that are not measured: their producer connects, and fills its caches."""
MOST_SYNCED = 2_000
"""Jobs, where some libraries wait for the disk at each step of each."""
LEAST_RATE = 50
"""Jobs a second; who is slower is taken to have lost some."""

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything.

    Attributes:
        jobs: no-ops.
        naps: jobs that sleep.
        paced: jobs for the latency, one each `interval_seconds`.
        depths: how many are queued, `concurrencies` and `sizes` of arguments, for the growth;
            `file_depths` the same in a SQLite file.
    """

    jobs: int = 10_000
    naps: int = 5_000
    paced: int = 250
    interval_seconds: float = 0.02
    idle_seconds: float = 10.0
    depths: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    file_depths: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    concurrencies: tuple[int, ...] = (10, 100, 1_000)
    sizes: tuple[int, ...] = (100, 1_000, 10_000, 100_000)


SMALL = Scale(
    jobs=200,
    naps=100,
    paced=10,
    idle_seconds=0.5,
    depths=(200,),
    file_depths=(200,),
    concurrencies=(10,),
    sizes=(100,),
)


@dataclass(frozen=True, slots=True)
class Drain:
    """How the jobs of a queue were processed, from the first one's start to the last one's."""

    tally: Tally
    cost: Reading

    @property
    def seconds(self) -> float:
        return self.tally.last_time - self.tally.first_time


def drain(
    place: Place,
    jobs: int,
    *,
    with_ends: bool = False,
    concurrency: int = CONCURRENCY,
    prefetch: int = 0,
    workers: int = 1,
) -> Drain:
    """Have fresh workers run the first `jobs`, which are queued; the cost is that of the first.

    Raises:
        Failed: one was lost, or ran twice.
    """
    ledger = place.ledger
    with ExitStack() as stack:
        worker = stack.enter_context(place.worker(concurrency, prefetch))
        for _ in range(1, workers):
            stack.enter_context(place.worker(concurrency, prefetch))
        meter = stack.enter_context(meter_of(place, worker))
        worker.wait(ledger.has_begun, "the first job began", START_SECONDS)
        before = meter.read()
        worker.wait(
            lambda: ledger.are_done(jobs, with_ends=with_ends),
            f"all of {jobs} jobs have run",
            START_SECONDS + jobs / LEAST_RATE,
        )
        time.sleep(SETTLE_SECONDS)
        cost = meter.read() - before
    tally = ledger.tally(jobs, with_ends=with_ends)
    if not tally.is_exact:
        raise Failed(f"{tally.missing} jobs were lost, {tally.doubled} ran twice or more")
    return Drain(tally, cost)


@contextmanager
def meter_of(place: Place, worker: Worker) -> Iterator[Meter]:
    meter = Meter(place.url if place.peer.has_server else None, worker.pid)
    try:
        yield meter
    finally:
        meter.close()


def enqueue_and_process(place: Place, scale: Scale, way: str) -> Figures:
    """No-ops: how fast they are enqueued in this way, and what processing them costs."""
    made = place.produce(Order(way, scale.jobs))
    figures = {
        way: made["jobs"] / made["seconds"],
        f"{way}_cpu": made["cpu_seconds"] / made["jobs"] * 1e6,
    }
    if not place.peer.has_worker:
        return figures
    done = drain(place, scale.jobs)
    cost = done.cost
    figures["process"] = (scale.jobs - 1) / done.seconds
    figures["worker_cpu"] = cost.worker_cpu_seconds / scale.jobs * 1e6
    if not place.peer.has_server:
        return figures
    return {
        **figures,
        "server_cpu": cost.server_cpu_seconds / scale.jobs * 1e6,
        "commands": cost.commands / scale.jobs,
        "reads": cost.reads / scale.jobs,
    }


def process_together(place: Place, scale: Scale) -> Figures:
    """No-ops, processed by several workers: from the first job's start to the last one's."""
    way = "batch" if "batch" in place.peer.ways else "blocking"
    place.produce(Order(way, scale.jobs))
    return {"together": (scale.jobs - 1) / drain(place, scale.jobs, workers=WORKERS).seconds}


def nap(place: Place, scale: Scale) -> Figures:
    """Jobs that sleep 0.05 s each, `CONCURRENCY` at once."""
    way = "batch" if "batch" in place.peer.ways else "concurrent"
    place.produce(Order(way, scale.naps, job="nap"))
    return {"naps": drain(place, scale.naps, with_ends=True).seconds}


@contextmanager
def idle_worker(place: Place) -> Iterator[Worker]:
    """A worker that has run job 0, and has nothing to do."""
    with place.worker(CONCURRENCY) as worker:
        place.produce(Order("single" if place.peer.is_async else "blocking", 1))
        worker.wait(place.ledger.has_begun, "the first job began", START_SECONDS)
        yield worker


def await_results(place: Place, scale: Scale) -> Figures:
    """Jobs whose callers await what they return, one worker running them."""
    way = "awaited" if place.peer.is_async else "awaited_blocking"
    with place.worker(CONCURRENCY) as worker:
        made = place.produce(Order(way, scale.jobs, job="answer"))
        worker.check()
    if not place.ledger.tally(scale.jobs, with_ends=False).is_exact:
        raise Failed("jobs were lost, or ran twice or more")
    return {
        "awaited": made["jobs"] / made["seconds"],
        "awaited_cpu": made["cpu_seconds"] / made["jobs"] * 1e6,
    }


def wait_on(place: Place, scale: Scale) -> Figures:
    """One job each 20 ms for a worker that has nothing else to do."""
    way = "paced" if place.peer.is_async else "paced_blocking"
    jobs = 1 + PRODUCER_WARM_UPS + scale.paced
    with idle_worker(place) as worker:
        order = Order(way, jobs - 1, first=1, interval_seconds=scale.interval_seconds)
        place.produce(order)
        worker.wait(
            lambda: place.ledger.are_done(jobs, with_ends=False), "all jobs ran", START_SECONDS
        )
    if not place.ledger.tally(jobs, with_ends=False).is_exact:
        raise Failed("jobs ran twice or more")
    latencies = sorted(place.ledger.latencies(jobs)[-scale.paced :])
    return {
        "p50": statistics.median(latencies) * 1e3,
        "p99": latencies[int(len(latencies) * 0.99)] * 1e3,
    }


def idle(place: Place, scale: Scale) -> Figures:
    """What an idle worker costs."""
    with idle_worker(place) as worker, meter_of(place, worker) as meter:
        time.sleep(min(2.0, scale.idle_seconds))
        before = meter.read()
        time.sleep(scale.idle_seconds)
        cost = meter.read() - before
        worker.check()
        commands = {"idle_commands": cost.commands / cost.time} if place.peer.has_server else {}
        return {
            **commands,
            "idle_cpu": cost.worker_cpu_seconds / cost.time * 100,
            "rss": resident_mebibytes(worker.pid),
        }


@dataclass(frozen=True, slots=True)
class Cell:
    """A measurement, and whose it is.

    Attributes:
        variant: of the peers, for this measurement; empty: the peer's own.
    """

    is_for: Callable[[Peer], bool]
    slots: Callable[[Scale], int]
    measure: Callable[[Place, Scale], Figures]
    variant: str = ""

    def run(self, peer: Peer, python: Path, scale: Scale) -> Figures:
        if peer.store == FULL:
            scale = replace(
                scale, jobs=min(scale.jobs, MOST_SYNCED), naps=min(scale.naps, MOST_SYNCED)
            )
        if self.variant:
            peer = replace(peer, variant=self.variant)
        with open_place(peer, python, self.slots(scale)) as place:
            return self.measure(place, scale)


def _in_way(way: str) -> Cell:
    return Cell(
        lambda peer: way in peer.ways,
        lambda scale: scale.jobs,
        lambda place, scale: enqueue_and_process(place, scale, way),
    )


CELLS: dict[str, Sequence[Cell]] = {
    "enqueue": [_in_way(way) for way in ("single", "concurrent", "batch")],
    "blocking": [_in_way(way) for way in ("blocking", "threads")],
    "together": [
        Cell(lambda peer: not peer.has_server, lambda scale: scale.jobs, process_together)
    ],
    "sleep": [Cell(lambda peer: peer.is_async and peer.has_worker, lambda scale: scale.naps, nap)],
    "latency": [
        Cell(
            lambda peer: peer.has_worker, lambda scale: 1 + PRODUCER_WARM_UPS + scale.paced, wait_on
        )
    ],
    "results": [
        Cell(
            lambda peer: peer.has_results,
            lambda scale: scale.jobs,
            await_results,
            RESULTS,
        )
    ],
    "idle": [Cell(lambda peer: peer.has_worker, lambda scale: 1, idle)],
}
