"""What each library promises a job, tried out: real workers, a real Redis, real signals.

``python -m benchmarks.promises [--peers "NAME;..."] [--troubles NAME,...] [--at-once N]``.
The lease is 2 s and the job takes 6 s, where a library lets one choose.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.environments import default_cache, python_of, versions_of
from benchmarks.peers.measuring import tree

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests"))

from redis_server import start_redis  # noqa: E402

LEASE_SECONDS = 2
JOB_SECONDS = 6.0
LONG_JOB_SECONDS = 16.0
ENDLESS_SECONDS = 600.0
PATIENCE_SECONDS = 40.0
STOP_SECONDS = 5.0
"""What a supervisor waits between the signal to stop and the kill."""
STOPS = 5
ATTEMPTS = 3

LIBRARIES = {
    "deferrable": ("deferrable", ""),
    "celery": ("celery", ""),
    "celery, late ack": ("celery", "late"),
    "rq": ("rq", ""),
    "rq, Retry": ("rq", "retry"),
    "arq": ("arq", ""),
    "dramatiq": ("dramatiq", ""),
    "dramatiq, notify_shutdown": ("dramatiq", "notify"),
    "taskiq, list": ("taskiq", ""),
    "taskiq, stream": ("taskiq", "stream"),
    "saq": ("saq", ""),
    "saq, heartbeat": ("saq", "retry"),
}
SLOW = {"rq": 150.0, "arq": 90.0}
"""How long is waited for a second run, where a lease cannot be as short as here."""


@dataclass(frozen=True, slots=True)
class Run:
    what: str
    pid: int
    time: float


class Bench:
    """One library on an empty Redis: its workers, and the journal of its job."""

    def __init__(self, app: str, variant: str, url: str, folder: Path) -> None:
        self._app = f"benchmarks.promises.apps.{app}"
        self._python = str(python_of(PEERS[app], default_cache()))
        self._journal = folder / "journal"
        self._log = folder / "log"
        self._journal.touch()
        self.patience = SLOW.get(app, PATIENCE_SECONDS)
        self._variables = {"PROMISES_URL": url, "PROMISES_VARIANT": variant}

    def prepare(self, job_seconds: float, holds_loop: bool = False) -> None:
        self._variables |= {
            "PROMISES_LEASE": str(LEASE_SECONDS),
            "PROMISES_JOB": str(job_seconds),
            "PROMISES_HOLDS_LOOP": str(int(holds_loop)),
            "PROMISES_ATTEMPTS": str(ATTEMPTS),
            "PROMISES_JOURNAL": str(self._journal),
        }

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), **self._variables}

    def push(self) -> None:
        command = [self._python, "-m", self._app, "push"]
        subprocess.run(
            command, env=self._environment, cwd=ROOT, check=True, timeout=60, capture_output=True
        )

    @contextmanager
    def worker(self) -> Iterator[int]:
        with self._log.open("ab") as output:
            process = subprocess.Popen(
                [self._python, "-m", self._app, "work"],
                env=self._environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process.pid
        finally:
            send(process.pid, signal.SIGKILL)
            process.wait()

    def count(self, what: str) -> int:
        return sum(run.what == what for run in self.runs())

    def runs(self) -> list[Run]:
        lines = [line.split() for line in self._journal.read_text().splitlines()]
        return [Run(what, int(pid), float(at)) for what, pid, at in lines]

    def wait_for(self, what: str, count: int, seconds: float | None = None) -> bool:
        seconds = self.patience if seconds is None else seconds
        return wait(lambda: self.count(what) >= count, seconds)


def killed(bench: Bench) -> str:
    """The worker is killed while it runs the job; another one is idle."""
    bench.prepare(JOB_SECONDS)
    with bench.worker() as one, bench.worker() as other:
        bench.push()
        assert bench.wait_for("begin", 1), "the job never began"
        holder = holder_of(bench.runs()[0].pid, one, other)
        send(holder, signal.SIGKILL)
        at = time.monotonic()
        if not bench.wait_for("begin", 2):
            return f"not run again in {bench.patience:.0f} s{_and_later(bench)}"
        return f"again after {bench.runs()[1].time - at:.0f} s"


def _and_later(bench: Bench) -> str:
    """Whether the next job brings it back."""
    bench.push()
    is_back = bench.wait_for("begin", 3, STOP_SECONDS * 2)
    return ", but when another job is pushed" if is_back else ""


def slow(bench: Bench) -> str:
    """The job takes three times its lease, and two workers are healthy."""
    return _counted(bench, JOB_SECONDS, holds_loop=False)


def computing(bench: Bench) -> str:
    """The job holds the event loop, or the only thread, for eight times its lease."""
    return _counted(bench, LONG_JOB_SECONDS, holds_loop=True)


def _counted(bench: Bench, seconds: float, *, holds_loop: bool) -> str:
    bench.prepare(seconds, holds_loop)
    with bench.worker(), bench.worker():
        bench.push()
        assert bench.wait_for("begin", 1), "the job never began"
        bench.wait_for("end", 1, seconds + PATIENCE_SECONDS)
        time.sleep(seconds + 2 * LEASE_SECONDS)
        return f"{bench.count('begin')} runs, {bench.count('end')} to the end"


def paused(bench: Bench) -> str:
    """The worker is paused until another one has begun the job, and then goes on."""
    bench.prepare(LONG_JOB_SECONDS)
    with bench.worker() as one, bench.worker() as other:
        bench.push()
        assert bench.wait_for("begin", 1), "the job never began"
        first = bench.runs()[0].pid
        holder = holder_of(first, one, other)
        send(holder, signal.SIGSTOP)
        is_run_again = bench.wait_for("begin", 2)
        send(holder, signal.SIGCONT)
        if not is_run_again:
            return f"not run again in {bench.patience:.0f} s"
        time.sleep(LONG_JOB_SECONDS + 2 * LEASE_SECONDS)
        ended = any(run.what == "end" and run.pid == first for run in bench.runs())
        return f"the first run {'went on to its end' if ended else 'was stopped'}"


def stopped(bench: Bench) -> str:
    """The worker is stopped in the middle of the job, again and again, as deploys do."""
    bench.prepare(ENDLESS_SECONDS)
    bench.push()
    for stop in range(STOPS):
        with bench.worker() as worker:
            if not bench.wait_for("begin", stop + 1):
                return f"not run again after {stop} stops"
            time.sleep(0.5)
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGTERM)
            wait(lambda worker=worker: not is_alive(worker), STOP_SECONDS)
    with bench.worker():
        if not bench.wait_for("begin", STOPS + 1):
            return f"not run again after {STOPS} stops"
    return f"run again after each of {STOPS} stops"


TROUBLES: dict[str, Callable[[Bench], str]] = {
    each.__name__: each for each in (killed, slow, computing, paused, stopped)
}


def wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline_time = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline_time:
            return False
        time.sleep(0.02)
    return True


def is_alive(pid: int) -> bool:
    """A child that has ended and waits to be collected is not alive."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def holder_of(pid: int, *workers: int) -> int:
    return next(worker for worker in workers if pid in tree(worker))


def send(pid: int, number: signal.Signals) -> None:
    for each in tree(pid):
        with suppress(ProcessLookupError):
            os.kill(each, number)


def measure(name: str, troubles: list[str]) -> str:
    """One row of the table."""
    app, variant = LIBRARIES[name]
    cells = []
    for trouble in troubles:
        with start_redis() as server, TemporaryDirectory() as folder:
            cells.append(TROUBLES[trouble](Bench(app, variant, server.url, Path(folder))))
        print(f"{name}: {trouble}: {cells[-1]}", file=sys.stderr, flush=True)
    version = versions_of(python_of(PEERS[app], default_cache())).get(app, "")
    return f"| {name} {version} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default=";".join(LIBRARIES), help="names, by semicolons")
    parser.add_argument("--troubles", default=",".join(TROUBLES))
    parser.add_argument("--at-once", type=int, default=4, help="how many peers at the same time")
    options = parser.parse_args()
    troubles = options.troubles.split(",")
    names = options.peers.split(";")
    for app in {LIBRARIES[name][0] for name in names}:
        python_of(PEERS[app], default_cache())  # installed before anything is timed
    with ThreadPoolExecutor(options.at_once) as pool:
        rows = list(pool.map(lambda name: measure(name, troubles), names))
    print(f"| | {' | '.join(troubles)} |", f"| --- |{' --- |' * len(troubles)}", *rows, sep="\n")


if __name__ == "__main__":
    main()
