"""Who holds a message of SQS, until when, and what a stop does about it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqs_proxy import Answer, Exchange, Proxy, fail_entries
from sqs_server import SQSServer

from deferrable.aio import Deferrable
from deferrable.aio.backend import SQSBackendFactory
from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.sqs import _receiving as _sqs_receiving
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Queue
from deferrable.errors import LeaseLost, Unsupported
from deferrable.testing import MovingClock, wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("standing_time")]

HALF_A_DAY = 43_200


class Place:
    """A backend behind a proxy, whose clock and messages a test moves together."""

    def __init__(self, server: SQSServer, proxy: Proxy, group: str, **settings: Any) -> None:
        self.server = server
        self.proxy = proxy
        self.clock = MovingClock()
        self.group = group
        connection = server.connection(proxy.url)
        factory = SQSBackendFactory(connection, clock=self.clock, **{"wait_time": 0, **settings})
        self.backend: Backend = factory.create_backend_for_group(group)
        self.queue: Queue = self.backend.queue

    async def pass_time(self, seconds: float) -> None:
        await self.server.pass_time(f"deferrable_{self.group}", seconds)
        self.clock.advance(seconds)

    async def hold(self, count: int = 1) -> list[Envelope]:
        """Push items and pop them."""
        await self.queue.push_each([{"number": number} for number in range(count)])
        envelopes: list[Envelope] = []
        while len(envelopes) < count:
            envelopes += [each for each, _ in await self.queue.pop_batch(min(10, count))]
        return envelopes

    def visibilities(self) -> list[int]:
        """What was asked for, entry by entry."""
        batches = self.proxy.sent("ChangeMessageVisibilityBatch")
        return [entry["VisibilityTimeout"] for batch in batches for entry in batch.entries]


@pytest.fixture
async def place(sqs_server: SQSServer, proxy: Proxy, sqs_group: str) -> AsyncIterator[Place]:
    place = Place(sqs_server, proxy, sqs_group)
    yield place
    await place.backend.close()


# The beginning and the end of a lease.


async def test_lease_begins_before_the_receive_was_sent(place: Place) -> None:
    await place.queue.push({"number": 1})
    start_time = place.clock.time()
    place.proxy.script("ReceiveMessage", moving(place.clock, 5))

    envelope, _ = await place.queue.pop()

    assert envelope is not None
    assert envelope.lease_end_time == start_time + place.queue.lease_seconds


def moving(clock: MovingClock, seconds: float) -> Any:
    """The answer is on its way for so long."""

    async def fault(exchange: Any) -> Any:
        answer = await exchange.forward()
        clock.advance(seconds)
        return answer

    return fault


async def test_lease_of_what_came_after_a_long_wait_is_not_over_already(
    sqs_server: SQSServer, proxy: Proxy, sqs_group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sqs_receiving, "_LOOK_SECONDS", 0.001)
    place = Place(sqs_server, proxy, sqs_group, wait_time=20, visibility_timeout=10)
    await place.queue.stats()
    popping = asyncio.create_task(place.queue.pop())
    await wait_until(lambda: proxy.counts["ReceiveMessage"], "it waits")

    place.clock.advance(15)
    await place.queue.stats()  # It looks for an answer more than once meanwhile.
    await place.queue.stats()
    await place.queue.push({"number": 1})
    envelope, _ = await popping

    assert envelope is not None
    await place.queue.complete(envelope)
    await place.backend.close()


async def test_part_of_a_second_is_rounded_up(
    sqs_server: SQSServer, proxy: Proxy, sqs_group: str
) -> None:
    place = Place(sqs_server, proxy, sqs_group, visibility_timeout=1.5)
    (envelope,) = await place.hold()

    await place.queue.touch(envelope, 2.25)
    await place.queue.release(envelope, 0.5)

    (receive,) = proxy.sent("ReceiveMessage")
    assert receive.body["VisibilityTimeout"] == 2
    assert place.visibilities() == [3, 1]
    await place.backend.close()


async def test_settlement_whose_lease_ends_on_its_way_is_not_sent(place: Place) -> None:
    """As when a push before it took long; SQS would delete by a stale handle."""
    (envelope,) = await place.hold()
    place.proxy.script("SendMessageBatch", moving(place.clock, 60))

    with pytest.raises(LeaseLost):
        await place.queue.replace(envelope, {"number": 2})

    assert place.proxy.counts["DeleteMessageBatch"] == 0


@pytest.mark.parametrize(
    "code", ["ReceiptHandleIsInvalid", "MessageNotInflight", "AWS.SQS.InvalidParameterValue"]
)
@pytest.mark.parametrize("verb", ["touch", "complete", "release"])
async def test_lost_handle_is_a_lost_lease_and_not_tried_again(
    place: Place, code: str, verb: str
) -> None:
    (envelope,) = await place.hold()
    action = "DeleteMessageBatch" if verb == "complete" else "ChangeMessageVisibilityBatch"
    place.proxy.script(action, fail_entries([0], code, is_senders=True))

    with pytest.raises(LeaseLost):
        await getattr(place.queue, verb)(envelope)

    assert place.proxy.counts[action] == 1


# The maximum.


async def test_touch_beyond_half_a_day_is_refused(place: Place) -> None:
    (envelope,) = await place.hold()

    with pytest.raises(Unsupported, match="43200"):
        await place.queue.touch(envelope, HALF_A_DAY + 1)

    await place.queue.touch(envelope, HALF_A_DAY - 60)
    assert place.visibilities() == [HALF_A_DAY - 60]


async def all_done(exchange: Exchange) -> Answer:
    """As SQS answers; moto counts the maximum from when the message was sent."""
    done = [{"Id": entry["Id"]} for entry in exchange.request.entries]
    return Answer(200, json.dumps({"Successful": done}).encode())


@pytest.mark.parametrize("kind", ["run_once", "worker"])
async def test_heartbeats_stop_at_half_a_day_with_a_warning_before(
    sqs_server: SQSServer,
    proxy: Proxy,
    sqs_group: str,
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    place = Place(sqs_server, proxy, sqs_group, visibility_timeout=7200)
    proxy.script("ChangeMessageVisibilityBatch", all_done, times=1000)
    instance = Deferrable(place.backend)
    has_started, has_ended = asyncio.Event(), asyncio.Event()

    @instance.deferrable(name="job")
    async def hang() -> None:
        has_started.set()
        try:
            await asyncio.Event().wait()
        finally:
            has_ended.set()

    await hang.later_async()
    begin_time = place.clock.time()
    running = asyncio.create_task(run(instance, kind))
    await has_started.wait()

    await wait_until(lambda: place.clock.pending, "its heartbeat sleeps")
    while not has_ended.is_set():
        asleep = place.clock.pending
        place.clock.advance(600)
        await wait_until(
            lambda asleep=asleep: has_ended.is_set() or place.clock.pending >= asleep,  # type: ignore[misc]
            "what was woken sleeps again, or the job has ended",
        )

    assert await running == "lost"
    assert HALF_A_DAY <= place.clock.time() - begin_time <= HALF_A_DAY + 600
    assert (
        len([each for each in caplog.messages if "SQS gives it to another consumer" in each]) == 1
    )
    held_until = max(place.visibilities())
    assert held_until == 7200
    await place.backend.close()


async def run(instance: Deferrable, kind: str) -> str:
    """The status of one attempt."""
    if kind == "run_once":
        outcome = await instance.run_once()
        assert outcome is not None
        return outcome.status
    async with instance.worker(concurrency=1) as worker:
        async for outcome in worker:
            return outcome.status
    raise AssertionError("no outcome")


# Heartbeats.


async def test_running_and_buffered_items_are_kept_in_batches_of_ten(place: Place) -> None:
    instance = Deferrable(place.backend)
    is_over, started = asyncio.Event(), []

    @instance.deferrable(name="job")
    async def wait() -> None:
        started.append(1)
        await is_over.wait()

    await wait.later_many_async([() for _ in range(25)])
    async with instance.worker(concurrency=25) as worker:
        await wait_until(lambda: len(started) == 25, "all are running")
        place.clock.advance(10)
        await wait_until(lambda: len(place.visibilities()) == 25, "all are kept")
        batches = place.proxy.counts["ChangeMessageVisibilityBatch"]
        is_over.set()
        for _ in range(25):
            assert (await anext(worker)).status == "completed"

    assert batches == 3


async def test_lost_handle_cancels_the_job_and_is_not_settled(place: Place) -> None:
    instance = Deferrable(place.backend)

    @instance.deferrable(name="job")
    async def hang() -> None:
        await asyncio.Event().wait()

    await hang.later_async()
    place.proxy.script(
        "ChangeMessageVisibilityBatch",
        fail_entries([0], "ReceiptHandleIsInvalid", is_senders=True),
    )
    running = asyncio.create_task(instance.run_once())
    await wait_until(lambda: place.clock.pending, "its heartbeat sleeps")
    place.clock.advance(10)
    outcome = await running

    assert outcome is not None
    assert outcome.status == "lost"
    assert place.proxy.counts["ChangeMessageVisibilityBatch"] == 1
    assert place.proxy.counts["DeleteMessageBatch"] == 0
