"""Items that AWS Lambda hands over."""

import asyncio
import threading
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from sqs_proxy import Proxy, answer
from sqs_proxy import hang as never_answer
from sqs_server import SQSServer

import deferrable
from deferrable.aio import Deferrable
from deferrable.aio import backend as awaiting
from deferrable.backend import SQSBackendFactory
from deferrable.errors import InvalidOptions, Unsupported

pytestmark = pytest.mark.anyio

ARN = "arn:aws:sqs:us-east-1:123456789012:"


ran: list[int] = []
goes_on = threading.Event()


async def note(number: int) -> None:
    ran.append(number)


async def fail(number: int) -> None:
    ran.append(number)
    raise OSError(f"no {number}")


async def hang(number: int) -> None:
    ran.append(number)
    await asyncio.Event().wait()


def hang_in_thread(number: int) -> None:
    ran.append(number)
    goes_on.wait(60)
    raise OSError("too late")


passed = [0.0]


async def hold_the_loop(number: int) -> None:
    """As a job that computes for long does, it lets time pass and nobody else run."""
    ran.append(number)
    passed[0] += 20


JOBS = {each.__name__: each for each in (note, fail, hang, hang_in_thread, hold_the_loop)}


class Function:
    """A function of Lambda, with the queue that calls it."""

    def __init__(self, server: SQSServer, proxy: Proxy, group: str) -> None:
        factory = awaiting.SQSBackendFactory(server.connection(proxy.url), wait_time=0)
        self.backend = factory.create_backend_for_group(group)
        self.instance = Deferrable(self.backend, default_error_classes=[OSError])
        self.jobs = {name: self.instance.deferrable(job) for name, job in JOBS.items()}
        self.proxy = proxy
        self.client = server.client()
        self.group = group

    async def defer(self, *names: str, **options: Any) -> dict[str, Any]:
        """Defer a call of each of these jobs, with its number. Return the event that they cause."""
        for number, name in enumerate(names):
            await self.jobs[name].options(**options).later_async(number)
        event = self.event()
        assert len(event["Records"]) == len(names)
        self.proxy.requests.clear()
        return event

    async def stats(self) -> dict[str, float]:
        return {**await self.backend.queue.stats()}

    @property
    def requests(self) -> dict[str, int]:
        return dict(self.proxy.counts)

    def event(self) -> dict[str, Any]:
        """Receive as Lambda does. Source: its developer guide, "Using Lambda with SQS"."""
        name = f"deferrable_{self.group}"
        url = self.client.get_queue_url(QueueName=name)["QueueUrl"]
        received: list[dict[str, Any]] = []
        while messages := self.client.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"]
        ).get("Messages"):
            received += messages
        return {"Records": [_record(each, name) for each in received]}


def _record(message: dict[str, Any], queue_name: str) -> dict[str, Any]:
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": {},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": ARN + queue_name,
        "awsRegion": "us-east-1",
    }


def time_left(seconds: float) -> Any:
    """A context of Lambda."""
    return SimpleNamespace(get_remaining_time_in_millis=lambda: int(seconds * 1000))


def names_in(answer: dict[str, Any]) -> list[str]:
    return [each["itemIdentifier"] for each in answer["batchItemFailures"]]


@pytest.fixture
async def function(sqs_server: SQSServer, proxy: Proxy, sqs_group: str) -> AsyncIterator[Function]:
    ran.clear()
    goes_on.clear()
    function = Function(sqs_server, proxy, sqs_group)
    async with function.instance:
        yield function
    goes_on.set()


async def test_jobs_run_and_no_request_is_sent_about_them(function: Function) -> None:
    event = await function.defer(*["note"] * 5)

    answer = await function.instance.handle_sqs_event(event, time_left(30))

    assert sorted(ran) == [0, 1, 2, 3, 4]
    assert answer == {"batchItemFailures": []}
    assert function.requests == {}


async def test_job_that_fails_is_pushed_again_and_its_message_is_done(function: Function) -> None:
    event = await function.defer("fail", "note")

    answer = await function.instance.handle_sqs_event(event, time_left(30))

    assert sorted(ran) == [0, 1]
    assert answer == {"batchItemFailures": []}
    assert function.requests == {"SendMessageBatch": 1}


async def test_last_failure_goes_to_the_error_queue(function: Function) -> None:
    event = await function.defer("fail", max_attempts=1)

    answer = await function.instance.handle_sqs_event(event)

    assert answer == {"batchItemFailures": []}
    (_, item), *_ = await function.backend.error_queue.pop_batch(1)
    assert "no 0" in str(item["error"])


async def test_message_whose_item_cannot_be_settled_is_reported(function: Function) -> None:
    event = await function.defer("note", "fail", "note")
    function.proxy.script("SendMessageBatch", answer(403, "AccessDenied"), times=20)

    reported = names_in(await function.instance.handle_sqs_event(event, time_left(30)))

    assert sorted(ran) == [0, 1, 2]
    assert len(reported) == 1


async def test_unreadable_message_goes_to_the_error_queue_and_is_done(function: Function) -> None:
    event = await function.defer("note")
    event["Records"][0]["body"] = "no item"

    answer = await function.instance.handle_sqs_event(event, time_left(30))

    assert answer == {"batchItemFailures": []}
    assert (await function.backend.error_queue.stats())["available"] == 1


async def test_jobs_are_stopped_before_the_function_ends_and_come_back(function: Function) -> None:
    event = await function.defer("hang", "note")

    reported = names_in(await function.instance.handle_sqs_event(event, time_left(1.2)))

    assert sorted(ran) == [0, 1]
    assert len(reported) == 1
    assert function.requests == {}


async def test_job_in_a_thread_that_outlives_the_function_settles_nothing(
    function: Function,
) -> None:
    event = await function.defer("hang_in_thread")

    tasks = asyncio.all_tasks()

    reported = names_in(await function.instance.handle_sqs_event(event, time_left(1.1)))
    goes_on.set()
    await asyncio.wait(asyncio.all_tasks() - tasks, timeout=60)

    assert len(reported) == 1
    assert function.requests == {}


async def test_no_more_jobs_run_at_once_than_were_allowed(function: Function) -> None:
    event = await function.defer(*["hang"] * 4)

    reported = await function.instance.handle_sqs_event(event, time_left(1.1), concurrency=3)

    assert len(ran) == 3
    assert len(names_in(reported)) == 4


async def test_no_job_starts_after_the_time_of_the_function(
    function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await function.defer(*["hold_the_loop"] * 10)
    loop, passed[0] = asyncio.get_running_loop(), 0.0
    time = loop.time
    monkeypatch.setattr(loop, "time", lambda: time() + passed[0])

    reported = await function.instance.handle_sqs_event(event, time_left(50))

    assert len(ran) == 3
    assert len(names_in(reported)) == 7


async def test_time_in_which_messages_are_read_is_time_of_the_function(function: Function) -> None:
    event = await function.defer("note", "note")
    event["Records"][1]["body"] = "no item"
    function.proxy.script("SendMessageBatch", never_answer)

    reported = names_in(await function.instance.handle_sqs_event(event, time_left(1.3)))

    assert len(reported) == 2
    assert ran == []


async def test_fifo_batch_stops_at_the_first_failure(
    sqs_server: SQSServer, proxy: Proxy, sqs_group: str
) -> None:
    ran.clear()
    function = Function(sqs_server, proxy, f"{sqs_group}.fifo")
    async with function.instance:
        event = await function.defer("note", "fail", "note", "note")
        proxy.script("SendMessageBatch", answer(403, "AccessDenied"), times=20)

        reported = names_in(await function.instance.handle_sqs_event(event, time_left(30)))

    assert ran == [0, 1]
    assert reported == [each["messageId"] for each in event["Records"][1:]]


def test_blocking_instance_handles_events(
    sqs_server: SQSServer, proxy: Proxy, sqs_group: str
) -> None:
    ran.clear()
    factory = SQSBackendFactory(sqs_server.connection(proxy.url), wait_time=0)
    with deferrable.Deferrable(factory.create_backend_for_group(sqs_group)) as instance:
        for job in JOBS.values():
            instance.deferrable(job)
        item = {"messageId": "1", "body": "none", "eventSource": "aws:sqs", "attributes": {}}

        assert instance.handle_sqs_event({"Records": [item]}) == {"batchItemFailures": []}


@pytest.mark.parametrize(
    "event",
    [
        None,
        {},
        {"Records": "none"},
        {"Records": ["none"]},
        {"source": "aws.events", "detail": {}},
    ],
)
async def test_other_events_are_refused(function: Function, event: object) -> None:
    with pytest.raises(InvalidOptions, match="SQS"):
        await function.instance.handle_sqs_event(event)


@pytest.mark.parametrize(
    ("record", "source"),
    [
        ({"EventSource": "aws:sns", "EventVersion": "1.0", "Sns": {"Message": "x"}}, "aws:sns"),
        ({"eventSource": "aws:s3", "s3": {}}, "aws:s3"),
        ({"eventSource": 5}, "5"),
    ],
)
async def test_record_of_another_service_is_named_with_what_to_do(
    function: Function, record: dict[str, object], source: str
) -> None:
    records = [{"messageId": "m0", "body": "x"}, record]

    with pytest.raises(InvalidOptions, match=f"record 2 is of .?{source}.*to the queue.*foreign="):
        await function.instance.handle_sqs_event({"Records": records})


def with_attributes(**attributes: object) -> dict[str, object]:
    return {"attributes": attributes}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"body": None}, "record 2 .*'m1'.* needs 'body', a string, got None"),
        ({"body": 5}, "record 2 .*'m1'.* needs 'body', a string, got 5"),
        ({"body": ...}, "record 2 .*'m1'.* needs 'body', a string, which is missing; .*by hand"),
        ({"messageId": ...}, "record 2 .*None.* needs 'messageId', a string, which is missing"),
        ({"attributes": []}, r"record 2 .* needs 'attributes', an object, got \[\]"),
        ({"eventSourceARN": 5}, "record 2 .* needs 'eventSourceARN', a string, got 5"),
        ({"messageAttributes": ["a"]}, "record 2 .* needs 'messageAttributes', an object, got "),
        (with_attributes(SentTimestamp=None), "'attributes.SentTimestamp', a string, got None"),
        (with_attributes(ApproximateReceiveCount=[2]), r"ReceiveCount', a string, got \[2\]"),
        (
            with_attributes(ApproximateReceiveCount="two"),
            "a whole number from 1 in a string, got 'two'",
        ),
        (
            with_attributes(ApproximateReceiveCount="0"),
            "a whole number from 1 in a string, got '0'",
        ),
        (
            with_attributes(ApproximateReceiveCount="\u0662"),
            "a whole number from 1 in a string, got",
        ),
        (
            with_attributes(ApproximateReceiveCount="9" * 5000),
            "a whole number from 1 in a string, got",
        ),
    ],
)
async def test_record_without_a_field_is_named_with_the_field(
    function: Function, change: dict[str, object], found: str
) -> None:
    records: list[dict[str, object]] = [{"messageId": f"m{i}", "body": "x"} for i in range(2)]
    changed = {**records[1], **change}
    records[1] = {name: value for name, value in changed.items() if value is not ...}

    with pytest.raises(InvalidOptions, match=found):
        await function.instance.handle_sqs_event({"Records": records})


async def test_record_may_have_null_for_what_may_be_missing(function: Function) -> None:
    event = await function.defer("note")
    for name in ("attributes", "messageAttributes", "eventSourceARN"):
        event["Records"][0][name] = None

    answer = await function.instance.handle_sqs_event(event, time_left(30))

    assert (answer, ran) == ({"batchItemFailures": []}, [0])


async def test_event_of_another_queue_and_a_wrong_context_are_refused(function: Function) -> None:
    event = await function.defer("note")

    with pytest.raises(InvalidOptions, match="context"):
        await function.instance.handle_sqs_event(event, "context")
    event["Records"][0]["eventSourceARN"] = ARN + "others"
    with pytest.raises(InvalidOptions, match="'others'"):
        await function.instance.handle_sqs_event(event)


async def test_other_backends_say_that_nobody_hands_over_their_items() -> None:
    instance = Deferrable(awaiting.InMemoryBackendFactory().create_backend_for_group(None))

    with pytest.raises(Unsupported, match="SQSBackendFactory"):
        await instance.handle_sqs_event({"Records": []})
