"""What an idle worker costs: Redis commands a second, and CPU.

MONITOR watches a worker process with default settings, on the benchmark's own Redis. It shows also
the commands that scripts perform.
``python benchmarks/idle.py [SECONDS]``
"""

import asyncio
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / "tests"), str(Path(__file__).parent.parent)]

from redis_server import RedisServer, start_redis  # noqa: E402

from deferrable.aio import Deferrable  # noqa: E402
from deferrable.aio.backend import DocketsBackendFactory  # noqa: E402

WARM_UP_SECONDS = 8.0
"""The first looks of a worker are more than those that follow."""


async def work(url: str) -> None:
    """Be an idle worker that answers each line of input with its CPU seconds so far."""
    instance = Deferrable(DocketsBackendFactory(url).create_backend_for_group("idle"))

    def tell() -> None:
        sys.stdin.readline()
        print(time.process_time(), flush=True)

    asyncio.get_running_loop().add_reader(sys.stdin, tell)
    async with instance, instance.worker() as worker:
        async for _ in worker:
            pass


def cpu_seconds(process: "subprocess.Popen[str]") -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def watch(server: RedisServer, seconds: float) -> tuple[Counter[str], Counter[str]]:
    """The commands that were sent meanwhile, and those that scripts performed."""
    sent: Counter[str] = Counter()
    in_scripts: Counter[str] = Counter()
    read = b""
    end_time = time.monotonic() + seconds
    with socket.create_connection((server.host, server.port)) as connection:
        connection.sendall(b"MONITOR\r\n")
        while (rest := end_time - time.monotonic()) > 0:
            connection.settimeout(rest)
            try:
                read += connection.recv(1 << 16)
            except TimeoutError:
                break
    for line in read.decode(errors="replace").splitlines()[1:]:
        name = line.split('"')[1].upper()
        (in_scripts if " lua] " in line else sent)[name] += 1
    return sent, in_scripts


def main(seconds: float) -> None:
    with start_redis() as server:
        worker = subprocess.Popen(
            [sys.executable, __file__, "work", server.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            time.sleep(WARM_UP_SECONDS)
            before = cpu_seconds(worker)
            sent, in_scripts = watch(server, seconds)
            used = cpu_seconds(worker) - before
        finally:
            worker.kill()
            worker.communicate()
    print(f"sent:       {sent.total() / seconds:.2f} commands/s {dict(sent)}")
    print(f"in scripts: {in_scripts.total() / seconds:.2f} commands/s {dict(in_scripts)}")
    print(f"CPU:        {100 * used / seconds:.3f} %")


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        asyncio.run(work(sys.argv[2]))
    else:
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 30)
