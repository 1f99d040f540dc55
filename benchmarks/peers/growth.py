"""How deferrable's time for a job grows: with what is queued, at once in flight, or in a job.

Owns these measurements, which peers do not go through. Figures are microseconds a job, under names
that tell the axis and the step: ``queued 10000: process``. By concurrency it is measured as workers
are by default, and with the option that is for few slots.
"""

from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers.catalogue import FULL, PROCESS, Peer
from benchmarks.peers.cells import CONCURRENCY, Figures, Scale, drain
from benchmarks.peers.order import Order
from benchmarks.peers.programs import Place, open_place

__all__ = ["AXES", "IN_A_FILE", "PREFETCHING", "STEPS", "grow", "step_name"]

PREFETCH = 100
PREFETCHING = f"concurrency, prefetch={PREFETCH}"
IN_A_FILE = "queued in a file, durability="
AXES = (
    "queued",
    "concurrency",
    PREFETCHING,
    "argument bytes",
    *(f"{IN_A_FILE}{each}" for each in (PROCESS, FULL)),
)
STEPS = ("enqueue", "process")
ONE_BY_ONE = 2000
"""Pushed one by one on top of a queue, so that the push of a single job is seen to be flat, too."""
MOST_BYTES = 100_000_000
"""Of arguments at once."""


def step_name(axis: str, value: int, step: str) -> str:
    return f"{axis} {value}: {step}"


def grow(peer: Peer, python: Path, scale: Scale) -> Iterator[Figures]:
    """One measurement after the other; each may raise `Failed`."""
    if not peer.has_server:
        for depth in scale.file_depths:
            with open_place(peer, python, depth + ONE_BY_ONE) as place:
                yield by_depth(place, f"{IN_A_FILE}{peer.store}", depth)
        return
    for depth in scale.depths:
        with open_place(peer, python, depth + ONE_BY_ONE) as place:
            yield by_depth(place, "queued", depth)
    for concurrency in scale.concurrencies:
        for axis, prefetch in (("concurrency", 0), (PREFETCHING, PREFETCH)):
            with open_place(peer, python, scale.jobs) as place:
                order = Order("batch", scale.jobs)
                yield by_step(place, axis, concurrency, order, concurrency, prefetch)
    for size in scale.sizes:
        jobs = min(scale.jobs, MOST_BYTES // size)
        with open_place(peer, python, jobs) as place:
            order = Order("batch", jobs, size=size)
            yield by_step(place, "argument bytes", size, order, CONCURRENCY)


def by_depth(place: Place, axis: str, depth: int) -> Figures:
    place.produce(Order("batch", depth))
    on_top = place.produce(Order("single", ONE_BY_ONE, first=depth))
    done = drain(place, depth + ONE_BY_ONE)
    return {
        step_name(axis, depth, "enqueue"): micros(on_top["seconds"], on_top["jobs"]),
        step_name(axis, depth, "process"): micros(done.seconds, depth + ONE_BY_ONE),
    }


def by_step(
    place: Place, axis: str, value: int, order: Order, concurrency: int, prefetch: int = 0
) -> Figures:
    made = place.produce(order)
    done = drain(place, order.jobs, concurrency=concurrency, prefetch=prefetch)
    return {
        step_name(axis, value, "enqueue"): micros(made["seconds"], made["jobs"]),
        step_name(axis, value, "process"): micros(done.seconds, order.jobs),
    }


def micros(seconds: float, jobs: float) -> float:
    return seconds / jobs * 1e6
