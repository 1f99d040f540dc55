"""An item that may have killed its processes runs alone, and takes no other item with it."""

import asyncio
import os
import signal
import threading
from pathlib import Path

import pytest
from faces import LEASE_SECONDS, Face
from redis_server import unique_group
from sqs_proxy import Proxy
from sqs_server import SQSServer
from warm_python import run_python

from deferrable.aio import Deferrable, Worker
from deferrable.aio.backend import DocketsBackendFactory, SQSBackendFactory
from deferrable.aio.worker import _buffer
from deferrable.testing import wait_until

pytestmark = pytest.mark.anyio


class Site:
    """An instance with one job, and which jobs ran at the same time.

    Attributes:
        started: the numbers of the jobs that began, in their order.
        beside: for each of them, how many others were held when it began.
    """

    def __init__(self, max_redeliveries: int = 10) -> None:
        self.face = Face("awaiting", max_redeliveries=max_redeliveries)
        self.job = self.face.job(self._run, name="job")
        self.started: list[int] = []
        self.beside: dict[int, int] = {}
        self.opened = asyncio.Event()

    async def _run(self, number: int) -> None:
        self.started.append(number)
        _, in_flight, _ = await self.face.stats()
        self.beside[number] = in_flight - 1
        if number < 100:
            await self.opened.wait()

    async def defer(self, *numbers: int, redeliveries: int = 0) -> None:
        for number in numbers:
            await self.face.later(self.job, number)
        for _ in range(redeliveries):
            while (await self.face.broker.queue.pop())[0] is not None:
                pass
            self.face.clock.advance(LEASE_SECONDS + 1)

    def worker(self, concurrency: int = 10) -> Worker:
        worker: Worker = self.face.instance.worker(concurrency=concurrency)
        return worker

    async def until_started(self, *numbers: int) -> None:
        await wait_until(lambda: set(numbers) <= set(self.started), f"{numbers} run")


async def read(worker: Worker, count: int) -> None:
    for _ in range(count):
        assert await worker.next_outcome() is not None


async def test_items_that_were_redelivered_twice_run_one_after_the_other() -> None:
    site = Site()
    await site.defer(*range(100, 110), redeliveries=2)

    async with site.worker() as worker:
        await read(worker, 10)

    assert site.started == list(range(100, 110))
    assert set(site.beside.values()) == {0}


async def test_items_that_were_redelivered_once_run_beside_others() -> None:
    site = Site()
    await site.defer(*range(5), redeliveries=1)

    async with site.worker():
        await site.until_started(*range(5))
        site.opened.set()

    assert site.beside[4] == 4


async def test_an_item_with_its_last_delivery_runs_alone_however_few_there_are() -> None:
    site = Site(max_redeliveries=1)
    await site.defer(*range(100, 105), redeliveries=1)

    async with site.worker() as worker:
        await read(worker, 5)

    assert set(site.beside.values()) == {0}


async def test_it_waits_for_what_runs_and_nothing_is_popped_meanwhile() -> None:
    site = Site()
    await site.defer(100, redeliveries=2)
    envelope, _ = await site.face.broker.queue.pop()
    assert envelope is not None
    await site.defer(1)

    async with site.worker() as worker:
        await site.until_started(1)
        await site.face.broker.queue.release(envelope)
        await wait_until(lambda: worker._slots.is_paused, "the worker waits for its end")
        await site.defer(101)
        for _ in range(100):
            await asyncio.sleep(0)
        assert site.started == [1]
        site.opened.set()
        await read(worker, 3)

    assert site.started == [1, 100, 101]
    assert site.beside[100] == 0


async def test_others_that_came_with_it_go_back_before_it_starts() -> None:
    site = Site()
    await site.defer(1, 2, 3, redeliveries=2)

    async with site.worker():
        await site.until_started(1)
        assert await site.face.stats() == (2, 1, 0)
        site.opened.set()
        await site.until_started(2, 3)

    assert site.started == [1, 2, 3]


async def test_while_it_runs_nothing_is_popped_and_its_lease_is_kept() -> None:
    site = Site()
    await site.defer(1, redeliveries=2)

    async with site.worker() as worker:
        await site.until_started(1)
        await site.defer(100)
        for _ in range(10):
            site.face.clock.advance(LEASE_SECONDS / 3)
            await asyncio.sleep(0.05)
        assert site.started == [1]
        site.opened.set()
        await read(worker, 2)

    assert site.started == [1, 100]


async def test_a_worker_that_does_not_get_empty_goes_on_with_others() -> None:
    site = Site()
    await site.defer(2, redeliveries=2)
    envelope, _ = await site.face.broker.queue.pop()
    assert envelope is not None
    await site.defer(1)

    async with site.worker() as worker:
        await site.until_started(1)
        await site.face.broker.queue.release(envelope)
        await wait_until(lambda: worker._slots.is_paused, "the worker waits for its end")
        await site.defer(3)
        for _ in range(4):
            site.face.clock.advance(8)
            await asyncio.sleep(0.05)
        await site.until_started(3)
        assert await site.face.stats() == (0, 2, 1)
        site.opened.set()
        await read(worker, 2)
        site.face.clock.advance(31)
        await site.until_started(2)

    assert site.beside[2] == 0


async def test_a_stop_while_it_waits_gives_it_back() -> None:
    site = Site()
    await site.defer(2, redeliveries=2)
    envelope, _ = await site.face.broker.queue.pop()
    assert envelope is not None
    await site.defer(1)

    async with site.worker() as worker:
        await site.until_started(1)
        await site.face.broker.queue.release(envelope)
        await wait_until(lambda: worker._slots.is_paused, "the worker waits for its end")
        site.opened.set()
        worker.stop()

    assert 2 not in site.started or site.beside[2] == 0
    assert await site.face.stats() in ((1, 0, 0), (0, 0, 0))


async def test_it_runs_alone_whatever_queue_of_the_worker_it_comes_from() -> None:
    one, other = Site(), Site()
    other.face.clock = one.face.clock
    await one.defer(1, redeliveries=2)
    worker = Worker([one.face.instance, other.face.instance], concurrency=10)

    async with worker:
        await one.until_started(1)
        await other.defer(100)
        for _ in range(100):
            await asyncio.sleep(0.001)
        assert other.started == []
        one.opened.set()
        await other.until_started(100)


KILLER = """
import asyncio, contextlib, os, signal, sys
from deferrable.aio import Deferrable, backend

instance = Deferrable(
    backend.DocketsBackendFactory(
        sys.argv[1], timeout=2, wait_time=0.2, max_redeliveries=2
    ).create_backend_for_group(sys.argv[2])
)

@instance.deferrable(name="innocent")
async def innocent(number):
    await asyncio.sleep(0.3)

@instance.deferrable(name="killer")
async def killer(number):
    await asyncio.sleep(0.1)
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    looks = 0
    async with instance.worker() as worker:
        while looks < 2:  # what is taken over between the two steps of one look is in none of them
            stats = await instance.backend.queue.stats()
            is_empty = not stats["available"] + stats["in_flight"] + stats["delayed"]
            looks = looks + 1 if is_empty else 0
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(worker.next_outcome(), 0.2)

asyncio.run(main())
"""


async def test_a_job_that_kills_its_process_buries_no_other(redis_url: str, tmp_path: Path) -> None:
    group = unique_group()
    backend = DocketsBackendFactory(redis_url, timeout=1).create_backend_for_group(group)
    instance = Deferrable(backend)
    names = ["innocent"] * 5
    names.insert(3, "killer")
    for number, name in enumerate(names):
        job = instance.deferrable(name=name)(lambda number: None)
        instance.registry._jobs.clear()
        await job.later_async(number)
    program = tmp_path / "killer.py"
    program.write_text(KILLER)

    ends = []
    while not ends or (ends[-1] and len(ends) < 10):
        ends.append(await asyncio.to_thread(run, program, redis_url, group))
    async with backend:
        errors = [(await backend.error_queue.pop())[1] for _ in range(2)]

    assert ends == [-signal.SIGKILL, -signal.SIGKILL, -signal.SIGKILL, 0]
    assert [error and error["method"] for error in errors] == ["killer", None]


def run(program: Path, url: str, group: str) -> int:
    """Run the worker until it dies, or until everything is done."""
    root = str(Path(__file__).parent.parent)
    done = run_python(
        [str(program), url, group],
        env={**os.environ, "PYTHONPATH": root},
        timeout=60,
    )
    return done.returncode


# SQS counts every receive.


async def test_messages_that_sqs_delivered_twice_before_run_one_after_the_other(
    sqs_server: SQSServer, sqs_group: str
) -> None:
    factory = SQSBackendFactory(sqs_server.connection(), wait_time=0, max_receive_count=1000)
    running, most = 0, 0
    async with Deferrable(factory.create_backend_for_group(sqs_group)) as instance:

        @instance.deferrable(name="job")
        async def job(number: int) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.02)
            running -= 1

        queue = instance.backend.queue
        await job.later_many_async([(number,) for number in range(5)])
        for _ in range(2):
            held = []
            while len(held) < 5:
                held += await queue.pop_batch(10)
            await queue.release_batch([envelope for envelope, _ in held])
        async with instance.worker() as worker:
            await read(worker, 5)
            worker.stop()

    assert most == 1


async def test_plain_jobs_that_wait_for_a_thread_are_not_given_back_to_sqs(
    sqs_server: SQSServer, proxy: Proxy, sqs_group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_buffer, "LONGEST_WAIT_SECONDS", 0.01)
    factory = SQSBackendFactory(sqs_server.connection(proxy.url), wait_time=0, max_receive_count=2)
    ran: list[int] = []
    opened = threading.Event()

    def note(number: int) -> None:
        opened.wait(60)
        ran.append(number)

    async with Deferrable(factory.create_backend_for_group(sqs_group)) as instance:
        await instance.deferrable(name="job")(note).later_many_async([(n,) for n in range(20)])
        async with instance.worker(threads=1) as worker:
            await wait_until(lambda: worker._slots.thread_waiting >= 9, "some wait for the thread")
            await asyncio.sleep(0.1)  # longer than anywhere else they would wait
            opened.set()
            await read(worker, 20)
            worker.stop()
        errors = await instance.backend.error_queue.stats()

    assert sorted(ran) == list(range(20))
    assert proxy.counts["ChangeMessageVisibilityBatch"] == 0
    assert errors["available"] == 0
