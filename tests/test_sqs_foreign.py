"""Messages that somebody else wrote, and the attributes of messages."""

import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest
from sqs_proxy import Proxy, fail_entries
from sqs_redrive import redrive
from sqs_server import SQSServer
from test_sqs_lambda import time_left

from deferrable.aio import Call, Deferrable, current_attempt
from deferrable.aio.backend import ForeignMessage, SQSBackendFactory
from deferrable.errors import InvalidOptions

pytestmark = pytest.mark.anyio

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HEADER = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
S3_EVENT = {
    "Records": [
        {
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": "photos"}, "object": {"key": f"cat{number}.jpg"}},
        }
        for number in range(3)
    ]
}

Returned = Call[Any] | Iterable[Call[Any]] | None


class Shop:
    """An instance whose queue gets messages of others."""

    def __init__(
        self,
        server: SQSServer,
        proxy: Proxy,
        group: str,
        on_message: Callable[["Shop", ForeignMessage], Any],
        **options: Any,
    ) -> None:
        self.client = server.client()
        self.proxy = proxy
        self.seen: list[ForeignMessage] = []
        self.ran: list[Any] = []
        self.attributes: list[dict[str, str]] = []
        self.failures = 0
        factory = SQSBackendFactory(
            server.connection(proxy.url),
            visibility_timeout=options.pop("visibility_timeout", 30),
            wait_time=0,
            foreign=lambda message: self._take(on_message, message),
        )
        self.backend = factory.create_backend_for_group(group)
        self.group = group
        self.instance = Deferrable(
            self.backend, default_error_classes=[OSError], **{"serializer": "json", **options}
        )
        self.job = self.instance.deferrable(name="job")(self._run)

    def _take(self, on_message: Any, message: ForeignMessage) -> Any:
        self.seen.append(message)
        return on_message(self, message)

    async def _run(self, value: Any) -> None:
        self.ran.append(value)
        self.attributes.append(dict(current_attempt().attributes))
        if self.failures:
            self.failures -= 1
            raise OSError("not now")

    async def put(self, body: object, **options: Any) -> None:
        """Send a message as another program does."""
        await self.backend.queue.stats()  # makes the queue
        text = body if isinstance(body, str) else json.dumps(body)
        self.client.send_message(QueueUrl=self.url(), MessageBody=text, **options)

    def url(self) -> str:
        return str(self.client.get_queue_url(QueueName=f"deferrable_{self.group}")["QueueUrl"])

    async def run(self) -> list[str]:
        statuses = []
        while (outcome := await self.instance.run_once()) is not None:
            statuses.append(outcome.status)
        return statuses

    async def errors(self) -> list[dict[str, Any]]:
        return [each.item async for each in self.instance.errors()]


MakeShop = Callable[..., Shop]


@pytest.fixture
async def make_shop(sqs_server: SQSServer, proxy: Proxy, sqs_group: str) -> AsyncIterator[MakeShop]:
    made: list[Shop] = []

    def make(on_message: Any, end: str = "", **options: Any) -> Shop:
        made.append(Shop(sqs_server, proxy, sqs_group + end, on_message, **options))
        return made[-1]

    yield make
    for shop in made:
        await shop.backend.close()


def to_job(shop: Shop, message: ForeignMessage) -> Returned:
    return shop.job.call(message.json())


def key_of_each(shop: Shop, message: ForeignMessage) -> Returned:
    return [shop.job.call(each["s3"]["object"]["key"]) for each in message.json()["Records"]]


# What a message means.


async def test_json_of_another_program_runs_the_job_that_the_function_names(
    make_shop: MakeShop,
) -> None:
    shop = make_shop(to_job)
    await shop.put({"order": 17})

    statuses = await shop.run()

    assert (statuses, shop.ran) == (["completed"], [{"order": 17}])
    stats = await shop.backend.queue.stats()
    assert stats["available"] == stats["in_flight"] == 0


async def test_foreign_message_costs_no_more_requests_than_an_item(make_shop: MakeShop) -> None:
    shop = make_shop(to_job)
    await shop.put({"order": 17})
    await shop.instance.run_once()  # finds the queues
    await shop.put({"order": 18})
    shop.proxy.requests.clear()

    await shop.instance.run_once()

    assert dict(shop.proxy.counts) == {"ReceiveMessage": 1, "DeleteMessageBatch": 1}


async def test_items_of_this_library_are_not_foreign(make_shop: MakeShop) -> None:
    shop = make_shop(to_job)
    await shop.job.later_async("ours")

    await shop.run()

    assert (shop.ran, shop.seen) == (["ours"], [])


@pytest.mark.parametrize(
    "body",
    [
        "plain text",
        '{"method": "of JSON-RPC", "params": []}',
        "[1, 2]",
        "NaN",
        '{"half',
        "aGVsbG8=",
        "zlib:nothing",
        "s3://a/b",
        "ünïcode 😀",
    ],
)
async def test_any_text_that_is_no_item_reaches_the_function_as_it_is(
    make_shop: MakeShop, body: str
) -> None:
    shop = make_shop(lambda shop, message: shop.job.call(message.text))
    await shop.put(body)

    await shop.run()

    assert shop.ran == [body]


async def test_message_that_the_function_does_not_know_goes_to_the_error_queue(
    make_shop: MakeShop,
) -> None:
    shop = make_shop(lambda shop, message: None)
    attribute = {"kind": {"DataType": "String", "StringValue": "unknown"}}
    await shop.put({"order": 17}, MessageAttributes=attribute)

    await shop.run()

    (item,) = await shop.errors()
    assert (item["raw"], item["attributes"]) == ('{"order": 17}', {"kind": "unknown"})
    assert "returned None" in item["error"]["error_text"]


@pytest.mark.parametrize(
    "order",
    [
        {"error": "payment failed", "last_push_time": "noon", "order": 17},
        {"raw": "wool", "error": {"code": 402}},
        [17],
    ],
)
async def test_what_a_consumer_without_the_function_buried_reaches_it_unchanged(
    make_shop: MakeShop, order: object
) -> None:
    shop = make_shop(to_job)
    header = {"AWSTraceHeader": {"DataType": "String", "StringValue": HEADER}}
    await shop.put(order, MessageAttributes=TRACEPARENT, MessageSystemAttributes=header)
    without = SQSBackendFactory(shop.client, wait_time=0).create_backend_for_group(shop.group)
    async with Deferrable(without) as plain:
        await plain.run_once()

    async for entry in shop.instance.errors():
        await entry.requeue()
    statuses = await shop.run()

    assert (statuses, shop.ran, len(shop.seen)) == (["completed"], [order], 1)
    assert shop.attributes == [{"traceparent": TRACE, "AWSTraceHeader": HEADER}]


async def test_redrive_of_the_console_brings_a_foreign_message_back_to_the_function(
    sqs_server: SQSServer, make_shop: MakeShop
) -> None:
    shop = make_shop(lambda shop, message: None)
    await shop.put({"order": 17}, MessageAttributes=TRACEPARENT)
    await shop.run()
    name = f"deferrable_{shop.group}"
    assert redrive(sqs_server, f"{name}_error", name) == 1

    corrected = make_shop(to_job)

    assert await corrected.run() == ["completed"]
    assert (corrected.ran, corrected.attributes) == ([{"order": 17}], [{"traceparent": TRACE}])


@pytest.mark.parametrize(
    ("on_message", "why"),
    [
        (lambda shop, message: message.json()["absent"], "raised KeyError"),
        (lambda shop, message: 17, "returned a value of type int"),
        (lambda shop, message: "job", "returned a value of type str"),
        (lambda shop, message: [shop.job.call(1), 2], "returned a value of type int"),
        (lambda shop, message: shop.job.call(1, 2, 3), "cannot be made"),
        (lambda shop, message: Call((1,), {}), "names no job"),
        (lambda shop, message: shop.job.call(object()), "cannot be made"),
        (lambda shop, message: (1 / 0 for _ in "x"), "raised ZeroDivisionError"),
        (lambda shop, message: shop.job.options(delay_seconds=lambda: 1 / 0).call(1), "ZeroDiv"),
    ],
)
async def test_error_of_the_function_loses_no_message(
    make_shop: MakeShop, on_message: Any, why: str
) -> None:
    """Corrected and requeued, the message comes to the function again."""
    shop = make_shop(on_message)
    await shop.put({"order": 17}, MessageAttributes=TRACEPARENT)
    await shop.run()
    (item,) = await shop.errors()
    assert why in item["error"]["error_text"]

    corrected = make_shop(to_job)
    async for each in corrected.instance.errors():
        await each.requeue()
    await corrected.run()

    assert corrected.ran == [{"order": 17}]
    assert corrected.attributes == [{"traceparent": TRACE}]


def test_function_that_has_to_be_awaited_is_refused() -> None:
    with pytest.raises(InvalidOptions, match="plain function"):
        SQSBackendFactory(foreign=to_be_awaited)  # type: ignore[arg-type]


async def to_be_awaited(message: ForeignMessage) -> None:
    """No function for foreign messages."""


async def test_empty_list_means_that_there_is_nothing_to_do(make_shop: MakeShop) -> None:
    """S3 sends a test event when its notifications are set up."""
    shop = make_shop(lambda shop, message: [])
    await shop.put({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "photos"})

    await shop.run()

    stats = await shop.backend.queue.stats()
    assert (stats["available"], stats["in_flight"], await shop.errors()) == (0, 0, [])


async def test_event_of_several_records_becomes_several_calls(make_shop: MakeShop) -> None:
    shop = make_shop(key_of_each)
    await shop.put(S3_EVENT)

    await shop.run()
    await shop.run()

    assert sorted(shop.ran) == ["cat0.jpg", "cat1.jpg", "cat2.jpg"]
    stats = await shop.backend.queue.stats()
    assert stats["available"] == stats["in_flight"] == 0


async def test_event_comes_back_if_one_of_its_calls_is_not_pushed(
    make_shop: MakeShop, caplog: pytest.LogCaptureFixture
) -> None:
    shop = make_shop(key_of_each)
    await shop.put(S3_EVENT)
    shop.proxy.script("SendMessageBatch", fail_entries([1], "InvalidThing", is_senders=True))

    with caplog.at_level(logging.WARNING, "deferrable"):
        await shop.run()

    assert "stands for 3 calls, and comes back" in caplog.text
    stats = await shop.backend.queue.stats()
    assert stats["in_flight"] == 1


# Who else sends.


NOTIFICATION = {
    "Type": "Notification",
    "MessageId": "da41e39f-ea4d-435a-b922-c6aae3915ebe",
    "TopicArn": "arn:aws:sns:us-east-1:123456789012:orders",
    "Subject": "test",
    "Message": '{"order": 17}',
    "Timestamp": "2012-04-25T21:49:25.719Z",
    "MessageAttributes": {"traceparent": {"Type": "String", "Value": TRACE}},
}
TRACEPARENT = {"traceparent": {"DataType": "String", "StringValue": TRACE}}


async def test_wrapped_notification_of_sns_is_unwrapped(make_shop: MakeShop) -> None:
    shop = make_shop(to_job)
    await shop.put(NOTIFICATION)

    await shop.run()

    (message,) = shop.seen
    assert (message.topic_arn, message.subject) == (NOTIFICATION["TopicArn"], "test")
    assert (shop.ran, shop.attributes) == ([{"order": 17}], [{"traceparent": TRACE}])


@pytest.mark.parametrize("change", [{"Message": None}, {"TopicArn": 17}, {"Type": "Order"}])
async def test_only_what_sns_writes_is_unwrapped(
    make_shop: MakeShop, change: dict[str, Any]
) -> None:
    shop = make_shop(to_job)
    body = {**NOTIFICATION, **change}
    await shop.put(body)

    await shop.run()

    assert shop.ran == [body]


async def test_more_attributes_than_sqs_takes_do_not_stop_a_retry(make_shop: MakeShop) -> None:
    """SNS takes any number when it wraps a notification."""
    shop = make_shop(to_job)
    many = {f"name{number}": {"Type": "String", "Value": "v" * number} for number in range(15)}
    await shop.put({**NOTIFICATION, "MessageAttributes": many})
    shop.failures = 1
    shop.job.options()  # the backoff is not what is tested
    quick = shop.job.options(use_exponential_backoff=False)
    shop._take = lambda on_message, message: quick.call(message.json())  # type: ignore[method-assign]

    statuses = await shop.run()

    assert statuses == ["retried", "completed"]
    assert len(shop.attributes[1]) == 15


async def test_event_of_eventbridge_is_json(make_shop: MakeShop) -> None:
    event = {"version": "0", "detail-type": "Order Placed", "source": "shop", "detail": {"id": 1}}
    shop = make_shop(lambda shop, message: shop.job.call(message.json()["detail"]))
    await shop.put(event)

    await shop.run()

    assert shop.ran == [{"id": 1}]


# Retries, errors and options.


def quickly(shop: Shop, message: ForeignMessage) -> Returned:
    return shop.job.options(use_exponential_backoff=False, max_attempts=3).call(message.json())


async def test_retry_of_a_foreign_message_is_an_item_with_its_id_and_attributes(
    make_shop: MakeShop,
) -> None:
    shop = make_shop(quickly)
    shop.failures = 1
    await shop.put({"order": 17}, MessageAttributes=TRACEPARENT)

    statuses = await shop.run()

    assert statuses == ["retried", "completed"]
    assert len(shop.seen) == 1  # the retry does not ask the function again
    assert shop.attributes == [{"traceparent": TRACE}] * 2
    (sent,) = shop.proxy.sent("SendMessageBatch")
    (entry,) = sent.entries
    assert json.loads(entry["MessageBody"])["id"] == shop.seen[0].id
    assert entry["MessageAttributes"] == TRACEPARENT


async def test_foreign_message_that_fails_for_good_can_be_requeued(make_shop: MakeShop) -> None:
    shop = make_shop(quickly)
    shop.failures = 3
    await shop.put({"order": 17})
    assert await shop.run() == ["retried", "retried", "errored"]

    async for each in shop.instance.errors():
        assert each.call.args == ({"order": 17},)
        await each.requeue()

    assert await shop.run() == ["completed"]


async def test_call_of_a_signing_instance_is_signed(make_shop: MakeShop) -> None:
    shop = make_shop(quickly, signing_keys=(b"0123456789abcdef",))
    shop.failures = 1
    await shop.put({"order": 17})

    assert await shop.run() == ["retried", "completed"]


async def test_message_that_a_signing_instance_requeues_reaches_the_function_as_it_was_sent(
    make_shop: MakeShop,
) -> None:
    shop = make_shop(lambda shop, message: None, signing_keys=(b"0123456789abcdef",))
    await shop.put({"order": 17})
    await shop.run()

    async for each in shop.instance.errors():
        await each.requeue()
    await shop.run()

    assert [message.json() for message in shop.seen] == [{"order": 17}] * 2


async def test_ttl_and_delay_count_from_when_the_message_was_sent(make_shop: MakeShop) -> None:
    shop = make_shop(
        lambda shop, message: shop.job.options(delay_seconds=1000).call(message.json())
    )
    await shop.put({"order": 17})

    statuses = await shop.run()

    assert statuses == ["hopped"]
    (sent,) = shop.proxy.sent("SendMessageBatch")
    item = json.loads(sent.entries[0]["MessageBody"])
    assert item["due_time"] == pytest.approx(shop.seen[0].sent_time + 1000)


async def test_debounced_job_is_refused_by_name(make_shop: MakeShop) -> None:
    from deferrable.aio import InMemoryDebounceStore

    shop = make_shop(
        lambda shop, message: shop.job.options(debounce_seconds=5).call(message.json()),
        debounce_store=InMemoryDebounceStore(),
    )
    await shop.put({"order": 17})

    await shop.run()

    (item,) = await shop.errors()
    assert "only later() debounces" in item["error"]["error_text"]


async def test_foreign_message_of_a_fifo_queue_retries_in_its_group(make_shop: MakeShop) -> None:
    shop = make_shop(quickly, ".fifo")
    shop.failures = 1
    fields = {"MessageGroupId": "customer-1", "MessageDeduplicationId": "1"}
    await shop.put({"order": 17}, **fields)

    assert await shop.run() == ["retried", "completed"]
    (sent,) = shop.proxy.sent("SendMessageBatch")
    assert sent.entries[0]["MessageGroupId"] == "customer-1"


@pytest.mark.parametrize("end", ["", ".fifo"])
@pytest.mark.parametrize("how", ["requeue", "redrive"])
@pytest.mark.parametrize(("body", "is_asked"), [("hello", True), ({"order": 17}, False)])
async def test_message_that_comes_back_from_the_error_queue_has_its_group(
    sqs_server: SQSServer, make_shop: MakeShop, end: str, how: str, body: object, is_asked: bool
) -> None:
    shop = make_shop(lambda shop, message: None, end)
    fields = {"MessageDeduplicationId": "1"} if end else {}
    await shop.put(body, MessageGroupId="customer-1", **fields)
    if is_asked:
        await shop.run()
    else:
        without = SQSBackendFactory(shop.client, wait_time=0).create_backend_for_group(shop.group)
        async with Deferrable(without) as plain:
            await plain.run_once()
    corrected = make_shop(lambda shop, message: shop.job.call(message.text), end)
    corrected.failures = 1

    if how == "requeue":
        async for entry in corrected.instance.errors():
            await entry.requeue()
    else:
        name = f"deferrable_{corrected.backend.group.removesuffix('.fifo')}"
        assert redrive(sqs_server, f"{name}_error{end}", f"{name}{end}") == 1
    shop.proxy.requests.clear()
    outcome = await corrected.instance.run_once()

    assert outcome is not None
    assert outcome.status == "retried"
    (sent,) = shop.proxy.sent("SendMessageBatch")
    assert sent.entries[0]["MessageGroupId"] == "customer-1"


async def test_requeued_message_goes_to_its_group(make_shop: MakeShop) -> None:
    shop = make_shop(lambda shop, message: None, ".fifo")
    await shop.put("hello", MessageGroupId="customer-1", MessageDeduplicationId="1")
    await shop.run()
    shop.proxy.requests.clear()

    async for entry in shop.instance.errors():
        await entry.requeue()

    (sent,) = shop.proxy.sent("SendMessageBatch")
    assert sent.entries[0]["MessageGroupId"] == "customer-1"


async def test_a_look_at_errors_asks_no_function_about_a_message_that_sqs_moved(
    make_shop: MakeShop,
) -> None:
    shop = make_shop(to_job)
    await shop.backend.queue.stats()
    await shop.backend.error_queue.stats()
    url = shop.client.get_queue_url(QueueName=f"deferrable_{shop.group}_error")["QueueUrl"]
    shop.client.send_message(
        QueueUrl=url, MessageBody='{"order": 17}', MessageAttributes=TRACEPARENT
    )

    async for entry in shop.instance.errors():
        assert entry.item["error"]["error_type"] == "TooManyDeliveries"
        assert entry.item["raw"] == '{"order": 17}'
        assert shop.seen == []
        await entry.requeue()

    assert await shop.run() == ["completed"]
    assert (len(shop.seen), shop.ran) == (1, [{"order": 17}])
    assert shop.attributes == [{"traceparent": TRACE}]


# Lambda.


async def test_function_of_lambda_runs_foreign_messages(make_shop: MakeShop) -> None:
    shop = make_shop(quickly)
    record = {
        "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
        "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...",
        "body": '{"order": 17}',
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": "1545082649183",
            "AWSTraceHeader": HEADER,
        },
        "messageAttributes": {
            "traceparent": {
                "stringValue": TRACE,
                "stringListValues": [],
                "binaryListValues": [],
                "dataType": "String",
            },
            "digest": {"binaryValue": "SGVsbG8=", "dataType": "Binary"},
        },
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:us-east-1:123456789012:deferrable_{shop.group}",
        "awsRegion": "us-east-1",
    }

    answer = await shop.instance.handle_sqs_event({"Records": [record]}, time_left(30))

    assert answer == {"batchItemFailures": []}
    assert shop.seen[0].sent_time == 1545082649.183
    assert shop.attributes == [
        {"traceparent": TRACE, "digest": "SGVsbG8=", "AWSTraceHeader": HEADER}
    ]


async def test_span_of_a_foreign_message_links_to_that_of_its_sender(make_shop: MakeShop) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from deferrable.contrib.opentelemetry import instrument

    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    shop = make_shop(to_job)
    instrument(shop.instance, tracer_provider=provider)
    await shop.put({"order": 17}, MessageAttributes=TRACEPARENT)

    await shop.run()

    (span,) = spans.get_finished_spans()
    (link,) = span.links
    assert f"{link.context.trace_id:032x}" == TRACE.split("-")[1]


# Attributes of our own calls.


async def test_attributes_of_a_call_travel_with_it_and_with_its_message(
    make_shop: MakeShop,
) -> None:
    shop = make_shop(to_job)
    shop.failures = 1
    given = {"traceparent": TRACE, "AWSTraceHeader": HEADER}
    job = shop.job.options(attributes=given, use_exponential_backoff=False)
    await job.later_async(1)

    await shop.run()

    assert shop.attributes == [given] * 2
    for sent in shop.proxy.sent("SendMessageBatch"):  # the call, and its retry
        (entry,) = sent.entries
        assert entry["MessageAttributes"] == TRACEPARENT
        assert entry["MessageSystemAttributes"]["AWSTraceHeader"]["StringValue"] == HEADER


async def test_attributes_never_make_a_message_too_large(make_shop: MakeShop) -> None:
    shop = make_shop(to_job)
    job = shop.job.options(attributes={"long": "x" * 1000})
    await job.later_async("y" * (1_048_576 - 2000))

    await shop.run()

    (sent,) = shop.proxy.sent("SendMessageBatch")
    assert "MessageAttributes" not in sent.entries[0]
    assert shop.attributes == [{"long": "x" * 1000}]


@pytest.mark.parametrize(
    "attributes",
    [
        {"": "v"},
        {"a": ""},
        {"a": "\0"},
        {"a": 1},
        {1: "a"},
        {"AWS.x": "v"},
        {"amazon.x": "v"},
        {".a": "v"},
        {"a.": "v"},
        {"a..b": "v"},
        {"a b": "v"},
        {"\N{KELVIN SIGN}": "v"},
        {"x" * 257: "v"},
        {"a": "\ud800"},
        {str(number): "v" for number in range(10)},
        "text",
    ],
)
def test_attributes_that_sqs_refuses_are_refused_before_the_call(attributes: Any) -> None:
    from deferrable.aio.backend import InMemoryBackendFactory

    instance = Deferrable(InMemoryBackendFactory().create_backend_for_group(None))
    job = instance.deferrable(print)

    with pytest.raises(InvalidOptions, match="attributes"):
        job.options(attributes=attributes)
