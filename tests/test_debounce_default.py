"""Where debounce windows are kept when nobody names a place."""

from collections.abc import AsyncIterator

import pytest
from dockets_place import Place
from redis_server import RedisServer

import deferrable
import deferrable.backend
from deferrable.aio import Deferrable
from deferrable.aio import backend as awaiting
from deferrable.aio.backend.base import Backend
from deferrable.aio.debounce import InMemoryDebounceStore
from deferrable.errors import InvalidOptions
from deferrable.testing import MovingClock

pytestmark = pytest.mark.anyio


def nothing(what: str) -> None:
    """Deferred only."""


@pytest.fixture
async def place(redis_server: RedisServer) -> AsyncIterator[Place]:
    place = Place(redis_server)
    yield place
    await place.close()


def windows(place: Place) -> list[bytes]:
    return [key for key in place.redis.keys("deferrable.debounce.*") if place.redis.ttl(key) > 60]


async def test_a_redis_backend_keeps_windows_in_its_redis(place: Place) -> None:
    place.redis.flushall()
    instance = Deferrable(place.backend(clock=None))
    job = instance.deferrable(debounce_seconds=99)(nothing)

    statuses = [(await job.later_async("x")).status for _ in range(3)]

    assert statuses == ["pushed", "delayed", "skipped"]
    assert len(windows(place)) == 1


async def test_producers_with_backends_of_their_own_share_windows(place: Place) -> None:
    jobs = [
        Deferrable(place.backend(clock=None)).deferrable(debounce_seconds=99)(nothing)
        for _ in range(3)
    ]

    assert [(await job.later_async("x")).status for job in jobs] == ["pushed", "delayed", "skipped"]


async def test_signed_items_are_debounced_too(place: Place) -> None:
    instance = Deferrable(place.backend(clock=None), signing_keys=["a secret of 16 bytes"])
    job = instance.deferrable(debounce_seconds=99)(nothing)

    statuses = [(await job.later_async("x")).status for _ in range(3)]
    await instance.close()

    assert statuses == ["pushed", "delayed", "skipped"]


async def test_windows_follow_the_clock_of_the_backend(place: Place) -> None:
    job = Deferrable(place.backend()).deferrable(debounce_seconds=9)(nothing)
    await job.later_async("x")

    place.clock.advance(10)

    assert (await job.later_async("x")).status == "pushed"


async def test_the_blocking_api_keeps_windows_in_the_redis_of_its_backend(place: Place) -> None:
    factory = deferrable.backend.DocketsBackendFactory(place.server.url)
    instance = deferrable.Deferrable(factory.create_backend_for_group(place.group))
    job = instance.deferrable(debounce_seconds=99)(nothing)

    statuses = [job.later("x").status for _ in range(3)]
    instance.close()

    assert statuses == ["pushed", "delayed", "skipped"]


async def test_an_in_memory_backend_keeps_windows_in_memory() -> None:
    clock = MovingClock()
    factory = awaiting.InMemoryBackendFactory(clock=clock)
    jobs = [
        Deferrable(factory.create_backend_for_group("g")).deferrable(debounce_seconds=9)(nothing)
        for _ in range(3)
    ]

    statuses = [(await job.later_async("x")).status for job in jobs]
    clock.advance(30)

    assert statuses == ["pushed", "delayed", "skipped"]
    assert (await jobs[0].later_async("x")).status == "pushed"


async def test_a_store_that_is_named_is_used_instead() -> None:
    store = InMemoryDebounceStore()
    instance = Deferrable(
        awaiting.InMemoryBackendFactory().create_backend_for_group(None), debounce_store=store
    )

    await instance.deferrable(debounce_seconds=9)(nothing).later_async("x")

    assert len(store) == 1
    assert instance.debounce_store is store


def without_store() -> Backend:
    backend = awaiting.InMemoryBackendFactory().create_backend_for_group(None)
    return Backend(None, backend.queue, backend.error_queue)


def test_a_backend_without_a_store_refuses_debounce_where_it_is_written() -> None:
    with pytest.raises(InvalidOptions, match=r"cannot keep debounce windows.*redis_client="):
        Deferrable(without_store()).deferrable(debounce_seconds=9)(nothing)


def test_sqs_refuses_debounce_without_a_place_for_its_windows() -> None:
    backend = awaiting.SQSBackendFactory(region_name="eu-west-1").create_backend_for_group(None)

    with pytest.raises(InvalidOptions, match=r"cannot keep debounce windows.*redis_client="):
        Deferrable(backend).deferrable(debounce_seconds=9)(nothing)

    store = InMemoryDebounceStore()
    Deferrable(backend, debounce_store=store).deferrable(debounce_seconds=9)(nothing)


async def test_a_backend_without_a_store_that_is_set_later_refuses_the_call() -> None:
    instance = Deferrable(awaiting.InMemoryBackendFactory().create_backend_for_group(None))
    job = instance.deferrable(debounce_seconds=9)(nothing)

    instance.backend = without_store()

    with pytest.raises(InvalidOptions, match="redis_client="):
        await job.later_async("x")
