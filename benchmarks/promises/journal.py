"""The job that every library runs, and the settings of one measurement.

Owns the journal: a file to which each run appends its begin and its end. It runs in each library's
own environment, so it imports nothing but the standard library.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

URL = os.environ["PROMISES_URL"]
VARIANT = os.environ["PROMISES_VARIANT"]
LEASE_SECONDS = int(os.environ["PROMISES_LEASE"])
JOB_SECONDS = float(os.environ["PROMISES_JOB"])
HOLDS_LOOP = os.environ["PROMISES_HOLDS_LOOP"] == "1"
ATTEMPTS = int(os.environ["PROMISES_ATTEMPTS"])
STOP_SECONDS = 1
JOURNAL = Path(os.environ["PROMISES_JOURNAL"])


def note(what: str) -> None:
    with JOURNAL.open("a") as journal:
        journal.write(f"{what} {os.getpid()} {time.monotonic()}\n")


def run() -> None:
    """The job of libraries whose jobs are plain functions."""
    note("begin")
    end_time = time.monotonic() + JOB_SECONDS
    while time.monotonic() < end_time:
        time.sleep(0.05)  # an exception that is raised in this thread is raised between two naps
    note("end")


async def run_async() -> None:
    """The job of asyncio libraries."""
    note("begin")
    if HOLDS_LOOP:
        time.sleep(JOB_SECONDS)  # noqa: ASYNC251 # a job that computes
    else:
        await asyncio.sleep(JOB_SECONDS)
    note("end")


def main(push: Callable[[], None], work: Callable[[], None]) -> None:
    {"push": push, "work": work}[sys.argv[1]]()


def become(*arguments: str) -> None:
    """Turn this process into the library's own command line."""
    os.execv(sys.executable, [sys.executable, "-m", *arguments])
