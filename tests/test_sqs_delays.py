"""Delays of any length on SQS, and FIFO queues, which have none."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqs_proxy import Proxy, drop_after
from sqs_server import SQSServer

from deferrable.aio import Deferrable
from deferrable.aio.backend import SQSBackendFactory
from deferrable.aio.backend.base import Backend
from deferrable.errors import Unsupported
from deferrable.testing import MovingClock

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("standing_time")]

HOUR = 3600


class Broken(Exception):
    pass


class Place:
    """An instance on an SQS whose time a test moves."""

    def __init__(self, server: SQSServer, proxy: Proxy, group: str) -> None:
        self.clock = MovingClock()
        self.proxy = proxy
        self._server = server
        self._prefix = f"deferrable_{group.removesuffix('.fifo')}"
        connection = server.connection(proxy.url)
        factory = SQSBackendFactory(
            connection, wait_time=0, max_receive_count=1000, clock=self.clock
        )
        self.backend: Backend = factory.create_backend_for_group(group)
        self.instance = Deferrable(self.backend)
        self.ran: list[Any] = []

    async def pass_time(self, seconds: float) -> None:
        await self._server.pass_time(self._prefix, seconds)
        self.clock.advance(seconds)

    async def run(self) -> list[str]:
        """Attempt what is there; how each attempt ended."""
        statuses = []
        while (outcome := await self.instance.run_once()) is not None:
            statuses.append(outcome.status)
        return statuses

    def job(self, **options: Any) -> Any:
        @self.instance.deferrable(name="job", **options)
        async def job(value: object) -> None:
            self.ran.append(value)
            if value == "broken":
                raise Broken("again and again")

        return job


@pytest.fixture
async def place(sqs_server: SQSServer, proxy: Proxy, sqs_group: str) -> AsyncIterator[Place]:
    place = Place(sqs_server, proxy, sqs_group)
    yield place
    await place.backend.close()


@pytest.fixture
async def fifo(sqs_server: SQSServer, proxy: Proxy, sqs_group: str) -> AsyncIterator[Place]:
    place = Place(sqs_server, proxy, f"{sqs_group}.fifo")
    yield place
    await place.backend.close()


async def test_delay_of_26_hours_arrives_once_and_in_time(place: Place) -> None:
    job = place.job()
    due_time = place.clock.time() + 26 * HOUR
    await job.options(delay_seconds=26 * HOUR).later_async("late")

    hops = 0
    while place.clock.time() < due_time + 60 and not place.ran:
        await place.pass_time(300)
        hops += (await place.run()).count("hopped")
    moment = place.clock.time()
    await place.pass_time(26 * HOUR)
    await place.run()

    assert place.ran == ["late"]
    assert due_time <= moment <= due_time + 300
    assert hops >= 26 * HOUR / 900 - 1
    stats = await place.backend.queue.stats()
    assert stats["available"] == stats["in_flight"] == stats["delayed"] == 0


async def test_hop_killed_between_send_and_delete_runs_no_job_early(place: Place) -> None:
    """Sent on, and still there: both copies know their time, and one more run is allowed."""
    await place.job().options(delay_seconds=1000).later_async("late")
    due_time = place.clock.time() + 1000
    await place.pass_time(900)
    envelope, item = await place.backend.queue.pop()
    assert item is not None
    await place.backend.queue.push({**item, "delay": 100})  # and here it was killed

    await place.pass_time(40)
    early = await place.run()
    await place.pass_time(80)
    await place.run()

    assert envelope is not None
    assert early == ["hopped"]
    assert place.clock.time() >= due_time
    assert place.ran == ["late", "late"]


async def test_part_of_a_second_is_rounded_up_and_never_cut_off(place: Place) -> None:
    await place.job().options(delay_seconds=0.4).later_async("late")

    (send,) = place.proxy.sent("SendMessageBatch")

    assert [entry["DelaySeconds"] for entry in send.entries] == [1]


async def test_delay_of_the_queue_itself_does_not_count(
    place: Place, sqs_server: SQSServer
) -> None:
    await place.backend.queue.stats()
    (url,) = (each for each in sqs_server.queue_urls(place._prefix) if not each.endswith("_error"))
    sqs_server.client().set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "60"})

    await place.job().later_async("now")

    assert await place.run() == ["completed"]


async def test_group_travels_on_queues_that_are_no_fifo_ones(place: Place) -> None:
    job = place.job()
    await job.options(message_group_id="customer-7").later_async("fair")
    await job.later_async("any")

    entries = [send.entries[0] for send in place.proxy.sent("SendMessageBatch")]

    assert entries[0]["MessageGroupId"] == "customer-7"
    assert "MessageGroupId" not in entries[1]
    assert not any("MessageDeduplicationId" in entry for entry in entries)


async def test_what_sqs_would_refuse_in_an_item_of_another_program_stays_in_the_item(
    place: Place, fifo: Place
) -> None:
    for group_id in (5, "", "a b", "x" * 129):
        item = {"id": "1", "message_group_id": group_id, "attributes": {"AWSTraceHeader": "\0"}}
        await place.backend.queue.push(item)
        await fifo.backend.queue.push(item)

    sends = place.proxy.sent("SendMessageBatch")  # of both places
    plain = [each.entries[0] for each in sends if not each.body["QueueUrl"].endswith(".fifo")]
    ordered = [each.entries[0] for each in sends if each.body["QueueUrl"].endswith(".fifo")]

    assert not any("MessageGroupId" in each for each in plain)
    assert not any("MessageSystemAttributes" in each for each in plain)
    assert {each["MessageGroupId"] for each in ordered} == {f"{fifo._prefix}.fifo"}


# FIFO.


async def test_fifo_queues_are_created_with_their_names(fifo: Place, sqs_server: SQSServer) -> None:
    await fifo.backend.queue.stats()

    names = sorted(url.rpartition("/")[2] for url in sqs_server.queue_urls(fifo._prefix))

    assert names == [f"{fifo._prefix}.fifo", f"{fifo._prefix}_error.fifo"]
    assert fifo.backend.queue.FIFO
    assert not fifo.backend.queue.SUPPORTS_DELAY


async def test_fifo_runs_jobs_in_the_order_of_their_sends(fifo: Place) -> None:
    job = fifo.job()
    for number in range(5):
        await job.later_async(number)
    await job.later_many_async([(number,) for number in range(5, 12)])

    await fifo.run()

    assert fifo.ran == list(range(12))


async def test_each_group_of_a_fifo_queue_keeps_its_order_in_a_worker(fifo: Place) -> None:
    job = fifo.job()
    for number in range(8):
        for group in ("a", "b", "c"):
            await job.options(message_group_id=group).later_async(f"{group}{number}")

    async with fifo.instance.worker(concurrency=6) as worker:
        for _ in range(24):
            await worker.next_outcome()

    for group in ("a", "b", "c"):
        ran = [each for each in fifo.ran if str(each).startswith(group)]
        assert ran == [f"{group}{number}" for number in range(8)]


async def test_groups_of_a_fifo_queue_do_not_wait_for_each_other(fifo: Place) -> None:
    job = fifo.job()
    await job.options(message_group_id="a").later_async("a1")
    await job.options(message_group_id="a").later_async("a2")
    await job.options(message_group_id="b").later_async("b1")

    first, item = await fifo.backend.queue.pop()
    statuses = await fifo.run()

    assert item is not None
    assert item["message_group_id"] == "a"
    assert statuses == ["completed"]
    assert fifo.ran == ["b1"]
    assert first is not None


async def test_retries_on_a_fifo_queue_are_not_dropped_and_back_off(fifo: Place) -> None:
    await fifo.job(error_classes=[Broken], max_attempts=4).later_async("broken")

    begin_time, moments = fifo.clock.time(), []
    for _ in range(40):
        runs = len(fifo.ran)
        await fifo.run()
        if len(fifo.ran) > runs:
            moments.append(fifo.clock.time() - begin_time)
        await fifo.pass_time(1)

    _, buried = await fifo.backend.error_queue.pop()
    assert fifo.ran == ["broken"] * 4
    # 4, 6 and 10 seconds after the run before.
    assert moments == [0, 4, 10, 20]
    assert buried is not None
    assert buried["error"]["error_type"] == "Broken"


async def test_later_with_a_delay_is_unsupported_on_a_fifo_queue(fifo: Place) -> None:
    with pytest.raises(Unsupported):
        await fifo.job().options(delay_seconds=5).later_async("late")

    assert fifo.proxy.counts["SendMessageBatch"] == 0


async def test_each_push_to_a_fifo_queue_has_an_id_that_its_resends_share(fifo: Place) -> None:
    await fifo.backend.queue.stats()
    fifo.proxy.script("SendMessageBatch", drop_after)
    item = {"id": "same", "number": 1}

    await fifo.backend.queue.push(item)
    await fifo.backend.queue.push(item)

    ids = [
        send.entries[0]["MessageDeduplicationId"] for send in fifo.proxy.sent("SendMessageBatch")
    ]
    assert len(ids) == 3
    assert ids[0] == ids[1] != ids[2]
    assert (await fifo.backend.queue.stats())["available"] == 2
