"""Which events an instance emits, in which order, when, and what a handler may do."""

import asyncio
import contextvars
import json
import threading
from typing import Any, NoReturn
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest
from faces import Face, Kind, MakeFace, as_kind, wait_here

from deferrable.aio import InMemoryDebounceStore
from deferrable.errors import BackendError
from deferrable.events import EVENTS, check_event_consumer
from deferrable.item import Item
from deferrable.metadata import MetadataProducerConsumer

pytestmark = pytest.mark.anyio

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="none")


class Broken(Exception):
    pass


def fail() -> NoReturn:
    raise Broken("no")


def succeed() -> str:
    return "done"


def test_the_events_are_those_that_are_documented() -> None:
    assert sorted(EVENTS) == [
        "cancel",
        "complete",
        "debounce_error",
        "debounce_hit",
        "debounce_miss",
        "duplicate",
        "empty",
        "error",
        "expire",
        "hop",
        "lease_lost",
        "overrun",
        "pop",
        "push",
        "release",
        "retry",
    ]


# One event table, for every outcome.


async def test_success_is_pop_complete(face: Face, kind: Kind) -> None:
    await face.later(face.job(as_kind(kind, succeed)))
    face.record_events()

    await face.run()

    assert face.event_names == ["pop", "complete"]


async def test_a_retry_is_pop_retry_complete(face: Face, kind: Kind) -> None:
    await face.later(face.job(as_kind(kind, fail), error_classes=[Broken]))
    face.record_events()

    await face.run()

    assert face.event_names == ["pop", "retry", "complete"]


async def test_an_error_is_pop_error_complete(face: Face, kind: Kind) -> None:
    await face.later(face.job(as_kind(kind, fail)))
    face.record_events()

    await face.run()

    assert face.event_names == ["pop", "error", "complete"]


async def test_an_item_that_cannot_be_read_is_pop_error_complete(face: Face) -> None:
    await face.broker.queue.push({"serializer": "unknown"})
    face.record_events()

    await face.run()

    assert face.event_names == ["pop", "error", "complete"]


async def test_an_expired_item_is_pop_expire_complete(face: Face) -> None:
    await face.later(face.job(succeed, ttl_seconds=1))
    face.record_events()
    face.clock.advance(2)

    await face.run()

    assert face.event_names == ["pop", "expire", "complete"]


async def test_a_lost_lease_is_pop_lease_lost_and_never_complete(face: Face, kind: Kind) -> None:
    job = face.job(as_kind(kind, lambda: face.clock.advance(31)), name="lose")
    await face.later(job)
    face.record_events()

    await face.run()

    assert face.event_names == ["pop", "lease_lost"]


async def test_an_expired_item_whose_lease_is_lost_is_not_complete(face: Face) -> None:
    class Slow:
        def on_pop(self, item: Item) -> None:
            face.clock.advance(31)

    await face.later(face.job(succeed, ttl_seconds=1))
    face.record_events()
    face.instance.register_event_consumer(Slow())
    face.clock.advance(2)

    await face.run()

    assert face.event_names == ["pop", "lease_lost"]


async def test_a_released_item_is_pop_release(face: Face, kind: Kind) -> None:
    def leave() -> NoReturn:
        raise SystemExit

    await face.later(face.job(as_kind(kind, leave)))
    face.record_events()

    with pytest.raises(SystemExit):
        await face.run()

    assert face.event_names == ["pop", "release"]


async def test_an_item_that_is_not_due_is_hop(face: Face) -> None:
    await face.later(face.job(succeed, delay_seconds=60))
    face.clock.advance(60)
    item = await face.take()
    assert item is not None
    await face.broker.queue.push({**item, "delay": 0, "due_time": face.clock.time() + 50})
    face.record_events()

    await face.run()

    assert face.event_names == ["hop"]


@pytest.mark.parametrize(
    ("error_classes", "end"), [([Broken], ["retry", "complete"]), ([], ["error", "complete"])]
)
async def test_a_plain_function_over_its_time_is_overrun_and_then_as_it_ends(
    face: Face, error_classes: Any, end: list[str]
) -> None:
    def overrun() -> NoReturn:
        face.clock.advance(6)
        if not face.is_blocking:  # there, the event waits until this thread is back
            wait_here(lambda: "overrun" in face.event_names, "the overrun was told")
        fail()

    await face.later(face.job(overrun, timeout_seconds=5, error_classes=error_classes))
    face.record_events()

    await face.run()

    assert face.event_names == ["pop", "overrun", *end]


async def test_nothing_there_is_empty_without_an_item(face: Face) -> None:
    face.record_events()

    await face.run_once()

    assert face.events == [("empty", None)]


async def test_a_plain_later_is_push(face: Face) -> None:
    face.record_events()

    await face.later(face.job(succeed, delay_seconds=5))

    assert face.event_names == ["push"]


async def test_a_debounced_later_is_miss_push_then_miss_push_then_hit(make_face: MakeFace) -> None:
    face = make_face(debounce_store=InMemoryDebounceStore())
    job = face.job(succeed, debounce_seconds=100)
    face.record_events()

    for _ in range(3):
        await face.later(job)

    assert face.event_names == ["debounce_miss", "push", "debounce_miss", "push", "debounce_hit"]


async def test_many_calls_are_a_push_each(face: Face) -> None:
    face.record_events()
    job = face.job(succeed)

    receipts = await face.later_many(job, [(), ()])

    assert [(event, item and item["id"]) for event, item in face.events] == [
        ("push", receipts[0].id),
        ("push", receipts[1].id),
    ]


async def test_a_push_that_failed_is_no_event(face: Face) -> None:
    face.record_events()
    face.faults.drop("push")

    with pytest.raises(BackendError):
        await face.later(face.job(succeed))

    assert face.events == []


@pytest.mark.parametrize("function", [succeed, fail])
async def test_a_settlement_that_failed_is_no_event(face: Face, function: Any) -> None:
    await face.later(face.job(function))
    face.record_events()
    face.faults.fail_before("complete")
    face.faults.fail_before("replace")

    with pytest.raises(BackendError):
        await face.run()

    assert face.event_names == ["pop"]


# When, and with what.


async def test_events_come_after_the_operation_that_they_name(face: Face) -> None:
    seen: list[tuple[str, tuple[int, int, int], int]] = []

    class Looker:
        async def look(self, event: str) -> None:
            errors = (await face.broker.error_queue.stats())["available"]
            seen.append((event, await face.stats(), errors))

        async def on_push(self, item: Item) -> None:
            await self.look("push")

        async def on_pop(self, item: Item) -> None:
            await self.look("pop")

        async def on_retry(self, item: Item) -> None:
            await self.look("retry")

        async def on_error(self, item: Item) -> None:
            await self.look("error")

        async def on_complete(self, item: Item) -> None:
            await self.look("complete")

    face.instance.register_event_consumer(Looker())
    await face.later(face.job(fail, error_classes=[Broken], max_attempts=2))
    await face.run()
    face.clock.advance(4)
    await face.run()

    assert seen == [
        ("push", (1, 0, 0), 0),
        ("pop", (0, 1, 0), 0),
        ("retry", (0, 0, 1), 0),
        ("complete", (0, 0, 1), 0),
        ("pop", (0, 1, 0), 0),
        ("error", (0, 0, 0), 1),
        ("complete", (0, 0, 0), 1),
    ]


async def test_the_events_of_a_retry_and_an_error_tell_of_the_copy(face: Face) -> None:
    await face.later(face.job(fail, error_classes=[Broken], max_attempts=2))
    face.record_events()
    await face.run()
    face.clock.advance(4)
    await face.run()

    told = {event: item for event, item in face.events if item is not None}

    assert told["retry"]["attempts"] == 1
    assert told["error"]["error"]["error_type"] == "Broken"
    assert "error" not in told["complete"]


async def test_consumers_are_told_in_the_order_of_registration(face: Face) -> None:
    told: list[int] = []

    class Numbered:
        def __init__(self, number: int) -> None:
            self.number = number

        def on_push(self, item: Item) -> None:
            told.append(self.number)

    for number in range(3):
        face.instance.register_event_consumer(Numbered(number))

    await face.later(face.job(succeed))

    assert told == [0, 1, 2]


async def test_consumers_that_were_cleared_hear_nothing(face: Face) -> None:
    face.record_events()
    face.instance.clear_event_consumers()

    await face.later(face.job(succeed))

    assert face.events == []


async def test_a_handler_runs_in_the_thread_that_called(face: Face) -> None:
    threads: set[int] = set()

    class Here:
        def on_push(self, item: Item) -> None:
            threads.add(threading.get_ident())

        on_pop = on_retry = on_complete = on_push

    face.instance.register_event_consumer(Here())
    await face.later(face.job(fail, error_classes=[Broken]))
    await face.run()

    assert threads == {threading.get_ident()}


async def test_a_handler_sees_the_attempts_context_and_changes_nothing_in_it(
    face: Face, kind: Kind
) -> None:
    class Consumer(MetadataProducerConsumer):
        NAMESPACE = "consumer"

        def consume_metadata(self, metadata: Any) -> None:
            request_id.set("the attempt's")

    seen: list[str] = []

    def look(item: Item) -> None:
        seen.append(request_id.get())
        request_id.set("the handler's")

    face.instance.register_metadata_producer_consumer(Consumer())
    await face.later(face.job(succeed))
    face.instance.register_event_consumer(
        Mock(spec=["on_pop", "on_complete"], on_pop=look, on_complete=as_kind(kind, look))
    )
    face.instance.register_event_consumer(Mock(spec=["on_complete"], on_complete=look))

    await face.run()

    assert seen == ["none", "the attempt's", "the attempt's"]
    assert request_id.get() == "none"


async def test_an_async_handler_runs_on_the_awaiting_loop(face: Face) -> None:
    loops: set[bool] = set()

    class Here:
        async def on_push(self, item: Item) -> None:
            await asyncio.sleep(0)
            loops.add(asyncio.get_running_loop() is running)

        on_pop = on_complete = on_push

    running = asyncio.get_running_loop()
    face.instance.register_event_consumer(Here())
    await face.later(face.job(succeed))
    await face.run()

    assert loops == {not face.is_blocking}


def test_a_handler_of_the_blocking_face_may_block_on_the_library_itself() -> None:
    face = Face("blocking")
    stats: list[Any] = []

    class Caller:
        def on_pop(self, item: Item) -> None:
            stats.append(face.instance.backend.queue.stats()["in_flight"])
            other.later()

    job, other = face.job(succeed), face.job(succeed, name="other")
    job.later()
    face.instance.register_event_consumer(Caller())

    face.instance.run_once()

    assert stats == [1]
    assert face.instance.backend.queue.stats()["available"] == 1


# Handlers that misbehave.


class Raising:
    """Raises at every event, and when it is looked at."""

    def __init__(self, error: BaseException, is_async: bool) -> None:
        self.error = error
        self.is_async = is_async
        self.told: list[str] = []

    def __repr__(self) -> NoReturn:
        raise self.error

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)

        def handler(item: Item | None) -> NoReturn:
            self.told.append(name[3:])
            raise self.error

        return as_kind("async" if self.is_async else "plain", handler)


OWN_ERRORS = [
    Broken("own"),
    StopIteration(),
    asyncio.CancelledError("own"),
    ExceptionGroup("own", [Broken()]),
]


@pytest.mark.parametrize("error", OWN_ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_handler_that_raises_at_every_event_changes_nothing_and_is_named(
    face: Face, error: BaseException, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = Raising(error, is_async)
    face.instance.register_event_consumer(consumer)
    face.record_events()
    job = face.job(fail, error_classes=[Broken], max_attempts=2)

    await face.later(job)
    statuses = [(await face.run()).status]
    face.clock.advance(4)
    statuses.append((await face.run()).status)
    buried = await face.take_error()

    assert statuses == ["retried", "errored"]
    assert buried is not None
    assert buried["error"]["error_type"] == "Broken"
    assert consumer.told == face.event_names
    assert "Raising.on_pop failed" in caplog.text
    assert await face.items() == []


async def test_a_handler_that_cannot_even_be_looked_up_changes_nothing(face: Face) -> None:
    class Hidden:
        def __getattr__(self, name: str) -> NoReturn:
            raise Broken(name)

    face.instance.register_event_consumer(Hidden())
    await face.later(face.job(succeed))

    assert (await face.run()).status == "completed"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("door", ["awaiting", "blocking"])
@pytest.mark.parametrize("event", ["pop", "complete", "push"])
def test_a_handler_that_ends_the_process_does_so_and_loses_nothing(
    door: Any,
    is_async: bool,
    error: type[BaseException],
    event: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    face = Face(door)
    consumer = Mock(spec=[f"on_{event}"])
    make = AsyncMock if is_async else Mock
    setattr(consumer, f"on_{event}", make(side_effect=error))
    face.instance.register_event_consumer(consumer)
    face.record_events()
    job = face.job(succeed)

    async def main() -> int:
        caught = 0
        for step in (lambda: face.later(job), face.run):
            try:
                await step()
            except error:
                caught += 1
        return caught

    caught: int = asyncio.run(main())
    items = asyncio.run(face.items())

    assert caught == 1
    assert len(items) == (1 if event == "pop" else 0)
    assert "could not be released" not in caplog.text
    if event == "pop":
        assert face.event_names == ["push", "release"]


@pytest.mark.parametrize("make", [Mock, MagicMock, AsyncMock])
async def test_a_mock_is_an_event_consumer(face: Face, make: Any) -> None:
    consumer = make()
    face.instance.register_event_consumer(consumer)
    await face.later(face.job(succeed))

    outcome = await face.run()

    assert outcome.status == "completed"
    consumer.on_push.assert_called_once()
    consumer.on_pop.assert_called_once_with(outcome.item)
    consumer.on_retry.assert_not_called()


async def test_handlers_may_be_plain_values_or_missing(
    face: Face, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd:
        on_pop = "not callable"

    face.instance.register_event_consumer(Odd())
    await face.later(face.job(succeed))

    assert (await face.run()).status == "completed"
    assert caplog.text == ""


@pytest.mark.parametrize("name", ["on_expired", "on_popped", "on_", "on_pop_"])
async def test_a_handler_of_no_event_is_refused_at_registration(face: Face, name: str) -> None:
    consumer = type("Consumer", (), {name: lambda self, item: None})()

    with pytest.raises(ValueError, match=f"Consumer.{name} would never be called") as caught:
        face.instance.register_event_consumer(consumer)

    assert "lease_lost" in str(caught.value)


def test_a_consumer_with_other_methods_is_fine() -> None:
    consumer = type("Consumer", (), {"one": 1, "on_list": [], "once": lambda self: None})()

    check_event_consumer(consumer)


async def test_an_item_that_is_nested_deeply_is_told_of(face: Face) -> None:
    nested: list[Any] = []
    for _ in range(200):
        nested = [nested]
    job = face.job(succeed)
    await face.later(job)
    item = await face.take()
    assert item is not None
    await face.broker.queue.push({**item, "nested": nested})
    face.record_events()

    outcome = await face.run()

    assert outcome.status == "completed"
    assert json.dumps(face.events[0][1]) == json.dumps(outcome.item)
