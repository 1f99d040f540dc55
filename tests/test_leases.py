"""Leases of jobs under ``run_once``: kept while the job runs, and noticed when they are lost."""

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from faces import LEASE_SECONDS, Face, FaceName, Kind, MakeFace, wait_here

from deferrable.aio._contract.entries import TOUCHES_PER_LEASE
from deferrable.aio._engine.keeper import Keeper
from deferrable.aio.backend.memory._store import Now
from deferrable.aio.queue import Touch
from deferrable.errors import BackendError, LeaseLost
from deferrable.testing import wait_until
from deferrable.testing.faults import FaultyQueue

pytestmark = pytest.mark.anyio

STEP_SECONDS = LEASE_SECONDS / TOUCHES_PER_LEASE


class Beats:
    """Counts the touches of a queue."""

    def __init__(self, face: Face) -> None:
        self.count = 0
        self.answered = 0
        self._queue = face.backend.queue
        self._touch_batch = self._queue._touch_batch
        self._queue._touch_batch = self._count  # type: ignore[method-assign] # this one object's

    async def _count(self, touches: Sequence[Touch]) -> Sequence[Exception | None]:
        try:
            outcomes = await self._touch_batch(touches)
            self.answered += len(touches)
            return outcomes
        finally:
            self.count += len(touches)


def job_of(kind: Kind, face: Face, beats: Beats, steps: int, before: Callable[[], object]) -> Any:
    """A job that takes `steps` thirds of a lease, and lets the keeper touch in each of them."""

    def advance(step: int) -> Callable[[], bool]:
        before()
        count = beats.count
        face.clock.advance(STEP_SECONDS)
        return lambda: beats.count > count and face.clock.pending > 0

    def plain() -> str:
        wait_here(lambda: face.clock.pending, "the keeper sleeps")
        for step in range(steps):
            wait_here(advance(step), f"it beat in step {step}")
        return "done"

    async def awaited() -> str:
        await wait_until(lambda: face.clock.pending, "the keeper sleeps")
        for step in range(steps):
            await wait_until(advance(step), f"it beat in step {step}")
        return "done"

    return plain if kind == "plain" else awaited


def nothing() -> None:
    pass


async def test_a_lease_is_kept_while_a_job_takes_three_leases(face: Face, kind: Kind) -> None:
    beats = Beats(face)
    job = face.job(job_of(kind, face, beats, 3 * TOUCHES_PER_LEASE, nothing), name="long")
    await face.later(job)
    start_time = face.clock.time()

    outcome = await face.run()

    assert (outcome.status, outcome.result) == ("completed", "done")
    assert face.clock.time() == start_time + 3 * LEASE_SECONDS
    assert await face.items() == []


async def test_nobody_else_gets_the_item_meanwhile(face: Face, kind: Kind) -> None:
    beats = Beats(face)
    in_flight: list[int] = []

    def look() -> None:
        store = face.broker.queue.store  # type: ignore[attr-defined] # in memory
        store.catch_up(Now(face.clock.time(), face.clock.monotonic()))
        in_flight.append(store.stats(0)["in_flight"])

    await face.later(face.job(job_of(kind, face, beats, 9, look), name="long"))

    await face.run()

    assert set(in_flight) == {1}


async def test_a_broker_that_cannot_be_reached_does_not_end_a_lease(face: Face, kind: Kind) -> None:
    beats = Beats(face)
    failures = iter([True, False] * 5)

    def sometimes_unreachable() -> None:
        if next(failures):
            face.faults.drop("touch")

    await face.later(face.job(job_of(kind, face, beats, 9, sometimes_unreachable), name="long"))

    outcome = await face.run()

    assert outcome.status == "completed"
    assert face.faults.injected == [("touch", "drop")] * 5


async def test_a_broker_that_comes_back_before_the_lease_ends_finds_it_kept(
    face: Face, kind: Kind
) -> None:
    beats = Beats(face)
    face.faults.drop("touch", times=2)
    steps = [(STEP_SECONDS, 1), (STEP_SECONDS, 2), (STEP_SECONDS / 2, 3)]

    def has_beaten(count: int) -> Callable[[], bool]:
        return lambda: beats.count == count and face.clock.pending > 0

    def plain() -> None:
        wait_here(lambda: face.clock.pending, "the keeper sleeps")
        for seconds, count in steps:
            face.clock.advance(seconds)
            wait_here(has_beaten(count), f"beat {count}")
        face.clock.advance(STEP_SECONDS)  # beyond the end of the first lease

    async def awaited() -> None:
        await wait_until(lambda: face.clock.pending, "the keeper sleeps")
        for seconds, count in steps:
            face.clock.advance(seconds)
            await wait_until(has_beaten(count), f"beat {count}")
        face.clock.advance(STEP_SECONDS)

    await face.later(face.job(plain if kind == "plain" else awaited, name="long"))

    assert (await face.run()).status == "completed"


async def test_a_touch_that_fails_in_an_unforeseen_way_does_not_end_the_keeping(
    face: Face, kind: Kind
) -> None:
    beats = Beats(face)
    face.faults.fail_before("touch", error=ZeroDivisionError())
    await face.later(face.job(job_of(kind, face, beats, 9, nothing), name="long"))

    assert (await face.run()).status == "completed"


async def test_a_lease_that_ends_unrenewed_is_lost(face: Face, kind: Kind) -> None:
    face.record_events()
    face.faults.drop("touch", times=None)

    def plain() -> None:
        wait_here(lambda: face.clock.pending, "the keeper sleeps")
        face.clock.advance(LEASE_SECONDS + 1)

    async def awaited() -> None:
        await wait_until(lambda: face.clock.pending, "the keeper sleeps")
        face.clock.advance(LEASE_SECONDS + 1)
        await asyncio.Event().wait()

    await face.later(face.job(plain if kind == "plain" else awaited, name="long"))

    outcome = await face.run()

    assert outcome.status == "lost"
    assert face.event_names == ["push", "pop", "lease_lost"]
    assert await face.stats() == (1, 0, 0)


async def test_a_lost_lease_cancels_an_async_job_once_and_completes_nothing(face: Face) -> None:
    face.record_events()
    cancellations: list[str] = []

    async def hang() -> None:
        await wait_until(lambda: face.clock.pending, "the keeper sleeps")
        face.clock.advance(LEASE_SECONDS + 1)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            for _ in range(5):
                await asyncio.sleep(0)
            cancellations.append("once")
            raise

    await face.later(face.job(hang))

    outcome = await face.run()

    assert outcome.status == "lost"
    assert cancellations == ["once"]
    assert face.event_names == ["push", "pop", "lease_lost"]


async def test_a_job_that_succeeds_after_its_lease_was_lost_completes_nothing(face: Face) -> None:
    face.record_events()

    async def stubborn() -> str:
        await wait_until(lambda: face.clock.pending, "the keeper sleeps")
        face.clock.advance(LEASE_SECONDS + 1)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "all the same"

    await face.later(face.job(stubborn))

    outcome = await face.run()

    assert (outcome.status, outcome.result) == ("lost", None)
    assert face.event_names == ["push", "pop", "lease_lost"]


@pytest.mark.parametrize("error_classes", [[], [ValueError]])
async def test_the_new_holders_delivery_survives_the_old_ones_end(
    face: Face, kind: Kind, error_classes: Any
) -> None:
    held: list[asyncio.Future[Any]] = []
    loop = asyncio.get_running_loop()

    def plain() -> None:
        face.clock.advance(LEASE_SECONDS + 1)
        popped = loop.create_future()
        popped.set_result(pop_from_here(face))
        held.append(popped)
        raise ValueError

    async def awaited() -> None:
        face.clock.advance(LEASE_SECONDS + 1)
        held.append(asyncio.ensure_future(face.broker.queue.pop()))
        await asyncio.Event().wait()

    job = face.job(plain if kind == "plain" else awaited, name="slow", error_classes=error_classes)
    await face.later(job)

    outcome = await face.run()
    await wait_until(held[0].done, "the new holder has it")
    envelope, item = held[0].result()
    in_flight = await face.stats()
    await face.broker.queue.complete(envelope)

    assert outcome.status == "lost"
    assert in_flight == (0, 1, 0)
    assert item["attempts"] == 0
    assert await face.items() == []


def pop_from_here(face: Face) -> Any:
    """Pop in a thread whose loop, if it has one, is busy with this very call."""
    with concurrent.futures.ThreadPoolExecutor() as other_thread:
        return other_thread.submit(asyncio.run, _popped(face)).result()


async def _popped(face: Face) -> Any:
    return await face.broker.queue.pop()


async def test_after_max_lease_seconds_a_hung_job_comes_back(
    make_face: MakeFace, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    face = make_face(max_lease_seconds=2 * LEASE_SECONDS)
    face.record_events()
    beats = Beats(face)
    kept = job_of(kind, face, beats, 2 * TOUCHES_PER_LEASE - 1, nothing)

    def is_lost() -> bool:
        face.clock.advance(STEP_SECONDS)  # the first step reaches the maximum: no touch any more
        return "lost the lease" in caplog.text

    def plain() -> None:
        kept()
        wait_here(is_lost, "the lease ends, because nobody touches it")

    async def hang() -> None:
        await kept()
        await wait_until(is_lost, "the lease ends, because nobody touches it")
        await asyncio.Event().wait()

    await face.later(face.job(plain if kind == "plain" else hang, name="hung"))

    outcome = await face.run()

    assert outcome.status == "lost"
    assert beats.count == 2 * TOUCHES_PER_LEASE - 1
    assert face.event_names == ["push", "pop", "lease_lost"]
    assert await face.stats() == (1, 0, 0)


async def test_the_brokers_word_that_a_lease_is_lost_is_believed(
    face: Face, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    face.faults.fail_before("touch", error=LeaseLost("it says so"))

    def plain() -> None:
        wait_here(lambda: face.clock.pending, "the keeper sleeps")
        face.clock.advance(STEP_SECONDS)
        wait_here(lambda: "lost the lease" in caplog.text, "the broker has said so")

    async def awaited() -> None:
        await wait_until(lambda: face.clock.pending, "the keeper sleeps")
        face.clock.advance(STEP_SECONDS)
        await asyncio.Event().wait()

    await face.later(face.job(plain if kind == "plain" else awaited, name="job"))

    outcome = await face.run()

    assert outcome.status == "lost"
    assert await face.stats() == (0, 1, 0)


async def test_nothing_is_touched_after_the_end_of_its_attempt(face: Face, kind: Kind) -> None:
    beats = Beats(face)
    await face.later(face.job(job_of(kind, face, beats, 1, nothing), name="short"))
    await face.run()
    count = beats.count

    await face.no_timer_is_left()
    face.clock.advance(10 * LEASE_SECONDS)
    await face.run_once()

    assert beats.count == count


async def test_the_first_touch_comes_after_a_third_of_the_lease(face: Face) -> None:
    beats = Beats(face)
    counts: list[int] = []

    def plain() -> None:
        wait_here(lambda: face.clock.pending, "the keeper sleeps")
        face.clock.advance(STEP_SECONDS - 0.1)
        counts.append(beats.count)
        face.clock.advance(0.1)
        wait_here(lambda: beats.count, "it beat")
        counts.append(beats.count)

    await face.later(face.job(plain))

    await face.run()

    assert counts == [0, 1]


async def test_a_touch_that_loses_the_race_with_the_settlement_is_no_lost_lease(
    face: Face, kind: Kind
) -> None:
    face.record_events()
    beats = Beats(face)
    face.faults.delay("touch", seconds=1)

    def plain() -> None:
        wait_here(lambda: face.clock.pending, "the keeper sleeps")
        face.clock.advance(STEP_SECONDS)
        wait_here(lambda: ("touch", "delay") in face.faults.injected, "a touch is under way")

    async def awaited() -> None:
        await wait_until(lambda: face.clock.pending, "the keeper sleeps")
        face.clock.advance(STEP_SECONDS)
        await wait_until(lambda: ("touch", "delay") in face.faults.injected, "it touches")

    await face.later(face.job(plain if kind == "plain" else awaited, name="quick"))

    outcome = await face.run()
    await wait_until(lambda: face.clock.pending, "the touch is delayed")
    face.clock.advance(1)
    await wait_until(lambda: beats.count == 1, "the touch has ended")
    await face.no_timer_is_left()

    assert beats.answered == 1, "a touch under way is not cancelled"
    assert outcome.status == "completed"
    assert face.event_names == ["push", "pop", "complete"]


# By itself.


async def test_only_the_brokers_word_or_the_leases_end_ends_a_lease() -> None:
    face = Face("awaiting")
    queue = face.backend.queue
    beats = Beats(face)
    await face.later(face.job(nothing))
    envelope, _ = await queue.pop()
    assert envelope is not None
    lost: list[bool] = []
    leases = Keeper(asyncio.get_running_loop())

    leases.keep(queue, envelope, lambda: lost.append(True))
    for number, error in enumerate([BackendError("away"), None, LeaseLost("gone")], start=1):
        if error is not None:
            face.faults.fail_before("touch", error=error)
        await wait_until(lambda: face.clock.pending, "it sleeps")
        assert lost == []
        face.clock.advance(10)
        await wait_until(lambda number=number: beats.count == number, "it touched")  # type: ignore[misc]
    await wait_until(lambda: lost, "it is lost")

    await leases.tidy()
    assert lost == [True]
    assert face.clock.pending == 0


@pytest.mark.parametrize("door", ["awaiting", "blocking"])
async def test_a_lease_that_ends_while_a_job_blocks_its_loop_is_lost(door: FaceName) -> None:
    face = Face(door)

    async def never_awaits() -> None:
        face.clock.advance(LEASE_SECONDS + 1)

    await face.later(face.job(never_awaits))

    assert (await face.run()).status == "lost"


def test_a_faulty_queue_keeps_the_lease_of_its_queue() -> None:
    face = Face("awaiting")

    assert isinstance(face.backend.queue, FaultyQueue)
    assert face.backend.queue.lease_seconds == LEASE_SECONDS


async def test_what_a_lost_lease_says_fits_a_worker_too(face: Face) -> None:
    queue = face.backend.queue
    await queue.push({"n": 1})
    envelope, _ = await queue.pop()
    assert envelope is not None
    face.clock.advance(LEASE_SECONDS + 1)

    with pytest.raises(LeaseLost) as caught:
        await queue.complete(envelope)

    assert "use a longer visibility timeout" in str(caught.value)
    assert "code that pops items itself must touch" in str(caught.value)
