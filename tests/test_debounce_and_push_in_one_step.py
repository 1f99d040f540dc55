"""A debounced ``later`` where windows and queue are one Redis: the engine's side of it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio
from redis_server import unique_group

from deferrable import MetadataProducerConsumer
from deferrable.aio import Deferrable
from deferrable.aio.backend import DocketsBackendFactory, InMemoryBackendFactory
from deferrable.aio.backend._redis.debounce import RedisDebounceStore
from deferrable.aio.debounce import InMemoryDebounceStore
from deferrable.debounce import identity_of_key
from deferrable.testing import MovingClock

pytestmark = pytest.mark.anyio


class Producer(MetadataProducerConsumer):
    NAMESPACE = "producer"

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def produce_metadata(self) -> str:
        self.asked += 1
        return "the web"


class Recorder:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def on_push(self, item: dict[str, Any]) -> None:
        self.events.append(("push", item))

    def on_debounce_hit(self, item: dict[str, Any]) -> None:
        self.events.append(("debounce_hit", item))

    def on_debounce_error(self, item: dict[str, Any]) -> None:
        self.events.append(("debounce_error", item))

    def on_debounce_miss(self, item: dict[str, Any]) -> None:
        self.events.append(("debounce_miss", item))


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture
async def instance(redis_url: str, clock: MovingClock) -> AsyncIterator[Deferrable]:
    factory = DocketsBackendFactory(redis_url, wait_time=0, clock=clock)
    backend = factory.create_backend_for_group(unique_group())
    async with Deferrable(backend, redis_client=redis_url, clock=clock) as made:
        made.register_metadata_producer_consumer(Producer())
        yield made


async def count(shelf: str) -> None:
    """What is debounced here."""


def debounced(instance: Deferrable, **options: Any) -> Any:
    return instance.deferrable(debounce_seconds=30, name="count", **options)(count)


async def test_one_is_pushed_one_delayed_and_the_rest_skipped(
    instance: Deferrable, clock: MovingClock
) -> None:
    job = debounced(instance)

    first, *others = [await job.later_async("B") for _ in range(4)]

    start = clock.time()
    assert (first.status, first.available_time) == ("pushed", start)
    assert [other.status for other in others] == ["delayed", "skipped", "skipped"]
    assert {other.available_time for other in others} == {start + 30}
    assert [other.id is None for other in others] == [False, True, True]


async def test_fifty_at_once_push_one_and_delay_one(instance: Deferrable) -> None:
    job = debounced(instance)

    receipts = await asyncio.gather(*(job.later_async("B") for _ in range(50)))

    statuses = sorted(receipt.status for receipt in receipts)
    assert statuses == ["delayed", "pushed", *["skipped"] * 48]


async def test_the_events_tell_of_the_item_as_it_was_stored(
    instance: Deferrable, clock: MovingClock
) -> None:
    recorder = Recorder()
    instance.register_event_consumer(recorder)
    job = debounced(instance, debounce_always_delay=True)

    await job.later_async("B")
    await job.later_async("B")
    clock.advance(30)
    _, stored = await instance.backend.queue.pop()

    names = [name for name, _ in recorder.events]
    assert names == ["debounce_miss", "push", "debounce_hit"]
    assert recorder.events[1][1] == stored
    assert stored is not None
    assert (stored["delay"], stored["due_time"]) == (30, clock.time())


async def test_metadata_travels_with_it(instance: Deferrable) -> None:
    await debounced(instance).later_async("B")
    _, stored = await instance.backend.queue.pop()

    assert stored is not None
    assert instance.serializer.load_value(stored["encoded_metadata"]["producer"]) == "the web"


async def test_no_window_is_reserved_where_one_step_decides_and_pushes(
    instance: Deferrable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(RedisDebounceStore, "reserve")

    receipt = await debounced(instance).later_async("B")

    assert receipt.status == "pushed"
    assert (await instance.backend.queue.stats())["available"] == 1


async def test_a_call_at_the_very_end_of_its_window_is_pushed_and_told_so(
    instance: Deferrable, clock: MovingClock
) -> None:
    job = debounced(instance)
    await job.later_async("B")
    clock.advance(30)

    receipt = await job.later_async("B")

    assert receipt.status == "pushed"
    assert (await instance.backend.queue.stats())["available"] == 2


async def test_a_window_that_is_no_window_does_not_stop_the_push(
    instance: Deferrable, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    instance.register_event_consumer(recorder)
    producer = Producer()
    instance.clear_metadata_producer_consumers()
    instance.register_metadata_producer_consumer(producer)
    job = debounced(instance, debounce_key=lambda shelf: shelf)
    key = identity_of_key(instance.backend.group, job.name, "B")
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.set(f"deferrable.debounce.{key}", "no hash")

    receipt = await job.later_async("B")

    assert receipt.status == "pushed"
    assert [name for name, _ in recorder.events] == ["debounce_error", "push"]
    assert "it is pushed at once" in caplog.text
    assert producer.asked == 1


async def test_windows_kept_elsewhere_are_reserved_there(
    instance: Deferrable, clock: MovingClock
) -> None:
    instance.debounce_store = InMemoryDebounceStore(clock)
    job = debounced(instance)

    statuses = [(await job.later_async("B")).status for _ in range(3)]

    assert statuses == ["pushed", "delayed", "skipped"]
    assert (await instance.backend.queue.stats())["delayed"] == 1


@pytest.mark.parametrize("serializer", ["pickle", "classic"])
@pytest.mark.parametrize("place", [DocketsBackendFactory, InMemoryBackendFactory])
async def test_a_window_longer_than_redis_can_count_works_as_any_other(
    redis_url: str, serializer: Any, place: Any, caplog: pytest.LogCaptureFixture
) -> None:
    factory = place(redis_url, wait_time=0) if place is DocketsBackendFactory else place()
    backend = factory.create_backend_for_group(unique_group())
    async with Deferrable(backend, serializer=serializer, redis_client=redis_url) as instance:
        job = instance.deferrable(debounce_seconds=1e300)(count)
        shelf = unique_group()

        receipts = [await job.later_async(shelf) for _ in range(3)]
        stats = await backend.queue.stats()

    assert caplog.messages == []
    assert [receipt.status for receipt in receipts] == ["pushed", "delayed", "skipped"]
    assert (stats["available"], stats["delayed"]) == (1, 1)


async def test_a_lease_longer_than_redis_can_count_is_a_lease(redis_url: str) -> None:
    factory = DocketsBackendFactory(redis_url, wait_time=0, timeout=1e300)
    queue = factory.create_backend_for_group(unique_group()).queue
    await queue.push({"number": 1})

    envelope, item = await queue.pop()
    assert envelope is not None
    await queue.touch(envelope)
    await queue.complete(envelope)
    await queue.close()

    assert item == {"number": 1}
