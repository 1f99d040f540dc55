"""What happens to a job that takes longer than its lease: runs and completions, for each trouble.

Real processes on a Redis of the benchmark's own: a lease of 2 s, a job of 6 s. A cell is measured
several times; the table shows the median and the range. ``python benchmarks/leases.py [RUNS]``
"""

import asyncio
import signal
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / "tests"), str(Path(__file__).parent.parent)]

from redis_server import start_redis  # noqa: E402
from worker_app import make_instance  # noqa: E402
from worker_processes import WorkerProcess  # noqa: E402

LEASE_SECONDS = 2.0
JOB_SECONDS = 6.0
DEADLINE_SECONDS = 40.0


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement: how often the job ran and was completed, and how long until it was."""

    runs: int
    completions: int
    lost: int
    seconds: float


def nothing(holder: WorkerProcess, other: WorkerProcess) -> None:
    pass


def pause(holder: WorkerProcess, other: WorkerProcess) -> None:
    holder.signal(signal.SIGSTOP)
    other.wait_for("run", deadline_seconds=DEADLINE_SECONDS)
    holder.signal(signal.SIGCONT)
    holder.wait_for("lost", deadline_seconds=DEADLINE_SECONDS)


def kill(holder: WorkerProcess, other: WorkerProcess) -> None:
    holder.signal(signal.SIGKILL)
    killed = time.monotonic()
    other.wait_for("run", deadline_seconds=DEADLINE_SECONDS)
    print(f"  taken over {time.monotonic() - killed:.2f} s after the kill", flush=True)


Trouble = Callable[[WorkerProcess, WorkerProcess], None]
ROWS: dict[str, tuple[str, Trouble]] = {
    "healthy": ("last", nothing),
    "paused and resumed": ("last", pause),
    "loop blocked": ("hold_the_loop", nothing),
    "worker killed": ("last", kill),
}


def measure(url: str, job: str, trouble: Trouble) -> Cell:
    group = f"leases-{uuid.uuid4().hex}"
    asyncio.run(push(url, group, job))
    with ExitStack() as stack:
        workers = [stack.enter_context(WorkerProcess(url, group, LEASE_SECONDS)) for _ in range(2)]
        wait(lambda: total(workers, "run") > 0)
        start = time.monotonic()
        holder, other = workers if workers[0].count("run") else reversed(workers)
        trouble(holder, other)
        wait(lambda: total(workers, "completed") > 0)
        seconds = time.monotonic() - start
        # What would run a second time does so within a lease of now, and a look of every worker.
        time.sleep(2 * LEASE_SECONDS)
        return Cell(
            total(workers, "run"), total(workers, "completed"), total(workers, "lost"), seconds
        )


async def push(url: str, group: str, job: str) -> None:
    async with make_instance(url, group, LEASE_SECONDS) as instance:
        await instance.registry[job].later_async(JOB_SECONDS)


def total(workers: Sequence[WorkerProcess], line: str) -> int:
    return sum(worker.count(line) for worker in workers)


def wait(condition: Callable[[], bool]) -> None:
    deadline_time = time.monotonic() + DEADLINE_SECONDS
    while not condition() and time.monotonic() < deadline_time:
        time.sleep(0.01)


def spread(numbers: Sequence[float], digits: int = 0) -> str:
    middle, least, most = statistics.median(numbers), min(numbers), max(numbers)
    return f"{middle:.{digits}f} ({least:.{digits}f} to {most:.{digits}f})"


def main(runs: int) -> None:
    lines = ["| | completions | runs | leases lost | seconds |", "| --- | --- | --- | --- | --- |"]
    with start_redis() as server:
        for name, (job, trouble) in ROWS.items():
            print(name, flush=True)
            cells = [measure(server.url, job, trouble) for _ in range(runs)]
            columns = [
                spread([cell.completions for cell in cells]),
                spread([cell.runs for cell in cells]),
                spread([cell.lost for cell in cells]),
                spread([cell.seconds for cell in cells], 1),
            ]
            lines.append(f"| {name} | {' | '.join(columns)} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
