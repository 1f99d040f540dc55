"""Ways in which a failed item comes back on SQS: a copy, or the message itself."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqs_proxy import Answer, Exchange, Proxy, answer
from sqs_server import SQSServer
from sqs_site import Site, site_at
from test_sqs_lambda import _record as record

from deferrable import Retry
from deferrable.aio import Deferrable, current_attempt
from deferrable.aio.backend import SQSBackendFactory
from deferrable.errors import InvalidOptions
from deferrable.testing import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("standing_time")]


@pytest.fixture
async def site(sqs_server: SQSServer, proxy: Proxy, sqs_group: str) -> AsyncIterator[Site]:
    async with site_at(sqs_server, proxy, sqs_group, retry="visibility") as site:
        yield site


async def moments(site: Site, seconds: int) -> list[float]:
    """When the job started, counted from now, while that many seconds pass."""
    begin, times = site.clock.time(), []
    for _ in range(seconds):
        known = len(site.started)
        await site.run()
        times += [site.clock.time() - begin] * (len(site.started) - known)
        await site.pass_time(1)
    return times


@pytest.mark.usefixtures("exact_time")
async def test_the_same_message_comes_back_after_its_backoff_and_no_copy_is_sent(
    site: Site,
) -> None:
    await site.job(max_attempts=5).later_async("a")
    site.failures["a"] = 3
    site.proxy.requests.clear()

    times = await moments(site, 25)

    assert times == [0, 4, 10, 20]
    assert site.ended == ["a"]
    assert site.proxy.counts["SendMessageBatch"] == 0
    assert site.proxy.counts["ChangeMessageVisibilityBatch"] == 3
    assert site.proxy.counts["DeleteMessageBatch"] == 1


async def test_a_touch_that_is_under_way_does_not_replace_the_backoff(site: Site) -> None:
    hidden: list[int] = []

    async def note(exchange: Exchange) -> Answer:
        reply = await exchange.forward()
        hidden.extend(each["VisibilityTimeout"] for each in exchange.request.entries)
        return reply

    async def note_late(exchange: Exchange) -> Answer:
        await asyncio.sleep(0.2)
        return await note(exchange)

    queue = site.backend.queue
    await site.job().later_async("a")
    ((envelope, _),) = await queue.pop_batch(1)
    site.proxy.script("ChangeMessageVisibilityBatch", note_late, note)
    touching = asyncio.create_task(queue.touch(envelope, 30))
    await wait_until(lambda: bool(site.proxy.sent("ChangeMessageVisibilityBatch")), "it is sent")

    await queue.release(envelope, 600)
    await touching

    assert hidden == [30, 600]


async def test_the_job_sees_which_attempt_it_is(site: Site) -> None:
    numbers: list[int] = []

    async def note(value: object) -> None:
        numbers.append(current_attempt().number)

    site.before = note
    await site.job(max_attempts=5).later_async("a")
    site.failures["a"] = 2

    await moments(site, 12)

    assert numbers == [1, 2, 3]


async def test_after_the_last_attempt_sqs_itself_moves_it_to_the_error_queue(site: Site) -> None:
    await site.job(max_attempts=5).later_async("a")
    site.failures["a"] = 100

    await moments(site, 60)
    (url,) = (each for each in site._server.queue_urls(site._prefix) if each.endswith("_error"))
    (message,) = site._server.client().receive_message(
        QueueUrl=url, VisibilityTimeout=0, MessageSystemAttributeNames=["All"]
    )["Messages"]
    await site.pass_time(1)
    (item,) = await site.buried()

    assert site.started == ["a"] * 5
    assert site.proxy.counts["SendMessageBatch"] == 1  # the call itself
    assert "error" not in json.loads(message["Body"])
    assert item["error"]["error_type"] == "TooManyDeliveries"


async def test_the_last_attempt_ends_with_errored_and_its_events(site: Site) -> None:
    events: list[str] = []

    class Events:
        def on_retry(self, item: Any) -> None:
            events.append(f"retry {item['attempts']}")

        def on_error(self, item: Any) -> None:
            events.append(f"error {item['attempts']} {item['error']['error_type']}")

        def on_complete(self, item: Any) -> None:
            events.append("complete")

    site.instance.register_event_consumer(Events())
    await site.job(max_attempts=5, use_exponential_backoff=False).later_async("a")
    site.failures["a"] = 100

    statuses = await site.run()

    assert statuses == ["retried"] * 4 + ["errored"]
    assert events[:2] == ["retry 1", "complete"]
    assert events[-2:] == ["error 4 Broken", "complete"]


async def test_fewer_attempts_than_the_policy_allows_end_with_the_error_of_the_job(
    site: Site,
) -> None:
    await site.job(max_attempts=2, use_exponential_backoff=False).later_async("a")
    site.failures["a"] = 100

    statuses = await site.run()

    (item,) = await site.buried()
    assert statuses == ["retried", "errored"]
    assert item["error"]["error_type"] == "Broken"
    assert item["attempts"] == 1


async def test_the_policy_ends_a_job_that_may_have_more_attempts(site: Site) -> None:
    await site.job(max_attempts=50, use_exponential_backoff=False).later_async("a")
    site.failures["a"] = 100

    statuses = await site.run()

    assert statuses == ["retried"] * 4 + ["errored"]
    assert len(await site.buried()) == 1


async def test_an_error_that_is_not_retried_is_buried_with_its_record_at_once(site: Site) -> None:
    @site.instance.deferrable(name="other")
    async def other() -> None:
        raise ValueError("never again")

    await other.later_async()

    assert await site.run() == ["errored"]
    (item,) = await site.buried()
    assert item["error"]["error_type"] == "ValueError"


async def test_a_queue_with_another_policy_than_said_runs_it_once_more_and_loses_nothing(
    site: Site,
) -> None:
    await site.job(max_attempts=3, use_exponential_backoff=False).later_async("a")
    site.failures["a"] = 100
    other = Site(site._server, site.proxy, site._group, retry="visibility", max_receive_count=3)
    async with other.backend:
        other.job(max_attempts=3)
        other.failures["a"] = 100

        statuses = await other.run()

    (item,) = await site.buried()
    assert statuses == ["retried", "retried", "errored", "errored"]
    assert item["error"]["error_type"] == "Broken"


async def test_a_signed_item_is_retried_though_its_message_does_not_change(site: Site) -> None:
    instance = Deferrable(site.backend, signing_keys=["a key of thirty-two characters..."])
    await site.job_of(instance, use_exponential_backoff=False, max_attempts=3).later_async("a")
    site.failures["a"] = 100

    statuses = []
    while (outcome := await instance.run_once()) is not None:
        statuses.append(outcome.status)
    requeued = [await each.requeue() async for each in instance.errors()]

    assert statuses == ["retried", "retried", "errored"]
    assert len(requeued) == 1
    assert (await site.backend.queue.stats())["available"] == 1


async def test_what_visibility_cannot_do_is_done_by_a_copy(site: Site) -> None:
    """It ends after twelve hours, and every receive counts."""
    retries = [Retry(after_seconds=20 * 3600), *[Retry(0, count=False) for _ in range(9)]]

    async def ask(value: object) -> None:
        if retries:
            raise retries.pop(0)

    site.before = ask
    await site.job(max_attempts=2).later_async("a")
    site.proxy.requests.clear()

    statuses = await site.run()
    for _ in range(10):
        assert site.started == ["a"]
        await site.pass_time(2 * 3600)
        statuses = await site.run()

    assert [*statuses] == ["retried"] * 9 + ["completed"]


async def test_a_worker_does_not_run_retries_alone(site: Site) -> None:
    """It cannot know them from crashes, so it isolates nobody here."""
    job = site.job(use_exponential_backoff=False)
    for value in range(4):
        site.failures[value] = 3
    await job.later_many_async([(value,) for value in range(4)])

    async with site.instance.worker(concurrency=4) as worker:
        for _ in range(16):
            await worker.next_outcome()

    assert sorted(site.ended) == [0, 1, 2, 3]


def test_block_needs_groups() -> None:
    factory = SQSBackendFactory(retry="block", region_name="eu-west-1")

    with pytest.raises(InvalidOptions, match=r'retry="block".*end its name in "\.fifo"'):
        factory.create_backend_for_group("orders")


@pytest.mark.parametrize("value", ["copy", "", None, 1])
def test_an_unknown_way_is_refused(value: Any) -> None:
    with pytest.raises(InvalidOptions, match="retry is one of 'behind', 'block', 'visibility'"):
        SQSBackendFactory(retry=value)


# Lambda.


async def hand_over(site: Site) -> dict[str, Any]:
    """What Lambda would hand over: it has received what is there."""
    (url,) = (each for each in site._server.queue_urls(site._prefix) if "_error" not in each)
    messages = site._server.client().receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"], VisibilityTimeout=300
    )["Messages"]
    return {"Records": [record(each, url.rpartition("/")[2]) for each in messages]}


async def test_lambda_hides_a_failed_message_for_its_backoff_and_reports_it(site: Site) -> None:
    site.failures["a"] = 1
    await site.job().later_async("a")

    first = await site.instance.handle_sqs_event(await hand_over(site), None)
    await site.pass_time(4)
    second = await site.instance.handle_sqs_event(await hand_over(site), None)

    assert len(first["batchItemFailures"]) == 1
    assert second["batchItemFailures"] == []
    assert site.ended == ["a"]
    assert site.proxy.counts["ChangeMessageVisibilityBatch"] == 1


async def test_lambda_reports_a_failed_message_that_it_may_not_hide(site: Site) -> None:
    site.failures["a"] = 1
    await site.job().later_async("a")
    event = await hand_over(site)
    site.proxy.script("ChangeMessageVisibilityBatch", answer(403, "AccessDenied"))

    reported = await site.instance.handle_sqs_event(event, None)

    assert len(reported["batchItemFailures"]) == 1
