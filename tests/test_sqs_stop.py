"""What a stop waits for on SQS, and what it leaves behind."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator

import pytest
from sqs_proxy import Answer, Exchange, Proxy, hang
from sqs_server import SQSServer

from deferrable.aio import Deferrable
from deferrable.aio.backend import SQSBackendFactory
from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.sqs import _receiving as _sqs_receiving
from deferrable.testing import wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def backend(sqs_server: SQSServer, proxy: Proxy, sqs_group: str) -> AsyncIterator[Backend]:
    factory = SQSBackendFactory(
        sqs_server.connection(proxy.url), wait_time=1, max_receive_count=1000
    )
    async with factory.create_backend_for_group(sqs_group) as backend:
        await backend.queue.stats()
        yield backend


class Gate:
    """Holds an answer back: the server's, or one that says nothing."""

    def __init__(self, *, asks_server: bool) -> None:
        self._asks_server = asks_server
        self._is_open = False

    def open(self) -> None:
        self._is_open = True

    async def __call__(self, exchange: Exchange) -> Answer:
        answer = await exchange.forward() if self._asks_server else Answer(200, b"{}")
        while not self._is_open:  # noqa: ASYNC110 - the proxy's loop, which no event of ours reaches
            await asyncio.sleep(0.005)
        return answer


async def test_stop_waits_for_the_receive_under_way_and_gives_back_what_it_brings(
    backend: Backend, proxy: Proxy
) -> None:
    instance = Deferrable(backend)
    ran: list[int] = []
    job = instance.deferrable(name="job")(ran.append)
    gate = Gate(asks_server=True)
    proxy.script("ReceiveMessage", gate)

    worker = instance.worker(concurrency=10)
    async with worker:
        await wait_until(lambda: proxy.counts["ReceiveMessage"] == 1, "it polls")
        await job.later_many_async([(number,) for number in range(5)])
        worker.stop()
        gate.open()

    stats = await backend.queue.stats()
    assert ran == []
    assert (stats["available"], stats["in_flight"]) == (5, 0)
    assert proxy.counts["ReceiveMessage"] == 1
    assert proxy.counts["ChangeMessageVisibilityBatch"] == 1


async def test_receive_that_a_caller_gave_up_lands_and_is_given_back(
    backend: Backend, proxy: Proxy
) -> None:
    gate = Gate(asks_server=True)
    proxy.script("ReceiveMessage", gate)
    await backend.queue.push({"number": 1})
    popping = asyncio.create_task(backend.queue.pop())
    await wait_until(lambda: proxy.counts["ReceiveMessage"] == 1, "it polls")

    popping.cancel()
    gate.open()
    await asyncio.wait([popping])

    assert popping.cancelled()
    stats = await backend.queue.stats()
    assert (stats["available"], stats["in_flight"]) == (1, 0)


async def test_stop_that_waits_for_a_receive_says_for_how_long(
    sqs_server: SQSServer,
    proxy: Proxy,
    sqs_group: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_sqs_receiving, "_LOOK_SECONDS", 0.01)
    caplog.set_level(logging.INFO, "deferrable")
    factory = SQSBackendFactory(sqs_server.connection(proxy.url), wait_time=20)
    gate = Gate(asks_server=False)
    proxy.script("ReceiveMessage", gate)

    async with factory.create_backend_for_group(sqs_group) as backend:
        worker = Deferrable(backend).worker()
        async with worker:
            await wait_until(lambda: proxy.counts["ReceiveMessage"] == 1, "it polls")
            worker.stop()
            await wait_until(lambda: "waiting for a receive" in caplog.text, "it says so")
            gate.open()

    said = re.search(r"bring items: for at most (\d+) s \((\d+) s if SQS does not", caplog.text)
    assert said is not None
    assert 0 < int(said[1]) <= 20
    assert int(said[2]) == int(said[1]) + 10


async def test_receives_that_are_never_answered_end_neither_a_worker_nor_its_stop_late(
    backend: Backend,
    proxy: Proxy,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_sqs_receiving, "MARGIN_SECONDS", 0.1)
    monkeypatch.setattr(_sqs_receiving, "_LOOK_SECONDS", 0.01)
    caplog.set_level(logging.INFO, "deferrable")
    instance = Deferrable(backend)
    job = instance.deferrable(name="job")(lambda: None)
    await job.later_async()
    proxy.script("ReceiveMessage", hang)

    async with instance.worker() as worker:
        statuses = [(await anext(worker)).status]
        proxy.script("ReceiveMessage", hang, times=2)
        count = proxy.counts["ReceiveMessage"]
        await wait_until(lambda: proxy.counts["ReceiveMessage"] >= count + 2, "one hangs")
        begin_time = asyncio.get_running_loop().time()
        worker.stop()

    taken_seconds = asyncio.get_running_loop().time() - begin_time
    said = re.search(r"bring items: for at most \d+ s \((\d+) s if SQS does not", caplog.text)
    assert statuses == ["completed"]
    assert said is not None
    assert taken_seconds < int(said[1]) + 10  # a busy machine's; a client's own limit is 30


async def test_stop_that_waits_for_nothing_says_nothing(
    sqs_server: SQSServer, proxy: Proxy, sqs_group: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "deferrable")
    factory = SQSBackendFactory(sqs_server.connection(proxy.url), wait_time=0)

    async with factory.create_backend_for_group(sqs_group) as made, Deferrable(made).worker():
        await wait_until(lambda: proxy.counts["ReceiveMessage"] >= 1, "it polls")

    assert "waiting for a receive" not in caplog.text


async def test_nothing_stays_hidden_after_twenty_stops_that_race_sends(backend: Backend) -> None:
    instance = Deferrable(backend)
    ran: list[int] = []

    @instance.deferrable(name="job")
    async def note(number: int) -> None:
        ran.append(number)

    sent = 0
    for _ in range(20):
        worker = instance.worker(concurrency=2)
        async with worker:
            sending = asyncio.create_task(
                note.later_many_async([(sent + number,) for number in range(4)])
            )
            await anext(worker)
            worker.stop()
            await sending
        sent += 4
        stats = await backend.queue.stats()
        assert stats["in_flight"] == 0

    rest = int((await backend.queue.stats())["available"])
    async with instance.worker() as worker:
        for _ in range(rest):
            await anext(worker)
    assert sorted(ran) == list(range(sent))
