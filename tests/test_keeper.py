"""The keeper: leases hold, whatever the jobs do; a lost one settles nothing."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from faces import LEASE_SECONDS, Face, until_in_flight, wait_here
from redis_server import unique_group

import deferrable
from deferrable import current_attempt
from deferrable.aio import Deferrable, Worker
from deferrable.aio._engine.rounds import plan_round
from deferrable.aio.backend import (
    DocketsBackendFactory,
    InMemoryBackendFactory,
    SQSBackendFactory,
)
from deferrable.aio.backend.base import Backend
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Touch
from deferrable.outcome import Outcome
from deferrable.testing import MovingClock, wait_until

pytestmark = pytest.mark.anyio

STEP_SECONDS = LEASE_SECONDS / 3


def envelope(*, pop_time: float = 0, lease_end_time: float = 30) -> Envelope:
    return Envelope(None, pop_time, lease_end_time)


# What is decided.


def test_held_items_are_kept_for_a_lease() -> None:
    held = envelope()

    assert plan_round([held], 10, 30, None).touches == {30: [held]}


def test_an_item_whose_lease_passed_unrenewed_is_lost() -> None:
    held = envelope(lease_end_time=30)

    assert list(plan_round([held], 30, 30, None).ended) == [held]


def test_no_lease_is_renewed_beyond_the_maximum_after_the_pop() -> None:
    held = envelope(lease_end_time=60)

    assert plan_round([held], 40, 30, 60).touches == {20: [held]}
    assert plan_round([held], 59, 30, 60).touches == {1: [held]}


def test_an_item_that_reached_the_maximum_is_left_to_its_end() -> None:
    held = envelope(lease_end_time=70)

    assert not plan_round([held], 60, 30, 60).touches
    assert not plan_round([held], 60, 30, 60).ended


# What is done.


class Touches:
    """Notes the touches of a queue: when, how many items, in which thread."""

    def __init__(self, face: "Face | Holder") -> None:
        self.rounds: list[tuple[float, int, str]] = []
        self._clock = face.clock
        queue = face.backend.queue
        self._hook = queue._touch_batch
        queue._touch_batch = self._note  # type: ignore[method-assign] # this one object's

    async def _note(self, touches: Sequence[Touch]) -> Sequence[Exception | None]:
        name = threading.current_thread().name
        outcomes = await self._hook(touches)
        self.rounds.append((self._clock.time(), len(touches), name))
        return outcomes


class Jobs:
    """Jobs of each kind that end when the test says so."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.started: list[int] = []
        self.reasons: list[object] = []

    async def awaited(self, number: int) -> str:
        self.started.append(number)
        try:
            await wait_until(self.opened.is_set, "it may end")
        except asyncio.CancelledError as error:
            self.reasons.append((current_attempt().stop_reason, *error.args))
            raise
        return "done"

    def plain(self, number: int) -> str:
        self.started.append(number)
        wait_here(self.opened.is_set, "it may end")
        self.reasons.append(current_attempt().is_lease_lost)
        return "done"

    def blocking(self) -> Callable[[int], Any]:
        async def block(number: int) -> str:
            return self.plain(number)

        return block


async def push(face: Face, function: Callable[..., Any], count: int = 1) -> None:
    job = face.job(function, name=function.__name__)
    for number in range(count):
        await face.later(job, number)


async def move(face: Face, touches: Touches, rounds: int, seconds: float = STEP_SECONDS) -> None:
    """Let the keeper make so many rounds."""
    for _ in range(rounds):
        await sleeping(face)
        count = len(touches.rounds)
        face.clock.advance(seconds)
        await wait_until(lambda count=count: len(touches.rounds) > count, "it touched")  # type: ignore[misc]


async def sleeping(face: Face) -> None:
    await wait_until(lambda: face.clock.pending, "the keeper sleeps")


async def test_running_items_are_kept_together_at_a_third_of_the_lease() -> None:
    face, jobs = Face("awaiting"), Jobs()
    touches = Touches(face)
    await push(face, jobs.awaited, 5)
    start_time = face.clock.time()

    async with face.instance.worker() as worker:
        await wait_until(lambda: len(jobs.started) == 5, "five jobs run")
        await sleeping(face)
        await move(face, touches, 9)
        jobs.opened.set()
        statuses = {(await anext(worker)).status for _ in range(5)}

    assert statuses == {"completed"}
    moments = [start_time + step * STEP_SECONDS for step in range(1, 10)]
    assert touches.rounds == [(moment, 5, "deferrable-keeper") for moment in moments]


async def test_buffered_items_are_kept_too() -> None:
    faces, jobs = [Face("awaiting"), Face("awaiting")], Jobs()
    touches = [Touches(each) for each in faces]
    for each in faces:
        await push(each, jobs.awaited)

    async with Worker([each.instance for each in faces], concurrency=1) as worker:
        for each in faces:
            await wait_until(until_in_flight(each.broker.queue, 1), "its queue gave one")
        for _ in range(20):
            await asyncio.sleep(0)  # from the queue to the worker are a few steps of the loop
        for each, of_it in zip(faces, touches, strict=True):
            await sleeping(each)
            await move(each, of_it, 9)
        jobs.opened.set()
        statuses = [(await anext(worker)).status for _ in range(2)]

    assert statuses == ["completed", "completed"]


async def test_a_job_that_blocks_the_loop_keeps_its_lease() -> None:
    face, jobs = Face("awaiting"), Jobs()
    touches = Touches(face)
    await push(face, jobs.blocking())

    def look_on() -> None:
        wait_here(lambda: jobs.started, "it blocks the loop")
        for _ in range(9):
            wait_here(lambda: face.clock.pending, "the keeper sleeps")
            count = len(touches.rounds)
            face.clock.advance(STEP_SECONDS)
            wait_here(lambda count=count: len(touches.rounds) > count, "it touched")  # type: ignore[misc]
        jobs.opened.set()

    looking_on = threading.Thread(target=look_on)
    looking_on.start()
    async with face.instance.worker() as worker:
        outcome = await anext(worker)
    looking_on.join()

    assert outcome.status == "completed"
    assert await face.items() == []


async def test_settled_items_are_touched_no_more() -> None:
    face, jobs = Face("awaiting"), Jobs()
    touches = Touches(face)
    jobs.opened.set()
    await push(face, jobs.awaited, 5)

    async with face.instance.worker() as worker:
        for _ in range(5):
            await anext(worker)
        await sleeping(face)
        face.clock.advance(STEP_SECONDS)
        await wait_until(lambda: touch_age_seconds(worker) == 0, "the keeper went round")

    assert touches.rounds == []


def touch_age_seconds(worker: Worker) -> float:
    (health,) = worker.health.queues().values()
    return health.touch_age_seconds


async def test_after_the_maximum_a_hung_job_is_cancelled_and_its_item_comes_back() -> None:
    face, jobs = Face("awaiting", max_lease_seconds=2 * LEASE_SECONDS), Jobs()
    touches = Touches(face)
    await push(face, jobs.awaited)

    async with face.instance.worker(concurrency=1, grace_seconds=1e6) as worker:
        await wait_until(lambda: jobs.started, "it runs")
        await sleeping(face)
        await move(face, touches, 5)
        await wait_until(lambda: face.clock.pending, "the keeper sleeps")
        in_flight = await face.stats()
        worker.stop()  # or it would pop the item again
        await wait_until(lambda: face.clock.pending > 1, "the grace period runs")
        face.clock.advance(STEP_SECONDS)
        outcome = await anext(worker)

    assert in_flight == (0, 1, 0)
    assert outcome.status == "lost"
    assert jobs.reasons[0] == ("lease lost", "lease lost")
    assert len(await face.items()) == 1


async def test_a_broker_that_cannot_be_reached_ends_no_lease_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    face, jobs = Face("awaiting"), Jobs()
    await push(face, jobs.awaited)
    face.faults.drop("touch", times=2)

    async with face.instance.worker(concurrency=1) as worker:
        await wait_until(lambda: jobs.started, "it runs")
        for count in (1, 2):
            await sleeping(face)
            face.clock.advance(STEP_SECONDS)
            await wait_until(lambda count=count: len(face.faults.injected) == count, "it failed")  # type: ignore[misc]
            await wait_until(lambda: not worker.health.is_healthy, "its health is red")
        await sleeping(face)
        face.clock.advance(STEP_SECONDS / 2)
        face.clock.advance(0)
        jobs.opened.set()
        outcome = await anext(worker)

    assert outcome.status == "completed"
    messages = [record.getMessage() for record in caplog.records]
    assert len([message for message in messages if "cannot touch" in message]) == 1


# On each backend. The clock is the test's.


class Holder:
    """A backend under test, and another consumer of it."""

    def __init__(self, factory: Any, group: str | None, clock: MovingClock) -> None:
        self._factory = factory
        self._group = group
        self.clock = clock
        self.backend: Backend = factory.create_backend_for_group(group)
        self.other: Backend = factory.create_backend_for_group(group)

    async def stats(self) -> Any:
        return await self.other.queue.stats()


@pytest.fixture(params=["memory", "dockets", "sqs"])
async def each_holder(request: pytest.FixtureRequest) -> AsyncIterator[Holder]:
    clock = MovingClock()
    if request.param == "memory":
        held = Holder(InMemoryBackendFactory(3600, LEASE_SECONDS, clock=clock), None, clock)
    elif request.param == "dockets":
        url = request.getfixturevalue("redis_url")
        factory = DocketsBackendFactory(url, 3600, LEASE_SECONDS, clock=clock)
        held = Holder(factory, unique_group("keeper-"), clock)
    else:
        connection = request.getfixturevalue("sqs_server").connection()
        sqs = SQSBackendFactory(connection, LEASE_SECONDS, 0, clock=clock)
        held = Holder(sqs, request.getfixturevalue("sqs_group"), clock)
    yield held
    await held.backend.queue.flush()
    await held.backend.close()
    await held.other.close()


@pytest.mark.parametrize("api", ["awaiting", "blocking", "worker"])
async def test_a_job_that_blocks_its_loop_for_longer_than_its_lease_completes_once(
    each_holder: Holder, api: str
) -> None:
    clock, touches, runs = each_holder.clock, Touches(each_holder), []
    make: Any = deferrable.Deferrable if api == "blocking" else Deferrable
    instance = make(each_holder.backend)

    @instance.deferrable(name="blocks")
    async def block() -> str:
        runs.append(1)
        for _ in range(7):
            wait_here(lambda: clock.pending, "the keeper sleeps")
            count = len(touches.rounds)
            clock.advance(STEP_SECONDS)
            wait_here(lambda count=count: len(touches.rounds) > count, "it touched")  # type: ignore[misc]
        clock.advance(STEP_SECONDS / 2)  # two leases and a half
        return "done"

    await block.later_async()
    outcome = await run(instance, api)

    assert (outcome.status, outcome.result) == ("completed", "done")
    assert runs == [1]
    assert {thread for _, _, thread in touches.rounds} == {"deferrable-keeper"}
    stats = await each_holder.stats()
    assert stats["available"] + stats["in_flight"] == 0


def test_an_item_of_a_loop_that_does_not_run_is_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    """Its job has stopped, perhaps forever."""
    face, jobs = Face("awaiting"), Jobs()
    touches = Touches(face)
    loop = asyncio.new_event_loop()

    async def begin() -> "asyncio.Task[Outcome]":
        await push(face, jobs.awaited)
        running = asyncio.create_task(face.run())
        await wait_until(lambda: jobs.started, "it runs")
        return running

    running = loop.run_until_complete(begin())
    wait_here(lambda: face.clock.pending, "the keeper sleeps")
    face.clock.advance(STEP_SECONDS)
    wait_here(lambda: face.clock.pending, "the keeper sleeps again")
    face.clock.advance(LEASE_SECONDS)
    wait_here(lambda: "lost the lease" in caplog.text, "the lease has ended")
    outcome = loop.run_until_complete(running)
    loop.close()

    assert outcome.status == "lost"
    assert touches.rounds == []


async def test_a_worker_touches_again_soon_after_a_touch_that_failed() -> None:
    face, jobs = Face("awaiting"), Jobs()
    touches = Touches(face)
    await push(face, jobs.awaited)
    start_time = face.clock.time()
    face.faults.drop("touch", times=2)

    async with face.instance.worker(concurrency=1) as worker:
        await wait_until(lambda: jobs.started, "it runs")
        await move(face, touches, 2)
        await move(face, touches, 1, STEP_SECONDS / 2)
        jobs.opened.set()
        outcome = await anext(worker)

    assert outcome.status == "completed"
    moments = [moment - start_time for moment, _, _ in touches.rounds]
    assert moments == [STEP_SECONDS, 2 * STEP_SECONDS, 2.5 * STEP_SECONDS]


async def run(instance: Any, api: str) -> Outcome:
    outcome: Outcome
    if api == "worker":
        async with instance.worker(concurrency=1) as worker:
            outcome = await anext(worker)
    elif api == "blocking":
        outcome = instance.run_once()
    else:
        outcome = await instance.run_once()
    return outcome


@pytest.mark.parametrize("each_holder", ["memory", "dockets"], indirect=True)
@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_holder_whose_lease_passed_settles_nothing_and_the_new_delivery_survives(
    each_holder: Holder, kind: str
) -> None:
    jobs, events = Jobs(), Events()
    instance = Deferrable(each_holder.backend)
    instance.register_event_consumer(events)
    job = instance.deferrable(name="held")(jobs.plain if kind == "plain" else jobs.awaited)
    await job.later_async(1)

    async with instance.worker(concurrency=1) as worker:
        await wait_until(lambda: jobs.started, "it runs")
        await wait_until(lambda: each_holder.clock.pending, "the keeper sleeps")
        each_holder.clock.advance(LEASE_SECONDS + 1)  # as if the process had been paused
        if kind == "plain":
            jobs.opened.set()
        outcome: Outcome = await anext(worker)
        worker.stop()
        jobs.opened.set()
        others = [each.status async for each in worker]

    assert outcome.status == "lost"
    assert jobs.reasons[0] == (True if kind == "plain" else ("lease lost", "lease lost"))
    assert events.names[-1] == "lease_lost" or "lease_lost" in events.names
    assert "complete" not in events.names[: events.names.index("lease_lost")]
    stats = await each_holder.stats()
    # This very worker may have popped it again before it stopped.
    assert stats["available"] + stats["in_flight"] + others.count("completed") == 1


async def test_a_buffered_item_whose_lease_passed_is_not_started(
    caplog: pytest.LogCaptureFixture,
) -> None:
    faces, jobs = [Face("awaiting"), Face("awaiting")], Jobs()
    for each in faces:
        await push(each, jobs.awaited)

    async with Worker([each.instance for each in faces], concurrency=1) as worker:
        buffered = faces[1]
        await wait_until(lambda: jobs.started, "one runs")
        await wait_until(until_in_flight(buffered.broker.queue, 1), "one waits")
        buffered.clock._now += LEASE_SECONDS  # no timer fires: it looks before its keeper does
        jobs.opened.set()
        await wait_until(lambda: "ended before it started" in caplog.text, "it is told")
        worker.stop()
        statuses = [each.status async for each in worker]

    # Only what was popped again, if the worker did that before it stopped.
    assert len(jobs.started) == statuses.count("completed") <= 2
    assert caplog.text.count("ended before it started") == 1


async def test_an_item_whose_lease_passed_on_its_way_here_is_not_started(
    caplog: pytest.LogCaptureFixture,
) -> None:
    face, jobs = Face("awaiting"), Jobs()
    hook = face.broker.queue._pop_batch

    async def pop_and_pause(count: int) -> Any:
        popped = await hook(count)
        if popped and not caplog.text:
            face.clock._now += LEASE_SECONDS  # the process was paused before it read the answer
        return popped

    face.broker.queue._pop_batch = pop_and_pause  # type: ignore[method-assign] # this one object's
    await push(face, jobs.awaited)
    jobs.opened.set()

    async with face.instance.worker() as worker:
        await wait_until(lambda: "ended before it started" in caplog.text, "it is told")
        outcome: Outcome = await anext(worker)

    assert outcome.status == "completed"
    assert len(jobs.started) == 1


class Events:
    def __init__(self) -> None:
        self.names: list[str] = []

    def on_pop(self, item: Any) -> None:
        self.names.append("pop")

    def on_complete(self, item: Any) -> None:
        self.names.append("complete")

    def on_lease_lost(self, item: Any) -> None:
        self.names.append("lease_lost")
