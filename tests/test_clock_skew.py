"""Machines whose clocks differ, on a Redis that keeps delays by its own clock."""

import time
from collections.abc import AsyncIterator

import pytest
from dashboard_place import text_of, visit
from dockets_place import Place
from redis_server import RedisServer

from deferrable.aio import Deferrable, Job
from deferrable.aio.clock import SystemClock
from deferrable.retry import Retry
from deferrable.testing import wait_until
from deferrable.worker_reports import WorkerReport

pytestmark = pytest.mark.anyio

AHEAD = 3600.0
DELAY = 1.0


class ClockAhead(SystemClock):
    def time(self) -> float:
        return super().time() + AHEAD


@pytest.fixture
async def place(redis_server: RedisServer) -> AsyncIterator[Place]:
    place = Place(redis_server)
    yield place
    await place.close()


class ClockBehind(SystemClock):
    def time(self) -> float:
        return super().time() - AHEAD


class Machine:
    """One with its own clock, and the same job."""

    def __init__(self, place: Place, runs: list[float], clock: SystemClock) -> None:
        self.instance = Deferrable(place.backend(clock=None, wait_time=0.5), clock=clock)
        self.job: Job[[], None] = self.instance.deferrable(name="job")(self._run)
        self._runs = runs

    def _run(self) -> None:
        self._runs.append(time.monotonic())
        if len(self._runs) == 1:
            raise Retry(after_seconds=DELAY)

    async def run_one(self) -> str:
        """The status of the next outcome."""
        outcomes: list[str] = []

        async def has_run() -> bool:
            outcome = await self.instance.run_once()
            outcomes.extend([] if outcome is None else [outcome.status])
            return bool(outcomes)

        await wait_until(has_run, "an item comes")
        return outcomes[0]


async def test_a_retry_of_a_machine_that_is_ahead_is_on_time(place: Place) -> None:
    runs: list[float] = []
    ahead, right = Machine(place, runs, ClockAhead()), Machine(place, runs, SystemClock())
    await ahead.job.later_async()

    statuses = [await ahead.run_one(), await right.run_one()]

    assert statuses == ["retried", "completed"]
    # Lenient, as Redis rounds, and a millisecond may pass before the script reads its clock.
    assert runs[1] - runs[0] > DELAY - 0.1


async def test_a_delayed_call_of_a_machine_that_is_ahead_is_on_time(place: Place) -> None:
    runs = [0.0]
    ahead, right = Machine(place, runs, ClockAhead()), Machine(place, runs, SystemClock())
    begin = time.monotonic()
    await ahead.job.options(delay_seconds=DELAY).later_async()

    status = await right.run_one()

    assert status == "completed"
    assert runs[1] - begin > DELAY - 0.1


async def test_a_delayed_call_is_run_by_a_machine_that_is_behind(place: Place) -> None:
    runs = [0.0]
    ahead, right = Machine(place, runs, ClockAhead()), Machine(place, runs, SystemClock())
    await ahead.instance.run_once()
    await right.job.options(delay_seconds=DELAY).later_async()

    assert await ahead.run_one() == "completed"


@pytest.mark.parametrize("behind", [False, True])
async def test_a_dashboard_whose_clock_differs_shows_the_workers(
    place: Place, behind: bool
) -> None:
    clock = ClockBehind() if behind else ClockAhead()
    report = WorkerReport("one", "jobs-7", 11, 4, 0, {}, time.time())
    backend = place.backend(clock=None)
    await backend.queue.report_worker(report)
    instance = Deferrable(backend, clock=clock)

    async with visit({"shop": instance}) as visitor:
        page = text_of(await visitor.see("/"))

    await instance.close()
    row = page[page.index("jobs-7") :][:80]
    assert " ago" in row
    assert " in " not in row, row
