"""Items over the limit of an SQS message: kept in S3, and gone from there once completed."""

import random
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from sqs_proxy import Answer, Exchange, Proxy, answer, proxy_to
from sqs_server import REGION, SQSServer

from deferrable.aio import Deferrable
from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.sqs import SQSBackendFactory
from deferrable.aio.backend.sqs._s3_store import S3Store
from deferrable.errors import BackendError, InvalidOptions, ItemTooLarge, UnreadableItem
from deferrable.outcome import Outcome
from deferrable.testing import wait_until

pytestmark = pytest.mark.anyio

MakeStore = Callable[..., S3Store]


@pytest.fixture(scope="module")
def s3(sqs_server: SQSServer) -> Any:
    """A blocking client, for looking at what is there."""
    return sqs_server.client("s3")


@pytest.fixture
def bucket(s3: Any) -> Iterator[str]:
    """A bucket of this test."""
    name = f"deferrable-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    yield name
    for key in keys_in(s3, name):
        s3.delete_object(Bucket=name, Key=key)
    s3.delete_bucket(Bucket=name)


@pytest.fixture(autouse=True)
def _environment(sqs_server: SQSServer, monkeypatch: pytest.MonkeyPatch) -> None:
    sqs_server.set_environment(monkeypatch)


@pytest.fixture
def proxy(sqs_server: SQSServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy to S3, which the environment names instead."""
    with proxy_to(sqs_server.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        yield proxy


def keys_in(s3: Any, bucket: str) -> list[str]:
    return [each["Key"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", ())]


@pytest.fixture
async def make_store() -> AsyncIterator[MakeStore]:
    """Makes stores, and closes them."""
    stores: list[S3Store] = []

    def make(*args: Any, **kwargs: Any) -> S3Store:
        stores.append(S3Store(*args, **kwargs))
        return stores[-1]

    yield make
    for store in stores:
        await store.leave(make)


# The store.


@pytest.mark.parametrize(
    ("prefix", "folder"), [("", ""), ("jobs", "jobs/"), ("/a/b/", "a/b/"), ("é b", "é b/")]
)
async def test_body_is_kept_under_the_prefix_until_it_is_deleted(
    s3: Any, bucket: str, prefix: str, folder: str, make_store: MakeStore
) -> None:
    store = make_store(bucket, prefix)

    reference = await store.put("body")
    (key,) = keys_in(s3, bucket)
    body = await store.get(reference)
    await store.delete(reference)

    assert reference == f"s3://{bucket}/{key}"
    assert re.fullmatch(rf"{folder}[0-9a-f-]{{36}}", key)
    assert body == "body"
    assert keys_in(s3, bucket) == []


async def test_client_that_is_lent_says_where_the_store_is(
    sqs_server: SQSServer,
    bucket: str,
    s3: Any,
    monkeypatch: pytest.MonkeyPatch,
    make_store: MakeStore,
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    store = make_store(bucket, s3_connection=s3)

    assert await store.get(await store.put("body")) == "body"


async def test_body_that_is_gone_is_unreadable(bucket: str, make_store: MakeStore) -> None:
    store = make_store(bucket)
    reference = await store.put("body")
    await store.delete(reference)

    with pytest.raises(UnreadableItem, match=r"does not exist any more: .* lifecycle rule"):
        await store.get(reference)


async def test_store_neither_reads_nor_deletes_what_it_did_not_keep(
    s3: Any, bucket: str, proxy: Proxy, caplog: pytest.LogCaptureFixture, make_store: MakeStore
) -> None:
    s3.put_object(Bucket=bucket, Key="secrets", Body=b"{}")
    elsewhere = await make_store(bucket, "other").put("body")
    store = make_store(bucket)
    others = [f"s3://{bucket}/secrets", elsewhere, f"s3://{bucket}/../{uuid.uuid4()}", "s3://"]
    proxy.requests.clear()

    for reference in others:
        with pytest.raises(UnreadableItem, match="was not stored by"):
            await store.get(reference)
        await store.delete(reference)

    assert proxy.requests == []
    assert len(keys_in(s3, bucket)) == 2


async def test_body_that_is_no_text_is_unreadable(
    s3: Any, bucket: str, make_store: MakeStore
) -> None:
    store = make_store(bucket)
    reference = await store.put("body")
    s3.put_object(Bucket=bucket, Key=keys_in(s3, bucket)[0], Body="é".encode("latin-1"))

    with pytest.raises(UnreadableItem, match="does not hold text"):
        await store.get(reference)


async def test_object_over_the_limit_is_not_read(
    s3: Any, bucket: str, monkeypatch: pytest.MonkeyPatch, make_store: MakeStore
) -> None:
    monkeypatch.setattr("deferrable.aio.backend.sqs._s3_store.MAX_TEXT_BYTES", 3)
    store = make_store(bucket)
    reference = await store.put("body")

    with pytest.raises(UnreadableItem, match="has 4 bytes, and at most 3 are read"):
        await store.get(reference)


async def test_request_that_may_pass_is_sent_again(
    bucket: str, proxy: Proxy, make_store: MakeStore
) -> None:
    store = make_store(bucket)
    for method in ("PUT", "GET", "DELETE"):
        proxy.script(method, answer(503, "SlowDown", is_html=True))

    reference = await store.put("body")
    body = await store.get(reference)
    await store.delete(reference)

    assert body == "body"
    assert proxy.is_script_played
    assert proxy.counts == {"PUT": 2, "GET": 2, "DELETE": 2}


async def test_delete_that_fails_is_logged_and_changes_nothing(
    bucket: str, proxy: Proxy, caplog: pytest.LogCaptureFixture, make_store: MakeStore
) -> None:
    store = make_store(bucket)
    reference = await store.put("body")
    proxy.script("DELETE", answer(403, "AccessDenied"))

    await store.delete(reference)

    assert f"{reference} of a completed item could not be deleted" in caplog.text
    assert await store.get(reference) == "body"


async def test_bucket_that_is_not_there_is_named(
    sqs_server: SQSServer, make_store: MakeStore
) -> None:
    with pytest.raises(BackendError, match=r"PutObject on s3://deferrable-none/.* NoSuchBucket"):
        await make_store("deferrable-none").put("body")


@pytest.mark.parametrize("bucket", ["", "a/b", None, 5])
def test_bucket_without_a_name_is_refused(bucket: Any) -> None:
    with pytest.raises(InvalidOptions, match="bucket is the name of an S3 bucket"):
        S3Store(bucket)


# Items.

LARGE = "é" * 450_000
"""1,200,000 bytes as it travels, in 450,000 characters."""


@pytest.fixture
async def backend(
    sqs_server: SQSServer,
    sqs_group: str,
    bucket: str,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Backend]:
    """A backend behind the proxy, with a store behind it, too."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", proxy.url)
    factory = SQSBackendFactory(
        visibility_timeout=2, wait_time=1, large_items=S3Store(bucket, "large")
    )
    async with factory.create_backend_for_group(sqs_group) as backend:
        yield backend


def instance_on(backend: Backend) -> Deferrable:
    return Deferrable(backend, default_error_classes=[ValueError])


async def run(instance: Deferrable) -> Outcome:
    """`run_once` until there was something."""
    outcome: Outcome | None = None
    while outcome is None:
        outcome = await instance.run_once()
    return outcome


async def test_large_item_travels_by_s3_and_is_gone_once_completed(
    backend: Backend, proxy: Proxy, s3: Any, bucket: str
) -> None:
    instance = instance_on(backend)
    job = instance.deferrable(name="job")(len)

    await job.later_async(LARGE)
    kept = keys_in(s3, bucket)
    outcome = await run(instance)

    assert outcome.result == len(LARGE)
    assert [key.rpartition("/")[0] for key in kept] == ["large"]
    assert keys_in(s3, bucket) == []
    (sent,) = proxy.sent("SendMessageBatch")
    assert sent.entries[0]["MessageBody"] == f"s3://{bucket}/{kept[0]}"
    actions = [request.action for request in proxy.requests]
    assert actions.index("PUT") < actions.index("SendMessageBatch")
    assert actions.index("DeleteMessageBatch") < actions.index("DELETE")


async def test_small_item_travels_as_ever(backend: Backend, proxy: Proxy) -> None:
    instance = instance_on(backend)
    job = instance.deferrable(name="job")(len)

    await job.later_async("small")
    await run(instance)

    assert not set(proxy.counts) & {"PUT", "GET", "DELETE"}


async def test_large_items_of_a_batch_go_to_s3_and_back_side_by_side(
    backend: Backend, proxy: Proxy, s3: Any, bucket: str
) -> None:
    count = 3

    async def wait_for_the_others(exchange: Exchange) -> Answer:
        action = exchange.request.action
        await wait_until(lambda: proxy.most_at_once[action] == count, f"there are {count} {action}")
        return await exchange.forward()

    for method in ("PUT", "GET", "DELETE"):
        proxy.script(method, wait_for_the_others, times=count)
    items = [{"id": str(number), "text": LARGE} for number in range(count)]

    pushed = await backend.queue.push_each(items)
    popped = await backend.queue.pop_batch(10)
    while len(popped) < count:
        popped += await backend.queue.pop_batch(10)
    await backend.queue.complete_batch([envelope for envelope, _ in popped])

    assert pushed == [None] * count
    assert sorted(item["id"] for _, item in popped) == ["0", "1", "2"]
    assert proxy.is_script_played
    assert keys_in(s3, bucket) == []


async def test_retry_of_a_large_item_is_kept_before_the_first_is_deleted(
    backend: Backend, proxy: Proxy, s3: Any, bucket: str
) -> None:
    instance = instance_on(backend)
    runs: list[int] = []

    @instance.deferrable(name="job", use_exponential_backoff=False)
    def job(text: str) -> None:
        runs.append(len(text))
        if len(runs) == 1:
            raise ValueError

    await job.later_async(LARGE)
    first = await run(instance)
    second = await run(instance)

    assert (first.status, second.status) == ("retried", "completed")
    assert runs == [len(LARGE)] * 2
    assert keys_in(s3, bucket) == []
    actions = [each.action for each in proxy.requests if each.action in ("PUT", "DELETE")]
    assert actions == ["PUT", "PUT", "DELETE", "DELETE"]


async def test_error_of_a_large_item_is_kept_whole_and_runs_again_when_requeued(
    backend: Backend, s3: Any, bucket: str
) -> None:
    instance = instance_on(backend)
    runs: list[int] = []

    @instance.deferrable(name="job")
    def job(text: str) -> None:
        runs.append(len(text))
        if len(runs) == 1:
            raise KeyError

    await job.later_async(LARGE)
    await run(instance)
    kept = keys_in(s3, bucket)
    async for error in instance.errors():
        await error.requeue()
    await run(instance)

    assert len(kept) == 1
    assert runs == [len(LARGE)] * 2
    assert keys_in(s3, bucket) == []


async def test_message_whose_object_is_gone_goes_to_the_error_queue(
    backend: Backend, s3: Any, bucket: str
) -> None:
    instance = instance_on(backend)
    job = instance.deferrable(name="job")(len)
    await job.later_async(LARGE)
    (key,) = keys_in(s3, bucket)
    s3.delete_object(Bucket=bucket, Key=key)

    outcome = await instance.run_once()
    errors = [error async for error in instance.errors()]

    assert outcome is None
    (error,) = errors
    assert error.item["raw"] == f"s3://{bucket}/{key}"
    assert "does not exist any more" in error.item["error"]["error_text"]


async def test_large_item_that_cannot_be_kept_is_not_sent(backend: Backend, proxy: Proxy) -> None:
    job = instance_on(backend).deferrable(name="job")(len)
    await backend.queue.stats()
    proxy.script("PUT", answer(403, "AccessDenied"))

    with pytest.raises(BackendError, match="HTTP 403"):
        await job.later_async(LARGE)

    assert proxy.counts["SendMessageBatch"] == 0


async def test_large_item_that_cannot_be_fetched_now_comes_back_after_its_lease(
    backend: Backend, proxy: Proxy
) -> None:
    instance = instance_on(backend)
    job = instance.deferrable(name="job")(len)
    await job.later_async(LARGE)
    proxy.script("GET", answer(403, "AccessDenied"))

    first = await instance.run_once()
    second = await run(instance)

    assert first is None
    assert second.result == len(LARGE)


async def test_item_over_the_limit_is_refused_with_its_size_where_nothing_keeps_it(
    sqs_server: SQSServer, sqs_group: str, proxy: Proxy
) -> None:
    factory = SQSBackendFactory(sqs_server.connection(proxy.url))
    instance = instance_on(factory.create_backend_for_group(sqs_group))
    job = instance.deferrable(name="job")(len)

    with pytest.raises(ItemTooLarge, match=r"the item is 1200\d{3} bytes, .* at most 1048576"):
        await job.later_async(LARGE)

    assert proxy.requests == []


async def test_item_that_fits_once_compressed_needs_no_store(
    sqs_server: SQSServer, sqs_group: str, proxy: Proxy
) -> None:
    factory = SQSBackendFactory(
        sqs_server.connection(proxy.url), wait_time=1, compress_over_bytes=1000
    )
    instance = instance_on(factory.create_backend_for_group(sqs_group))
    job = instance.deferrable(name="job")(len)

    for text in (LARGE, "word " * 1000, "small"):
        await job.later_async(text)
    results = [(await run(instance)).result for _ in range(3)]

    assert sorted(results) == [5, 5000, len(LARGE)]
    bodies = [each.entries[0]["MessageBody"] for each in proxy.sent("SendMessageBatch")]
    assert len(bodies[0]) < 10_000
    assert len(bodies[1]) < 1000
    assert bodies[2].startswith("{")


async def test_item_that_nobody_would_read_is_refused_however_it_would_travel(
    bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deferrable.aio.backend.sqs._sending.MAX_TEXT_BYTES", 1_100_000)
    factory = SQSBackendFactory(compress_over_bytes=1000, large_items=S3Store(bucket))
    instance = instance_on(factory.create_backend_for_group(None))
    job = instance.deferrable(name="job")(len)

    with pytest.raises(ItemTooLarge, match=r"the item is 1200\d{3} bytes"):
        await job.later_async(LARGE)

    assert proxy.requests == []


async def test_small_item_does_not_wait_for_a_large_one_to_come_from_s3(
    backend: Backend, proxy: Proxy
) -> None:
    await backend.queue.push_each([{"id": "large", "text": LARGE}, {"id": "small"}])
    taken: list[str] = []

    async def wait_for_the_small_one(exchange: Exchange) -> Answer:
        await wait_until(lambda: "small" in taken, "the small one was taken")
        return await exchange.forward()

    proxy.script("GET", wait_for_the_small_one)
    while len(taken) < 2:
        for envelope, item in await backend.queue.pop_batch(10):
            taken.append(item["id"])
            await backend.queue.complete(envelope)

    assert taken == ["small", "large"]


# Queues that take less than SQS does.

OLDER_BYTES = 262_144


@pytest.fixture
def limit(sqs_server: SQSServer, sqs_group: str, request: pytest.FixtureRequest) -> int:
    """The queues take so many bytes only."""
    most: int = getattr(request, "param", OLDER_BYTES)
    client = sqs_server.client()
    for end in ("", "_error"):
        client.create_queue(
            QueueName=f"deferrable_{sqs_group}{end}", Attributes={"MaximumMessageSize": str(most)}
        )
    return most


def sent_bytes(proxy: Proxy) -> list[int]:
    return [
        sum(len(entry["MessageBody"]) for entry in each.entries)
        for each in proxy.sent("SendMessageBatch")
    ]


@pytest.mark.usefixtures("limit")
async def test_queues_own_limit_decides_what_goes_to_s3(
    backend: Backend, proxy: Proxy, s3: Any, bucket: str
) -> None:
    items = [{"id": str(size), "text": "x" * size} for size in (100_000, 300_000, 250_000)]

    assert await backend.queue.push_each(items) == [None] * 3

    assert len(keys_in(s3, bucket)) == 1
    assert max(sent_bytes(proxy)) <= OLDER_BYTES
    assert proxy.counts["GetQueueAttributes"] == 1


@pytest.mark.parametrize("limit", [OLDER_BYTES, 50_000], indirect=True)
async def test_limit_that_may_not_be_asked_for_is_learnt_from_the_refusal(
    backend: Backend, proxy: Proxy, s3: Any, bucket: str, limit: int
) -> None:
    proxy.script("GetQueueAttributes", answer(403, "AccessDenied"), times=10)
    items = [{"id": str(size), "text": "x" * size} for size in (1000, limit + 1000, 2000)]

    assert await backend.queue.push_each(items) == [None] * 3
    before = len(sent_bytes(proxy))
    assert await backend.queue.push_each(items) == [None] * 3

    assert len(keys_in(s3, bucket)) == 2
    assert len(sent_bytes(proxy)) == before + 1


async def test_item_over_the_queues_own_limit_is_refused_with_that_limit(
    sqs_server: SQSServer, sqs_group: str, limit: int
) -> None:
    factory = SQSBackendFactory(sqs_server.connection(), wait_time=0)
    async with factory.create_backend_for_group(sqs_group) as backend:
        for _ in range(2):
            with pytest.raises(ItemTooLarge, match=f"takes at most {limit}"):
                await backend.queue.push({"id": "1", "text": random_text(3 * limit)})
        with pytest.raises(ItemTooLarge, match=f"takes at most {limit}"):
            backend.queue.check({"id": "1", "text": random_text(3 * limit)})


async def test_error_that_does_not_fit_the_error_queues_own_limit_is_shortened(
    sqs_server: SQSServer, sqs_group: str, limit: int
) -> None:
    factory = SQSBackendFactory(sqs_server.connection(), wait_time=1)
    async with factory.create_backend_for_group(sqs_group) as backend:
        instance = Deferrable(backend, serializer="json")

        @instance.deferrable(name="job")
        def job(text: str) -> None:
            raise KeyError("x" * 100_000)

        await job.later_async("y" * (limit - 4000))
        outcome = await run(instance)

        assert outcome.status == "errored"
        assert (await backend.error_queue.stats())["available"] == 1


async def test_items_over_a_size_of_ones_own_go_to_s3(
    sqs_server: SQSServer, sqs_group: str, s3: Any, bucket: str
) -> None:
    factory = SQSBackendFactory(
        sqs_server.connection(), wait_time=0, large_items=S3Store(bucket), offload_over_bytes=1000
    )
    async with factory.create_backend_for_group(sqs_group) as backend:
        items = [{"id": str(size), "text": "x" * size} for size in (500, 1500)]
        assert await backend.queue.push_each(items) == [None] * 2
        popped: list[Any] = []
        while len(popped) < 2:
            popped += await backend.queue.pop_batch(10)

    assert len(keys_in(s3, bucket)) == 1
    assert sorted((item for _, item in popped), key=lambda item: int(item["id"])) == items


def random_text(size: int) -> str:
    """Text of so many characters that compression makes half as long at most."""
    return random.Random(1).randbytes(size // 2).hex()
