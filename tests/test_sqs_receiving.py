"""How many receives a worker makes on SQS, and how many at once."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqs_proxy import Answer, Exchange, Proxy, answer, forward, hang
from sqs_server import SQSServer

from deferrable.aio import Deferrable
from deferrable.aio.backend import SQSBackendFactory
from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.sqs import _arrivals as _sqs_arrivals
from deferrable.aio.backend.sqs import _receiving as _sqs_receiving
from deferrable.errors import BackendUnavailable
from deferrable.testing import wait_until

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
    monkeypatch.setattr(_sqs_arrivals, "_FULL_RECEIVES_FOR_ANOTHER", 1)


async def pop_each(backend: Backend, stored: int, *asked: int) -> list[int]:
    """Push `stored` items; how many come when so many are asked for, time after time."""
    await backend.queue.push_each([{"number": number} for number in range(stored)])
    return [len(await backend.queue.pop_up_to(count)) for count in asked]


async def pop_all(backend: Backend, count: int) -> None:
    """Pop until `count` different items came."""
    came: set[int] = set()
    while len(came) < count:
        came |= {item["number"] for _, item in await backend.queue.pop_up_to(50)}


def waits(proxy: Proxy) -> list[int]:
    return [receive.body["WaitTimeSeconds"] for receive in proxy.sent("ReceiveMessage")]


class LongPolls:
    """Holds back the answers to receives that wait, until it is opened."""

    def __init__(self) -> None:
        self.is_open = False
        self.held = 0

    async def __call__(self, exchange: Exchange) -> Answer:
        answer = await exchange.forward()
        if exchange.request.body.get("WaitTimeSeconds"):
            self.held += 1
            while not self.is_open:  # noqa: ASYNC110 - the proxy's loop, not ours
                await asyncio.sleep(0.005)
        return answer


@pytest.mark.usefixtures("eager")
async def test_receives_that_come_full_are_followed_by_several_at_once(
    backend: Backend, proxy: Proxy
) -> None:
    await backend.queue.push_each([{"number": number} for number in range(80)])

    await pop_all(backend, 80)

    assert 1 < proxy.most_at_once["ReceiveMessage"] <= 5
    assert 0 in waits(proxy)
    assert 1 in waits(proxy)


async def test_backlog_of_a_hundred_is_received_one_batch_after_another(
    backend: Backend, proxy: Proxy
) -> None:
    await pop_each(backend, 90, *[50] * 10)

    assert proxy.counts["ReceiveMessage"] == 10


@pytest.mark.usefixtures("eager")
async def test_receives_that_do_not_come_full_are_followed_by_one(
    backend: Backend, proxy: Proxy
) -> None:
    await backend.queue.push_each([{"number": number} for number in range(15)])
    await pop_all(backend, 15)
    await backend.queue.end_pops()
    before = proxy.counts["ReceiveMessage"]

    assert await backend.queue.pop_up_to(50) == []

    assert proxy.counts["ReceiveMessage"] == before + 1


# What is there does not wait for what is on its way.


@pytest.fixture
def long_polls(proxy: Proxy) -> LongPolls:
    long_polls = LongPolls()
    proxy.script("ReceiveMessage", forward, *[long_polls] * 100)
    return long_polls


@pytest.mark.usefixtures("eager")
async def test_what_short_receives_bring_does_not_wait_for_the_long_poll_beside_them(
    backend: Backend, proxy: Proxy, long_polls: LongPolls
) -> None:
    assert await pop_each(backend, 30, 20, 20) == [10, 10]

    await wait_until(lambda: long_polls.held == 1, "the long poll is under way")
    long_polls.is_open = True
    assert await pop_each(backend, 0, 20) == [10]
    assert proxy.counts["ReceiveMessage"] == len(waits(proxy)) <= 4


@pytest.mark.usefixtures("eager")
async def test_long_poll_that_was_left_under_way_is_the_one_of_the_next_pop(
    backend: Backend, proxy: Proxy, long_polls: LongPolls
) -> None:
    assert await pop_each(backend, 30, 20, 20) == [10, 10]
    await wait_until(lambda: long_polls.held == 1, "the long poll is under way")
    popping = asyncio.create_task(backend.queue.pop_up_to(10))
    await asyncio.sleep(0)
    long_polls.is_open = True
    await popping

    assert sum(1 for wait in waits(proxy) if wait) == 2


@pytest.mark.usefixtures("eager")
async def test_what_comes_when_nobody_pops_any_more_is_given_back_in_a_moment(
    backend: Backend, long_polls: LongPolls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sqs_arrivals, "_KEPT_SECONDS", 0.01)
    assert await pop_each(backend, 30, 20, 20) == [10, 10]
    long_polls.is_open = True

    async def is_back() -> bool:
        return (await backend.queue.stats())["available"] == 10

    await wait_until(is_back, "what the long poll brought is available again", 10)


@pytest.mark.usefixtures("eager")
async def test_worker_that_polls_no_more_waits_for_what_is_under_way_and_gives_it_back(
    backend: Backend, long_polls: LongPolls
) -> None:
    assert await pop_each(backend, 30, 20, 20) == [10, 10]
    ending = asyncio.create_task(backend.queue.end_pops())
    await asyncio.sleep(0)
    assert not ending.done()
    long_polls.is_open = True
    await ending

    stats = await backend.queue.stats()
    assert (stats["available"], stats["in_flight"]) == (10, 20)


async def test_worker_that_polls_no_more_does_not_wait_for_another_that_does(
    backend: Backend, proxy: Proxy, long_polls: LongPolls
) -> None:
    await backend.queue.pop()
    popping = asyncio.create_task(backend.queue.pop())
    await wait_until(lambda: long_polls.held == 1, "it polls")

    await asyncio.wait_for(backend.queue.end_pops(), 30)

    assert not popping.done()
    long_polls.is_open = True
    assert await popping == (None, None)


async def test_item_does_not_wait_for_the_burial_of_an_unreadable_neighbour(
    backend: Backend, proxy: Proxy, sqs_server: SQSServer, sqs_group: str
) -> None:
    await backend.error_queue.stats()
    client = sqs_server.client()
    url = client.get_queue_url(QueueName=f"deferrable_{sqs_group}")["QueueUrl"]
    client.send_message(QueueUrl=url, MessageBody="unreadable")
    await backend.queue.push({"number": 1})
    gate = LongPolls()
    buried: list[Exchange] = []

    async def hold(exchange: Exchange) -> Answer:
        buried.append(exchange)
        while not gate.is_open:  # noqa: ASYNC110 - the proxy's loop, not ours
            await asyncio.sleep(0.005)
        return await exchange.forward()

    proxy.script("SendMessageBatch", hold)
    popped = [item for _, item in await backend.queue.pop_batch(10)]
    gate.is_open = True
    await backend.queue.end_pops()

    assert popped == [{"number": 1}]
    assert len(buried) == 1
    assert (await backend.error_queue.stats())["available"] == 1


# A receive whose answer is overdue.


async def test_receive_that_is_not_answered_is_given_up_soon_after_its_wait(
    backend: Backend, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sqs_receiving, "MARGIN_SECONDS", 0.1)
    proxy.script("ReceiveMessage", hang)

    with pytest.raises(BackendUnavailable, match="not answered"):
        await asyncio.wait_for(backend.queue.pop(), 15)  # a client's own limit is 30

    assert await pop_each(backend, 1, 1) == [1]


async def test_shortest_lease_with_a_long_poll_is_long_enough_for_a_job(
    sqs_server: SQSServer, sqs_group: str
) -> None:
    factory = SQSBackendFactory(
        sqs_server.connection(), visibility_timeout=1, wait_time=20, max_receive_count=1000
    )
    async with factory.create_backend_for_group(sqs_group) as backend:
        await backend.queue.stats()
        instance = Deferrable(backend)
        job = instance.deferrable(name="job")(lambda: None)
        async with instance.worker() as worker:
            receiver = backend.queue._receiver  # type: ignore[attr-defined]
            await wait_until(lambda: receiver._under_way.get(), "it polls")
            await asyncio.sleep(2.5)  # it looks for an answer more than twice
            await job.later_async()
            # A busy machine may lose such a lease; without the fix every one is lost.
            while (await anext(worker)).status != "completed":
                pass


@pytest.mark.usefixtures("eager")
async def test_receive_that_fails_beside_others_loses_nothing_of_theirs(
    backend: Backend, proxy: Proxy
) -> None:
    await pop_each(backend, 30, 20)
    proxy.script("ReceiveMessage", answer(500, "InternalError"))

    await pop_all(backend, 20)

    assert proxy.is_script_played


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
    backend: Backend, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine one job may end in the time for which deletes are gathered.
    monkeypatch.setattr(type(backend.queue), "COMPLETE_GATHER_SECONDS", 1.0)
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
