"""A worker that runs beside a block of code."""

import asyncio
import threading

import pytest

import deferrable
from deferrable.aio import Deferrable
from deferrable.aio import backend as awaiting
from deferrable.backend import InMemoryBackendFactory

pytestmark = pytest.mark.anyio


def blocking_instance() -> deferrable.Deferrable:
    return deferrable.Deferrable(InMemoryBackendFactory().create_backend_for_group(None))


def awaiting_instance() -> Deferrable:
    return Deferrable(awaiting.InMemoryBackendFactory().create_backend_for_group(None))


async def test_jobs_run_beside_the_block_and_are_settled_at_its_end() -> None:
    shop, begun, may_end = awaiting_instance(), asyncio.Event(), asyncio.Event()
    ended = []

    @shop.deferrable(name="job")
    async def slow() -> None:
        begun.set()
        await may_end.wait()
        ended.append(1)

    async with shop.running(concurrency=2) as worker:
        await slow.later_async()
        await begun.wait()
        assert worker.health.is_healthy
        asyncio.get_running_loop().call_later(0, may_end.set)

    assert ended == [1]


async def test_more_jobs_end_than_a_worker_keeps_outcomes_of() -> None:
    shop, ended = awaiting_instance(), []
    all_ended = asyncio.Event()

    @shop.deferrable(name="job")
    async def count(number: int) -> None:
        ended.append(number)
        if len(ended) == 500:
            all_ended.set()

    async with shop.running(concurrency=1):
        await count.later_many_async([(number,) for number in range(500)])
        await all_ended.wait()

    assert len(ended) == 500


async def test_error_of_the_block_is_raised_as_it_is() -> None:
    with pytest.raises(ValueError, match="mine"):
        async with awaiting_instance().running():
            raise ValueError("mine")


async def test_grace_period_ends_and_the_item_goes_back() -> None:
    shop, begun = awaiting_instance(), asyncio.Event()

    @shop.deferrable(name="job")
    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with shop.running(grace_seconds=0):
        await hang.later_async()
        await begun.wait()

    assert (await shop.backend.queue.stats())["available"] == 1


async def test_stop_inside_the_block_keeps_the_grace_period() -> None:
    shop, begun, may_end = awaiting_instance(), asyncio.Event(), asyncio.Event()
    ended = []

    @shop.deferrable(name="job")
    async def slow() -> None:
        begun.set()
        await may_end.wait()
        ended.append(1)

    async with shop.running() as worker:
        await slow.later_async()
        await begun.wait()
        worker.stop()
        asyncio.get_running_loop().call_later(0.05, may_end.set)

    assert ended == [1]


def test_stop_inside_a_block_that_blocks_keeps_the_grace_period() -> None:
    shop, begun, may_end = blocking_instance(), threading.Event(), threading.Event()
    ended = []

    @shop.deferrable(name="job")
    async def slow() -> None:
        begun.set()
        await asyncio.to_thread(may_end.wait)
        ended.append(1)

    with shop.running() as worker:
        slow.later()
        assert begun.wait(60)
        worker.stop()
        threading.Timer(0.05, may_end.set).start()

    assert ended == [1]


def test_blocking_instance_has_its_worker_in_threads() -> None:
    shop, ran = blocking_instance(), threading.Event()
    shop.deferrable(ran.set, name="set")

    with shop.running(concurrency=2):
        shop.deferrable(ran.set, name="set_again").later()
        assert ran.wait(60)


def test_error_of_a_block_that_blocks_is_raised_as_it_is() -> None:
    with pytest.raises(ValueError, match="mine"), blocking_instance().running():
        raise ValueError("mine")
