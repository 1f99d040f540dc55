"""How many receives a worker makes on SQS, and how many at once."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqs_proxy import Proxy, answer
from sqs_server import SQSServer

from deferrable.aio import Deferrable
from deferrable.aio.backend import SQSBackendFactory, _sqs_queue
from deferrable.aio.backend.base import Backend
from deferrable.errors import BackendUnavailable

pytestmark = pytest.mark.anyio


@pytest.fixture
async def backend(sqs_server: SQSServer, proxy: Proxy, sqs_group: str) -> AsyncIterator[Backend]:
    factory = SQSBackendFactory(sqs_server.connection(proxy.url), wait_time=1)
    async with factory.create_backend_for_group(sqs_group) as backend:
        await backend.queue.stats()
        yield backend


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each full receive is followed by one more at once."""
    monkeypatch.setattr(_sqs_queue, "_FULL_RECEIVES_FOR_ANOTHER", 1)


async def pop_each(backend: Backend, stored: int, *asked: int) -> list[int]:
    """Push `stored` items; how many come when so many are asked for, time after time."""
    await backend.queue.push_each([{"number": number} for number in range(stored)])
    return [len(await backend.queue.pop_up_to(count)) for count in asked]


@pytest.mark.usefixtures("eager")
async def test_receives_that_come_full_are_followed_by_several_at_once(
    backend: Backend, proxy: Proxy
) -> None:
    came = await pop_each(backend, 80, 100, 100, 100, 100)

    waits = [receive.body["WaitTimeSeconds"] for receive in proxy.sent("ReceiveMessage")]
    assert came[:3] == [10, 20, 40]
    assert came[3] >= 10  # one that two receives race for may come twice, as SQS says
    assert sorted(waits) == [0] * 8 + [1] * 4


async def test_backlog_of_a_hundred_is_received_one_batch_after_another(
    backend: Backend, proxy: Proxy
) -> None:
    await pop_each(backend, 90, *[50] * 10)

    assert proxy.counts["ReceiveMessage"] == 10


@pytest.mark.usefixtures("eager")
async def test_receives_that_do_not_come_full_are_followed_by_one(
    backend: Backend, proxy: Proxy
) -> None:
    came = await pop_each(backend, 15, 20, 20, 20)

    assert came == [10, 5, 0]
    assert proxy.counts["ReceiveMessage"] == 4


@pytest.mark.usefixtures("eager")
async def test_receive_that_fails_beside_others_loses_nothing_of_theirs(
    backend: Backend, proxy: Proxy
) -> None:
    await pop_each(backend, 30, 20)
    proxy.script("ReceiveMessage", answer(500, "InternalError"))

    assert await pop_each(backend, 0, 20, 20) == [10, 10]


@pytest.mark.usefixtures("eager")
async def test_pop_fails_if_all_of_its_receives_do(backend: Backend, proxy: Proxy) -> None:
    await pop_each(backend, 10, 20)
    proxy.script("ReceiveMessage", answer(500, "InternalError"), times=2)

    with pytest.raises(BackendUnavailable):
        await backend.queue.pop_up_to(20)

    assert proxy.counts["ReceiveMessage"] == 3


async def test_several_batches_of_many_calls_are_sent_at_once(
    backend: Backend, proxy: Proxy
) -> None:
    outcomes = await backend.queue.push_each([{"number": number} for number in range(75)])

    assert outcomes == [None] * 75
    assert proxy.counts["SendMessageBatch"] == 8
    assert 1 < proxy.most_at_once["SendMessageBatch"] <= 5


async def test_jobs_that_end_one_by_one_are_received_in_tens(
    backend: Backend, proxy: Proxy
) -> None:
    instance = Deferrable(backend)
    jobs = 80

    @instance.deferrable(name="job")
    async def job(number: int) -> None:
        await asyncio.sleep(0.01 * (1 + number % 7))

    await job.later_many_async([(number,) for number in range(jobs)])
    async with instance.worker(concurrency=8) as worker:
        for _ in range(jobs):
            assert (await anext(worker)).status == "completed"
        received, deleted = proxy.counts["ReceiveMessage"], proxy.counts["DeleteMessageBatch"]

    assert received <= jobs * 0.16
    assert received + deleted <= jobs * 0.32
