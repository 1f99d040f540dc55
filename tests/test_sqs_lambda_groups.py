"""Message groups of a batch that AWS Lambda hands over."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqs_proxy import Proxy, answer
from sqs_server import SQSServer
from sqs_site import Site, site_at
from test_sqs_lambda import _record as record

from deferrable.aio._contract.handed import Handed
from deferrable.aio._engine.handed_order import HandedOrder
from deferrable.errors import InvalidOptions

MESSAGES = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=12)


class Batch:
    """Messages that are run in the order that `HandedOrder` allows, several at once."""

    def __init__(self, messages: Sequence[tuple[str, bool]], **order: Any) -> None:
        self.done: set[str] = set()
        self.started: list[str] = []
        self.running: list[Handed] = []
        self.most_at_once = 0
        self.is_ordered = order["is_ordered"]
        self.succeeds = {f"{group}{i}": works for i, (group, works) in enumerate(messages)}
        handed = [Handed(name, None, self._is_done(name), name[0]) for name in self.succeeds]
        self.order = HandedOrder(handed, **order)

    def _is_done(self, name: str) -> Callable[[], bool]:
        return lambda: name in self.done

    def run(self, draw: random.Random) -> None:
        while self.order.has_next() or self.running:
            if self.order.has_next() and draw.random() < 0.7:
                handed = self.order.take()
                self.started.append(handed.name)
                self.running.append(handed)
                self.most_at_once = max(self.most_at_once, len(self.running))
                groups = [each.name[0] for each in self.running]
                assert not self.is_ordered or len({*groups}) == len(groups)
            elif self.running:
                ended = self.running.pop(draw.randrange(len(self.running)))
                if self.succeeds[ended.name]:
                    self.done.add(ended.name)
                self.order.end(ended)


def until_a_failure(names: Sequence[str], succeeds: dict[str, bool]) -> list[str]:
    """Those that run, one after another, up to the first that fails."""
    for index, name in enumerate(names):
        if not succeeds[name]:
            return [*names[: index + 1]]
    return [*names]


@given(MESSAGES, st.randoms(use_true_random=False))
def test_after_a_failure_only_the_rest_of_its_group_does_not_run(
    messages: list[tuple[str, bool]], draw: random.Random
) -> None:
    batch = Batch(messages, is_ordered=True, failure_stops="group")
    batch.run(draw)

    for group in "abc":
        names = [name for name in batch.succeeds if name[0] == group]
        started = [name for name in batch.started if name[0] == group]
        assert started == until_a_failure(names, batch.succeeds)


@given(MESSAGES, st.randoms(use_true_random=False))
def test_without_the_option_a_batch_runs_one_by_one_up_to_the_first_failure(
    messages: list[tuple[str, bool]], draw: random.Random
) -> None:
    batch = Batch(messages, is_ordered=True, failure_stops="batch")
    batch.run(draw)

    assert batch.started == until_a_failure([*batch.succeeds], batch.succeeds)
    assert batch.most_at_once <= 1


@given(MESSAGES, st.randoms(use_true_random=False))
def test_a_queue_without_order_runs_every_message(
    messages: list[tuple[str, bool]], draw: random.Random
) -> None:
    batch = Batch(messages, is_ordered=False, failure_stops="batch")
    batch.run(draw)

    assert batch.started == [*batch.succeeds]


# With an SQS.


@pytest.fixture
async def site(sqs_server: SQSServer, proxy: Proxy, sqs_group: str) -> AsyncIterator[Site]:
    settings = {"retry": "block", "max_receive_count": 1000}
    async with site_at(sqs_server, proxy, f"{sqs_group}.fifo", **settings) as site:
        yield site


class Lambda:
    """Receives, calls the function, and deletes what it does not report."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.client = site._server.client()
        urls = site._server.queue_urls(site._prefix)
        (self.url,) = (each for each in urls if not each.endswith("_error.fifo"))

    async def call(self, **options: Any) -> list[str]:
        """One event. Return the messages that were reported."""
        event = self.event()
        return await self.answer(event, **options)

    def event(self) -> dict[str, Any]:
        messages = self.client.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, AttributeNames=["All"], VisibilityTimeout=30
        ).get("Messages", [])
        return {"Records": [record(each, self.url.rpartition("/")[2]) for each in messages]}

    async def answer(self, event: dict[str, Any], **options: Any) -> list[str]:
        result = await self.site.instance.handle_sqs_event(event, None, **options)
        reported = [each["itemIdentifier"] for each in result["batchItemFailures"]]
        for each in event["Records"]:
            if each["messageId"] not in reported:
                self.client.delete_message(QueueUrl=self.url, ReceiptHandle=each["receiptHandle"])
        return reported


async def defer(site: Site, *values: str, **options: Any) -> None:
    """Calls whose group is the first letter of their argument."""
    job = site.job(max_attempts=100, use_exponential_backoff=False, **options)
    for each in values:
        await job.options(message_group_id=each[0]).later_async(each)


def of(group: str, values: Sequence[str]) -> list[str]:
    return [each for each in values if each[0] == group]


@pytest.mark.anyio
@pytest.mark.usefixtures("standing_time")
async def test_no_group_loses_its_order_by_failures(site: Site) -> None:
    draw = random.Random(7)
    values = [f"{draw.choice('abc')}{number:02}" for number in range(20)]
    site.failures = {each: draw.choice([0, 0, 1, 2]) for each in values}
    site.before = lambda value: asyncio.sleep(0)
    await defer(site, *values)
    calls = Lambda(site)

    for _ in range(60):
        await calls.call(failure_stops="group")
        await site.pass_time(31)
        if len(site.ended) == len(values):
            break

    assert {group: of(group, site.ended) for group in "abc"} == {
        group: of(group, values) for group in "abc"
    }


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("options", "started"),
    [({}, ["a1"]), ({"failure_stops": "group", "concurrency": 1}, ["a1", "b1", "c1", "b2"])],
)
async def test_other_groups_of_the_batch_run_on_if_this_is_wanted(
    site: Site, options: dict[str, Any], started: list[str]
) -> None:
    site.failures = {"a1": 1}
    await defer(site, "a1", "a2", "b1", "b2", "c1")
    calls = Lambda(site)
    event = calls.event()
    ids = [each["messageId"] for each in event["Records"]]

    reported = await calls.answer(event, **options)

    assert site.started == started
    assert reported == (ids[:2] if options else ids)


@pytest.mark.anyio
async def test_unreadable_message_that_comes_back_holds_its_group(site: Site) -> None:
    await defer(site, "a1", "a2", "a3", "b1")
    calls = Lambda(site)
    event = calls.event()
    event["Records"][1]["body"] = "no item"
    site.proxy.script("SendMessageBatch", answer(403, "AccessDenied"), times=20)

    reported = await calls.answer(event, failure_stops="group")

    assert sorted(site.ended) == ["a1", "b1"]
    assert reported == [each["messageId"] for each in event["Records"][1:3]]


@pytest.mark.anyio
@pytest.mark.parametrize("value", ["message", None, True])
async def test_an_unknown_extent_is_refused(site: Site, value: Any) -> None:
    with pytest.raises(InvalidOptions, match="failure_stops is 'batch' or 'group', got"):
        await site.instance.handle_sqs_event({"Records": []}, None, failure_stops=value)
