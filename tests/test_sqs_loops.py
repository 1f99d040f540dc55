"""SQS clients of several event loops, and what is left of them."""

import asyncio

import pytest
from faces import wait_here
from sqs_proxy import Proxy
from sqs_server import SQSServer
from test_matrix import sockets

import deferrable
from deferrable.aio import Deferrable
from deferrable.aio.backend import SQSBackendFactory
from deferrable.aio.backend.base import Backend
from deferrable.testing import wait_until


@pytest.fixture
def backend(
    sqs_server: SQSServer, sqs_group: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> Backend:
    """Behind the proxy, which keeps connections open, as SQS does and moto does not."""
    sqs_server.set_environment(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    backend = SQSBackendFactory(wait_time=0).create_backend_for_group(sqs_group)
    asyncio.run(backend.queue.stats())
    return backend


def settled_sockets() -> set[str]:
    """The sockets that stay; those of the proxy close a little after ours."""
    seen: list[set[str]] = []

    def are_the_same_as_before() -> bool:
        seen.append(sockets())
        return len(seen) > 20 and seen[-20:] == [seen[-1]] * 20

    wait_here(are_the_same_as_before, "no socket comes or goes")
    return seen[-1]


def test_ten_runs_of_asyncio_leave_no_socket(backend: Backend) -> None:
    job = Deferrable(backend).deferrable(name="job")(lambda: "ran")
    before = settled_sockets()

    for _ in range(10):
        asyncio.run(job.later_async())

    wait_here(lambda: sockets() == before, "both ends of each connection are closed")


def test_loops_that_were_just_dropped_are_swept_on_next_use(backend: Backend) -> None:
    job = Deferrable(backend).deferrable(name="job")(lambda: "ran")
    before = settled_sockets()

    for _ in range(5):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(job.later_async())
        loop.close()
    asyncio.run(job.later_async())

    wait_here(lambda: sockets() == before, "both ends of each connection are closed")


def test_closing_leaves_no_socket_of_any_loop(backend: Backend) -> None:
    before = settled_sockets()
    instance = deferrable.Deferrable(backend)
    job = instance.deferrable(name="job")(lambda: "ran")

    async def on_two_loops() -> int:
        await job.later_async()
        await asyncio.to_thread(job.later)
        await asyncio.to_thread(instance.run_once)
        opened = len(sockets() - before)
        await asyncio.to_thread(instance.close)
        return opened

    opened = asyncio.run(on_two_loops())

    assert opened >= 3
    wait_here(lambda: sockets() == before, "both ends of each connection are closed")


def test_close_lets_a_receive_under_way_land(
    sqs_server: SQSServer, sqs_group: str, proxy: Proxy
) -> None:
    async def close_while_it_waits() -> object:
        factory = SQSBackendFactory(sqs_server.connection(proxy.url), wait_time=20)
        backend = factory.create_backend_for_group(sqs_group)
        await backend.queue.stats()
        popping = asyncio.create_task(backend.queue.pop())
        await wait_until(lambda: proxy.counts["ReceiveMessage"], "it waits")
        await backend.error_queue.close()
        closing = asyncio.create_task(backend.queue.close())
        await asyncio.wait([closing], timeout=0.1)
        assert not closing.done()
        name = f"deferrable_{sqs_group}"
        (url,) = (each for each in sqs_server.queue_urls(name) if each.endswith(name))
        sqs_server.client().send_message(QueueUrl=url, MessageBody='{"number": 1}')
        await closing
        return (await popping)[1]

    assert asyncio.run(close_while_it_waits()) == {"number": 1}
