"""The figures of a run: what was measured, of whom, how often, and with which spread.

Owns the list of measures and their units.
"""

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

__all__ = ["MEASURES", "Figure", "Measure", "Results"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that is measured.

    Attributes:
        digits: behind the point, where it is shown.
        is_rate: more of it is better.
    """

    key: str
    title: str
    unit: str
    digits: int = 0
    is_rate: bool = False

    def best(self, figures: Mapping[str, "Figure"]) -> str:
        """The library with the best median."""
        pick = max if self.is_rate else min
        return pick(figures, key=lambda name: figures[name].median)


MEASURES = {
    measure.key: measure
    for measure in (
        Measure("single", "enqueue one by one", "jobs/s", is_rate=True),
        Measure("concurrent", "enqueue, gather of 100", "jobs/s", is_rate=True),
        Measure("batch", "enqueue in batches", "jobs/s", is_rate=True),
        Measure("blocking", "enqueue, blocking", "jobs/s", is_rate=True),
        Measure("threads", "enqueue, 8 threads", "jobs/s", is_rate=True),
        Measure("single_cpu", "CPU, one by one", "µs/job", 1),
        Measure("concurrent_cpu", "CPU, gather of 100", "µs/job", 1),
        Measure("batch_cpu", "CPU, in batches", "µs/job", 1),
        Measure("blocking_cpu", "CPU, blocking", "µs/job", 1),
        Measure("threads_cpu", "CPU, 8 threads", "µs/job", 1),
        Measure("process", "process no-ops", "jobs/s", is_rate=True),
        Measure("together", "process no-ops, 4 workers", "jobs/s", is_rate=True),
        Measure("worker_cpu", "worker CPU", "µs/job"),
        Measure("server_cpu", "server CPU", "µs/job", 1),
        Measure("commands", "commands", "/job", 2),
        Measure("reads", "server reads", "/job", 2),
        Measure("naps", "sleeps of 0.05 s", "s", 2),
        Measure("p50", "latency p50", "ms", 2),
        Measure("p99", "latency p99", "ms", 2),
        Measure("awaited", "await each result", "jobs/s", is_rate=True),
        Measure("awaited_cpu", "CPU, await each result", "µs/job", 1),
        Measure("idle_commands", "idle commands", "/s", 1),
        Measure("idle_cpu", "idle CPU", "%", 2),
        Measure("rss", "worker RSS", "MiB", 1),
        Measure("in_memory", "in-memory backend", "jobs/s", is_rate=True),
    )
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One measure of one library."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def least(self) -> float:
        return min(self.samples)

    @property
    def most(self) -> float:
        return max(self.samples)


@dataclass(slots=True)
class Results:
    """All of a run.

    Attributes:
        samples: library -> measure -> one number for each time.
        growth: name of the step -> numbers; deferrable alone.
        troubles: what failed, in words; what lost or doubled a job is among them, with no figure.
        versions: library -> package -> version.
        configuration: of the run and of the machine.
    """

    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    growth: dict[str, list[float]] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    configuration: dict[str, object] = field(default_factory=dict)

    def add(self, name: str, figures: Mapping[str, float]) -> None:
        of_name = self.samples.setdefault(name, {})
        for key, value in figures.items():
            of_name.setdefault(key, []).append(value)

    def add_growth(self, figures: Mapping[str, float]) -> None:
        for key, value in figures.items():
            self.growth.setdefault(key, []).append(value)

    def figure(self, name: str, key: str) -> Figure | None:
        """None: it was not measured, or never without trouble."""
        samples = self.samples.get(name, {}).get(key)
        return Figure(tuple(samples)) if samples else None

    def of_measure(self, key: str) -> dict[str, Figure]:
        """The libraries that have a figure of this measure."""
        found = {name: self.figure(name, key) for name in self.samples}
        return {name: figure for name, figure in found.items() if figure is not None}

    def write(self, path: Path) -> None:
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        path.write_text(json.dumps(fields, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls(**json.loads(path.read_text()))
