"""What processes and the server have cost so far. Two readings make a figure.

CPU is read from the kernel's own clock of a process, to the microsecond; memory from /proc; the
server's figures from INFO, whose own cost is taken off.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import redis

__all__ = ["Meter", "Reading", "resident_mebibytes", "wait_for_quiet"]

CPU_CLOCK_OF_PROCESS = 2
"""Source: the kernel's CPUCLOCK_SCHED; the clock of a process is (~pid << 3) | 2."""

QUIET_SECONDS = 1.0
QUIET_SHARE = 0.9
"""Of the time of all cores, what has to be idle."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was spent up to `time`.

    Attributes:
        commands: those that scripts called included.
        reads: how often the server read from a connection.
    """

    time: float
    worker_cpu_seconds: float
    server_cpu_seconds: float
    commands: int
    reads: int

    def __sub__(self, before: "Reading") -> "Reading":
        return Reading(
            self.time - before.time,
            self.worker_cpu_seconds - before.worker_cpu_seconds,
            self.server_cpu_seconds - before.server_cpu_seconds,
            self.commands - before.commands,
            self.reads - before.reads - 1,  # the reading of INFO
        )


class Meter:
    """Reads a worker, with the processes that it started, and its server, if it has one.

    Args:
        url: of the Redis; None: there is no server, and its figures are 0.
    """

    def __init__(self, url: str | None, worker_pid: int) -> None:
        self._client = None if url is None else redis.Redis.from_url(url)
        if self._client is not None:
            self._client.ping()
        self._pid = worker_pid

    def read(self) -> Reading:
        now, cpu_seconds = time.monotonic(), sum(map(_cpu_seconds, tree(self._pid)))
        if self._client is None:
            return Reading(now, cpu_seconds, 0.0, 0, 0)
        server = self._client.info("everything")
        calls = {name: each["calls"] for name, each in server.items() if _is_of_a_command(name)}
        return Reading(
            now,
            cpu_seconds,
            server_cpu_seconds=server["used_cpu_user"] + server["used_cpu_sys"],
            commands=sum(calls.values()) - calls.get("cmdstat_info", 0),
            reads=server["total_reads_processed"],
        )

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def resident_mebibytes(pid: int) -> float:
    """Of a process and those it started; what they share is counted for each."""
    return sum(map(_resident_kibibytes, tree(pid))) / 1024


def wait_for_quiet(seconds: float) -> None:
    """Return when the machine has been idle for a second, or after `seconds` at the latest."""
    end_time = time.monotonic() + seconds
    while time.monotonic() < end_time:
        before = _ticks()
        time.sleep(QUIET_SECONDS)
        idle, total = (after - each for after, each in zip(_ticks(), before, strict=True))
        if idle >= QUIET_SHARE * total:
            return


def _ticks() -> tuple[int, int]:
    """The idle ones of all cores since the machine began, and all of them."""
    fields = Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]
    counts = [int(field) for field in fields]
    return counts[3] + counts[4], sum(counts)


def _is_of_a_command(name: str) -> bool:
    return name.startswith("cmdstat_")


def tree(root: int) -> list[int]:
    """A process and all its descendants."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended since
        parents[int(path.parent.name)] = int(fields[1])
    found = [root]
    for pid in found:
        found.extend(child for child, parent in parents.items() if parent == pid)
    return found


def _cpu_seconds(pid: int) -> float:
    try:
        return time.clock_gettime((~pid << 3) | CPU_CLOCK_OF_PROCESS)
    except OSError:
        return 0.0  # it has ended since


def _resident_kibibytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    fields = status.partition("VmRSS:")[2].split()
    return int(fields[0]) if fields else 0  # it has ended, and nobody has asked how
