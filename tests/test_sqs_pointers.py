"""Large items in the form of Amazon's extended client libraries."""

import json
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqs_proxy import Proxy, answer, proxy_to
from sqs_server import REGION, SQSServer

from deferrable.aio import Deferrable, current_attempt
from deferrable.aio.backend.sqs import S3Store, SQSBackendFactory

pytestmark = pytest.mark.anyio

CLASS = "software.amazon.payloadoffloading.PayloadS3Pointer"
LEGACY_CLASS = "com.amazon.sqs.javamessaging.MessageS3Pointer"


class Place:
    """An instance whose large items are in S3."""

    def __init__(self, server: SQSServer, proxy: Proxy, group: str, bucket: str, **options: Any):
        self.client, self.s3, self.proxy = server.client(), server.client("s3"), proxy
        self.bucket, self.group = bucket, group
        prefix = options.pop("prefix", "")
        factory = SQSBackendFactory(
            wait_time=0,
            large_items=S3Store(
                bucket, prefix, deletes=options.pop("deletes", True), extended_client=True
            ),
            offload_over_bytes=options.pop("offload_over_bytes", 0),
            foreign=lambda message: self.job.options(use_exponential_backoff=False).call(
                message.text
            ),
        )
        self.backend = factory.create_backend_for_group(group)
        self.instance = Deferrable(self.backend, default_error_classes=[OSError], serializer="json")
        self.job = self.instance.deferrable(name="job")(self._run)
        self.ran: list[str] = []
        self.attributes: list[Any] = []
        self.failures = 0

    async def _run(self, text: str) -> None:
        self.ran.append(text)
        self.attributes.append(dict(current_attempt().attributes))
        if self.failures:
            self.failures -= 1
            raise OSError("not now")

    @property
    def url(self) -> str:
        return str(self.client.get_queue_url(QueueName=f"deferrable_{self.group}")["QueueUrl"])

    def keys(self) -> list[str]:
        listed = self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", ())
        return [each["Key"] for each in listed]

    async def put(self, key: str, payload: str, body: str | None = None) -> None:
        """Send a pointer to an object, as other libraries do."""
        await self.backend.queue.stats()  # makes the queue
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=payload.encode())
        size = {"DataType": "Number", "StringValue": str(len(payload))}
        self.client.send_message(
            QueueUrl=self.url,
            MessageBody=body or pointer(self.bucket, key),
            MessageAttributes={"ExtendedPayloadSize": size},
        )

    async def run(self) -> list[str]:
        statuses = []
        while (outcome := await self.instance.run_once()) is not None:
            statuses.append(outcome.status)
        return statuses


def pointer(bucket: str, key: str, java_class: str = CLASS) -> str:
    return json.dumps([java_class, {"s3BucketName": bucket, "s3Key": key}])


@pytest.fixture
def bucket(sqs_server: SQSServer) -> Iterator[str]:
    s3, name = sqs_server.client("s3"), f"deferrable-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    yield name
    for each in s3.list_objects_v2(Bucket=name).get("Contents", ()):
        s3.delete_object(Bucket=name, Key=each["Key"])
    s3.delete_bucket(Bucket=name)


@pytest.fixture
async def make_place(
    sqs_server: SQSServer, sqs_group: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., Place]]:
    sqs_server.set_environment(monkeypatch)
    made: list[Place] = []
    with proxy_to(sqs_server.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)

        def make(**options: Any) -> Place:
            made.append(Place(sqs_server, proxy, sqs_group, bucket, **options))
            return made[-1]

        yield make
        for place in made:
            await place.backend.close()


def ask_peer(*arguments: str) -> str:
    program = Path(__file__).parent / "sqs_extended_peer.py"
    done = subprocess.run(
        [sys.executable, str(program), *arguments], check=True, capture_output=True, timeout=60
    )
    return done.stdout.decode()


@pytest.mark.parametrize("version", ["current", "legacy"])
async def test_message_of_amazons_library_is_read_and_its_object_deleted(
    make_place: Callable[..., Place], version: str
) -> None:
    place = make_place()
    await place.backend.queue.stats()
    ask_peer("send", place.url, place.bucket, "é from Amazon", version)
    assert len(place.keys()) == 1

    statuses = await place.run()

    assert (statuses, place.ran, place.keys()) == (["completed"], ["é from Amazon"], [])


async def test_amazons_library_reads_our_message_and_deletes_its_object(
    make_place: Callable[..., Place],
) -> None:
    place = make_place()
    receipt = await place.job.options(attributes={"kind": "ours"}).later_async("to Amazon")
    (sent,) = place.proxy.sent("SendMessageBatch")

    read = ask_peer("receive", place.url, place.bucket)

    item = json.loads(read)
    assert (item["id"], item["args"]) == (receipt.id, ["to Amazon"])
    size = {"DataType": "Number", "StringValue": str(len(read.strip()))}
    kind = {"DataType": "String", "StringValue": "ours"}
    (entry,) = sent.entries
    assert entry["MessageAttributes"] == {"kind": kind, "ExtendedPayloadSize": size}


async def test_our_own_pointer_costs_the_requests_of_an_object_and_no_more(
    make_place: Callable[..., Place],
) -> None:
    place = make_place()
    await place.job.later_async("first")  # finds the queues
    await place.run()
    place.proxy.requests.clear()

    await place.job.later_async("second")
    await place.instance.run_once()

    assert dict(place.proxy.counts) == {
        "PUT": 1,
        "SendMessageBatch": 1,
        "ReceiveMessage": 1,
        "GET": 1,
        "DeleteMessageBatch": 1,
        "DELETE": 1,
    }
    actions = [each.action for each in place.proxy.requests]
    assert actions.index("PUT") < actions.index("SendMessageBatch")
    assert actions.index("DeleteMessageBatch") < actions.index("DELETE")


async def test_retry_has_its_own_object_before_the_first_is_deleted(
    make_place: Callable[..., Place],
) -> None:
    place = make_place()
    place.failures = 1
    await place.put(str(uuid.uuid4()), "from Java")

    statuses = await place.run()

    assert statuses == ["retried", "completed"]
    assert (place.ran, place.keys()) == (["from Java"] * 2, [])
    actions = [each.action for each in place.proxy.requests]
    order = [
        actions.index(each) for each in ("PUT", "SendMessageBatch", "DeleteMessageBatch", "DELETE")
    ]
    assert order == sorted(order)


async def test_retry_that_is_small_enough_is_no_pointer(make_place: Callable[..., Place]) -> None:
    """A reader of its message must not take the item for a pointer: no size travels with it."""
    place = make_place(offload_over_bytes=100_000)
    place.failures = 1
    await place.put(str(uuid.uuid4()), "from Java")

    await place.run()

    (sent,) = place.proxy.sent("SendMessageBatch")
    assert "MessageAttributes" not in sent.entries[0]
    assert place.attributes == [{}, {}]


async def test_object_stays_until_its_message_is_deleted(make_place: Callable[..., Place]) -> None:
    """Amazon's own library deletes the object first, and loses the message if the rest fails."""
    place = make_place()
    await place.put(str(uuid.uuid4()), "from Java")
    place.proxy.script("DeleteMessageBatch", answer(403, "AccessDenied"))

    with pytest.raises(Exception, match="AccessDenied"):
        await place.run()

    assert len(place.keys()) == 1


async def test_object_that_others_read_too_is_not_deleted(
    make_place: Callable[..., Place],
) -> None:
    place = make_place(deletes=False)
    await place.put(str(uuid.uuid4()), "to many queues")

    assert await place.run() == ["completed"]
    assert len(place.keys()) == 1


async def test_pointer_in_a_notification_of_sns_is_followed_and_its_object_kept(
    make_place: Callable[..., Place],
) -> None:
    """Other subscribers of the topic have the same pointer."""
    place = make_place()
    key = str(uuid.uuid4())
    wrapped = {
        "Type": "Notification",
        "MessageId": "da41e39f-ea4d-435a-b922-c6aae3915ebe",
        "TopicArn": "arn:aws:sns:us-east-1:123456789012:orders",
        "Message": pointer(place.bucket, key),
        "MessageAttributes": {"ExtendedPayloadSize": {"Type": "Number", "Value": "17"}},
    }
    await place.put(key, "published", json.dumps(wrapped))

    assert await place.run() == ["completed"]

    assert (place.ran, place.attributes, place.keys()) == (["published"], [{}], [key])


@pytest.mark.parametrize(
    "change",
    [
        {"bucket": "another-bucket"},
        {"key": "secrets/of-others"},
        {"key": "../jobs/x"},
        {"key": ""},
        {"key": "jobs/"},
    ],
)
async def test_pointer_to_elsewhere_is_neither_read_nor_deleted(
    make_place: Callable[..., Place], change: dict[str, str]
) -> None:
    place = make_place(prefix="jobs")
    target = {"bucket": place.bucket, "key": "jobs/x", **change}
    await place.put("secrets/of-others", "secret", pointer(**target))

    await place.run()

    assert place.ran == []
    assert place.keys()[-1] == "secrets/of-others"
    assert not {"GET", "DELETE"} & set(place.proxy.counts) or place.proxy.counts["GET"] == 0
    (error,) = [each.item async for each in place.instance.errors()]
    assert "was not stored by" in error["error"]["error_text"]


async def test_object_of_any_name_under_the_prefix_is_read(
    make_place: Callable[..., Place],
) -> None:
    place = make_place(prefix="jobs")
    await place.put("jobs/orders/17.json", "from Python")

    assert await place.run() == ["completed"]
    assert (place.ran, place.keys()) == (["from Python"], [])


async def test_message_whose_object_came_late_runs_when_it_is_requeued(
    make_place: Callable[..., Place],
) -> None:
    place = make_place(offload_over_bytes=100_000)
    key = str(uuid.uuid4())
    await place.put(key, "restored")
    place.s3.delete_object(Bucket=place.bucket, Key=key)
    await place.run()
    place.s3.put_object(Bucket=place.bucket, Key=key, Body=b"restored")

    async for each in place.instance.errors():
        await each.requeue()

    assert await place.run() == ["completed"]
    assert place.ran == ["restored"]


@pytest.mark.parametrize(
    "body",
    [
        json.dumps([CLASS]),
        json.dumps([CLASS, []]),
        json.dumps([CLASS, {"s3BucketName": 1, "s3Key": "x"}]),
        json.dumps(["java.lang.Runtime", {"s3BucketName": "b", "s3Key": "k"}]),
        "[" * 100_000,
        f'["{CLASS}",',
    ],
)
async def test_what_only_looks_like_a_pointer_is_a_text(
    make_place: Callable[..., Place], body: str
) -> None:
    place = make_place(offload_over_bytes=10_000_000)
    await place.put("unused", "", body)

    await place.run()

    assert place.ran == [body]
