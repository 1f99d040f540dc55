"""A year of ticks: eight workers that are killed, with clocks 5 s apart, push each tick once.

Owns the simulation. The step that admits and pushes is the real one of each backend; only the time
is moved. Real processes that are killed push for a few seconds at the end.
"""

import asyncio
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from processes import ROOT
from redis_server import unique_group
from sizes import sized
from test_periodic import backend_of

from deferrable.aio import Deferrable, InMemoryScheduleStore, ScheduleStore
from deferrable.aio.backend import InMemoryBackendFactory, from_url
from deferrable.aio.backend.base import Backend
from deferrable.aio.queue import Queue
from deferrable.aio.schedules import Admission, JoinedTick, Proposal, Standing
from deferrable.aio.worker._proposing import Proposer, proposers
from deferrable.errors import BackendUnavailable
from deferrable.testing import MovingClock, wait_until

pytestmark = pytest.mark.anyio

START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
END = datetime(2027, 1, 1, tzinfo=UTC).timestamp()
WORKERS = 8


class ShiftedClock(MovingClock):
    """A worker's wrong clock: some seconds from the right one."""

    def __init__(self, right: MovingClock, seconds: float) -> None:
        super().__init__()
        self._right = right
        self._seconds = seconds

    def time(self) -> float:
        return self._right.time() + self._seconds

    def monotonic(self) -> float:
        return self._right.monotonic()


class Unreliable(ScheduleStore):
    """A store whose requests and answers get lost now and then."""

    def __init__(self, store: ScheduleStore, chance: random.Random) -> None:
        self._store = store
        self._chance = chance

    def _lose(self, part: float = 0.02) -> None:
        if self._chance.random() < part:
            raise BackendUnavailable("lost")

    async def renew(self, name: str, plans: Any, *, is_start: bool) -> list[Standing]:
        self._lose()
        standings = await self._store.renew(name, plans, is_start=is_start)
        self._lose()
        return standings

    async def reserve(self, name: str, proposal: Proposal, token: str) -> Admission:
        self._lose()
        admission = await self._store.reserve(name, proposal, token)
        self._lose()
        return admission

    async def confirm(self, name: str, proposal: Proposal, token: str) -> None:
        self._lose()
        await self._store.confirm(name, proposal, token)

    def joined_with(self, queue: Queue) -> JoinedTick | None:
        joined = self._store.joined_with(queue)

        async def push(name: str, proposal: Proposal, push: Any) -> Admission:
            assert joined is not None
            self._lose()
            admission = await joined(name, proposal, push)
            self._lose()
            return admission

        return None if joined is None else push


class Staff:
    """Eight workers of one instance."""

    def __init__(self, instance: Deferrable, clock: MovingClock, chance: random.Random) -> None:
        self._instance = instance
        self._clock = clock
        self._chance = chance
        self.workers = [self._hire() for _ in range(WORKERS)]
        self.killed = 0

    def _hire(self) -> Proposer:
        (worker,) = proposers([self._instance])
        worker._clock = ShiftedClock(self._clock, self._chance.choice([-5, -2.5, 0, 2.5, 5]))
        return worker

    async def step(self) -> None:
        """All propose at once; some are killed meanwhile, and replaced."""
        tasks = [asyncio.ensure_future(each.propose_due()) for each in self.workers]
        for place in range(1, WORKERS):  # one lives through this step
            if self._chance.random() < 0.03:
                self.killed += 1
                for _ in range(self._chance.randrange(5)):
                    await asyncio.sleep(0)
                self.workers[place] = self._hire()
        for task in tasks:
            with suppress(BackendUnavailable):
                await task


async def pop_all(queue: Queue) -> AsyncIterator[Any]:
    while popped := await queue.pop_at_once(500):
        for _, item in popped:
            yield item
        await queue.complete_each([envelope for envelope, _ in popped])


async def run_year(
    backend: Backend, clock: MovingClock, store: ScheduleStore, seed: int, hours: int
) -> list[Any]:
    chance = random.Random(seed)
    instance = Deferrable(
        backend, clock=clock, schedule_store=Unreliable(store, chance), serializer="json"
    )

    @instance.periodic(f"0 */{hours} * * *", timezone="Europe/Berlin", catch_up="all")
    @instance.deferrable(name="job")
    async def job() -> None: ...

    staff = Staff(instance, clock, chance)
    while clock.time() < END:
        await staff.step()
        clock.advance(chance.choice([5, 29, 7200 * hours]))
    for _ in range(20):
        await staff.step()
        clock.advance(31)
    assert staff.killed > 100
    return [item async for item in pop_all(backend.queue)]


def year_of_ticks(hours: int) -> list[float]:
    """The moments by the rule: at an hour of Berlin that the number divides, and real ones."""
    berlin = ZoneInfo("Europe/Berlin")
    moments = [START + 3600 * number for number in range(1, 365 * 24 + 1)]
    return [each for each in moments if datetime.fromtimestamp(each, berlin).hour % hours == 0]


@pytest.mark.parametrize("kind", ["memory", "sqlite", "dockets"])
async def test_eight_workers_push_each_tick_of_a_year_once(
    kind: str, redis_url: str, tmp_path: Path
) -> None:
    hours = sized(12, 3)
    clock = MovingClock(START)
    async with backend_of(kind, clock, redis_url, tmp_path) as backend:
        assert backend.schedule_store is not None
        items = await run_year(backend, clock, backend.schedule_store, 1, hours)

    assert [each["tick_time"] for each in items] == year_of_ticks(hours)
    assert len({each["id"] for each in items}) == len(items)


async def test_in_two_steps_a_second_push_of_a_tick_has_the_same_id() -> None:
    hours = sized(12, 3)
    clock = MovingClock(START)
    backend = InMemoryBackendFactory(clock=clock).create_backend_for_group(None)
    items = await run_year(backend, clock, InMemoryScheduleStore(clock), 1, hours)

    ids = dict[str, float]()
    for each in items:
        assert ids.setdefault(each["id"], each["tick_time"]) == each["tick_time"]
    assert sorted(ids.values()) == year_of_ticks(hours)
    assert len(items) < 1.2 * len(ids)


# Real processes.

WORKER = """
    import asyncio
    import sys

    from deferrable.aio import Deferrable
    from deferrable.aio.backend import from_url

    backend = from_url(sys.argv[1], wait_time=0.1).create_backend_for_group(sys.argv[2])
    shop = Deferrable(backend)


    @shop.periodic(every_seconds=1, catch_up="all")
    @shop.deferrable(name="job", delay_seconds=86_400)
    async def job() -> None: ...


    async def main() -> None:
        async with shop.worker() as worker:
            print("running", flush=True)
            async for _ in worker:
                pass


    asyncio.run(main())
"""


def start_worker(url: str, group: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WORKER), url, group],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


@pytest.mark.parametrize("kind", ["sqlite", "dockets"])
async def test_processes_that_are_killed_push_each_second_once(
    kind: str, redis_url: str, tmp_path: Path
) -> None:
    url = redis_url if kind == "dockets" else f"sqlite:///{tmp_path}/jobs.db"
    group = unique_group()
    backend = from_url(url).create_backend_for_group(group)
    workers = [start_worker(url, group) for _ in range(3)]
    killed = list[subprocess.Popen[str]]()

    async def count() -> float:
        return (await backend.queue.stats())["delayed"]

    try:
        for wanted in (2, 4, 6):
            await wait_until(lambda wanted=wanted: _reached(count, wanted), "ticks are pushed")
            workers[0].send_signal(signal.SIGKILL)
            killed.append(workers.pop(0))
            workers.append(start_worker(url, group))
        await wait_until(lambda: _reached(count, 8), "the last ones are pushed")
    finally:
        for each in (*workers, *killed):
            each.kill()
            each.communicate()
    queue: Any = backend.queue
    look = queue.inspect if queue.SUPPORTS_INSPECTION else queue.peek
    page, cursor = await look("", 1000)
    ticks = [each.item["tick_time"] for each in page]
    while cursor:
        page, cursor = await look(cursor, 1000)
        ticks += [each.item["tick_time"] for each in page]
    await backend.queue.flush()
    await backend.close()

    assert sorted(ticks) == [min(ticks) + number for number in range(len(ticks))]


async def _reached(count: Any, wanted: int) -> bool:
    reached: bool = await count() >= wanted
    return reached
