"""Clocks that stand still or jump: freezegun and time-machine, as users' tests have them."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime

import freezegun
import pytest
import time_machine
from redis_server import unique_group
from sqs_server import SQSServer

import deferrable
import deferrable.aio
from deferrable.aio.backend import (
    DocketsBackendFactory,
    InMemoryBackendFactory,
    SQSBackendFactory,
)
from deferrable.aio.clock import SystemClock, timer_time
from deferrable.testing import MovingClock, wait_until

MOMENT = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = 3600.0
LONGEST_SECONDS = 20.0

Freeze = Callable[[], AbstractContextManager[object]]

FREEZES: dict[str, Freeze] = {
    "freezegun": lambda: freezegun.freeze_time(MOMENT),
    "freezegun, with asyncio's own time": lambda: freezegun.freeze_time(MOMENT, real_asyncio=True),
    "time-machine": lambda: time_machine.travel(MOMENT, tick=False),
}
AWAITING_FREEZES = [name for name in FREEZES if name != "freezegun"]
"""What freezegun does without `real_asyncio` stops every wait of a user's own event loop."""


@pytest.fixture(params=["in memory", "dockets"])
def factory(request: pytest.FixtureRequest) -> Callable[[float], object]:
    """A maker of backend factories whose pops wait for so many seconds."""
    if request.param == "in memory":
        return lambda wait_seconds: InMemoryBackendFactory(wait_seconds)
    url = request.getfixturevalue("redis_url")
    return lambda wait_seconds: DocketsBackendFactory(url, wait_time=wait_seconds)


@pytest.fixture
def real_seconds() -> Callable[[], float]:
    begin = SystemClock.monotonic()
    return lambda: SystemClock.monotonic() - begin


def blocking_instance(
    factory: Callable[[float], object], wait_seconds: float
) -> deferrable.Deferrable:
    core = factory(wait_seconds).create_backend_for_group(unique_group("frozen-"))  # type: ignore[attr-defined]
    return deferrable.Deferrable(core)


@pytest.mark.parametrize("freeze", FREEZES)
def test_a_blocking_run_once_returns_under_a_frozen_clock(
    factory: Callable[[float], object], freeze: str, real_seconds: Callable[[], float]
) -> None:
    instance = blocking_instance(factory, 1.0)
    job = instance.deferrable(name="job")(lambda: 7)

    with FREEZES[freeze]():
        job.later()
        outcome = instance.run_once()
        nothing = instance.run_once()

    assert outcome is not None
    assert (outcome.result, nothing) == (7, None)
    assert 1 <= real_seconds() < LONGEST_SECONDS
    instance.backend.queue.close()


@pytest.mark.parametrize("freeze", FREEZES)
def test_blocking_errors_end_under_a_frozen_clock(
    factory: Callable[[float], object], freeze: str, real_seconds: Callable[[], float]
) -> None:
    instance = blocking_instance(factory, 60.0)

    @instance.deferrable(name="job")
    async def fail() -> None:
        await asyncio.sleep(0.01)
        raise ValueError

    with FREEZES[freeze]():
        fail.later()
        instance.run_once()
        with instance.errors() as errors:
            types = [entry.error["error_type"] for entry in errors]

    assert types == ["ValueError"]
    assert real_seconds() < LONGEST_SECONDS
    instance.backend.queue.close()


@pytest.mark.anyio
@pytest.mark.parametrize("freeze", AWAITING_FREEZES)
async def test_run_once_errors_and_a_worker_work_under_a_frozen_clock(
    factory: Callable[[float], object], freeze: str, real_seconds: Callable[[], float]
) -> None:
    backend = factory(1.0).create_backend_for_group(unique_group("frozen-"))  # type: ignore[attr-defined]
    instance = deferrable.aio.Deferrable(backend)

    @instance.deferrable(name="job", error_classes=[KeyError], use_exponential_backoff=False)
    async def job(number: int) -> None:
        if number == 2:
            raise ValueError

    with FREEZES[freeze]():
        await job.later_async(1)
        outcome = await instance.run_once()
        nothing = await instance.run_once()
        await job.later_async(2)
        async with instance.worker() as worker:
            failed = await anext(worker)
            worker.stop()
        types = [entry.error["error_type"] async for entry in instance.errors()]

    assert outcome is not None
    assert (outcome.status, nothing, failed.status) == ("completed", None, "errored")
    assert types == ["ValueError"]
    assert real_seconds() < LONGEST_SECONDS
    await backend.queue.close()


@pytest.mark.anyio
async def test_errors_do_not_wait_for_new_ones(
    factory: Callable[[float], object], real_seconds: Callable[[], float]
) -> None:
    backend = factory(60.0).create_backend_for_group(unique_group("frozen-"))  # type: ignore[attr-defined]
    instance = deferrable.aio.Deferrable(backend)

    entries = [entry async for entry in instance.errors()]

    assert entries == []
    assert real_seconds() < LONGEST_SECONDS
    await backend.queue.close()


@pytest.mark.anyio
@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
async def test_running_jobs_keep_their_leases_when_the_time_is_set(
    factory: Callable[[float], object], seconds: float
) -> None:
    backend = factory(1.0).create_backend_for_group(unique_group("frozen-"))  # type: ignore[attr-defined]
    instance = deferrable.aio.Deferrable(backend)
    opened = asyncio.Event()
    begun: list[int] = []

    @instance.deferrable(name="job")
    async def job(number: int) -> None:
        begun.append(number)
        await opened.wait()

    await job.later_many_async([(1,), (2,)])
    async with instance.worker() as worker:
        await wait_until(lambda: len(begun) == 2, "both run")
        with time_machine.travel(time.time() + seconds):
            await job.later_async(3)
            await wait_until(lambda: len(begun) == 3, "one that comes afterwards runs, too")
            is_healthy = worker.health.is_healthy
            opened.set()
            statuses = [(await anext(worker)).status for _ in range(3)]
            worker.stop()

    assert statuses == ["completed"] * 3
    assert sorted(begun) == [1, 2, 3]
    assert is_healthy
    await backend.queue.close()


@pytest.mark.anyio
@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
async def test_jobs_of_sqs_keep_their_leases_when_the_time_is_set(
    sqs_server: SQSServer, sqs_group: str, seconds: float
) -> None:
    factory = SQSBackendFactory(sqs_server.connection(), wait_time=1)
    opened, begun = asyncio.Event(), asyncio.Event()
    async with deferrable.aio.Deferrable(factory.create_backend_for_group(sqs_group)) as instance:

        @instance.deferrable(name="job")
        async def job() -> None:
            begun.set()
            await opened.wait()

        await job.later_async()
        async with instance.worker() as worker:
            await begun.wait()
            with time_machine.travel(time.time() + seconds):
                opened.set()
                outcome = await anext(worker)
                worker.stop()

    assert outcome.status == "completed"


def test_errors_of_sqs_do_not_wait_for_new_ones(
    sqs_server: SQSServer, sqs_group: str, real_seconds: Callable[[], float]
) -> None:
    factory = SQSBackendFactory(sqs_server.connection(), wait_time=20)
    with deferrable.Deferrable(factory.create_backend_for_group(sqs_group)) as instance:
        instance.backend.error_queue.stats()
        begin = real_seconds()

        assert list(instance.errors()) == []

        assert real_seconds() - begin < 15


@pytest.mark.parametrize("freeze", FREEZES)
def test_a_blocking_worker_works_under_a_frozen_clock(freeze: str) -> None:
    instance = blocking_instance(InMemoryBackendFactory, 1.0)
    job = instance.deferrable(name="job")(lambda: 7)

    with FREEZES[freeze]():
        job.later()
        with instance.worker() as worker:
            outcome = next(worker)
            worker.stop()

    assert outcome.status == "completed"


@pytest.mark.anyio
async def test_a_step_of_an_injected_clock_ends_no_lease() -> None:
    clock = MovingClock()
    backend = InMemoryBackendFactory(clock=clock).create_backend_for_group(None)
    await backend.queue.push({"number": 1})
    envelope, _ = await backend.queue.pop()
    assert envelope is not None

    clock.step(HOUR)

    assert clock.time() - clock.monotonic() == HOUR
    assert (await backend.queue.stats())["in_flight"] == 1
    await backend.queue.touch(envelope)
    await backend.queue.complete(envelope)


@pytest.mark.parametrize("freeze", FREEZES)
def test_the_monotonic_time_goes_on_under_a_frozen_clock(freeze: str) -> None:
    clock = SystemClock()

    with FREEZES[freeze]():
        first = clock.monotonic()
        deadline = first + 10
        while clock.monotonic() <= first:
            assert clock.monotonic() < deadline
        assert clock.time() == MOMENT.timestamp()


@pytest.mark.anyio
async def test_waits_are_counted_as_call_later_counts() -> None:
    moving = MovingClock(start=5)

    assert timer_time(moving) == 5
    assert abs(timer_time(SystemClock()) - asyncio.get_running_loop().time()) < 10
