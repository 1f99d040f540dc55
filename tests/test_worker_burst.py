"""Working without reading outcomes, and until the queues are empty."""

import asyncio
import threading
from typing import Any

import pytest
from redis_server import unique_group

import deferrable
import deferrable.backend
from deferrable import WorkSummary
from deferrable.aio import Deferrable, Worker
from deferrable.aio.backend import DocketsBackendFactory, InMemoryBackendFactory
from deferrable.errors import BackendError, BackendUnavailable

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "dockets"])
def backend(request: pytest.FixtureRequest, redis_url: str) -> Any:
    if request.param == "memory":
        return InMemoryBackendFactory(1).create_backend_for_group(unique_group())
    factory = DocketsBackendFactory(redis_url, wait_time=1)
    return factory.create_backend_for_group(unique_group())


async def test_a_burst_ends_when_nothing_is_available_or_in_flight(backend: Any) -> None:
    async with Deferrable(backend) as instance:

        @instance.deferrable(name="job")
        async def job(number: int) -> None:
            if number == 0:
                await job.later_async(100)  # what a job defers is done, too
            if number == 1:
                raise KeyError(number)

        await job.later_many_async([(number,) for number in range(10)])
        await job.options(delay_seconds=3600).later_async(200)

        summary = await instance.worker().run(until_empty=True)

        assert summary == WorkSummary({"completed": 10, "errored": 1}, delayed=1)


async def test_a_burst_waits_for_what_others_have_in_flight(backend: Any) -> None:
    async with Deferrable(backend) as instance:
        job = instance.deferrable(name="job")(len)
        await job.later_async("abc")
        envelope, _ = await backend.queue.pop()

        running = asyncio.create_task(instance.worker().run(until_empty=True))
        await asyncio.wait([running], timeout=1)
        assert not running.done()
        await backend.queue.release(envelope)

        assert await running == WorkSummary({"completed": 1}, delayed=0)


async def test_a_burst_of_several_queues_ends_when_all_are_empty(redis_url: str) -> None:
    factory = DocketsBackendFactory(redis_url, wait_time=1)
    instances = [Deferrable(factory.create_backend_for_group(unique_group())) for _ in range(2)]
    there = instances[1].deferrable(name="there")(len)

    @instances[0].deferrable(name="here")
    async def here() -> None:
        await there.later_async("abc")

    await here.later_async()

    summary = await Worker(instances).run(until_empty=True)

    assert summary == WorkSummary({"completed": 2}, delayed=0)


async def test_a_queue_that_cannot_be_counted_is_asked_again(
    backend: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stats, failures = backend.queue._stats, [BackendUnavailable("away")] * 2

    async def fail() -> Any:
        if failures:
            raise failures.pop()
        return await stats()

    monkeypatch.setattr(backend.queue, "_stats", fail)

    summary = await Deferrable(backend).worker().run(until_empty=True)

    assert summary == WorkSummary({}, delayed=0)
    assert caplog.messages == ["a queue cannot be counted, the worker goes on: away"]


async def test_a_queue_that_will_never_be_counted_ends_a_burst(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> Any:
        raise BackendError("is no database")

    monkeypatch.setattr(backend.queue, "_stats", fail)

    with pytest.raises(BackendError, match="is no database"):
        await Deferrable(backend).worker().run(until_empty=True)


async def test_a_run_that_is_cancelled_gives_back_what_it_held(backend: Any) -> None:
    async with Deferrable(backend) as instance:
        started = asyncio.Event()

        @instance.deferrable(name="job")
        async def job() -> None:
            started.set()
            await asyncio.Event().wait()

        await job.later_async()
        running = asyncio.create_task(instance.worker(grace_seconds=0).run())
        await started.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

        assert (await backend.queue.stats())["available"] == 1


def test_the_blocking_api_runs_until_empty_and_until_stopped(redis_url: str) -> None:
    factory = deferrable.backend.DocketsBackendFactory(redis_url, wait_time=1)
    with deferrable.Deferrable(factory.create_backend_for_group(unique_group())) as instance:
        job = instance.deferrable(name="job")(len)
        job.later("abc")

        assert instance.worker().run(until_empty=True) == WorkSummary({"completed": 1}, delayed=0)

        worker = instance.worker()
        stopper = threading.Timer(0, worker.stop)
        stopper.start()
        assert worker.run() == WorkSummary({}, delayed=None)
        with pytest.raises(RuntimeError, match="a worker can be entered only once"):
            worker.run()
