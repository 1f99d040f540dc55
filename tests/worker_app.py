"""A worker as a program, for tests and benchmarks that send it signals.

Owns the jobs and what the program prints: ``ready``, ``run`` for each start of a job, the status of
each outcome. A job ends when a file exists, so that the test decides when; or after a number of
seconds.

Usage: ``python worker_app.py URL GROUP LEASE_SECONDS GRACE_SECONDS``
"""

import asyncio
import contextlib
import os
import signal
import sys
import time

from deferrable.aio import Deferrable
from deferrable.aio.backend import DocketsBackendFactory
from deferrable.testing import wait_until

WAIT_SECONDS = 1.0


def say(line: str) -> None:
    print(line, flush=True)


async def wait_for_file(path: str) -> None:
    say("run")
    await wait_until(lambda: os.path.exists(path), "the file exists", 60)


def wait_for_file_in_thread(path: str) -> None:
    say("run")
    while not os.path.exists(path):
        time.sleep(0.005)


async def last(seconds: float) -> None:
    say("run")
    await asyncio.sleep(seconds)


async def hold_the_loop(seconds: float) -> None:
    say("run")
    time.sleep(seconds)  # noqa: ASYNC251 # what this job is for


JOBS = (wait_for_file, wait_for_file_in_thread, last, hold_the_loop)


def make_instance(url: str, group: str, lease_seconds: float) -> Deferrable:
    """The instance of both ends."""
    factory = DocketsBackendFactory(url, WAIT_SECONDS, lease_seconds)
    instance = Deferrable(factory.create_backend_for_group(group))
    for job in JOBS:
        instance.deferrable(name=job.__name__)(job)
    return instance


async def work(url: str, group: str, lease_seconds: float, grace_seconds: float) -> None:
    instance = make_instance(url, group, lease_seconds)
    async with instance, instance.worker(grace_seconds=grace_seconds) as worker:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, worker.stop)
        say("ready")
        async for outcome in worker:
            say(outcome.status)
    say("left")


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        asyncio.run(work(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
