"""Cancelling `run_once`: nothing is lost, and only attempts that were made count.

Only a caller that awaits can be cancelled. An interrupt (Ctrl-C) of a blocking caller is decided in
the same way; see test_interrupts.py.
"""

import asyncio
import gc
import threading
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import anyio
import pytest
from faces import Face, cancelled, wait_here

from deferrable.item import Item
from deferrable.testing import wait_until

pytestmark = pytest.mark.anyio


class Broken(Exception):
    pass


@pytest.fixture
def face() -> Face:
    face = Face("awaiting")
    face.record_events()
    return face


class Begun:
    """Something that begins, and then waits until it is cancelled or let go."""

    def __init__(self) -> None:
        self.has_begun = False
        self.may_end = asyncio.Event()
        self.cancellations = 0

    async def __call__(self) -> str:
        self.has_begun = True
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancellations += 1
            raise
        return "done"


class Blocked:
    """A plain function that begins, and then blocks its thread until it is let go."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.has_begun = False
        self.may_end = threading.Event()
        self.has_ended = False
        self.error = error

    def __call__(self) -> str:
        self.has_begun = True
        self.may_end.wait(30)
        self.has_ended = True
        if self.error is not None:
            raise self.error
        return "done"


async def began(job: Begun | Blocked) -> None:
    await wait_until(lambda: job.has_begun, "the job has begun")


async def test_a_cancelled_async_job_is_released_and_burns_no_attempt(face: Face) -> None:
    job = Begun()
    await face.later(face.job(job, name="job", error_classes=[asyncio.CancelledError]))
    running = asyncio.create_task(face.run_once())
    await began(job)

    assert await cancelled(running)
    assert face.event_names == ["push", "pop", "release"]
    assert await face.stats() == (1, 0, 0)
    assert [item["attempts"] for item in await face.items()] == [0]


async def test_what_has_started_goes_behind_what_waits(face: Face) -> None:
    job = Begun()
    await face.later(face.job(job, name="job"))
    await face.later(face.job(lambda: None, name="second"))
    running = asyncio.create_task(face.run_once())
    await began(job)

    await cancelled(running)

    assert [item["method"] for item in await face.items()] == ["second", "job"]


async def test_a_job_is_cancelled_once_so_that_its_cleanup_may_await(face: Face) -> None:
    steps: list[str] = []

    async def transaction() -> None:
        steps.append("begin")
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(3):
                await asyncio.sleep(0)
            steps.append("rolled back")

    await face.later(face.job(transaction))

    with anyio.CancelScope() as scope:  # level cancellation, as in a web framework

        async def cancel_when_begun() -> None:
            await wait_until(lambda: steps, "it has begun")
            scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(cancel_when_begun)
            await face.run_once()

    assert scope.cancelled_caught
    assert steps == ["begin", "rolled back"]
    assert await face.stats() == (1, 0, 0)


async def test_a_second_cancellation_does_not_interrupt_the_first_ones_cleanup(face: Face) -> None:
    job = Begun()
    may_clean = asyncio.Event()

    async def with_cleanup() -> None:
        try:
            await job()
        finally:
            await may_clean.wait()

    await face.later(face.job(with_cleanup))
    running = asyncio.create_task(face.run_once())
    await began(job)
    running.cancel()
    await wait_until(lambda: job.cancellations, "it was cancelled")
    running.cancel()
    await asyncio.sleep(0)
    still_running = not running.done()
    may_clean.set()

    await asyncio.wait([running])

    assert still_running
    assert running.cancelled()
    assert job.cancellations == 1
    assert await face.stats() == (1, 0, 0)


async def test_a_time_out_around_run_once_is_a_cancellation(face: Face) -> None:
    job = Begun()
    await face.later(face.job(job, name="job"))

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await face.run_once()

    assert await face.stats() == (1, 0, 0)


async def test_a_job_that_suppresses_its_cancellation_has_succeeded(face: Face) -> None:
    job = Begun()

    async def stubborn() -> str:
        try:
            return await job()
        except asyncio.CancelledError:
            return "all the same"

    await face.later(face.job(stubborn))
    running = asyncio.create_task(face.run_once())
    await began(job)

    assert await cancelled(running)
    assert face.event_names == ["push", "pop", "complete"]
    assert await face.items() == []


async def test_a_job_that_fails_in_its_cleanup_was_cancelled_all_the_same(face: Face) -> None:
    job = Begun()

    async def clumsy() -> None:
        try:
            await job()
        finally:
            raise Broken

    await face.later(face.job(clumsy, error_classes=[Broken]))
    running = asyncio.create_task(face.run_once())
    await began(job)

    assert await cancelled(running)
    assert face.event_names == ["push", "pop", "release"]


async def test_a_job_that_failed_before_the_cancellation_arrived_has_failed(face: Face) -> None:
    running: asyncio.Task[Any]

    async def fail_and_be_cancelled() -> NoReturn:
        # Both in one pass of the loop: the job has ended by itself before it could be stopped.
        asyncio.get_running_loop().call_soon(running.cancel)
        raise Broken

    await face.later(face.job(fail_and_be_cancelled))
    running = asyncio.create_task(face.run_once())

    await asyncio.wait([running])

    assert face.event_names == ["push", "pop", "error", "complete"]


async def test_a_cancelled_error_of_the_jobs_own_is_its_failure() -> None:
    for door in ("awaiting", "blocking"):
        face = Face(door)

        async def give_up() -> NoReturn:
            raise asyncio.CancelledError("own")

        await face.later(face.job(give_up))

        outcome = await face.run()
        buried = await face.take_error()

        assert outcome.status == "errored"
        assert buried is not None
        assert buried["error"]["error_type"] == "CancelledError"


async def test_a_job_that_cancels_itself_has_failed_and_the_caller_goes_on(face: Face) -> None:
    async def cancel_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    await face.later(face.job(cancel_itself))

    assert (await face.run()).status == "errored"


# Plain functions cannot be cancelled.


async def test_cancelling_waits_for_a_plain_function_settles_and_then_raises(face: Face) -> None:
    job = Blocked()
    await face.later(face.job(job, name="job"))
    running = asyncio.create_task(face.run_once())
    await began(job)

    running.cancel()
    await passes(50)
    while_running = (running.done(), await face.stats())
    job.may_end.set()
    await asyncio.wait([running])

    assert while_running == (False, (0, 1, 0))
    assert running.cancelled()
    assert face.event_names == ["push", "pop", "complete"]
    assert await face.items() == []


async def test_a_plain_function_that_fails_after_the_cancellation_is_retried(face: Face) -> None:
    job = Blocked(Broken())
    await face.later(face.job(job, name="job", error_classes=[Broken]))
    running = asyncio.create_task(face.run_once())
    await began(job)

    running.cancel()
    await asyncio.sleep(0)
    job.may_end.set()
    await asyncio.wait([running])

    assert running.cancelled()
    assert face.event_names == ["push", "pop", "retry", "complete"]


async def test_many_cancellations_do_not_release_a_plain_function(face: Face) -> None:
    job = Blocked()
    await face.later(face.job(job, name="job"))
    running = asyncio.create_task(face.run_once())
    await began(job)

    for _ in range(5):
        running.cancel()
        await asyncio.sleep(0)
    job.may_end.set()
    await asyncio.wait([running])

    assert running.cancelled()
    assert face.event_names == ["push", "pop", "complete"]


def test_a_loop_that_is_shut_down_waits_for_a_plain_function_and_settles() -> None:
    face = Face("awaiting")
    face.record_events()
    job = Blocked()
    while_running: list[Any] = []

    def let_go() -> None:
        wait_here(lambda: shutting_down, "the loop is being shut down")
        while_running.extend(face.event_names)
        job.may_end.set()

    shutting_down: list[bool] = []
    tasks: list[asyncio.Task[Any]] = []

    async def main() -> None:
        await face.later(face.job(job, name="job"))
        tasks.append(asyncio.create_task(face.run_once()))
        await began(job)

        async def notice_the_end() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                shutting_down.append(True)

        tasks.append(asyncio.create_task(notice_the_end()))
        await asyncio.sleep(0)

    helper = threading.Thread(target=let_go)
    helper.start()
    asyncio.run(main())
    helper.join()

    assert while_running == ["push", "pop"]
    assert job.has_ended
    assert face.event_names == ["push", "pop", "complete"]


def test_a_loop_that_is_shut_down_releases_an_async_job_after_its_cleanup() -> None:
    face = Face("awaiting")
    face.record_events()
    cleaned: list[str] = []

    async def job() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            cleaned.append("up")

    async def main() -> None:
        await face.later(face.job(job))
        running = asyncio.create_task(face.run_once())
        await wait_until(lambda: "pop" in face.event_names, "it was popped")
        for _ in range(5):
            await asyncio.sleep(0)
        assert not running.done()

    asyncio.run(main())

    assert cleaned == ["up"]
    assert face.event_names == ["push", "pop", "release"]


def test_a_loop_that_is_shut_down_at_any_moment_loses_nothing() -> None:
    for steps in range(12):
        face = Face("awaiting")
        face.record_events()

        async def main(face: Face = face, steps: int = steps) -> None:
            async def job() -> None:
                await asyncio.Event().wait()

            await face.later(face.job(job))
            running = asyncio.create_task(face.run_once())
            for _ in range(steps):
                await asyncio.sleep(0)
            assert not running.done()

        asyncio.run(main())
        stats = asyncio.run(face.stats())

        assert stats == (1, 0, 0), f"shut down after {steps} steps"


# At other moments.


async def test_cancelled_while_popping_loses_nothing() -> None:
    face = Face("awaiting", wait_seconds=60)
    running = asyncio.create_task(face.run_once())
    await wait_until(lambda: face.clock.pending, "the pop waits")

    assert await cancelled(running)

    await face.later(face.job(Begun(), name="job"))
    assert await face.stats() == (1, 0, 0)


async def test_cancelled_in_the_very_moment_of_the_pop_gives_the_item_back() -> None:
    face = Face("awaiting", wait_seconds=60)
    job = face.job(Begun(), name="job")
    running = asyncio.create_task(face.run_once())
    await wait_until(lambda: face.clock.pending, "the pop waits")

    await face.later(job)
    assert await cancelled(running)

    assert await face.stats() == (1, 0, 0)


@pytest.mark.parametrize("event", ["pop", "complete"])
async def test_cancelled_during_an_event_handler_loses_nothing(face: Face, event: str) -> None:
    handler = Begun()

    class Slow:
        async def tell(self, item: Item) -> None:
            await handler()

    setattr(Slow, f"on_{event}", Slow.tell)
    calls: list[int] = []
    face.instance.register_event_consumer(Slow())
    await face.later(face.job(lambda: calls.append(1), name="job"))
    running = asyncio.create_task(face.run_once())
    await began(handler)

    running.cancel()
    await asyncio.sleep(0)
    handler.may_end.set()
    await asyncio.wait([running])

    assert running.cancelled()
    assert calls == ([] if event == "pop" else [1])
    assert face.event_names == ["push", "pop", "release" if event == "pop" else "complete"]
    assert len(await face.items()) == (1 if event == "pop" else 0)


async def test_a_function_whose_turn_has_not_come_is_not_begun_when_cancelled(face: Face) -> None:
    handler = Begun()

    class Slow:
        async def on_pop(self, item: Item) -> None:
            await handler()

    face.instance.register_event_consumer(Slow())
    job = Blocked()
    await face.later(face.job(job, name="job"))
    await face.later(face.job(job, name="second"))
    running = asyncio.create_task(face.run_once())
    await began(handler)

    running.cancel()
    await asyncio.sleep(0)
    handler.may_end.set()
    await asyncio.wait([running])
    first = await face.take()

    assert not job.has_begun
    assert first is not None
    assert first["method"] == "job"  # back at the front, in its old order


async def test_a_coroutine_of_a_plain_wrapper_that_is_cancelled_first_is_closed(face: Face) -> None:
    blocked = Blocked()

    async def inner() -> None:
        raise AssertionError("it must not begin")

    def wrapper() -> Any:
        blocked()
        return inner()

    await face.later(face.job(wrapper))
    running = asyncio.create_task(face.run_once())
    await began(blocked)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        running.cancel()
        await asyncio.sleep(0)
        blocked.may_end.set()
        await asyncio.wait([running])
        gc.collect()

    assert running.cancelled()
    assert caught == []
    assert await face.stats() == (1, 0, 0)


async def test_cancelled_while_settling_settles_first(face: Face) -> None:
    await face.later(face.job(lambda: None, name="job"))
    face.faults.delay("complete", seconds=10)
    running = asyncio.create_task(face.run_once())
    await wait_until(lambda: ("complete", "delay") in face.faults.injected, "it settles")

    running.cancel()
    await asyncio.sleep(0)
    face.clock.advance(10)
    await asyncio.wait([running])

    assert running.cancelled()
    assert face.event_names == ["push", "pop", "complete"]
    assert await face.items() == []


async def test_a_settlement_that_fails_under_a_cancellation_is_raised(face: Face) -> None:
    job = Begun()
    await face.later(face.job(job, name="job"))
    face.faults.fail_before("release", error=Broken())
    running = asyncio.create_task(face.run_once())
    await began(job)

    running.cancel()
    with pytest.raises(Broken):
        await running

    assert await face.stats() == (0, 1, 0)  # until its lease ends
    assert len(await face.items()) == 1


# At every await.


async def passes(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def cancel_at_each_step(
    make: Callable[[], Face], start: Callable[[Face], Awaitable[Any]]
) -> list[tuple[Face, bool]]:
    """Cancel at the 1st, 2nd, ... pass of the loop, until it ends before the cancellation."""
    ended = []
    for count in range(200):
        face = make()
        task = asyncio.ensure_future(start(face))
        await passes(count)
        task.cancel()
        await asyncio.wait([task])
        ended.append((face, task.cancelled()))
        if not task.cancelled():
            return ended
    raise AssertionError("it never came through")


async def steps_of_a_job() -> str:
    for _ in range(3):
        await asyncio.sleep(0)
    return "done"


class AsyncListener:
    """Awaits at every event."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return self._tell

    async def _tell(self, item: Item | None) -> None:
        await asyncio.sleep(0)


async def test_cancelled_at_any_step_an_item_is_in_exactly_one_place() -> None:
    async def run(face: Face) -> None:
        face.instance.register_event_consumer(AsyncListener())
        await face.later(face.job(steps_of_a_job))
        await face.run_once()

    ended = await cancel_at_each_step(lambda: Face("awaiting"), run)

    places = []
    for face, was_cancelled in ended:
        available, in_flight, delayed = await face.stats()
        errors = (await face.broker.error_queue.stats())["available"]
        assert (in_flight, delayed, errors) == (0, 0, 0)
        places.append((available, was_cancelled))
    first_pushed = next(index for index, (available, _) in enumerate(places) if available)
    rest = [available for available, _ in places[first_pushed:]]
    assert set(places[:first_pushed]) <= {(0, True)}
    assert rest == sorted(rest, reverse=True), "given back until it is complete, never between"
    assert places[-1] == (0, False)
    assert len(places) > 10


@pytest.mark.parametrize("error_classes", [[Broken], []])
async def test_cancelled_at_any_step_of_a_failure_it_is_there_once(error_classes: Any) -> None:
    async def fail() -> NoReturn:
        await asyncio.sleep(0)
        raise Broken

    async def run(face: Face) -> None:
        face.instance.register_event_consumer(AsyncListener())
        await face.run_once()

    async def make() -> Face:
        face = Face("awaiting")
        await face.later(face.job(fail, error_classes=error_classes))
        return face

    for count in range(200):
        face = await make()
        task = asyncio.create_task(run(face))
        await passes(count)
        task.cancel()
        await asyncio.wait([task])
        assert (await face.stats())[1] == 0
        items = await face.items()
        assert len(items) == 1
        assert items[0]["attempts"] in (0, 1)
        if not task.cancelled():
            return
    raise AssertionError("it never came through")


async def test_cancelled_at_any_step_of_a_plain_job_it_ran_once_or_is_still_there() -> None:
    for count in range(60):
        face = Face("awaiting")
        face.instance.register_event_consumer(AsyncListener())
        calls: list[int] = []
        await face.later(face.job(lambda calls=calls: calls.append(1), name="job"))
        task = asyncio.create_task(face.run_once())
        await passes(count)
        task.cancel()
        await asyncio.wait([task])
        assert len(calls) + len(await face.items()) == 1


async def test_a_later_cancelled_at_any_step_pushes_once_or_not_at_all() -> None:
    async def later(face: Face) -> None:
        face.instance.register_event_consumer(AsyncListener())
        await face.later(face.job(steps_of_a_job))

    ended = await cancel_at_each_step(lambda: Face("awaiting"), later)

    for face, _ in ended:
        assert len(await face.items()) <= 1
    assert len(ended) > 1
