"""What deferrable is to reach, and whether it did in this run. Ratios count, within the run alone.

Owns the bounds. Those in jobs a second hold on the machine of `REFERENCE` only, and are shown with
its name.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.peers.catalogue import (
    FULL,
    NOT_PEERS,
    PROCESS,
    RAW,
    REDIS,
    US,
    US_FULL,
    names_of,
    our_name,
)
from benchmarks.peers.growth import IN_A_FILE, PREFETCHING, STEPS
from benchmarks.peers.results import MEASURES, Figure, Results

__all__ = ["Target", "judge"]

REFERENCE = "2 cores, Redis 7.0.15"
RUST = "ardiq"
BLOCKING_PEERS = ("rq", "huey", "dramatiq", "celery")
FLAT = 1.25
"""A time is flat if the longest is at most this times the shortest: no more than the spread."""
FLAT_IN_A_FILE = 1.15 / 0.85
"""The same for SQLite, where a file and its index become a thousand times as large."""


@dataclass(frozen=True, slots=True)
class Target:
    """One line; `is_met` is None if nothing could be compared."""

    title: str
    measured: str
    wanted: str
    is_met: bool | None


def judge(results: Results, ideal_naps_seconds: float) -> list[Target]:
    return list(_judge(results, ideal_naps_seconds))


def _judge(results: Results, ideal_naps_seconds: float) -> Iterator[Target]:
    ask = Judge(results)
    yield ask.at_least("one by one / raw", "single", RAW, 0.9)
    yield ask.at_least_absolute("gather of 100", "concurrent", 50_000)
    yield ask.at_least("gather of 100 / best peer", "concurrent", ask.best("concurrent"), 3)
    yield ask.at_least(f"batches / {RUST}", "batch", RUST, 1.5)
    yield ask.at_least(f"process / {RUST}", "process", RUST, 3)
    pure = ask.best("process", lambda name: name != RUST)
    yield ask.at_least("process / best peer in Python", "process", pure, 4)
    yield ask.at_most("worker CPU, µs/job", "worker_cpu", 30)
    yield ask.at_most("worker CPU with a log line and a time limit", "worker_cpu", 45, US_FULL)
    yield ask.at_most("sleeps, s", "naps", 1.06 * ideal_naps_seconds)
    yield ask.no_peer_ahead("naps")
    yield ask.below("latency p50 / best peer", "p50", 1, is_strict=True)
    yield ask.below("latency p99 / best peer", "p99", 1.5)
    yield ask.at_most("server reads a job", "reads", 0.1)
    yield ask.at_most("server CPU, µs/job", "server_cpu", 15)
    yield ask.at_most("idle commands a second", "idle_commands", 3.5)
    yield ask.at_most("idle CPU, %", "idle_cpu", 0.1)
    yield ask.at_most("RSS of a worker, MiB", "rss", 42)
    yield ask.at_least("blocking / raw", "blocking", RAW, 1 / 2.2)
    for peer in BLOCKING_PEERS:
        yield ask.at_least(f"8 threads / {peer}", "threads", peer, 1)
    yield ask.at_least("await each result / best peer", "awaited", ask.best("awaited"), 1)
    yield ask.flat("queued")
    yield ask.flat(PREFETCHING)
    yield ask.flat_by_byte()
    yield ask.at_least_absolute("in-memory backend", "in_memory", 50_000)
    yield from _judge_files(ask)


def _judge_files(ask: "Judge") -> Iterator[Target]:
    for store in (PROCESS, FULL):
        title, huey = f"SQLite, {store}: one by one / huey", f"huey-file-{store}"
        yield ask.at_least(title, "blocking", huey, 2, our_name(store))
    us = our_name(PROCESS)
    yield ask.at_least_absolute("SQLite: batches", "batch", 50_000, us)
    yield ask.at_least_absolute("SQLite: process", "process", 15_000, us)
    yield ask.at_least_absolute("SQLite: process, 4 workers", "together", 12_000, us)
    yield ask.at_most("SQLite: latency p50, ms", "p50", 1, us)
    yield ask.at_most("SQLite: latency p99, ms", "p99", 15, us)
    yield ask.at_most("SQLite: idle CPU, %", "idle_cpu", 0.3, us)
    yield ask.flat(f"{IN_A_FILE}{PROCESS}", FLAT_IN_A_FILE)


class Judge:
    """Looks up figures and compares their medians."""

    def __init__(self, results: Results) -> None:
        self._results = results

    def best(self, key: str, is_asked: Callable[[str], bool] = lambda name: True) -> str:
        """The best peer; empty if there is none."""
        peers = {name: each for name, each in self._peers(key).items() if is_asked(name)}
        return MEASURES[key].best(peers) if peers else ""

    def at_least(self, title: str, key: str, other: str, bound: float, name: str = US) -> Target:
        ours, theirs = self._median(name, key), self._median(other, key)
        value = ours / theirs if ours is not None and theirs else None
        return _target(title, value, f"at least {bound:.2f}", lambda ratio: ratio >= bound)

    def at_least_absolute(self, title: str, key: str, bound: float, name: str = US) -> Target:
        wanted = f"at least {bound:,.0f}/s ({REFERENCE})"
        return _target(title, self._median(name, key), wanted, lambda rate: rate >= bound)

    def at_most(self, title: str, key: str, bound: float, name: str = US) -> Target:
        value = self._median(name, key)
        return _target(title, value, f"at most {bound:.2f}", lambda value: value <= bound)

    def below(self, title: str, key: str, bound: float, *, is_strict: bool = False) -> Target:
        ours, best = self._median(US, key), self._median(self.best(key), key)
        value = ours / best if ours is not None and best else None
        wanted = f"{'below' if is_strict else 'at most'} {bound:.2f}"
        return _target(
            title, value, wanted, lambda ratio: ratio < bound or (ratio == bound and not is_strict)
        )

    def no_peer_ahead(self, key: str) -> Target:
        """No peer is faster by more than the spread: its slowest time is not below our fastest."""
        ours = self._results.figure(US, key)
        ahead = [name for name, each in self._peers(key).items() if ours and each.most < ours.least]
        is_met = None if ours is None or not self._peers(key) else not ahead
        return Target("peers ahead in sleeps", ", ".join(ahead) or "-", "none", is_met)

    def flat(self, axis: str, bound: float = FLAT) -> Target:
        """Microseconds a job are the same at every step."""
        grown = [
            max(each.values()) / min(each.values()) for each in self._steps(axis).values() if each
        ]
        value = max(grown, default=None)
        title = f"time a job, longest / shortest by {axis}"
        return _target(title, value, f"at most {bound:.2f}", lambda ratio: ratio <= bound)

    def flat_by_byte(self) -> Target:
        """A larger argument costs no more for each of its bytes."""
        axis = "argument bytes"
        by_byte = {
            step: {size: micros / size for size, micros in of_step.items()}
            for step, of_step in self._steps(axis).items()
        }
        grown = [
            by_size[large] / by_size[small]
            for by_size in by_byte.values()
            for small, large in zip(sorted(by_size), sorted(by_size)[1:], strict=False)
        ]
        value = max(grown, default=None)
        title = "time a byte, larger / smaller arguments"
        return _target(title, value, f"at most {FLAT:.2f}", lambda ratio: ratio <= FLAT)

    def _steps(self, axis: str) -> dict[str, dict[int, float]]:
        found: dict[str, dict[int, float]] = {step: {} for step in STEPS}
        for name, samples in self._results.growth.items():
            head, _, step = name.partition(": ")
            of_axis, _, value = head.rpartition(" ")
            if of_axis == axis:
                found[step][int(value)] = Figure(tuple(samples)).median
        return found

    def _peers(self, key: str) -> dict[str, Figure]:
        found = self._results.of_measure(key)
        peers = set(names_of(REDIS)) - NOT_PEERS
        return {name: figure for name, figure in found.items() if name in peers}

    def _median(self, name: str, key: str) -> float | None:
        figure = self._results.figure(name, key)
        return None if figure is None else figure.median


def _target(
    title: str, value: float | None, wanted: str, is_met: Callable[[float], bool]
) -> Target:
    if value is None:
        return Target(title, "-", wanted, None)
    return Target(title, f"{value:,.2f}", wanted, is_met(value))
