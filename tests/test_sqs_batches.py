"""Hops, retries and failures on SQS travel in batches; each copy is sent before a delete."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqs_proxy import Proxy, drop_after, drop_before, fail_entries
from sqs_server import SQSServer

from deferrable.aio import Deferrable
from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.sqs import SQSBackendFactory
from deferrable.testing import wait_until

pytestmark = pytest.mark.anyio

COUNT = 20


@pytest.fixture
async def backend(sqs_server: SQSServer, sqs_group: str, proxy: Proxy) -> AsyncIterator[Backend]:
    """A backend behind the proxy, whose queues are there already, as its consumer knows."""
    factory = SQSBackendFactory(sqs_server.connection(proxy.url), wait_time=1)
    async with factory.create_backend_for_group(sqs_group) as backend:
        await backend.queue.pop()
        await backend.error_queue.stats()
        proxy.requests.clear()
        yield backend


class Broken(Exception):
    pass


def failing(instance: Deferrable, **options: Any) -> Any:
    @instance.deferrable(name="job", use_exponential_backoff=False, **options)
    async def job(number: int) -> None:
        raise Broken

    return job


async def outcomes_of(instance: Deferrable, count: int, **settings: Any) -> Counter[str]:
    """How so many attempts of a worker end."""
    statuses: Counter[str] = Counter()
    async with instance.worker(**settings) as worker:
        async for outcome in worker:
            statuses[outcome.status] += 1
            if statuses.total() == count:
                worker.stop()
    return statuses


def requests(proxy: Proxy) -> float:
    """Those of the consumer that depend on the number of items; the worker's last receive waits."""
    return proxy.counts.total() - proxy.counts["ReceiveMessage"]


def deleted_before_sent(proxy: Proxy) -> bool:
    """Whether, at any moment, more originals were deleted than copies were sent."""
    sent = deleted = 0
    for request in proxy.requests:
        if request.action == "SendMessageBatch":
            sent += len(request.entries)
        elif request.action == "DeleteMessageBatch":
            deleted += len(request.entries)
        if deleted > sent:
            return True
    return False


async def far(backend: Backend, count: int, seconds: float = 3600) -> None:
    """Items in the queue that are due only later, as if their delays had hopped."""
    now = backend.queue.clock.time()
    items = [{"id": str(each), "due_time": now + seconds} for each in range(count)]
    assert await backend.queue.push_each(items) == [None] * count


@pytest.mark.parametrize("concurrency", [1, 20])
async def test_ten_hops_share_a_send_and_a_delete(
    backend: Backend, proxy: Proxy, concurrency: int
) -> None:
    await far(backend, COUNT)
    proxy.requests.clear()

    statuses = await outcomes_of(Deferrable(backend), COUNT, concurrency=concurrency)

    assert statuses == {"hopped": COUNT}
    assert requests(proxy) / COUNT <= (0.2 if concurrency > 1 else 1.0), proxy.counts
    assert not deleted_before_sent(proxy)
    stats = await backend.queue.stats()
    assert (stats["delayed"], stats["available"], stats["in_flight"]) == (COUNT, 0, 0)


async def test_ten_retries_share_a_send_and_a_delete(backend: Backend, proxy: Proxy) -> None:
    instance = Deferrable(backend)
    job = failing(instance, error_classes=[Broken], max_attempts=3)
    await job.later_many_async([(number,) for number in range(COUNT)])
    proxy.requests.clear()

    statuses = await outcomes_of(instance, 3 * COUNT, concurrency=20)

    assert statuses == {"retried": 2 * COUNT, "errored": COUNT}
    assert requests(proxy) / (3 * COUNT) <= 0.3, proxy.counts
    assert not deleted_before_sent(proxy)
    assert (await backend.error_queue.stats())["available"] == COUNT


async def test_lone_retry_is_sent_and_deleted_at_once(backend: Backend, proxy: Proxy) -> None:
    instance = Deferrable(backend)
    await failing(instance, error_classes=[Broken]).later_async(1)
    proxy.requests.clear()

    outcome = await instance.run_once()

    assert outcome is not None
    assert outcome.status == "retried"
    actions = [request.action for request in proxy.requests]
    assert actions == ["ReceiveMessage", "SendMessageBatch", "DeleteMessageBatch"]


async def test_original_whose_copy_was_refused_is_not_deleted(
    backend: Backend, proxy: Proxy
) -> None:
    await far(backend, 10)
    popped = await backend.queue.pop_up_to(10)
    proxy.requests.clear()
    proxy.script("SendMessageBatch", fail_entries([2, 7], is_senders=True))

    results = await asyncio.gather(
        *(backend.queue.replace(envelope, {"number": 1}) for envelope, _ in popped),
        return_exceptions=True,
    )

    failed = [place for place, result in enumerate(results) if result is not None]
    (delete,) = proxy.sent("DeleteMessageBatch")
    assert failed == [2, 7]
    assert len(delete.entries) == 8
    assert (await backend.queue.stats())["in_flight"] == 2


@pytest.mark.parametrize("fault", [drop_before, drop_after])
async def test_settlement_that_is_tried_again_sends_no_second_copy(
    backend: Backend, proxy: Proxy, fault: Any
) -> None:
    await far(backend, 10)
    proxy.requests.clear()
    proxy.script("DeleteMessageBatch", fail_entries(range(10), is_senders=False), fault)

    statuses = await outcomes_of(Deferrable(backend), 10, concurrency=10)

    assert statuses == {"hopped": 10}
    assert sum(len(each.entries) for each in proxy.sent("SendMessageBatch")) == 10
    assert (await backend.queue.stats())["in_flight"] == 0


async def test_cancelled_replacement_takes_nobody_with_it(backend: Backend, proxy: Proxy) -> None:
    await far(backend, 3)
    popped = await backend.queue.pop_up_to(3)
    replacing = [
        asyncio.ensure_future(backend.queue.replace(envelope, {"number": number}))
        for number, (envelope, _) in enumerate(popped)
    ]
    await asyncio.sleep(0)
    replacing[0].cancel()

    results = await asyncio.gather(*replacing, return_exceptions=True)

    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [None, None]
    await wait_until(lambda: proxy.counts["DeleteMessageBatch"] == 1, "two are deleted together")


async def test_ten_unreadable_messages_share_a_send_and_a_delete(
    backend: Backend, proxy: Proxy, sqs_server: SQSServer, sqs_group: str
) -> None:
    (url,) = (
        each
        for each in sqs_server.queue_urls(f"deferrable_{sqs_group}")
        if not each.endswith("_error")
    )
    for number in range(10):
        sqs_server.client().send_message(QueueUrl=url, MessageBody=f"no item {number}")
    proxy.requests.clear()

    while (await backend.error_queue.stats())["available"] < 10:
        await backend.queue.pop_batch(10)

    assert proxy.counts["SendMessageBatch"] + proxy.counts["DeleteMessageBatch"] <= 4
