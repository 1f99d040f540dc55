"""A process that gevent has patched: it defers calls, and refuses to be a worker."""

import importlib
import os
import queue
import select
import socket
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
from processes import DEADLINE_SECONDS, ROOT
from processes import run_program as run_warm_program
from redis_server import RedisServer, unique_group

from deferrable.aio._engine.patched import refuse_patched

pytest.importorskip("gevent")

PATCHED = "from gevent import monkey; monkey.patch_all()\n"
run_program = partial(run_warm_program, is_warm=False)  # it patches what it has not imported yet
APP = """\
import asyncio
from deferrable import Deferrable, backend

mail = Deferrable(
    backend.DocketsBackendFactory({url!r}, wait_time=1).create_backend_for_group({group!r})
)

@mail.deferrable(name="plain")
def plain(number):
    return number

@mail.deferrable(name="awaited")
async def awaited(number):
    await asyncio.sleep(0)
    return number
"""


def app(server: RedisServer) -> str:
    return APP.format(url=server.url, group=unique_group())


def test_fifty_greenlets_defer_and_others_run_meanwhile(redis_server: RedisServer) -> None:
    lines = run_program(
        PATCHED
        + app(redis_server)
        + """
import gevent

ticks = []

def tick():
    while True:
        ticks.append(None)
        gevent.sleep(0)

ticking = gevent.spawn(tick)
greenlets = [gevent.spawn(plain.later, number) for number in range(50)]
gevent.joinall(greenlets, raise_error=True)
ticking.kill()
print({greenlet.value.status for greenlet in greenlets})
print(mail.backend.queue.stats()["available"], len(ticks) > 1)
"""
    )

    assert lines == ["{'pushed'}", "50 True"]


def test_a_blocking_consumer_runs_plain_and_async_jobs(redis_server: RedisServer) -> None:
    lines = run_program(
        PATCHED
        + app(redis_server)
        + """
plain.later(1)
awaited.later(2)
print(sorted(outcome.result for outcome in iter(mail.run_once, None)))
"""
    )

    assert lines == ["[1, 2]"]


def test_a_blocking_consumer_keeps_the_lease_of_a_long_job() -> None:
    """All threads are one, so the keeper works on the loop of the portal."""
    lines = run_program(
        PATCHED
        + """
import time
from deferrable import Deferrable, backend
from deferrable.testing import MovingClock

clock = MovingClock()
factory = backend.InMemoryBackendFactory(visibility_timeout=30, clock=clock)
mail = Deferrable(factory.create_backend_for_group(None))

@mail.deferrable(name="long")
def long():
    for _ in range(7):
        while not clock.pending:
            time.sleep(0.001)
        clock.advance(10)
    while not clock.pending:
        time.sleep(0.001)

long.later()
print(mail.run_once().status)
"""
    )

    assert lines == ["completed"]


REPLACED = {
    "threading": (threading, "get_ident", "gevent.thread"),
    "queue": (queue, "SimpleQueue", "gevent.queue"),
    "socket": (socket, "socket", "gevent.socket"),
    "select": (select, "select", "gevent.select"),
}


@pytest.mark.parametrize(("module", "name", "substitute"), REPLACED.values(), ids=REPLACED)
def test_each_module_that_a_worker_needs_is_checked(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, substitute: str
) -> None:
    refuse_patched()
    monkeypatch.setattr(module, name, getattr(importlib.import_module(substitute), name))

    with pytest.raises(
        RuntimeError, match=f"gevent has replaced {module.__name__} in this process"
    ):
        refuse_patched()


WORKERS = {
    "blocking": """
with mail.worker() as worker:
    print(next(worker))
""",
    "awaiting": """
from deferrable.aio.worker import Worker

async def main():
    async with Worker([mail._core]) as worker:
        print(await anext(worker))

asyncio.run(main())
""",
}


@pytest.mark.parametrize("worker", WORKERS.values(), ids=WORKERS)
def test_a_worker_in_a_patched_process_raises_instead_of_hanging(
    redis_server: RedisServer, worker: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PATCHED + app(redis_server) + worker],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    assert ended.returncode == 1, ended.stderr
    assert "RuntimeError: gevent has replaced threading" in ended.stderr
    assert "not monkey-patched" in ended.stderr


def test_a_worker_of_the_command_line_says_in_one_line_that_its_process_is_patched(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "patched_app.py").write_text(PATCHED + app(redis_server))

    ended = subprocess.run(
        [sys.executable, "-m", "deferrable", "worker", "patched_app:mail"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    assert ended.returncode == 1, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert "gevent has replaced threading in this process" in line
