"""The worker: nothing is lost and nothing half-settled, wherever it is left."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, cast

import pytest
from faces import Face, Kind, MakeFace, as_kind, cancelled, until_in_flight, wait_here
from redis_server import unique_group

import deferrable
from deferrable import current_attempt, pickling
from deferrable.aio import Backend, Deferrable, Worker
from deferrable.aio.backend import DocketsBackendFactory, InMemoryBackendFactory
from deferrable.aio.current import CurrentAttempt
from deferrable.errors import InvalidOptions
from deferrable.metadata import MetadataProducerConsumer
from deferrable.outcome import Outcome
from deferrable.testing import wait_until

pytestmark = pytest.mark.anyio

THREADS = ("deferrable-keeper", "deferrable-watchdog", "deferrable-worker")


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    wait_here(lambda: not worker_threads(), "the worker's threads have ended")


def worker_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name in THREADS]


def make_face_of(name: str, **settings: Any) -> Face:
    return Face(cast(Any, name), **settings)


@pytest.fixture
def face() -> Face:
    """One of the asyncio API."""
    return Face("awaiting")


@pytest.fixture
def each_face(make_face: MakeFace) -> Face:
    """One of each API."""
    return make_face()


async def push(face: Face, function: Callable[..., Any], count: int = 1, **options: Any) -> Any:
    """Register a job and defer it `count` times, with its number."""
    job = face.job(function, **options)
    for number in range(count):
        await face.later(job, number)
    return job


async def read(face: Face, count: int, **options: Any) -> list[Outcome]:
    """The first `count` outcomes of a worker that is left then."""
    if face.is_blocking:
        return await asyncio.to_thread(read_blocking, face.instance, count, options)
    outcomes = []
    async with face.instance.worker(**options) as worker:
        async for outcome in worker:
            outcomes.append(outcome)
            if len(outcomes) == count:
                break
    return outcomes


def read_blocking(instance: Any, count: int, options: dict[str, Any]) -> list[Outcome]:
    outcomes = []
    with instance.worker(**options) as worker:
        for outcome in worker:
            outcomes.append(outcome)
            if len(outcomes) == count:
                break
    return outcomes


class Gate:
    """Jobs that wait until they are let go, whatever loop or thread they run in."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.started: list[int] = []
        self.ended: list[int] = []
        self.most_at_once = 0

    def _start(self, number: int) -> None:
        self.started.append(number)
        self.most_at_once = max(self.most_at_once, len(self.started) - len(self.ended))

    async def awaited(self, number: int) -> None:
        self._start(number)
        try:
            await wait_until(self.opened.is_set, "the gate is open")
        finally:
            self.ended.append(number)

    def plain(self, number: int) -> None:
        self._start(number)
        wait_here(self.opened.is_set, "the gate is open")
        self.ended.append(number)


# Point 1: the worker as an object.


async def test_every_item_is_run_and_told_once(each_face: Face, kind: Kind) -> None:
    await push(each_face, as_kind(kind, lambda number: number * 2), 50, name="double")

    outcomes = await read(each_face, 50, concurrency=7)

    assert sorted(outcome.result for outcome in outcomes) == [2 * each for each in range(50)]
    assert {outcome.status for outcome in outcomes} == {"completed"}
    assert await each_face.items() == []


async def test_break_gives_back_what_did_not_start_and_settles_what_did(face: Face) -> None:
    await push(face, as_kind("async", lambda number: number), 30, name="plain")

    outcomes = await read(face, 3, concurrency=5)

    settled = [outcome.item["id"] for outcome in outcomes]
    rest = [item["id"] for item in await face.items()]
    assert len(settled) == 3
    assert not set(settled) & set(rest)
    assert [stat for stat in await face.stats() if stat] == []


async def test_an_exception_in_the_body_leaves_the_worker_in_order(face: Face) -> None:
    gate = Gate()
    await push(face, gate.awaited, 3)

    async def fail() -> None:
        async with face.instance.worker(concurrency=2, grace_seconds=0):
            await wait_until(lambda: len(gate.started) == 2, "two jobs run")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert len(gate.ended) == 2
    assert await face.stats() == (3, 0, 0)


@pytest.mark.parametrize("steps", range(0, 60, 3))
async def test_cancellation_at_any_step_loses_nothing_and_leaves_nothing_leased(
    face: Face, steps: int
) -> None:
    runs: list[int] = []
    await push(face, as_kind("async", runs.append), 10, name="note")
    outcomes: list[Outcome] = []

    async def consume() -> None:
        async with face.instance.worker(concurrency=2, grace_seconds=1) as worker:
            async for outcome in worker:
                outcomes.append(outcome)

    consuming = asyncio.create_task(consume())
    for _ in range(steps):
        await asyncio.sleep(0)

    assert await cancelled(consuming)
    available, in_flight, delayed = await face.stats()
    assert (in_flight, delayed) == (0, 0)
    assert available + len(runs) == 10
    assert len(set(runs)) == len(runs)


async def test_cancelling_the_reader_loses_no_outcome(face: Face) -> None:
    gate = Gate()
    await push(face, gate.awaited)

    async with face.instance.worker() as worker:
        reading = asyncio.create_task(worker.next_outcome())
        await wait_until(lambda: gate.started, "the job runs")
        await cancelled(reading)
        gate.opened.set()
        outcome = await worker.next_outcome()

    assert outcome is not None
    assert outcome.status == "completed"


def has_paused(worker: Any, face: Face) -> bool:
    """Whether no poll is under way: a poll's age grows with the time."""
    face.clock.advance(0.001)
    (queue,) = worker.health.queues().values()
    return bool(queue.poll_age_seconds == 0)


async def test_a_reader_that_does_not_read_stops_the_popping(each_face: Face) -> None:
    runs: list[int] = []
    await push(each_face, as_kind("async", runs.append), 50, name="note")

    def work() -> None:
        with each_face.instance.worker(concurrency=4) as worker:
            wait_here(lambda: len(runs) >= 4, "the first ones ran")
            queue = each_face.instance.backend.queue
            wait_here(lambda: queue.stats()["in_flight"] == 0, "nothing runs")
            wait_here(lambda: has_paused(worker, each_face), "it pops no more")

    if each_face.is_blocking:
        await asyncio.to_thread(work)
    else:
        async with each_face.instance.worker(concurrency=4) as worker:
            await wait_until(lambda: len(runs) >= 4, "the first ones ran")
            await wait_until(until_in_flight(each_face.broker.queue, 0), "nothing runs")
            await wait_until(lambda: has_paused(worker, each_face), "it pops no more")

    assert 4 <= len(runs) <= 8
    assert await each_face.stats() == (50 - len(runs), 0, 0)


async def test_the_iteration_ends_after_stop_when_everything_was_read(each_face: Face) -> None:
    await push(each_face, as_kind("async", lambda number: number), 5, name="plain")

    def work() -> list[Outcome]:
        with each_face.instance.worker() as worker:
            outcomes = [next(worker) for _ in range(5)]
            worker.stop()
            return outcomes + list(worker)

    async def work_awaiting() -> list[Outcome]:
        async with each_face.instance.worker() as worker:
            outcomes = [await anext(worker) for _ in range(5)]
            worker.stop()
            return outcomes + [outcome async for outcome in worker]

    outcomes = await (asyncio.to_thread(work) if each_face.is_blocking else work_awaiting())

    assert len(outcomes) == 5


async def test_a_worker_that_was_not_entered_says_so(each_face: Face) -> None:
    worker = each_face.instance.worker()

    with pytest.raises(RuntimeError, match="not entered"):
        await each_face.do(next if each_face.is_blocking else anext, worker)


async def test_a_worker_is_entered_once(each_face: Face) -> None:
    worker = each_face.instance.worker()

    def enter() -> None:
        with worker:
            pass

    async def enter_awaiting() -> None:
        async with worker:
            pass

    await each_face.do(enter if each_face.is_blocking else enter_awaiting)
    with pytest.raises(RuntimeError, match="entered only once"):
        await each_face.do(enter if each_face.is_blocking else enter_awaiting)


async def test_stopping_before_entering_ends_it_as_soon_as_it_is_entered(face: Face) -> None:
    worker = face.instance.worker()
    worker.stop()

    async with worker:
        assert [outcome async for outcome in worker] == []


async def test_stop_may_come_from_another_thread(face: Face) -> None:
    async with face.instance.worker() as worker:
        threading.Thread(target=worker.stop).start()

        assert await worker.next_outcome() is None


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"concurrency": 1.5},
        {"concurrency": True},
        {"threads": 0},
        {"prefetch": -1},
        {"prefetch": 1.5},
        {"prefetch": True},
        {"grace_seconds": -1},
        {"grace_seconds": float("nan")},
    ],
)
def test_numbers_out_of_range_are_refused(each_face: Face, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptions, match=next(iter(options))):
        each_face.instance.worker(**options)


def test_a_worker_without_an_instance_is_refused() -> None:
    with pytest.raises(InvalidOptions, match="got none"):
        Worker([])


# Point 2: slots.


async def test_no_more_jobs_than_slots_run_at_once(face: Face) -> None:
    gate = Gate()
    await push(face, gate.awaited, 10)

    async with face.instance.worker(concurrency=3) as worker:
        await wait_until(lambda: len(gate.started) == 3, "three jobs run")
        gate.opened.set()
        for _ in range(10):
            await worker.next_outcome()

    assert gate.most_at_once == 3


async def test_plain_functions_have_a_limit_of_their_own(face: Face) -> None:
    plain, awaited = Gate(), Gate()
    await push(face, plain.plain, 5)
    await push(face, awaited.awaited, 5)

    async with face.instance.worker(concurrency=10, threads=2) as worker:
        await wait_until(lambda: len(awaited.started) == 5, "every async job runs")
        await wait_until(lambda: len(plain.started) == 2, "two plain jobs run")
        plain.opened.set()
        awaited.opened.set()
        for _ in range(10):
            await worker.next_outcome()

    assert (plain.most_at_once, awaited.most_at_once) == (2, 5)


async def test_more_threads_than_the_process_shares_can_be_had(face: Face) -> None:
    gate = Gate()
    await push(face, gate.plain, 50)

    async with face.instance.worker(concurrency=50, threads=50):
        await wait_until(lambda: len(gate.started) == 50, "fifty plain jobs run")
        gate.opened.set()

    assert await face.items() == []


async def test_a_job_s_failure_reaches_no_other(each_face: Face, kind: Kind) -> None:
    def divide(number: int) -> float:
        return 1 / (number % 2)

    await push(each_face, as_kind(kind, divide), 10, name="divide")

    outcomes = await read(each_face, 10)

    assert sorted(outcome.status for outcome in outcomes) == ["completed"] * 5 + ["errored"] * 5
    assert len(await each_face.items()) == 5


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
async def test_an_exit_that_a_job_raises_is_its_own_failure(
    each_face: Face, kind: Kind, error: type[BaseException]
) -> None:
    def leave(number: int) -> None:
        if number == 0:
            raise error

    await push(each_face, as_kind(kind, leave), 3, name="leave")

    outcomes = await read(each_face, 3)

    assert sorted(outcome.status for outcome in outcomes) == ["completed", "completed", "errored"]
    (item,) = await each_face.items()
    assert item["error"]["error_type"] == error.__name__


async def test_several_instances_share_the_slots(face: Face) -> None:
    gate, other = Gate(), Face("awaiting")
    await push(face, gate.awaited, 5)
    await push(other, gate.awaited, 5)

    async with Worker([face.instance, other.instance], concurrency=4) as worker:
        await wait_until(lambda: len(gate.started) == 4, "four jobs run")
        gate.opened.set()
        for _ in range(10):
            await worker.next_outcome()

    assert gate.most_at_once == 4
    assert await face.items() == await other.items() == []


async def test_no_queue_starves_another_at_a_concurrency_of_one() -> None:
    busy, calm = Face("awaiting", wait_seconds=60), Face("awaiting", wait_seconds=60)
    runs: list[str] = []
    await push(busy, as_kind("async", lambda _: runs.append("busy")), 100, name="busy")
    calm_job = calm.job(as_kind("async", lambda _: runs.append("calm")), name="calm")

    async with Worker([busy.instance, calm.instance], concurrency=1) as worker:
        for _ in range(5):
            await worker.next_outcome()
        for number in range(3):
            await calm_job.later_async(number)
        while runs.count("calm") < 3:
            await worker.next_outcome()

    assert runs.count("busy") < 100


async def test_an_instance_named_twice_is_polled_once(face: Face) -> None:
    worker = Worker([face.instance, face.instance])

    assert list(worker.health.queues()) == [repr(face.backend.queue)]


MakeBackend = Callable[[str], Backend]
IN_MEMORY = InMemoryBackendFactory()


def dockets(url: str) -> MakeBackend:
    return lambda group: DocketsBackendFactory(url).create_backend_for_group(group)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (IN_MEMORY.create_backend_for_group, IN_MEMORY.create_backend_for_group),
        (dockets("redis://localhost/0"), dockets("redis://localhost:6379")),
    ],
    ids=["in memory", "dockets"],
)
def test_two_instances_with_objects_of_one_queue_are_refused(
    one: MakeBackend, other: MakeBackend
) -> None:
    instances = [Deferrable(one("group")), Deferrable(other("group"))]

    with pytest.raises(InvalidOptions, match=r"instances 1 and 2 .*_group>.* its own group"):
        Worker(instances)


@pytest.mark.parametrize(
    "other", [dockets("redis://localhost/1"), dockets("redis://localhost:6380/0")]
)
def test_queues_of_one_name_in_two_databases_are_two(other: MakeBackend) -> None:
    instances = [Deferrable(dockets("redis://localhost/0")("group")), Deferrable(other("group"))]

    worker = Worker(instances)

    assert len(worker.health.queues()) == 2


async def test_an_item_pushed_to_an_idle_worker_of_a_queue_that_does_not_wait_starts_at_once(
    face: Face,
) -> None:
    job = face.job(as_kind("async", lambda: "done"), name="late")
    pauses: list[float] = []
    wait_for_items = face.broker.queue.wait_for_items

    async def wait_for_push(seconds: float) -> None:
        pauses.append(seconds)
        await wait_for_items(3600)

    face.broker.queue.wait_for_items = wait_for_push  # type: ignore[method-assign] # this one's
    async with face.instance.worker() as worker:
        await wait_until(lambda: pauses, "the worker is idle")
        await job.later_async()
        reading = asyncio.create_task(worker.next_outcome())
        await wait_until(reading.done, "the job ended")
        outcome = await reading

    assert outcome is not None
    assert outcome.result == "done"


async def test_an_item_pushed_to_an_idle_worker_starts_at_once(each_face: Face) -> None:
    face = make_face_of(each_face.name, wait_seconds=3600)
    job = face.job(as_kind("async", lambda: "done"), name="late")

    def work() -> Outcome:
        with face.instance.worker() as worker:
            job.later()
            return cast(Outcome, next(worker))

    if face.is_blocking:
        outcome: Outcome | None = await asyncio.to_thread(work)
    else:
        async with face.instance.worker() as worker:
            await wait_until(lambda: face.clock.pending >= 3, "the worker is idle")
            await job.later_async()
            outcome = await worker.next_outcome()

    assert outcome is not None
    assert outcome.result == "done"


async def test_a_poller_that_meets_something_unforeseen_goes_on_and_logs_it(
    face: Face, caplog: pytest.LogCaptureFixture
) -> None:
    face.faults.fail_before("pop", error=ZeroDivisionError("an adapter's own"))
    await push(face, as_kind("async", lambda number: number), name="late")

    async with face.instance.worker() as worker:
        await wait_until(lambda: not worker.health.is_healthy, "the poll failed")
        await wait_until(lambda: face.clock.pending >= 3, "the poller pauses")
        face.clock.advance(1)
        outcome = await worker.next_outcome()

    assert outcome is not None
    assert "an adapter's own" in caplog.text
    assert caplog.records[0].exc_info is not None


# Point 5: shutdown.


async def test_running_jobs_end_within_the_grace_period(face: Face, kind: Kind) -> None:
    gate = Gate()
    await push(face, gate.plain if kind == "plain" else gate.awaited, 2)

    async with face.instance.worker(grace_seconds=10) as worker:
        await wait_until(lambda: len(gate.started) == 2, "both run")
        worker.stop()
        face.clock.advance(9)
        gate.opened.set()
        statuses = [outcome.status async for outcome in worker]

    assert statuses == ["completed", "completed"]


async def test_async_jobs_are_cancelled_after_it_and_no_attempt_is_used_up(face: Face) -> None:
    gate = Gate()
    await push(face, gate.awaited, 2)

    async with face.instance.worker(grace_seconds=10) as worker:
        await wait_until(lambda: len(gate.started) == 2, "both run")
        before = face.clock.pending
        worker.stop()
        await wait_until(lambda: face.clock.pending > before, "the grace period runs")
        face.clock.advance(10)
        statuses = [outcome.status async for outcome in worker]

    assert statuses == ["released", "released"]
    assert await face.stats() == (2, 0, 0)
    assert [item["attempts"] for item in await face.items()] == [0, 0]


async def test_a_second_stop_ends_the_grace_period(each_face: Face) -> None:
    gate = Gate()
    await push(each_face, gate.awaited)

    def work() -> list[Outcome]:
        with each_face.instance.worker(grace_seconds=1000) as worker:
            wait_here(lambda: gate.started, "it runs")
            worker.stop()
            worker.stop()
            return list(worker)

    if each_face.is_blocking:
        outcomes = await asyncio.to_thread(work)
    else:
        async with each_face.instance.worker(grace_seconds=1000) as worker:
            await wait_until(lambda: gate.started, "it runs")
            worker.stop()
            worker.stop()
            outcomes = [outcome async for outcome in worker]

    assert [outcome.status for outcome in outcomes] == ["released"]
    assert await each_face.stats() == (1, 0, 0)


async def test_a_second_cancellation_ends_the_grace_period(face: Face) -> None:
    gate = Gate()
    await push(face, gate.awaited)

    async def consume() -> None:
        async with face.instance.worker(grace_seconds=1000) as worker:
            await worker.next_outcome()

    consuming = asyncio.create_task(consume())
    await wait_until(lambda: gate.started, "it runs")
    consuming.cancel()
    for _ in range(20):
        await asyncio.sleep(0)

    assert not consuming.done()
    assert await cancelled(consuming)
    assert await face.stats() == (1, 0, 0)


async def test_a_plain_function_s_item_is_not_given_back_while_it_runs(face: Face) -> None:
    gate = Gate()
    attempts: list[CurrentAttempt] = []
    seen: list[tuple[int, int, int]] = []

    def plain(number: int) -> None:
        attempts.append(current_attempt())
        gate.plain(number)

    await push(face, plain)

    async with face.instance.worker(grace_seconds=0) as worker:
        await wait_until(lambda: gate.started, "it runs")
        worker.stop()
        await wait_until(lambda: attempts[0].stop_reason, "the grace period is over")
        seen.append(await face.stats())
        gate.opened.set()
        statuses = [outcome.status async for outcome in worker]

    assert seen == [(0, 1, 0)]
    assert statuses == ["completed"]


async def test_items_that_wait_for_a_thread_go_back_to_the_front_in_their_order(
    face: Face,
) -> None:
    gate = Gate()
    await push(face, gate.plain, 8)

    async with face.instance.worker(concurrency=5, threads=1):
        await wait_until(lambda: gate.started, "one runs")
        await wait_until(until_in_flight(face.broker.queue, 1), "the others were given back")
        gate.opened.set()
        await wait_until(lambda: len(gate.started) > 1, "the next one runs")

    count = len(gate.started)
    assert gate.started == list(range(count))
    numbers = [args_of(item) for item in await face.items()]
    assert numbers == [(number,) for number in range(count, 8)]


async def test_items_that_wait_for_a_thread_go_back_to_the_front_of_a_redis_list(
    redis_url: str,
) -> None:
    gate = Gate()
    factory = DocketsBackendFactory(redis_url)
    async with Deferrable(factory.create_backend_for_group(unique_group("worker-"))) as instance:
        job = instance.deferrable(name="plain")(gate.plain)
        await job.later_many_async([(number,) for number in range(8)])

        async with instance.worker(concurrency=5, threads=1) as worker:
            queue = instance.backend.queue
            await wait_until(lambda: gate.started, "one runs")
            await wait_until(until_in_flight(queue, 1), "the others were given back")
            worker.stop()
            gate.opened.set()
        popped = await instance.backend.queue.pop_batch(8)
        await instance.backend.queue.flush()

    assert [args_of(item) for _, item in popped] == [(number,) for number in range(1, 8)]


async def test_an_async_job_behind_hundreds_of_plain_ones_does_not_wait_for_a_thread(
    face: Face,
) -> None:
    plain, awaited = Gate(), Gate()
    await push(face, plain.plain, 300)
    await push(face, awaited.awaited, 1)

    def is_started_later() -> bool:
        face.clock.advance(0.05)
        return bool(awaited.started)

    async with face.instance.worker(threads=1):
        await wait_until(is_started_later, "the async job runs")
        plain_count = len(plain.started)
        for gate in (plain, awaited):
            gate.opened.set()

    assert plain_count == 1


async def test_a_thread_that_becomes_free_during_the_stop_starts_nothing(face: Face) -> None:
    gate = Gate()
    await push(face, gate.plain, 5)
    face.faults.delay("release", 0.01, times=None)
    # Of a queue that counts releases, items are held until a thread is free.
    cast(Any, face.backend.queue).COUNTS_RELEASES = True

    async with face.instance.worker(concurrency=5, threads=1, grace_seconds=1000) as worker:
        await wait_until(lambda: gate.started, "one runs")
        await wait_until(until_in_flight(face.broker.queue, 5), "five are taken")
        pending = face.clock.pending
        worker.stop()
        await wait_until(lambda: face.clock.pending >= pending + 2, "a release travels")
        gate.opened.set()
        await wait_until(until_in_flight(face.broker.queue, 4), "the one that ran was completed")
        reading = asyncio.create_task(drain(worker))
        while not reading.done():
            face.clock.advance(0.01)
            await asyncio.sleep(0)
        statuses = reading.result()

    assert gate.started == [0]
    assert statuses == ["completed"]
    assert await face.stats() == (4, 0, 0)


async def drain(worker: Worker) -> list[str]:
    return [outcome.status async for outcome in worker]


def args_of(item: Any) -> Any:
    return pickling.loads(item["args"])


async def test_items_that_wait_for_a_slot_go_back_to_the_front_in_their_order() -> None:
    faces = [Face("awaiting"), Face("awaiting")]
    gate = Gate()
    for each in faces:
        await push(each, gate.awaited, 3)

    async with Worker([each.instance for each in faces], concurrency=1, grace_seconds=0):
        await wait_until(lambda: gate.started, "one runs")
        for each in faces:
            await wait_until(until_in_flight(each.broker.queue, 1), "its queue gave one")

    assert [(await each.stats())[1] for each in faces] == [0, 0]
    waited = faces[1]
    assert [args_of(item) for item in await waited.items()] == [(0,), (1,), (2,)]


async def test_buffered_items_are_given_back_again_when_the_broker_refused_once() -> None:
    faces = [Face("awaiting"), Face("awaiting")]
    gate = Gate()
    for each in faces:
        await push(each, gate.awaited, 1)
        each.faults.drop("release")

    async with Worker([each.instance for each in faces], concurrency=1) as worker:
        for each in faces:
            await wait_until(until_in_flight(each.broker.queue, 1), "its queue gave one")
        pending = faces[1].clock.pending
        worker.stop()
        await wait_until(lambda: faces[1].faults.injected, "the release failed")
        await wait_until(lambda: faces[1].clock.pending > pending, "it is to be tried again")
        faces[1].clock.advance(1)
        gate.opened.set()

    assert await faces[1].stats() == (1, 0, 0)


async def test_a_receive_in_flight_lands_and_is_given_back() -> None:
    landing = asyncio.Event()

    face = Face("awaiting", wait_seconds=3600)
    hook = face.broker.queue._pop_batch

    async def pop_slowly(count: int) -> Any:
        popped = await hook(count)
        await landing.wait()
        return popped

    face.broker.queue._pop_batch = pop_slowly  # type: ignore[method-assign] # this one object's
    await push(face, as_kind("async", lambda number: number), 3, name="late")

    async with face.instance.worker() as worker:
        await wait_until(lambda: face.broker.queue.store.stats(0)["in_flight"] == 3, "it travels")  # type: ignore[attr-defined] # in memory
        pending = face.clock.pending
        worker.stop()
        await wait_until(lambda: face.clock.pending > pending, "the grace period runs")
        for _ in range(5):
            await asyncio.sleep(0)
        landing.set()
        assert [outcome async for outcome in worker] == []

    assert await face.stats() == (3, 0, 0)


@pytest.mark.parametrize("steps", range(0, 40, 2))
def test_a_loop_that_is_shut_down_at_any_step_leaves_nothing_leased(face: Face, steps: int) -> None:
    runs: list[int] = []

    async def main() -> None:
        await push(face, as_kind("async", runs.append), 5, name="note")
        consuming = asyncio.create_task(consume())
        for _ in range(steps):
            await asyncio.sleep(0)
        assert not consuming.done()

    async def consume() -> None:
        async with face.instance.worker(concurrency=2) as worker:
            async for _ in worker:
                pass

    asyncio.run(main())
    available, in_flight, delayed = asyncio.run(face.stats())

    assert (available, in_flight, delayed) == (5 - len(runs), 0, 0)


async def test_a_loop_that_is_shut_down_leaves_nothing_leased(face: Face) -> None:
    gate = Gate()
    await push(face, gate.awaited, 5)

    def run_loop() -> None:
        async def main() -> None:
            async def consume() -> None:
                async with face.instance.worker(concurrency=2) as worker:
                    async for _ in worker:
                        pass

            consuming = asyncio.create_task(consume())
            await wait_until(lambda: len(gate.started) == 2, "two run")
            assert not consuming.done()

        asyncio.run(main())

    await asyncio.to_thread(run_loop)

    assert await face.stats() == (5, 0, 0)


# Point 7: the lifespan and the attempt.


class Life:
    """A lifespan that notes what happens, on which task."""

    def __init__(self, face: Face | None = None, error: Exception | None = None) -> None:
        self.face = face
        self.error = error
        self.notes: list[str] = []
        self.tasks: list[Any] = []

    async def _note(self, note: str) -> None:
        self.notes.append(note)
        self.tasks.append(asyncio.current_task())
        if self.face is not None:
            self.notes.append(str(await self.face.stats()))

    @asynccontextmanager
    async def awaited(self) -> AsyncIterator[str]:
        await self._note("entered")
        if self.error is not None:
            raise self.error
        try:
            yield "a pool"
        finally:
            await self._note("left")

    @contextmanager
    def plain(self) -> Iterator[str]:
        self.notes.append("entered")
        self.tasks.append(asyncio.current_task())
        yield "a pool"
        self.notes.append("left")
        self.tasks.append(asyncio.current_task())


async def test_an_async_lifespan_is_open_from_before_the_first_pop_to_after_the_last_settlement(
    make_face: MakeFace,
) -> None:
    life = Life()
    face = make_face(lifespan=life.awaited)
    life.face = face
    await push(face, as_kind("async", lambda number: number), 3, name="plain")

    await read(face, 3)

    assert life.notes == ["entered", "(3, 0, 0)", "left", "(0, 0, 0)"]
    assert life.tasks[0] is life.tasks[1]


async def test_a_plain_lifespan_is_entered_and_left_in_one_task(make_face: MakeFace) -> None:
    life = Life()
    face = make_face(lifespan=life.plain)
    await push(face, as_kind("async", lambda number: number), name="plain")

    await read(face, 1)

    assert life.notes == ["entered", "left"]
    assert life.tasks[0] is life.tasks[1] is not None


async def test_what_the_lifespan_gave_is_the_state_of_each_job(
    make_face: MakeFace, kind: Kind
) -> None:
    face = make_face(lifespan=Life().awaited)
    await push(face, as_kind(kind, lambda _: current_attempt().state), name="state")

    (outcome,) = await read(face, 1)

    assert outcome.result == "a pool"


async def test_entering_fails_as_the_lifespan_did_and_leaves_those_before_it() -> None:
    first, second = Life(), Life(error=ZeroDivisionError())
    faces = [
        Face("awaiting", lifespan=first.awaited),
        Face("awaiting", lifespan=second.awaited),
    ]

    with pytest.raises(ZeroDivisionError):
        async with Worker([each.instance for each in faces]):
            pytest.fail("it was entered")

    assert first.notes == ["entered", "left"]


async def test_entering_the_blocking_worker_fails_as_the_lifespan_did() -> None:
    face = Face("blocking", lifespan=Life(error=ZeroDivisionError()).awaited)

    def enter() -> None:
        with face.instance.worker():
            pytest.fail("it was entered")

    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(enter)


async def test_cancelling_the_entering_cancels_a_lifespan_that_waits() -> None:
    ended: list[str] = []

    @asynccontextmanager
    async def wait_for_ever() -> AsyncIterator[None]:
        try:
            await asyncio.Event().wait()
            yield
        finally:
            ended.append("left")

    face = Face("awaiting", lifespan=wait_for_ever)
    entering = asyncio.create_task(face.instance.worker().__aenter__())
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert await cancelled(entering)
    assert ended == ["left"]


async def test_a_job_sees_its_own_attempt(each_face: Face, kind: Kind) -> None:
    def look(number: int) -> Any:
        mine = current_attempt()
        now = each_face.clock.time()
        return (
            mine.item["id"] == mine.id,
            mine.number,
            mine.ttl_remaining_seconds,
            (mine.deadline_time or 0) - now,
            mine.is_lease_lost,
            mine.stop_reason,
            mine.state,
        )

    job = each_face.job(as_kind(kind, look), name="look", ttl_seconds=60, timeout_seconds=5)
    for number in range(3):
        await each_face.later(job, number)

    outcomes = await read(each_face, 3)

    assert {outcome.result for outcome in outcomes} == {(True, 1, 60.0, 5.0, False, None, None)}
    assert len({outcome.item["id"] for outcome in outcomes}) == 3


async def test_a_job_touches_its_own_item(each_face: Face, kind: Kind) -> None:
    async def awaited() -> float:
        await current_attempt().touch(500)
        return current_attempt().lease_end_time

    def plain() -> float:
        current_attempt().touch_blocking(500)
        return current_attempt().lease_end_time

    await each_face.later(each_face.job(plain if kind == "plain" else awaited, name="touch"))

    (outcome,) = await read(each_face, 1)

    assert outcome.result == each_face.clock.time() + 500


async def test_a_time_limit_holds_in_a_worker(face: Face) -> None:
    gate = Gate()
    await push(face, gate.awaited, timeout_seconds=5)

    async with face.instance.worker() as worker:
        await wait_until(lambda: gate.started, "it runs")
        face.clock.advance(5)
        outcome = await worker.next_outcome()

    assert outcome is not None
    assert isinstance(outcome.error, TimeoutError)


async def test_a_plain_function_over_its_time_is_told_and_keeps_its_slot(face: Face) -> None:
    gate = Gate()
    face.record_events()
    await push(face, gate.plain, 2, timeout_seconds=5)

    async with face.instance.worker(concurrency=1) as worker:
        await wait_until(lambda: gate.started, "it runs")
        face.clock.advance(5)
        await wait_until(lambda: "overrun" in face.event_names, "it is told")
        await wait_until(lambda: has_paused(worker, face), "it has no slot for another")
        started = list(gate.started)
        gate.opened.set()
        outcome = await worker.next_outcome()

    assert started == [0]
    assert outcome is not None
    assert outcome.status == "completed"


async def test_a_job_asks_for_a_retry_in_a_worker(each_face: Face, kind: Kind) -> None:
    def again(number: int) -> None:
        raise deferrable.Retry(after_seconds=7)

    await push(each_face, as_kind(kind, again), name="again")

    (outcome,) = await read(each_face, 1)

    assert outcome.status == "retried"
    assert await each_face.stats() == (0, 0, 1)


tenant: ContextVar[str] = ContextVar("tenant", default="nobody's")


class Tenants(MetadataProducerConsumer):
    """Puts the tenant into the job's context, and notes in which thread."""

    NAMESPACE = "tenant"

    def __init__(self) -> None:
        self.threads: list[int] = []

    def produce_metadata(self) -> str:
        return tenant.get()

    def consume_metadata(self, metadata: Any) -> None:
        tenant.set(f"{metadata}")
        self.threads.append(threading.get_ident())


async def test_metadata_is_consumed_in_the_context_of_its_own_job(
    each_face: Face, kind: Kind
) -> None:
    each_face.instance.register_metadata_producer_consumer(Tenants())
    job = each_face.job(as_kind(kind, tenant.get), name="tenant")
    for name in ("a", "b", "c"):
        tenant.set(name)
        await each_face.later(job)

    outcomes = await read(each_face, 3)

    assert sorted(outcome.result for outcome in outcomes) == ["a", "b", "c"]


async def test_a_plain_job_s_metadata_is_consumed_in_its_thread(each_face: Face) -> None:
    tenants = Tenants()
    each_face.instance.register_metadata_producer_consumer(tenants)
    await push(each_face, lambda _: threading.get_ident(), name="thread")

    (outcome,) = await read(each_face, 1)

    assert tenants.threads == [outcome.result]


async def test_the_events_of_each_outcome_are_those_of_run_once(each_face: Face) -> None:
    each_face.record_events()
    await push(each_face, as_kind("async", lambda number: 1 / number), 2, name="divide")

    await read(each_face, 2, concurrency=1)

    assert each_face.event_names == [
        *["push", "push"],
        *["pop", "error", "complete"],
        *["pop", "complete"],
    ]
