"""Workers as real processes on a real Redis, and the signals that they get."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
from dockets_place import Monitor
from faces import wait_here
from redis_server import RedisServer, unique_group
from worker_app import WAIT_SECONDS, make_instance
from worker_processes import WorkerProcess

from deferrable.aio.backend.dockets._wire import Keys
from deferrable.item import Item

LEASE_SECONDS = 1000.0
"""What comes back sooner was given back."""
SHORT_LEASE_SECONDS = 5.0
"""Of what has to come back by itself; a busy machine renews it in time."""


class Site:
    """Its own group, and what its jobs wait for."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self.group = unique_group("signals-")
        self.lease_seconds = LEASE_SECONDS
        self._file = directory / "go"

    def worker(self, grace_seconds: float = 10) -> WorkerProcess:
        return WorkerProcess(self.url, self.group, self.lease_seconds, grace_seconds)

    def push(self, name: str = "wait_for_file", count: int = 1) -> None:
        async def push() -> None:
            async with make_instance(self.url, self.group, self.lease_seconds) as instance:
                job = instance.registry[name]
                for _ in range(count):
                    await job.later_async(str(self._file))

        asyncio.run(push())

    def let_go(self) -> None:
        """The jobs may end."""
        self._file.touch()

    def stats(self) -> dict[str, float]:
        async def ask() -> Any:
            async with make_instance(self.url, self.group, self.lease_seconds) as instance:
                stats = await instance.backend.queue.stats()
                return {name: stats[name] for name in NOTHING}

        return dict(asyncio.run(ask()))

    def items(self) -> list[Item]:
        """What is available, taken off."""

        async def take() -> list[Item]:
            items = []
            async with make_instance(self.url, self.group, self.lease_seconds) as instance:
                queue = instance.backend.queue
                while (await queue.stats())["available"]:
                    envelope, item = await queue.pop()
                    assert envelope is not None
                    assert item is not None
                    await queue.complete(envelope)
                    items.append(item)
            return items

        return asyncio.run(take())


NOTHING = {"available": 0, "in_flight": 0, "delayed": 0}


@pytest.fixture
def site(redis_url: str, tmp_path: Path) -> Site:
    return Site(redis_url, tmp_path)


def test_a_worker_that_was_paused_beyond_its_lease_stops_and_completes_nothing(site: Site) -> None:
    site.lease_seconds = SHORT_LEASE_SECONDS
    site.push()

    with site.worker() as paused, site.worker() as other:
        paused_first = wait_for_either(paused, other)
        stale, fresh = (paused, other) if paused_first else (other, paused)
        stale.signal(signal.SIGSTOP)
        fresh.wait_for("run")
        stale.signal(signal.SIGCONT)
        stale.wait_for("lost")
        site.let_go()
        fresh.wait_for("completed")

    assert (stale.count("run"), stale.count("completed")) == (1, 0)
    assert (fresh.count("run"), fresh.count("completed")) == (1, 1)
    assert site.stats() == NOTHING


def wait_for_either(one: WorkerProcess, other: WorkerProcess) -> bool:
    """Whether it is the first one that runs the job."""
    one.wait_for("ready")
    other.wait_for("ready")
    wait_here(lambda: one.count("run") or other.count("run"), "one of them runs it")
    return bool(one.count("run"))


@pytest.mark.parametrize("name", ["wait_for_file", "wait_for_file_in_thread"])
def test_what_a_killed_worker_held_is_completed_elsewhere_within_the_lease_and_three_seconds(
    redis_server: RedisServer, tmp_path: Path, name: str
) -> None:
    """Seconds are counted as waits of the other worker, each a second: a stall adds none."""
    site = Site(redis_server.url, tmp_path)
    site.lease_seconds = SHORT_LEASE_SECONDS
    site.push(name)

    with site.worker() as killed, redis_server.client() as client:
        killed.wait_for("run")
        keys = Keys(f"deferrable_{site.group}")
        (killed_id,) = client.smembers(keys.workers)
        heartbeat = keys.active(killed_id.decode())
        with site.worker() as other:
            other.wait_for("ready")
            killed.signal(signal.SIGKILL)
            killed.end()
            with Monitor(redis_server) as monitor:
                wait_here(lambda: not client.exists(heartbeat), "the lease has ended")
                commands = monitor.commands(site.group)
                site.let_go()
                other.wait_for("completed")
                waits = waits_before_takeover(commands, monitor.commands(site.group))

    assert waits * WAIT_SECONDS <= 3
    assert site.stats() == NOTHING


def waits_before_takeover(within_lease: list[list[str]], after_it: list[list[str]]) -> int:
    """How many waits for items began after the lease, until the list of the dead was read."""
    if any(name == "LRANGE" for name, *_ in within_lease):
        return 0
    names = [name for name, *_ in after_it]
    return names[: names.index("LRANGE")].count("BLMOVE")


def test_running_jobs_end_within_the_grace_period(site: Site) -> None:
    site.push("wait_for_file")
    site.push("wait_for_file_in_thread")

    with site.worker() as worker:
        worker.wait_for("run", 2)
        worker.signal(signal.SIGTERM)
        site.let_go()
        code = worker.end()

    assert (code, worker.count("completed"), worker.errors) == (0, 2, [])
    assert site.stats() == NOTHING


def test_async_jobs_are_given_back_after_it_at_once_with_no_attempt_used_up(site: Site) -> None:
    site.push(count=3)

    with site.worker(grace_seconds=0.2) as worker:
        worker.wait_for("run", 3)
        worker.signal(signal.SIGTERM)
        code = worker.end()

    assert (code, worker.count("released"), worker.errors) == (0, 3, [])
    assert site.stats() == {**NOTHING, "available": 3}
    assert [item["attempts"] for item in site.items()] == [0, 0, 0]


def test_another_worker_runs_at_once_what_was_given_back(site: Site) -> None:
    site.push(count=3)

    with site.worker(grace_seconds=0) as worker, site.worker() as other:
        worker.wait_for("ready")
        other.wait_for("ready")
        wait_here(lambda: worker.count("run") + other.count("run") == 3, "each runs")
        worker.signal(signal.SIGTERM)
        worker.end()
        other.wait_for("run", 3)
        site.let_go()
        other.wait_for("completed", 3)

    assert site.stats() == NOTHING


def test_a_second_signal_ends_the_grace_period(site: Site) -> None:
    site.push()

    with site.worker(grace_seconds=1000) as worker:
        worker.wait_for("run")
        worker.signal(signal.SIGTERM)
        worker.signal(signal.SIGINT)
        code = worker.end()

    assert (code, worker.count("released")) == (0, 1)
    assert site.stats() == {**NOTHING, "available": 1}


def test_a_plain_function_is_waited_for_and_its_item_kept_beyond_the_grace_period(
    site: Site,
) -> None:
    site.push("wait_for_file_in_thread")

    with site.worker(grace_seconds=0) as worker, site.worker() as other:
        worker.wait_for("ready")
        other.wait_for("ready")
        holder = worker if wait_for_either(worker, other) else other
        holder.signal(signal.SIGTERM)
        in_flight = site.stats()
        site.let_go()
        code = holder.end()

    assert in_flight == {**NOTHING, "in_flight": 1}
    assert (code, holder.count("completed")) == (0, 1)
    assert worker.count("run") + other.count("run") == 1
