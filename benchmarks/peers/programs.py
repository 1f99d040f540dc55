"""The programs of a measurement: its own store, a producer that runs through, a worker.

Owns starting and ending them. Every process is ended by its own id, and with it those it started.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.peers.catalogue import Peer
from benchmarks.peers.ledger import Ledger
from benchmarks.peers.order import Order

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests"))

from redis_server import find_redis, start_redis  # noqa: E402

__all__ = ["ROOT", "Failed", "Place", "Worker", "find_redis", "open_place", "run_program"]

PRODUCER_SECONDS = 900.0
END_SECONDS = 10.0
TAIL = 2000


class Failed(Exception):  # as the library's own errors are named
    """A program ended badly, or never did what was waited for."""


def run_program(python: Path, *arguments: str, variables: dict[str, str]) -> dict[str, float]:
    """Run one of this package's programs to its end; what it printed.

    Raises:
        Failed: it did not end well, with what it wrote last.
    """
    command = [str(python), "-m", *arguments]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PRODUCER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{arguments[0]} did not end in {PRODUCER_SECONDS:.0f} s") from error
    if done.returncode:
        raise Failed(f"{' '.join(arguments)} failed: {done.stderr[-TAIL:].strip()}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


class Worker:
    """A worker's process, and those it started."""

    def __init__(self, python: Path, adapter: str, variables: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [str(python), "-m", "benchmarks.peers.work", adapter],
                env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def wait(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Return when `condition` holds; it is looked at every millisecond.

        Raises:
            Failed: the worker has ended, or `seconds` have passed.
        """
        deadline_time = time.monotonic() + seconds
        while not condition():
            self.check()
            if time.monotonic() > deadline_time:
                raise Failed(f"not in {seconds:.0f} s: {what}; {self._tail()}")
            time.sleep(0.001)

    def check(self) -> None:
        """Make sure that it runs.

        Raises:
            Failed: it has ended.
        """
        if self._process.poll() is not None:
            raise Failed(f"the worker ended by itself: {self._tail()}")

    def end(self) -> None:
        """At once: what it held goes with its server."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(END_SECONDS)

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-TAIL:].strip() or "it wrote nothing"


@dataclass(frozen=True, slots=True)
class Place:
    """Where one measurement is made: one library, a store that is empty, a ledger."""

    peer: Peer
    python: Path
    url: str
    ledger: Ledger
    folder: Path

    def produce(self, order: Order) -> dict[str, float]:
        """Enqueue; see `benchmarks.peers.produce`."""
        return run_program(
            self.python,
            "benchmarks.peers.produce",
            self.peer.adapter,
            json.dumps(asdict(order)),
            variables=self.variables(1),
        )

    @contextmanager
    def worker(self, concurrency: int, prefetch: int = 0) -> Iterator[Worker]:
        """A worker that runs for as long as the block."""
        variables = self.variables(concurrency, prefetch)
        worker = Worker(self.python, self.peer.adapter, variables, self.folder / "worker.log")
        try:
            yield worker
        finally:
            worker.end()

    def variables(self, concurrency: int, prefetch: int = 0) -> dict[str, str]:
        return {
            "BENCHMARK_URL": self.url,
            "BENCHMARK_LEDGER": str(self.folder / "ledger"),
            "BENCHMARK_CONCURRENCY": str(concurrency),
            "BENCHMARK_PREFETCH": str(prefetch),
            "BENCHMARK_VARIANT": self.peer.variant,
        }


@contextmanager
def open_place(peer: Peer, python: Path, slots: int) -> Iterator[Place]:
    """A place for one measurement; its server ends with the block, and its file is removed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        if peer.has_server:
            url = stack.enter_context(start_redis()).url
        else:
            url = f"sqlite:///{folder / 'jobs.db'}"
        ledger = Ledger.make(folder / "ledger", slots)
        yield Place(peer, python, url, ledger, folder)
