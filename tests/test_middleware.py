"""Middleware: what it is around, in which thread and context, and what its failures mean."""

import asyncio
import contextvars
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from faces import Face, How, Kind, MakeFace, as_kind, run

from deferrable import CurrentAttempt, Deferral, Middleware, Outcome, Retry, current_attempt
from deferrable.aio import InMemoryDebounceStore
from deferrable.errors import BackendError
from deferrable.testing import wait_until

pytestmark = pytest.mark.anyio

around: contextvars.ContextVar[str] = contextvars.ContextVar("around", default="nothing")


class Log(Middleware):
    """Writes down what happens, and in which thread."""

    def __init__(self, name: str = "", lines: list[Any] | None = None) -> None:
        self.name = name
        self.lines: list[Any] = [] if lines is None else lines
        self.threads: set[int] = set()
        self.outcomes: list[Outcome] = []

    @contextmanager
    def around_later(self, deferral: Deferral) -> Iterator[None]:
        self.lines.append(f"{self.name}later {deferral.job_name}")
        try:
            yield
        except BaseException as error:
            self.lines.append(type(error).__name__)
            raise
        self.lines.append([receipt.status for receipt in deferral.receipts])

    @contextmanager
    def around_job(self, attempt: CurrentAttempt) -> Iterator[None]:
        self.threads.add(threading.get_ident())
        self.lines.append(f"{self.name}job {attempt.job_name}")
        token = around.set(f"{self.name}{attempt.number}")
        try:
            yield
        except BaseException as error:
            self.lines.append(type(error).__name__)
            raise
        else:
            self.lines.append(f"{self.name}done")
        finally:
            around.reset(token)

    def after_attempt(self, outcome: Outcome) -> None:
        self.lines.append(
            f"{self.name}{outcome.status} {current_attempt().id == outcome.item['id']}"
        )
        self.outcomes.append(outcome)


def logged(face: Face) -> Log:
    log = Log()
    face.instance.register_middleware(log)
    return log


async def test_it_is_around_later_and_the_job_and_hears_of_the_end(
    face: Face, kind: Kind, how: How
) -> None:
    seen = []
    threads = set()

    def work() -> str:
        seen.append(around.get())
        threads.add(threading.get_ident())
        return "result"

    job, log = face.job(as_kind(kind, work)), logged(face)
    await face.later(job)
    outcome = await run(face, how)

    assert log.lines == ["later work", ["pushed"], "job work", "done", "completed True"]
    assert seen == ["1"]
    assert log.threads == threads
    assert outcome.result == "result"
    assert log.outcomes[0].result == "result"
    assert around.get() == "nothing"


async def test_the_first_one_is_the_outermost(face: Face, kind: Kind) -> None:
    lines: list[Any] = []
    for name in ("a ", "b "):
        face.instance.register_middleware(Log(name, lines))
    job = face.job(as_kind(kind, lambda: lines.append(around.get())), name="work")
    await face.later(job)
    await face.run()

    assert lines == [
        *("a later work", "b later work", ["pushed"], ["pushed"]),
        *("a job work", "b job work", "b 1", "b done", "a done"),
        *("a completed True", "b completed True"),
    ]
    assert [each.name for each in face.instance.middleware] == ["a ", "b "]


def fail() -> None:
    raise ValueError("no")


def retry() -> None:
    raise Retry(after_seconds=5)


@pytest.mark.parametrize(
    ("work", "options", "ends"),
    [
        (fail, {}, ["ValueError", "errored True"]),
        (fail, {"error_classes": [ValueError]}, ["ValueError", "retried True"]),
        (retry, {}, ["Retry", "retried True"]),
    ],
)
async def test_it_sees_the_error_of_the_job(
    face: Face, kind: Kind, how: How, work: Callable[[], None], options: Any, ends: list[str]
) -> None:
    job, log = face.job(as_kind(kind, work), name="work", **options), logged(face)
    await face.later(job)
    await run(face, how)

    assert log.lines[2:] == ["job work", *ends]
    assert type(log.outcomes[0].error).__name__ == ends[0]


async def test_an_item_that_is_not_run_ends_without_a_job(face: Face, how: How) -> None:
    job, log = face.job(as_kind("plain", fail), ttl_seconds=1), logged(face)
    await face.later(job)
    face.clock.advance(2)
    await run(face, how)
    await face.broker.queue.push({"id": "1", "serializer": "unknown"})
    await run(face, how)

    assert log.lines[2:] == ["expired True", "errored True"]


async def test_a_lost_lease_is_an_end(face: Face, kind: Kind) -> None:
    job = face.job(as_kind(kind, lambda: face.clock.advance(31)), name="lose")
    log = logged(face)
    await face.later(job)
    await face.run()

    assert log.lines[-1] == "lost True"


async def test_a_skipped_call_and_a_batch_have_their_receipts(make_face: MakeFace) -> None:
    face = make_face(debounce_store=InMemoryDebounceStore())
    job = face.job(as_kind("plain", fail), debounce_seconds=60)
    other = face.job(as_kind("plain", fail), name="other")
    log = logged(face)
    for _ in range(3):
        await face.later(job)
    await face.later_many(other, [(), ()])

    assert [each for each in log.lines if isinstance(each, list)] == [
        *(["pushed"], ["delayed"], ["skipped"], ["pushed", "pushed"]),
    ]


async def test_a_push_that_fails_is_raised_through_it(face: Face) -> None:
    job, log = face.job(as_kind("plain", fail)), logged(face)
    face.faults.fail_before("push")
    with pytest.raises(BackendError):
        await face.later(job)

    assert log.lines == ["later fail", "BackendError"]


async def test_a_plain_callable_around_an_async_job_is_one_job(face: Face, how: How) -> None:
    seen = []

    async def work() -> str:
        await asyncio.sleep(0)
        seen.append(around.get())
        return "result"

    hidden = functools.wraps(fail)(lambda: work())
    job, log = face.job(hidden, name="work"), logged(face)
    await face.later(job)
    outcome = await run(face, how)

    assert log.lines[2:] == ["job work", "done", "completed True"]
    assert (seen, outcome.result) == (["1"], "result")


async def test_an_async_job_that_is_stopped_leaves_it() -> None:
    face = Face("awaiting")  # the blocking run_once holds this thread, which moves the clock

    async def hang() -> None:
        await asyncio.Event().wait()

    job, log = face.job(hang, timeout_seconds=5), logged(face)
    await face.later(job)
    running = asyncio.create_task(face.run())
    await wait_until(lambda: "job hang" in log.lines, "it runs")
    face.clock.advance(6)
    outcome = await running

    assert log.lines[-2:] == ["CancelledError", "errored True"]
    assert isinstance(outcome.error, TimeoutError)


async def test_what_it_raises_before_a_job_is_the_failure_of_the_job(
    face: Face, kind: Kind, how: How
) -> None:
    class Broken(Middleware):
        def around_job(self, attempt: CurrentAttempt) -> None:
            raise LookupError("no session")

    ran = []
    face.instance.register_middleware(Broken())
    await face.later(face.job(as_kind(kind, lambda: ran.append(1)), name="work"))
    outcome = await run(face, how)

    assert (outcome.status, str(outcome.error), ran) == ("errored", "no session", [])


async def test_what_it_raises_after_an_attempt_is_logged(
    face: Face, how: How, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Middleware):
        def after_attempt(self, outcome: Outcome) -> None:
            raise LookupError("no")

    face.instance.register_middleware(Broken())
    await face.later(face.job(as_kind("plain", lambda: 1), name="work"))
    outcome = await run(face, how)

    assert outcome.status == "completed"
    assert "Broken.after_attempt failed; nothing else changes" in caplog.text


async def test_what_it_raises_before_a_push_is_raised_and_nothing_is_pushed(face: Face) -> None:
    class Broken(Middleware):
        def around_later(self, deferral: Deferral) -> None:
            raise LookupError("no")

    face.instance.register_middleware(Broken())
    with pytest.raises(LookupError):
        await face.later(face.job(fail))

    assert await face.stats() == (0, 0, 0)


async def test_all_of_it_can_be_forgotten(face: Face) -> None:
    log = logged(face)
    face.instance.clear_middleware()
    await face.later(face.job(as_kind("plain", lambda: 1), name="work"))
    await face.run()

    assert (log.lines, face.instance.middleware) == ([], ())


async def test_the_traceback_of_a_job_begins_with_the_job(face: Face, kind: Kind, how: How) -> None:
    logged(face)
    await face.later(face.job(as_kind(kind, fail), name="work"))
    await run(face, how)

    item = await face.take_error()
    assert item is not None
    lines = item["error"]["traceback"].splitlines()
    assert "test_middleware.py" in lines[1] or "faces.py" in lines[1]
