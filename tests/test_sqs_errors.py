"""The error queue of SQS, and what old producers left in the queues."""

import base64
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqs_server import SQSServer

import deferrable
from deferrable.aio import Deferrable
from deferrable.aio.backend import SQSBackendFactory
from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.sqs._reading import Source, buried_by_sqs
from deferrable.errors import BackendError, ItemTooLarge
from deferrable.testing import MovingClock

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("standing_time")]

LIMIT = 1_048_576


class Place:
    def __init__(self, server: SQSServer, group: str) -> None:
        self.clock = MovingClock()
        self.name = f"deferrable_{group}"
        self._server = server
        factory = SQSBackendFactory(
            server.connection(), wait_time=0, max_receive_count=3, clock=self.clock
        )
        self.backend: Backend = factory.create_backend_for_group(group)

    async def pass_time(self, seconds: float) -> None:
        await self._server.pass_time(self.name, seconds)
        self.clock.advance(seconds)

    def send(self, body: str, end: str = "") -> None:
        """Send a message as somebody else does."""
        client = self._server.client()
        url = client.get_queue_url(QueueName=f"{self.name}{end}")["QueueUrl"]
        client.send_message(QueueUrl=url, MessageBody=body)


@pytest.fixture
async def place(sqs_server: SQSServer, sqs_group: str) -> AsyncIterator[Place]:
    place = Place(sqs_server, sqs_group)
    await place.backend.queue.stats()
    yield place
    await place.backend.close()


async def abandon(place: Place) -> None:
    """Have SQS move what is in the queue to the error queue."""
    for _ in range(4):
        await place.backend.queue.pop()
        await place.pass_time(30)


async def test_item_that_sqs_has_moved_says_why_and_from_where(place: Place) -> None:
    instance = Deferrable(place.backend)
    job = instance.deferrable(name="job")(print)
    receipt = await job.later_async("hello")

    await abandon(place)
    errors = [entry async for entry in instance.errors()]

    (entry,) = errors
    error = entry.item["error"]
    assert entry.item["id"] == receipt.id
    assert error["error_type"] == "TooManyDeliveries"
    assert "after 3 receives (max_receive_count)" in error["error_text"]
    assert place.name in error["error_text"]
    assert set(error) == {"error_type", "error_text", "traceback", "hostname", "ts", "id"}


async def test_item_that_sqs_has_moved_has_the_same_error_at_each_reading(place: Place) -> None:
    await place.backend.queue.push({"id": "1"})
    await abandon(place)

    errors = []
    for _ in range(3):
        _, item = await place.backend.error_queue.pop()
        assert item is not None
        errors.append({**item["error"], "traceback": ""})
        await place.pass_time(30)

    assert errors[0] == errors[1] == errors[2]


async def test_items_of_the_error_queue_are_seen_once_requeued_and_discarded(place: Place) -> None:
    instance = Deferrable(place.backend)
    ran = []

    @instance.deferrable(name="job")
    async def job(number: int) -> None:
        ran.append(number)
        if ran.count(number) == 1:
            raise ValueError("the first time")

    await job.later_many_async([(number,) for number in range(12)])
    while await instance.run_once() is not None:
        pass

    seen = []
    async for entry in instance.errors():
        number = entry.call.args[0]
        seen.append(number)
        await (entry.requeue() if number % 2 else entry.discard())
    while await instance.run_once() is not None:
        pass

    assert sorted(seen) == list(range(12))
    assert sorted(ran) == sorted([*range(12), 1, 3, 5, 7, 9, 11])
    stats = await place.backend.error_queue.stats()
    assert stats["available"] == stats["in_flight"] == 0


def test_blocking_face_goes_through_the_errors(sqs_server: SQSServer, sqs_group: str) -> None:
    factory = deferrable.backend.SQSBackendFactory(sqs_server.connection(), wait_time=0)
    with deferrable.Deferrable(factory.create_backend_for_group(sqs_group)) as instance:
        job = instance.deferrable(name="job")(lambda: 1 / 0)
        job.later()
        instance.run_once()

        names = [entry.item["error"]["error_type"] for entry in instance.errors()]

    assert names == ["ZeroDivisionError"]


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        (Source("q", "behind", 3), "Its consumers crashed, stopped or lost their leases$"),
        (Source("q.fifo", "behind", 3), "Its consumers crashed, .*, or hid it for its backoff"),
        (Source("q.fifo", "block", 3), "Its consumers crashed, .*, or hid it for its backoff"),
        (Source("q", "visibility", 3), "Each of them was a run that failed, or .* crashed"),
    ],
)
def test_item_that_sqs_has_moved_says_no_more_than_is_known(source: Source, cause: str) -> None:
    item = buried_by_sqs({"id": "1"}, {"MessageId": "m"}, source, 5.0)

    assert re.search(rf"SQS moved it here from {source.name} .* 3 receives .*", cause_of(item))
    assert re.search(f"did not complete it. {cause}", cause_of(item))


def cause_of(item: dict[str, Any]) -> str:
    assert item["error"]["error_text"] in item["error"]["traceback"]
    return str(item["error"]["error_text"])


# What is no item.


@pytest.mark.parametrize("body", ["hello", "[1]", '{"a":', "{}x", "gAAA", "s3://elsewhere/1"])
async def test_unreadable_message_goes_to_the_error_queue_whole(
    place: Place, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    place.send(body)
    await place.backend.queue.push({"number": 1})

    popped = []
    while (found := await place.backend.queue.pop_batch(10)) or not popped:
        popped += [item for _, item in found]
    _, buried = await place.backend.error_queue.pop()

    assert popped == [{"number": 1}]
    assert buried is not None
    assert buried["raw"] == body
    assert buried["error"]["error_type"] == "UnreadableItem"
    (line,) = [each for each in caplog.messages if "unreadable" in each]
    assert buried["error"]["id"] in line
    assert buried["error"]["error_text"] in line
    assert (await place.backend.queue.stats())["in_flight"] == 1


async def test_unreadable_message_in_the_error_queue_is_shown_whole(place: Place) -> None:
    place.send("hello", "_error")

    _, item = await place.backend.error_queue.pop()

    assert item is not None
    assert item["raw"] == "hello"


async def test_item_of_python_2_is_read(place: Place) -> None:
    """What Python 2's library pushed with boto, which encoded a body in base64."""
    item = {"id": "1", "method": "cos\nsystem\n", "args": "(t.", "attempts": 0}
    lines = "".join(f"S'{key}'\nS'{value}'\ns" for key, value in item.items())
    pickled = f"(d{lines}.".replace("cos\nsystem\n'", "cos\\nsystem\\n'").replace("'0'", "'0'")
    escaped = pickled.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    place.send(base64.b64encode(escaped.encode()).decode())

    _, popped = await place.backend.queue.pop()

    assert popped is not None
    assert popped["id"] == "1"
    assert popped["args"] == "(t."


# Size.


def item_of(size: int) -> dict[str, Any]:
    """An item whose text has so many bytes."""
    item = {"id": "1", "value": ""}
    return {**item, "value": "x" * (size - len(json.dumps(item, separators=(",", ":"))))}


async def test_item_of_exactly_the_limit_is_pushed(place: Place) -> None:
    item = item_of(LIMIT)

    await place.backend.queue.push(item)

    assert (await place.backend.queue.pop())[1] == item


async def test_item_over_the_limit_is_refused_with_the_number(place: Place) -> None:
    with pytest.raises(ItemTooLarge, match=str(LIMIT + 1)):
        await place.backend.queue.push(item_of(LIMIT + 1))

    assert (await place.backend.queue.stats())["available"] == 0


async def test_bytes_are_counted_not_characters(place: Place) -> None:
    with pytest.raises(ItemTooLarge):
        await place.backend.queue.push({"value": "é" * (LIMIT // 3)})


async def test_batches_are_split_by_bytes(place: Place) -> None:
    items = [item_of(400_000) for _ in range(6)]
    before = (await place.backend.queue.stats())["requests"]

    answers = await place.backend.queue.push_batch(items)

    after = (await place.backend.queue.stats())["requests"]
    assert [ok for _, ok in answers] == [True] * 6
    # It has asked once what the queue takes.
    assert after - before == 1 + 3 + 1


async def is_taken(job: Any, argument: bytes) -> bool:
    """Whether a call is not too large; it is deferred then."""
    try:
        await job.later_async(argument)
    except ItemTooLarge:
        return False
    return True


@pytest.mark.parametrize("is_retried", [False, True])
async def test_job_near_the_limit_is_retried_and_buried_with_its_call(
    place: Place, is_retried: bool
) -> None:
    instance = Deferrable(place.backend)

    @instance.deferrable(
        name="job", error_classes=[ValueError] if is_retried else None, max_attempts=2
    )
    async def fail(text: bytes) -> None:
        raise ValueError("why " * 500)

    size = int((LIMIT - 300) * 0.75)
    while not await is_taken(fail, b"x" * size):
        size -= 6

    statuses = []
    while (outcome := await instance.run_once()) is not None:
        statuses.append(outcome.status)
        await place.pass_time(10)
    (entry,) = [entry async for entry in instance.errors()]

    assert statuses == (["retried", "errored"] if is_retried else ["errored"])
    assert len(entry.call.args[0]) == size
    assert entry.item["error"]["error_type"] == "ValueError"


# Flush.


async def test_second_flush_within_a_minute_says_when(place: Place) -> None:
    await place.backend.queue.flush()

    with pytest.raises(BackendError, match="flush again in 60 s"):
        await place.backend.queue.flush()
