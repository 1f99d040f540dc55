"""How soon an idle worker starts an item of another process, and what it costs to be idle.

Run it: ``python benchmarks/waking.py [--pushes 300]``. It prints a histogram of the
time from before the push to the begin of the job, in a worker process on a SQLite file, and the CPU
time of that process over some idle seconds. ``--without-knocks`` pushes as a program without this
library's code does, with plain SQL.
"""

import argparse
import asyncio
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import deferrable
from deferrable.aio import Deferrable
from deferrable.aio import backend as awaiting
from deferrable.backend import SQLiteBackendFactory

BOUNDS_MS = (0.25, 0.5, 1, 2, 5, 10, 15, 25, 50, 100, float("inf"))
IDLE_SECONDS = 10.0
PAUSE_SECONDS = 0.06


def make_instance(path: str) -> deferrable.Deferrable:
    factory = SQLiteBackendFactory(path, durability="process")
    return deferrable.Deferrable(factory.create_backend_for_group(None))


def noop(sent_time: float = 0.0) -> None:
    """What the producer knows of the jobs."""


async def work(path: str) -> None:
    """The worker process: it prints when each job began, and its own CPU time when asked."""
    factory = awaiting.SQLiteBackendFactory(path, durability="process")
    instance = Deferrable(factory.create_backend_for_group(None))

    @instance.deferrable(name="note")
    async def note(sent_time: float) -> None:
        print(time.time() - sent_time, flush=True)

    @instance.deferrable(name="tell")
    async def tell(sent_time: float = 0.0) -> None:
        print(time.process_time(), flush=True)

    async with instance, instance.worker(concurrency=10) as worker:
        async for _ in worker:
            pass


def start(path: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, __file__, "--worker", path], stdout=subprocess.PIPE, text=True
    )


def read(worker: "subprocess.Popen[str]") -> float:
    assert worker.stdout is not None
    return float(worker.stdout.readline())


def measure(pushes: int, *, knocks: bool) -> tuple[list[float], float]:
    """Seconds from each push to its job's begin, and the part of a core that idling takes."""
    with TemporaryDirectory() as folder:
        path = str(Path(folder, "jobs.db"))
        instance = make_instance(path)
        note, tell = (instance.deferrable(name=name)(noop) for name in ("note", "tell"))
        tell.later()
        worker = start(path)
        read(worker)
        other = sqlite3.connect(path, isolation_level=None, timeout=30)
        took = []
        for _ in range(pushes):
            time.sleep(PAUSE_SECONDS)
            if knocks:
                note.later(time.time())
            else:
                other.execute("BEGIN IMMEDIATE")
                with instance.using(other):
                    note.later(time.time())
                other.execute("COMMIT")
            took.append(read(worker))
        seen = []
        for seconds in (IDLE_SECONDS, 0):
            tell.later()
            seen.append(read(worker))
            time.sleep(seconds)
        worker.terminate()
        worker.wait()
        other.close()
        instance.backend.close()
    return took, (seen[1] - seen[0]) / IDLE_SECONDS


def show(took: list[float], idle_part: float) -> None:
    ordered = sorted(each * 1000 for each in took)
    low = 0.0
    for high in BOUNDS_MS:
        count = sum(low <= each < high for each in ordered)
        print(f"{low:6g} to {high:6g} ms {count:5} {'#' * (60 * count // len(ordered))}")
        low = high
    p50, p99 = (ordered[int(len(ordered) * part)] for part in (0.5, 0.99))
    print(f"p50 {p50:.2f} ms, p99 {p99:.2f} ms; idle {idle_part:.2%} of a core")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pushes", type=int, default=300)
    parser.add_argument("--without-knocks", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        asyncio.run(work(options.worker))
    else:
        show(*measure(options.pushes, knocks=not options.without_knocks))


if __name__ == "__main__":
    main()
