"""Items that are too large for a queue in Redis: by its own limit, or by the server's."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import redis
from faces import wait_here
from redis.asyncio import Connection
from redis_server import KINDS, RedisServer, find_kind, start_redis, unique_group

import deferrable
import deferrable.aio
from deferrable import backend as blocking_backend
from deferrable.aio import backend as awaiting_backend
from deferrable.aio.backend._redis.connection import open_connection
from deferrable.aio.backend._redis.errors import Unread, ends_connection
from deferrable.errors import BackendError, InvalidOptions, ItemTooLarge

pytestmark = pytest.mark.anyio

LIMIT = 1024 * 1024
"""The lowest that a server can be set to."""
TOO_LARGE = "x" * 3_000_000


@pytest.fixture(scope="module", params=KINDS)
def small_redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server of each kind that takes values of at most 1 MB."""
    config = {"proto-max-bulk-len": str(LIMIT)}
    with start_redis(config=config, program=find_kind(request.param)) as server:
        yield server


def keep(number: int, data: str = "") -> int:
    return number


def awaiting(url: str, group: str, **options: Any) -> tuple[deferrable.aio.Deferrable, Any]:
    factory = awaiting_backend.DocketsBackendFactory(url, wait_time=0, **options)
    instance = deferrable.aio.Deferrable(factory.create_backend_for_group(group))
    return instance, instance.deferrable(name="keep")(keep)


def blocking(url: str, group: str, **options: Any) -> tuple[deferrable.Deferrable, Any]:
    factory = blocking_backend.DocketsBackendFactory(url, wait_time=0, **options)
    instance = deferrable.Deferrable(factory.create_backend_for_group(group))
    return instance, instance.deferrable(name="keep")(keep)


async def results(instance: deferrable.aio.Deferrable) -> list[int]:
    """What is left in the queue, run in its order."""
    found = []
    while (outcome := await instance.run_once()) is not None:
        found.append(outcome.result)
    return found


# The limit of the queue.


async def test_an_item_over_max_item_bytes_is_refused_with_its_size_and_what_to_do(
    redis_url: str,
) -> None:
    instance, job = awaiting(redis_url, unique_group(), max_item_bytes=2000)
    async with instance:
        with pytest.raises(ItemTooLarge, match=r"is \d{4} bytes.*at most 2000.*max_item_bytes"):
            await job.later_async(1, "x" * 2000)
        with pytest.raises(ItemTooLarge):
            await job.later_many_async([(1,), (2, "x" * 2000)])
        with pytest.raises(ItemTooLarge):
            await job.options(debounce_seconds=5).later_async(1, "x" * 2000)

        assert await results(instance) == []


def test_an_item_over_max_item_bytes_is_refused_by_the_blocking_api(redis_url: str) -> None:
    instance, job = blocking(redis_url, unique_group(), max_item_bytes=2000)
    with instance:
        with pytest.raises(ItemTooLarge, match="or raise max_item_bytes"):
            job.later(1, "x" * 2000)

        assert instance.backend.queue.MAX_ITEM_BYTES == 2000
        assert instance.run_once() is None


@pytest.mark.parametrize("most", [0, -1, 536_870_913, 1.5, True, "1000", None])
@pytest.mark.parametrize("package", [awaiting_backend, blocking_backend])
def test_a_limit_that_is_no_number_of_bytes_is_refused(package: Any, most: Any) -> None:
    with pytest.raises(InvalidOptions, match="max_item_bytes must be a whole number from 1"):
        package.DocketsBackendFactory("redis://localhost", max_item_bytes=most)


async def test_an_item_that_was_accepted_is_retried_and_buried_under_a_lower_limit(
    redis_url: str,
) -> None:
    def fail(data: str) -> None:
        raise ValueError("y" * 5000)

    group = unique_group()
    producer, _ = awaiting(redis_url, group)
    consumer, _ = awaiting(redis_url, group, max_item_bytes=1000)
    options: Any = {"error_classes": [ValueError], "max_attempts": 2, "name": "fail"}
    options["use_exponential_backoff"] = False
    consumer.deferrable(**options)(fail)
    async with producer, consumer:
        await producer.deferrable(**options)(fail).later_async("x" * 5000)

        statuses = [outcome.status for _ in range(2) if (outcome := await consumer.run_once())]

        assert statuses == ["retried", "errored"]
        assert (await consumer.backend.queue.stats())["in_flight"] == 0
        requeued = 0
        async for error in consumer.errors():
            await error.requeue()
            requeued += 1
        assert requeued == 1
        assert (await consumer.backend.queue.stats())["available"] == 1


# The limit of the server.


async def test_what_the_server_never_takes_is_too_large_and_its_neighbours_pass(
    small_redis: RedisServer,
) -> None:
    factory = awaiting_backend.DocketsBackendFactory(small_redis.url, wait_time=0)
    instances = []
    for _ in range(3):  # of one factory, so that they share a connection
        instance = deferrable.aio.Deferrable(factory.create_backend_for_group(unique_group()))
        instances.append((instance, instance.deferrable(name="keep")(keep)))
    for _ in range(10):
        pushes = []
        for number in range(5):
            for instance, job in instances:
                pushes.append((instance, job.later_async(number)))
        for place in (9, 4, 2):
            pushes.insert(place, (None, instances[place % 3][1].later_async(99, TOO_LARGE)))

        ends = await asyncio.gather(*(push for _, push in pushes), return_exceptions=True)

        for (instance, _), end in zip(pushes, ends, strict=True):
            if instance is None:
                assert isinstance(end, ItemTooLarge)
                assert "proto-max-bulk-len" in str(end)
                assert str(end).startswith("the item is 400")
            else:
                assert not isinstance(end, BaseException)
        for instance, _ in instances:
            assert await results(instance) == [0, 1, 2, 3, 4]
    for instance, _ in instances:
        await instance.close()


async def test_the_servers_last_word_is_read_if_a_write_finds_the_connection_reset(
    small_redis: RedisServer,
) -> None:
    with small_redis.client() as client:
        connection = await open_connection(partial(Connection, port=small_redis.port), "here")
        connected = len(client.client_list())
        large = asyncio.create_task(connection.exchange([("SET", "a", "x" * (LIMIT + 100_000))]))
        await asyncio.sleep(0)
        # The loop stands still, so it does not see the answer before it writes again.
        wait_here(lambda: len(client.client_list()) < connected, "Redis closes the connection")
        small = asyncio.create_task(connection.exchange([("PING",)]))

        ends = await asyncio.gather(large, small, return_exceptions=True)

    assert isinstance(ends[0], list)
    assert ends_connection(ends[0][0])
    assert isinstance(ends[1], Unread)


@pytest.mark.parametrize("delay_seconds", [0, 60])
async def test_of_many_calls_only_what_is_too_large_for_the_server_is_missing(
    small_redis: RedisServer, delay_seconds: float
) -> None:
    instance, job = awaiting(small_redis.url, unique_group())
    async with instance:
        calls = [(number, TOO_LARGE if number in (3, 7) else "") for number in range(12)]

        with pytest.raises(BackendError) as caught:
            await job.options(delay_seconds=delay_seconds).later_many_async(calls)

        assert "the first at index 3: the item is 4000" in str(caught.value)
        receipts = caught.value.receipts
        assert receipts is not None
        assert [number for number, each in enumerate(receipts) if each is None] == [3, 7]
        stats = await instance.backend.queue.stats()
        assert (stats["available"], stats["delayed"]) == ((0, 10) if delay_seconds else (10, 0))
        if not delay_seconds:
            assert await results(instance) == [0, 1, 2, 4, 5, 6, 8, 9, 10, 11]


async def test_a_debounced_call_that_is_too_large_for_the_server_leaves_no_window(
    small_redis: RedisServer,
) -> None:
    instance, job = awaiting(small_redis.url, unique_group())
    async with instance:
        debounced = job.options(debounce_seconds=60)
        with pytest.raises(ItemTooLarge):
            await debounced.later_async(1, TOO_LARGE)

        assert (await debounced.later_async(2)).status == "pushed"
        assert await results(instance) == [2]


def test_threads_beside_one_whose_item_is_too_large_lose_and_double_nothing(
    small_redis: RedisServer,
) -> None:
    instance, job = blocking(small_redis.url, unique_group())

    def push(thread: int) -> int:
        refused = 0
        for number in range(100):
            if thread == 0 and number % 5 == 0:
                with pytest.raises(ItemTooLarge):
                    job.later(0, TOO_LARGE)
                refused += 1
            job.later(thread * 100 + number)
        return refused

    with instance, ThreadPoolExecutor(4) as threads:
        refused = sum(threads.map(push, range(4)))
        with redis.Redis.from_url(small_redis.url) as client:
            name = f"queue.deferrable_{instance.backend.group}"
            texts = [str(text) for text in client.lrange(name, 0, -1)]  # type: ignore[union-attr]

    assert refused == 20
    assert len(texts) == 400
