"""What happens to messages in an error queue that the console's redrive moves back.

``nox -s sqs-redrives`` runs this on LocalStack, which has ``StartMessageMoveTask``.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest
from sqs_proxy import Proxy
from sqs_redrive import move_task, redrive
from sqs_server import REGION, SQSServer
from sqs_site import Site, site_at

from deferrable.aio.backend.sqs import ForeignMessage, S3Store
from deferrable.aio.backend.sqs._reading import Source, buried_by_sqs

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("standing_time")]

VISIBILITY = 2
RAW = "no item of this library " * 20

Redrive = Callable[[], int]
Queues = tuple[str, str]


@pytest.fixture
def end() -> str:
    """The end of the names of the queues."""
    return ""


@pytest.fixture
def settings() -> dict[str, Any]:
    return {}


@pytest.fixture
def queues(sqs_group: str, end: str) -> Queues:
    """The names of the error queue and of its main queue."""
    return (f"deferrable_{sqs_group}_error{end}", f"deferrable_{sqs_group}{end}")


@pytest.fixture
def redriven(sqs_server: SQSServer, queues: Queues) -> Redrive:
    """Moves what is in the error queue to the main queue; returns how many messages it were."""
    return partial(redrive, sqs_server, *queues)


@pytest.fixture
async def site(
    sqs_server: SQSServer,
    proxy: Proxy,
    sqs_group: str,
    end: str,
    settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Site]:
    sqs_server.set_environment(monkeypatch)
    settings = {"visibility_timeout": VISIBILITY, **settings}
    async with site_at(sqs_server, proxy, f"{sqs_group}{end}", **settings) as site:
        yield site


@pytest.fixture
def bucket(sqs_server: SQSServer, sqs_group: str) -> Iterator[str]:
    s3, name = sqs_server.client("s3"), f"deferrable-{sqs_group[-32:]}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    yield name
    assert keys_in(sqs_server, name) == []
    s3.delete_bucket(Bucket=name)


def keys_in(server: SQSServer, bucket: str) -> list[str]:
    listed = server.client("s3").list_objects_v2(Bucket=bucket)
    return [each["Key"] for each in listed.get("Contents", ())]


def send(server: SQSServer, queue: str, body: str) -> None:
    """Send a message as another program does."""
    url = server.client().get_queue_url(QueueName=queue)["QueueUrl"]
    server.client().send_message(QueueUrl=url, MessageBody=body)


async def buried(site: Site) -> list[dict[str, Any]]:
    """What is in the error queue. Then its leases end, so that it can be moved."""
    items = await site.buried()
    await site.pass_time(VISIBILITY)
    return items


async def bury(site: Site, **options: Any) -> None:
    """Have an item in the error queue whose next run succeeds."""
    site.failures["a"] = 1
    await site.job(max_attempts=1, **options).later_async("a")
    assert await site.run() == ["errored"]


# Items that this library has buried.


@pytest.mark.parametrize("end", ["", ".fifo"])
async def test_item_without_attempts_runs_once_more_and_returns_if_it_fails(
    site: Site, redriven: Redrive
) -> None:
    site.failures["a"] = 3
    await site.job(max_attempts=2, use_exponential_backoff=False).later_async("a")
    assert await site.run() == ["retried", "errored"]

    assert redriven() == 1
    assert await site.run() == ["errored"]

    assert redriven() == 1
    assert await site.run() == ["completed"]
    assert await site.buried() == []


async def test_item_with_attempts_left_has_them_and_its_retry_forgets_the_old_error(
    site: Site, redriven: Redrive
) -> None:
    async def refuse(value: object) -> None:
        raise KeyError(value)

    site.before = refuse
    await site.job(max_attempts=2, use_exponential_backoff=False).later_async("a")
    assert await site.run() == ["errored"]
    site.before = None
    site.failures["a"] = 1

    assert redriven() == 1

    first = await site.instance.run_once()
    second = await site.instance.run_once()
    assert first is not None
    assert second is not None
    assert (first.status, second.status) == ("retried", "completed")
    assert "error" in first.item
    assert "error" not in second.item


async def test_ttl_does_not_restart(site: Site, redriven: Redrive) -> None:
    await bury(site, ttl_seconds=60)
    site.clock.advance(61)

    assert redriven() == 1

    assert await site.run() == ["expired"]
    assert (site.started, await site.buried()) == (["a"], [])


# Messages that SQS itself has moved there.


@pytest.mark.parametrize("settings", [{"retry": "visibility", "max_receive_count": 2}])
async def test_message_that_sqs_moved_goes_back_to_its_source_and_runs_again(
    site: Site, redriven: Redrive
) -> None:
    site.failures["a"] = 2
    await site.job(max_attempts=5, use_exponential_backoff=False).later_async("a")
    assert await site.run() == ["retried", "errored"]
    await site.pass_time(1)
    assert await site.run() == []  # this receive moves it
    (item,) = await buried(site)
    assert item["error"]["error_type"] == "TooManyDeliveries"

    assert redriven() == 1

    assert await site.run() == ["completed"]


def test_item_that_sqs_moved_after_a_redrive_shows_that_error_and_not_its_old_one() -> None:
    moved = {"DeadLetterQueueSourceArn": "arn:aws:sqs:eu-west-1:123456789012:main"}
    item = {"id": "a", "error": {"error_type": "KeyError"}}

    source = Source("", "behind", 20)
    shown = buried_by_sqs(item, {"MessageId": "b", "Attributes": moved}, source, 0.0)

    assert shown["error"]["error_type"] == "TooManyDeliveries"
    assert "from main" in shown["error"]["error_text"]
    assert buried_by_sqs(item, {"MessageId": "b"}, source, 0.0) == item


async def test_redrive_to_the_source_fails_at_what_this_library_has_buried(
    sqs_server: SQSServer, site: Site, queues: Queues
) -> None:
    if not sqs_server.has_move_tasks:
        return  # such a task is all that this is about
    await bury(site)

    task = move_task(sqs_server, queues[0], None)

    assert (task["Status"], task["ApproximateNumberOfMessagesMoved"]) == ("FAILED", 0)
    await site.pass_time(VISIBILITY)
    assert len(await site.buried()) == 1


# Messages that hold no item.


@pytest.mark.parametrize("settings", [{}, {"compress_over_bytes": 100}])
async def test_message_that_nobody_can_read_returns_as_it_was(
    sqs_server: SQSServer, site: Site, queues: Queues, redriven: Redrive
) -> None:
    send(sqs_server, queues[1], RAW)
    assert await site.run() == []
    (first,) = await buried(site)

    assert redriven() == 1

    assert await site.run() == []
    (second,) = await site.buried()
    assert first["raw"] == second["raw"] == RAW
    assert first["error"]["error_text"] == second["error"]["error_text"]


class TestForeign:
    """A queue whose messages of others go to a function that is corrected later."""

    @pytest.fixture
    def seen(self) -> list[str]:
        return []

    @pytest.fixture(params=[None, 100])
    def settings(self, seen: list[str], request: pytest.FixtureRequest) -> dict[str, Any]:
        def note(message: ForeignMessage) -> Any:
            seen.append(message.text)
            return [] if len(seen) > 1 else None

        return {"foreign": note, "compress_over_bytes": request.param}

    @pytest.mark.parametrize("how", ["redrive", "requeue"])
    async def test_it_gets_the_message_again_as_it_was(
        self,
        sqs_server: SQSServer,
        site: Site,
        queues: Queues,
        redriven: Redrive,
        seen: list[str],
        how: str,
    ) -> None:
        send(sqs_server, queues[1], RAW)
        assert await site.run() == []

        if how == "redrive":
            assert redriven() == 1
        else:
            async for entry in site.instance.errors():
                await entry.requeue()

        assert await site.run() == []
        assert seen == [RAW, RAW]
        assert await site.buried() == []

    @pytest.mark.parametrize(
        "body",
        [
            '{"raw":"x","order":17}',
            '{"raw":"x"}',
            '{"raw":"x","error":"of another program"}',
            '{"raw":"x","error":{"code":5}}',
            '{"raw":"x","last_push_time":"noon"}',
        ],
    )
    async def test_other_programs_may_have_a_field_raw(
        self, sqs_server: SQSServer, site: Site, queues: Queues, seen: list[str], body: str
    ) -> None:
        send(sqs_server, queues[1], body)

        await site.run()

        assert seen == [body]


class TestInS3:
    """A queue whose bodies are all in S3."""

    @pytest.fixture(params=[False, True])
    def settings(self, bucket: str, request: pytest.FixtureRequest) -> dict[str, Any]:
        store = S3Store(bucket, extended_client=request.param)
        return {"large_items": store, "offload_over_bytes": 0}

    async def test_an_item_stays_there_until_it_completes(
        self, sqs_server: SQSServer, site: Site, bucket: str, redriven: Redrive
    ) -> None:
        await bury(site)
        assert redriven() == 1

        assert await site.run() == ["completed"]

        assert keys_in(sqs_server, bucket) == []

    async def test_a_message_that_nobody_can_read_returns_as_it_was(
        self,
        sqs_server: SQSServer,
        site: Site,
        bucket: str,
        queues: Queues,
        redriven: Redrive,
    ) -> None:
        send(sqs_server, queues[1], RAW)
        assert await site.run() == []
        assert redriven() == 1

        assert await site.run() == []

        async for entry in site.instance.errors():
            assert entry.item["raw"] == RAW
            await entry.discard()
        assert keys_in(sqs_server, bucket) == []
