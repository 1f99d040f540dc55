"""What SQS is paid for: requests, counted by a proxy where they pass, not by us."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from sqs_proxy import Answer, Exchange, Proxy, proxy_to
from sqs_server import SQSServer

from deferrable.aio import Deferrable
from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.sqs import SQSBackendFactory
from deferrable.testing import wait_until

pytestmark = pytest.mark.anyio

BACKLOG = 90  # moto becomes slow beyond that
ROUNDS = 4


@pytest.fixture
def proxy(sqs_server: SQSServer) -> Iterator[Proxy]:
    with proxy_to(sqs_server.url) as proxy:
        yield proxy


@pytest.fixture
async def backend(sqs_server: SQSServer, sqs_group: str, proxy: Proxy) -> AsyncIterator[Backend]:
    """A backend behind the proxy, whose queues are there already, as its consumer knows."""
    factory = SQSBackendFactory(sqs_server.connection(proxy.url), wait_time=1)
    async with factory.create_backend_for_group(sqs_group) as backend:
        await backend.queue.pop()
        proxy.requests.clear()
        yield backend


async def nothing(number: int) -> None:
    """The cheapest job."""


def requests(proxy: Proxy) -> int:
    return proxy.counts.total()


async def test_backlog_costs_a_third_of_a_request_for_each_job(
    backend: Backend, proxy: Proxy
) -> None:
    instance = Deferrable(backend)
    job = instance.deferrable(name="job")(nothing)

    for _ in range(ROUNDS):
        await job.later_many_async([(number,) for number in range(BACKLOG)])
        await work_off(instance, BACKLOG)

    jobs = ROUNDS * BACKLOG
    sends = proxy.counts["SendMessageBatch"]
    assert requests(proxy) / jobs <= 0.35, proxy.counts
    assert (requests(proxy) - sends) / jobs <= 0.22, proxy.counts
    stats = await backend.queue.stats()
    assert stats["available"] == stats["in_flight"] == 0


async def work_off(instance: Deferrable, count: int) -> None:
    async with instance.worker(concurrency=20) as worker:
        async for outcome in worker:
            assert outcome.status == "completed"
            count -= 1
            if count == 0:
                break


async def test_idle_worker_asks_once_at_a_time_for_the_whole_wait(
    backend: Backend, proxy: Proxy
) -> None:
    async with Deferrable(backend).worker(concurrency=50):
        await wait_until(lambda: proxy.counts["ReceiveMessage"] >= 3, "it has asked three times")

    assert set(proxy.counts) == {"ReceiveMessage"}
    assert proxy.most_at_once["ReceiveMessage"] == 1
    assert {each.body["WaitTimeSeconds"] for each in proxy.requests} == {1}


async def test_wait_is_the_longest_that_sqs_has_if_nothing_else_is_said(
    sqs_server: SQSServer, sqs_group: str, proxy: Proxy
) -> None:
    async def nothing_there(exchange: Exchange) -> Answer:
        return Answer(200, b"{}")

    factory = SQSBackendFactory(sqs_server.connection(proxy.url))
    proxy.script("ReceiveMessage", nothing_there)

    async with factory.create_backend_for_group(sqs_group) as backend:
        await backend.queue.pop()

    (receive,) = proxy.sent("ReceiveMessage")
    assert receive.body["WaitTimeSeconds"] == 20


async def test_jobs_that_end_one_after_another_are_deleted_together(
    backend: Backend, proxy: Proxy
) -> None:
    instance = Deferrable(backend)
    turns = [asyncio.Event() for _ in range(10)]

    @instance.deferrable(name="job")
    async def in_turn(number: int) -> None:
        await turns[number].wait()
        if number + 1 < len(turns):
            turns[number + 1].set()

    await in_turn.later_many_async([(number,) for number in range(10)])
    turns[0].set()
    await work_off(instance, 10)

    assert proxy.counts["DeleteMessageBatch"] <= 2


async def test_run_once_completes_at_once(backend: Backend, proxy: Proxy) -> None:
    instance = Deferrable(backend)
    job = instance.deferrable(name="job")(nothing)
    await job.later_async(1)

    await instance.run_once()

    assert proxy.counts["DeleteMessageBatch"] + proxy.counts["DeleteMessage"] == 1
    assert (await backend.queue.stats())["in_flight"] == 0


async def test_requests_are_counted_as_they_are_sent(backend: Backend, proxy: Proxy) -> None:
    instance = Deferrable(backend)
    job = instance.deferrable(name="job")(nothing)
    before = await backend.queue.stats()
    proxy.requests.clear()

    await job.later_many_async([(number,) for number in range(20)])
    await work_off(instance, 20)
    after = await backend.queue.stats()

    # The count is told by a request, too, the last that it counts.
    assert after["requests"] - before["requests"] == requests(proxy)
