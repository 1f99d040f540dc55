"""Groups of a FIFO queue in a worker: in parallel, in order across failures, stops and kills."""

import collections
import itertools
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sizes import sized
from sqs_proxy import Answer, Exchange, Proxy, answer, forward
from sqs_server import SQSServer
from sqs_site import Site, site_at

from deferrable import Retry
from deferrable.aio import Deferrable, Middleware
from deferrable.errors import Unsupported
from deferrable.testing import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("standing_time")]

VISIBILITY = 30


@pytest.fixture
def settings() -> dict[str, Any]:
    return {"retry": "block", "visibility_timeout": VISIBILITY, "max_receive_count": 1000}


@pytest.fixture
async def site(
    sqs_server: SQSServer, proxy: Proxy, sqs_group: str, settings: dict[str, Any]
) -> AsyncIterator[Site]:
    async with site_at(sqs_server, proxy, f"{sqs_group}.fifo", **settings) as site:
        yield site


async def defer(site: Site, *values: str, **options: Any) -> None:
    """Calls whose group is the first letter of their argument."""
    job = site.job(**options)
    for group, of_group in itertools.groupby(values, lambda value: value[0]):
        await job.options(message_group_id=group).later_many_async([(each,) for each in of_group])


def of(group: str, values: list[Any]) -> list[Any]:
    return [each for each in values if each[0] == group]


async def outcomes(site: Site, count: int, **settings: Any) -> list[str]:
    async with site.instance.worker(**settings) as worker:
        ended = [await worker.next_outcome() for _ in range(count)]
    return [each.status for each in ended if each is not None]


async def test_the_group_of_a_failed_item_waits_for_its_retry_and_others_do_not(
    site: Site,
) -> None:
    site.failures["a1"] = 2
    await defer(site, "a1", "a2", "a3", "b1", "b2")

    async with site.instance.worker(concurrency=5) as worker:
        await wait_until(lambda: of("b", site.ended) == ["b1", "b2"], "the other group ends")
        assert of("a", site.started) == ["a1"]
        await wait_until(lambda: worker._slots.blocked == 3, "it rests, and two wait behind it")
        await site.pass_time(4)
        await wait_until(lambda: of("a", site.started) == ["a1", "a1"], "its first retry")
        await wait_until(lambda: worker._slots.blocked == 3, "it rests again")
        await site.pass_time(6)
        await wait_until(lambda: of("a", site.ended) == ["a1", "a2", "a3"], "all ended in order")

    assert site.proxy.counts["SendMessageBatch"] == 2
    stats = await site.backend.queue.stats()
    assert stats["available"] == stats["in_flight"] == 0


async def test_an_item_that_waited_behind_a_retry_has_lost_no_attempt(site: Site) -> None:
    """Waiting costs no receive, and each receive would count as an attempt."""
    site.failures = {"a1": 3, "a2": 3}
    await defer(site, "a1", "a2", max_attempts=4, use_exponential_backoff=False)

    statuses = await outcomes(site, 8)

    assert statuses == ["retried"] * 3 + ["completed"] + ["retried"] * 3 + ["completed"]
    assert site.ended == ["a1", "a2"]


async def test_when_its_attempts_are_used_up_the_next_of_its_group_starts(site: Site) -> None:
    site.failures["a1"] = 100
    await defer(site, "a1", "a2", max_attempts=3, use_exponential_backoff=False)

    statuses = await outcomes(site, 4)

    (item,) = await site.buried()
    assert statuses == ["retried", "retried", "errored", "completed"]
    assert site.started == ["a1", "a1", "a1", "a2"]
    assert (item["error"]["error_type"], item["attempts"]) == ("Broken", 2)


async def test_a_stop_gives_a_resting_group_back_in_order_with_the_rest_of_its_backoff(
    site: Site,
) -> None:
    site.failures["a1"] = 1
    await defer(site, "a1", "a2", "a3")
    async with site.instance.worker() as worker:
        await wait_until(lambda: worker._slots.blocked == 3, "it rests, and two wait behind it")
        await site.pass_time(1)

    early = await site.run()
    await site.pass_time(3.5)
    late = await site.run()

    assert early == []
    assert late == ["completed"] * 3
    assert site.started == ["a1", "a1", "a2", "a3"]


async def test_run_once_hides_the_message_for_its_backoff_and_its_group_waits(site: Site) -> None:
    site.failures["a1"] = 1
    await defer(site, "a1", "a2", "b1")

    first = await site.run()
    await site.pass_time(4)
    second = await site.run()

    assert sorted(first) == ["completed", "retried"]
    assert second == ["completed", "completed"]
    assert of("a", site.started) == ["a1", "a1", "a2"]


async def test_retries_that_rest_leave_room_for_other_groups(site: Site) -> None:
    """What a worker cannot keep goes back to the queue."""
    values = [f"{chr(97 + number)}1" for number in range(16)]
    site.failures = dict.fromkeys(values[:15], 1)
    await defer(site, *values)

    async with site.instance.worker(concurrency=1) as worker:
        for _ in values:
            await worker.next_outcome()
        assert site.ended == values[15:]
        assert worker._slots.blocked == 5
        await wait_until(lambda: not worker._slots.settling, "the others are back in the queue")
        await site.pass_time(5)
        for _ in values[:15]:  # a worker pops no more while nobody reads its outcomes
            await worker.next_outcome()
        assert sorted(site.ended) == values


async def test_a_suspect_at_the_head_of_a_group_runs_alone_and_then_those_behind_it(
    site: Site,
) -> None:
    await defer(site, "a1", "a2", "a3", "b1")
    for _ in range(3):
        await site.backend.queue.pop_batch(1)
        await site.pass_time(VISIBILITY + 1)

    async with site.instance.worker(concurrency=4):
        await wait_until(lambda: len(site.ended) == 4, "all have run")

    assert of("a", site.started) == ["a1", "a2", "a3"]


async def test_none_overtakes_a_message_of_its_group_that_could_not_be_read(
    site: Site,
) -> None:
    """Its lease ends later. Meanwhile those behind it, from the same receive, go back."""
    await defer(site, "a0", "a2", "b1")
    (url,) = (each for each in site._server.queue_urls(site._prefix) if "_error" not in each)
    await site.run()
    site.started.clear()
    site._server.client().send_message(
        QueueUrl=url, MessageBody="no item", MessageGroupId="a", MessageDeduplicationId="1"
    )
    await defer(site, "a2", "b1")
    site.proxy.script("SendMessageBatch", answer(400, "AccessDenied"))

    async with site.instance.worker():
        await wait_until(lambda: site.started == ["b1"], "the other group runs")
        await wait_until(
            lambda: site.proxy.counts["ChangeMessageVisibilityBatch"] == 1, "the other goes back"
        )
    assert site.started == ["b1"]
    await site.pass_time(VISIBILITY + 1)
    await site.run()  # puts it aside, and so has nothing to run
    await site.run()

    assert site.started == ["b1", "a2"]


async def test_visibility_on_a_fifo_queue_keeps_the_order_and_every_attempt(
    sqs_server: SQSServer, proxy: Proxy, sqs_group: str
) -> None:
    async with site_at(
        sqs_server, proxy, f"{sqs_group}.fifo", retry="visibility", max_receive_count=3
    ) as site:
        site.failures = {"a1": 2, "a2": 100}
        await defer(site, "a1", "a2", "a3", use_exponential_backoff=False, max_attempts=3)

        statuses = await outcomes(site, 6)
        await site.pass_time(60)  # whatever a poll of the worker took as it ended comes back
        statuses += await site.run()
        sends = site.proxy.counts["SendMessageBatch"]
        (item,) = await site.buried()

        assert statuses[:3] == ["retried", "retried", "completed"]
        assert statuses[3:] == ["retried", "retried", "errored", "completed"]
        assert site.started == ["a1"] * 3 + ["a2"] * 3 + ["a3"]
        assert sends == 1  # the calls; SQS itself has moved the one that failed
        assert item["error"]["error_type"] == "TooManyDeliveries"


async def test_a_delivery_that_is_faster_than_the_answer_to_its_release_is_run(
    sqs_server: SQSServer, proxy: Proxy, sqs_group: str
) -> None:
    async def answer_late(exchange: Exchange) -> Answer:
        receives = proxy.counts["ReceiveMessage"]
        reply = await forward(exchange)
        # The second one is asked for when the first one's answer has been handed on.
        await wait_until(
            lambda: proxy.counts["ReceiveMessage"] > receives + 1, "it has been received again"
        )
        return reply

    async with site_at(
        sqs_server, proxy, f"{sqs_group}.fifo", retry="visibility", max_receive_count=3
    ) as site:
        site.failures = {"a1": 2}
        await defer(site, "a1", "a2", use_exponential_backoff=False, max_attempts=3)
        proxy.script("ChangeMessageVisibilityBatch", answer_late, times=2)

        statuses = await outcomes(site, 3)

        assert statuses == ["retried", "retried", "completed"]
        assert site.started[:3] == ["a1"] * 3
        assert proxy.is_script_played


async def test_server_that_knows_only_the_older_name_of_attributes_counts_and_groups(
    site: Site,
) -> None:
    """LocalStack and ElasticMQ until May 2024."""

    async def receive_as_before(exchange: Exchange) -> Answer:
        body = exchange.request.body
        return await exchange.forward(
            {name: body[name] for name in body if name != "MessageSystemAttributeNames"}
        )

    await defer(site, "a1")
    site.proxy.script("ReceiveMessage", receive_as_before, times=2)
    ((first, _),) = await site.backend.queue.pop_batch(1)
    await site.backend.queue.release(first)

    ((second, _),) = await site.backend.queue.pop_batch(1)

    assert (second.order_key, second.redeliveries) == ("a", 1)


async def test_behind_sends_the_copy_to_the_end_of_its_group(
    sqs_server: SQSServer, proxy: Proxy, sqs_group: str
) -> None:
    async with site_at(sqs_server, proxy, f"{sqs_group}.fifo") as site:
        site.failures["a1"] = 1
        await defer(site, "a1", "a2", "a3", use_exponential_backoff=False)

        await outcomes(site, 4)

        assert site.started == ["a1", "a2", "a3", "a1"]


async def test_a_reader_sees_all_errors_of_a_group(site: Site) -> None:
    values = [f"a{number:02}" for number in range(12)]
    site.failures = dict.fromkeys(values, 1)
    await defer(site, *values, max_attempts=1)
    await outcomes(site, 12)

    assert len(await site.buried()) == 12


# Creation and deduplication.


async def test_a_fifo_queue_is_created_with_the_high_throughput_of_its_groups(site: Site) -> None:
    for url in site._server.queue_urls(site._prefix):
        attributes = site._server.client().get_queue_attributes(
            QueueUrl=url, AttributeNames=["All"]
        )["Attributes"]
        assert attributes["DeduplicationScope"] == "messageGroup"
        assert attributes["FifoThroughputLimit"] == "perMessageGroupId"


async def test_a_call_with_the_deduplication_id_of_another_one_is_dropped(site: Site) -> None:
    job = site.job()
    for value, name in [("a1", "x"), ("a2", "x"), ("a3", "y"), ("a4", None)]:
        await job.options(deduplication_id=name).later_async(value)

    await site.run()

    assert site.ended == ["a1", "a3", "a4"]


@pytest.mark.parametrize("settings", [{"retry": "behind"}, {"retry": "block"}])
async def test_no_retry_and_no_requeued_error_is_dropped_for_its_deduplication_id(
    site: Site,
) -> None:
    job = site.job(max_attempts=2, use_exponential_backoff=False)
    site.failures["a1"] = 2
    await job.options(deduplication_id="x").later_async("a1")

    statuses = await site.run()
    async for each in site.instance.errors():
        await each.requeue()
    statuses += await site.run()

    assert statuses == ["retried", "errored", "completed"]


async def test_a_queue_that_drops_nothing_refuses_a_deduplication_id(
    sqs_server: SQSServer, proxy: Proxy, sqs_group: str
) -> None:
    site = Site(sqs_server, proxy, sqs_group)

    with pytest.raises(Unsupported, match="deduplication_id='x' is for FIFO queues in SQS"):
        await site.job().options(deduplication_id="x").later_async("a1")


# The model.


class Model(Middleware):
    """Consumers of one FIFO queue that fail, stop and die; and the order that must hold.

    An item of a group never starts before each earlier one of its group has ended: it returned, or
    had all its attempts.
    """

    def __init__(self, site: Site, seed: int) -> None:
        self.site = site
        self.random = random.Random(seed)
        self.values = [
            f"{group}{number}" for group in "abc" for number in range(self.random.randrange(1, 7))
        ]
        site.failures = {
            each: self.random.choice([1, 2, 9])
            for each in self.values
            if self.random.random() < 0.3
        }
        self.over: set[str] = set()
        self.counts = collections.Counter(items=len(self.values))
        site.before = self._check

    async def _check(self, value: str) -> None:
        earlier = [
            each for each in self.values if each[0] == value[0] and int(each[1:]) < int(value[1:])
        ]
        assert self.over.issuperset(earlier), (value, self.site.started)
        if self.random.random() < 0.1:
            raise Retry(after_seconds=self.random.choice([0, 3]), count=False)

    async def defer(self) -> None:
        job = self.site.job(max_attempts=4)
        left = {group: of(group, self.values) for group in "abc"}
        while any(left.values()):
            group = self.random.choice([each for each in left if left[each]])
            await job.options(message_group_id=group).later_async(left[group].pop(0))

    def after_attempt(self, outcome: Any) -> None:
        value = outcome.item["args"][0]
        self.counts["failures"] += outcome.status in ("retried", "errored")
        if outcome.status in ("completed", "errored"):
            self.over.add(value)

    async def consume(self) -> None:
        """A worker that is stopped somewhere."""
        async with self.site.instance.worker(concurrency=3, grace_seconds=0) as worker:
            for _ in range(self.random.randrange(1, 8)):
                await wait_until(self._quiet(worker), "the worker waits")
                await self.site.pass_time(self.random.choice([1, 5]))

    def _quiet(self, worker: Any) -> Any:
        """Whether the worker has asked for more, and nothing runs."""
        asked = self.site.proxy.counts["ReceiveMessage"]

        def is_quiet() -> bool:
            while worker._outcomes.next_unread() is not None:
                pass
            slots = worker._slots
            is_busy = slots.running or slots.buffered or slots.settling
            return not is_busy and self.site.proxy.counts["ReceiveMessage"] >= asked + 2

        return is_quiet

    async def die(self) -> None:
        """A consumer that takes some messages and is killed."""
        async with self.site.another() as backend:
            taken = await backend.queue.pop_batch(self.random.randrange(1, 11))
        self.counts["kills"] += 1
        self.counts["messages of the killed"] += len(taken)

    async def go_on(self) -> None:
        act = self.random.choice([self.consume, self.consume, self.consume, self.die])
        await act()
        await self.site.pass_time(self.random.choice([0, 4, VISIBILITY + 1]))


@pytest.mark.parametrize("seed", range(sized(2, 20)))
async def test_no_group_loses_its_order_by_failures_stops_and_kills(site: Site, seed: int) -> None:
    site.instance = Deferrable(site.another(), serializer="json")
    model = Model(site, seed)
    site.instance.register_middleware(model)
    await model.defer()

    await model.die()
    for _ in range(60):
        await model.go_on()
        if model.over.issuperset(model.values):
            break

    buried = [item["args"][0] for item in await site.buried()]
    assert sorted([*{*site.ended}, *buried]) == sorted(model.values)
    for group in "abc":
        ended = of(group, site.ended)
        assert ended == sorted(ended)
    print("order:", {"groups": 3, **model.counts})  # shown with -s
    await site.instance.backend.close()
