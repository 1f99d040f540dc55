"""One attempt, behind both doors: what runs where, and what happens to the item."""

import asyncio
import contextvars
import json
import math
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NoReturn

import pytest
from faces import Face, Kind, MakeFace, as_kind, wait_here

import deferrable
from deferrable.errors import BackendError, BackendUnavailable, LeaseLost
from deferrable.item import Item, copy_item
from deferrable.retry import Retry
from deferrable.testing import wait_until

pytestmark = pytest.mark.anyio

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="none")


class Broken(Exception):
    pass


class MoreBroken(Broken):
    pass


def fail() -> NoReturn:
    raise Broken("no")


def succeed() -> str:
    return "done"


async def run_until_empty(face: Face) -> list[str]:
    """Run everything, whenever it is due; the outcome of each attempt."""
    statuses = []
    while True:
        outcome = await face.run_once()
        if outcome is not None:
            statuses.append(outcome.status)
            continue
        _, in_flight, delayed = await face.stats()
        if not in_flight + delayed:
            return statuses
        face.clock.advance(1)


# What runs, where, and with what.


async def test_a_job_runs_once_with_its_arguments(face: Face, kind: Kind) -> None:
    calls: list[Any] = []

    def add(a: int, *, b: int) -> int:
        calls.append((a, b))
        return a + b

    job = face.job(as_kind(kind, add))
    await face.later(job, 1, b=2)

    outcome = await face.run()

    assert (outcome.status, outcome.result, outcome.error) == ("completed", 3, None)
    assert calls == [(1, 2)]
    assert await face.items() == []


async def test_run_once_of_an_empty_queue_is_none(face: Face) -> None:
    assert await face.run_once() is None


async def test_run_once_makes_one_attempt(face: Face) -> None:
    job = face.job(succeed)
    for _ in range(3):
        await face.later(job)

    await face.run()

    assert await face.stats() == (2, 0, 0)


async def test_process_makes_an_attempt_at_an_item_popped_already(face: Face, kind: Kind) -> None:
    job = face.job(as_kind(kind, succeed))
    await face.later(job)
    envelope, item = await face.do(face.instance.backend.queue.pop)

    outcome = await face.do(face.instance.process, envelope, item)

    assert outcome.status == "completed"
    assert outcome.item == item
    assert await face.items() == []


@pytest.mark.parametrize("nothing", [(None, None), (False, None), ("", {})])
async def test_process_of_a_falsy_envelope_is_empty(face: Face, nothing: Any) -> None:
    face.record_events()

    assert await face.do(face.instance.process, *nothing) is None
    assert face.events == [("empty", None)]


async def test_a_plain_job_runs_in_the_thread_that_called_behind_the_blocking_door_only(
    face: Face,
) -> None:
    job = face.job(threading.get_ident, name="where")
    await face.later(job)

    outcome = await face.run()

    assert (outcome.result == threading.get_ident()) is face.is_blocking


async def test_an_async_job_runs_on_the_running_loop_behind_the_awaiting_door_only(
    face: Face,
) -> None:
    async def where() -> object:
        return asyncio.get_running_loop()

    await face.later(face.job(where))

    outcome = await face.run()

    assert (outcome.result is asyncio.get_running_loop()) is not face.is_blocking


async def test_the_loop_goes_on_while_a_plain_job_blocks() -> None:
    face = Face("awaiting")
    may_end = threading.Event()
    job = face.job(lambda: may_end.wait(30), name="block")
    await face.later(job)
    running = asyncio.create_task(face.run())

    await wait_until(lambda: face.broker.queue.stats, "the loop goes on")
    may_end.set()

    assert (await running).result is True


async def test_a_job_sees_the_context_of_its_caller_and_changes_only_its_own(
    face: Face, kind: Kind
) -> None:
    def read_and_set() -> str:
        seen = request_id.get()
        request_id.set("the job's")
        return seen

    job = face.job(as_kind(kind, read_and_set))
    await face.later(job)
    await face.later(job)
    request_id.set("the caller's")

    results = [(await face.run()).result for _ in range(2)]

    assert results == ["the caller's", "the caller's"]
    assert request_id.get() == "the caller's"


async def test_a_plain_function_around_an_async_one_is_awaited(face: Face) -> None:
    async def inner(value: int) -> int:
        await asyncio.sleep(0)
        return value + 1

    def wrapper(value: int) -> Any:
        return inner(value)

    await face.later(face.job(wrapper), 1)

    assert (await face.run()).result == 2


async def test_a_callable_object_with_an_async_call_is_a_job(face: Face) -> None:
    class Caller:
        async def __call__(self) -> str:
            return "called"

    await face.later(face.job(Caller(), name="caller"))

    assert (await face.run()).result == "called"


async def test_a_job_may_defer_and_run_others(face: Face, kind: Kind) -> None:
    async def defer_async() -> None:
        await second.later_async()

    def defer_plain() -> None:
        second.later()

    second = face.job(succeed)
    first = face.job(defer_plain if kind == "plain" else defer_async, name="first")
    await face.later(first)

    statuses = await run_until_empty(face)

    assert statuses == ["completed", "completed"]


def test_a_plain_job_of_the_blocking_face_may_run_another_attempt_itself() -> None:
    face = Face("blocking")
    job = face.job(succeed)
    outer = face.job(lambda: face.instance.run_once().result, name="outer")
    outer.later()
    job.later()

    assert face.instance.run_once().result == "done"


async def test_an_outcome_tells_how_long_it_took(face: Face, kind: Kind) -> None:
    def take_five_seconds() -> None:
        face.clock.advance(5)

    await face.later(face.job(as_kind(kind, take_five_seconds)))

    assert (await face.run()).duration_seconds == 5


# Retries.


async def test_an_error_of_its_error_classes_is_retried_after_the_backoff(
    face: Face, kind: Kind
) -> None:
    job = face.job(as_kind(kind, fail), error_classes=[Broken])
    await face.later(job)

    outcome = await face.run()

    assert outcome.status == "retried"
    assert isinstance(outcome.error, Broken)
    assert await face.stats() == (0, 0, 1)
    face.clock.advance(3.9)
    assert await face.run_once() is None
    face.clock.advance(0.1)
    assert (await face.run()).item["attempts"] == 1


async def test_a_subclass_of_an_error_class_counts(face: Face, kind: Kind) -> None:
    def fail_more() -> NoReturn:
        raise MoreBroken

    await face.later(face.job(as_kind(kind, fail_more), error_classes=[Broken]))

    assert (await face.run()).status == "retried"


async def test_another_error_goes_to_the_error_queue_at_once(face: Face, kind: Kind) -> None:
    def fail_otherwise() -> NoReturn:
        raise KeyError("other")

    await face.later(face.job(as_kind(kind, fail_otherwise), error_classes=[Broken]))

    outcome = await face.run()
    buried = await face.take_error()

    assert outcome.status == "errored"
    assert buried is not None
    assert buried["error"]["error_type"] == "KeyError"
    assert "fail_otherwise" in buried["error"]["traceback"]
    assert buried["id"] == outcome.item["id"]
    assert await face.items() == []


async def test_without_error_classes_nothing_is_retried(face: Face, kind: Kind) -> None:
    await face.later(face.job(as_kind(kind, fail)))

    assert (await face.run()).status == "errored"


@pytest.mark.parametrize("max_attempts", [1, 2, 5])
async def test_max_attempts_is_the_total_number_of_executions(
    face: Face, kind: Kind, max_attempts: int
) -> None:
    job = face.job(as_kind(kind, fail), error_classes=[Broken], max_attempts=max_attempts)
    await face.later(job)

    statuses = await run_until_empty(face)
    buried = await face.take_error()

    assert statuses == ["retried"] * (max_attempts - 1) + ["errored"]
    assert buried is not None
    assert buried["attempts"] == max_attempts - 1


async def test_five_executions_are_the_default(face: Face) -> None:
    await face.later(face.job(fail, error_classes=[Broken]))

    statuses = await run_until_empty(face)

    assert statuses == ["retried"] * 4 + ["errored"]


async def test_without_backoff_a_retry_is_available_at_once(face: Face) -> None:
    job = face.job(fail, error_classes=[Broken], use_exponential_backoff=False)
    await face.later(job)

    await face.run()

    assert await face.stats() == (1, 0, 0)


async def test_a_jittered_backoff_is_at_least_half_of_it_and_at_most_all(face: Face) -> None:
    await face.later(face.job(fail, error_classes=[Broken], backoff_jitter=True))

    await face.run()
    face.clock.advance(1.99)
    early = await face.stats()
    face.clock.advance(2.01)

    assert early == (0, 0, 1)
    assert await face.stats() == (1, 0, 0)


async def test_defaults_are_read_at_each_later(face: Face) -> None:
    job = face.job(fail)
    await face.later(job)
    face.instance.default_error_classes = [Broken]
    face.instance.default_max_attempts = 2
    await face.later(job)
    face.instance.default_error_classes = None

    outcomes = [await face.run() for _ in range(2)]

    assert [outcome.status for outcome in outcomes] == ["errored", "retried"]
    assert [outcome.item["max_attempts"] for outcome in outcomes] == [5, 2]


async def test_a_jobs_own_error_classes_replace_the_default(make_face: MakeFace) -> None:
    face = make_face(default_error_classes=[Broken])
    await face.later(face.job(fail, error_classes=[]))
    await face.later(face.job(fail, name="default"))

    assert [(await face.run()).status for _ in range(2)] == ["errored", "retried"]


async def test_a_job_may_ask_to_be_run_again(face: Face, kind: Kind) -> None:
    def ask() -> NoReturn:
        raise Retry(after_seconds=60)

    await face.later(face.job(as_kind(kind, ask)))

    outcome = await face.run()
    face.clock.advance(59)
    early = await face.stats()
    face.clock.advance(1)

    assert outcome.status == "retried"
    assert early == (0, 0, 1)
    assert (await face.run()).item["attempts"] == 1


async def test_an_asked_retry_that_does_not_count_may_go_on_without_end(
    face: Face, kind: Kind
) -> None:
    def ask() -> NoReturn:
        raise Retry(after_seconds=0, count=False)

    await face.later(face.job(as_kind(kind, ask), max_attempts=1))

    outcomes = [await face.run() for _ in range(20)]

    assert {outcome.status for outcome in outcomes} == {"retried"}
    assert {outcome.item["attempts"] for outcome in outcomes} == {0}


class NotYet(Retry):
    """A user's subclass with its own ``__init__``."""

    def __init__(self, order: int) -> None:
        self.order = order


async def test_a_subclass_may_leave_out_the_init_of_retry(face: Face, kind: Kind) -> None:
    def ask() -> NoReturn:
        raise NotYet(17)

    await face.later(face.job(as_kind(kind, ask)))

    assert (await face.run()).status == "retried"
    assert (await face.stats())[1:] == (0, 1)


def retry_with(**attributes: Any) -> Callable[[], NoReturn]:
    def ask() -> NoReturn:
        error = Retry()
        for name, value in attributes.items():
            setattr(error, name, value)
        raise error

    return ask


async def test_seconds_that_are_set_on_a_retry_are_read_as_if_they_were_given(face: Face) -> None:
    await face.later(face.job(retry_with(after_seconds=timedelta(minutes=1))))

    await face.run()
    face.clock.advance(59)

    assert await face.run_once() is None
    face.clock.advance(1)
    assert await face.run_once() is not None


class Unsure:
    def __bool__(self) -> NoReturn:
        raise ValueError("to count or not to count")


@pytest.mark.parametrize(
    "attributes",
    [
        {"after_seconds": "5"},
        {"after_seconds": math.nan},
        {"after_seconds": -5},
        {"count": Unsure()},
    ],
)
async def test_a_retry_that_cannot_be_followed_is_a_failure(
    face: Face, attributes: dict[str, Any]
) -> None:
    await face.later(face.job(retry_with(**attributes)))

    outcome = await face.run()
    buried = await face.take_error()

    assert outcome.status == "errored"
    assert buried is not None
    assert buried["error"]["error_type"] == "InvalidOptions"
    assert "raised Retry, which cannot be followed" in buried["error"]["error_text"]
    assert "raise error" in buried["error"]["traceback"]


async def test_an_asked_retry_out_of_attempts_records_its_cause(face: Face, kind: Kind) -> None:
    def ask() -> NoReturn:
        try:
            fail()
        except Broken as error:
            raise Retry from error

    await face.later(face.job(as_kind(kind, ask), max_attempts=1))

    await face.run()
    buried = await face.take_error()

    assert buried is not None
    assert buried["error"]["error_type"] == "Broken"
    assert buried["error"]["error_text"] == "no"


async def test_unknown_fields_are_kept_through_retries_and_errors(face: Face) -> None:
    await face.later(face.job(fail, error_classes=[Broken], max_attempts=2))
    item = await face.take()
    assert item is not None
    await face.broker.queue.push({**item, "from_the_future": {"a": [1]}})

    await run_until_empty(face)
    buried = await face.take_error()

    assert buried is not None
    assert buried["from_the_future"] == {"a": [1]}


async def test_a_retry_on_a_queue_that_cannot_delay_is_available_at_once(face: Face) -> None:
    face.backend.queue.SUPPORTS_DELAY = False  # type: ignore[misc] # this one object's
    await face.later(face.job(fail, error_classes=[Broken]))

    await face.run()

    assert await face.stats() == (1, 0, 0)


async def test_a_failure_is_logged_with_its_job_item_and_traceback(
    face: Face, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "deferrable")
    job = face.job(as_kind(kind, fail), name="the job", error_classes=[Broken], max_attempts=2)
    receipt = await face.later(job)

    await run_until_empty(face)

    retried, errored = (record.getMessage() for record in caplog.records)
    assert retried == (
        f"the job (item {receipt.id}) failed (attempt 1, 0 s): Broken: no; next attempt in 4.0 s"
    )
    assert errored == (
        f"the job (item {receipt.id}) failed for good and is in the error queue (attempt 2, 0 s): "
        "Broken: no; not retried: no attempt left (2 of 2)"
    )
    assert "raise Broken" in caplog.text


async def test_why_an_item_is_not_retried_is_in_its_record_and_in_the_fields_of_the_log(
    face: Face, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    await face.later(face.job(as_kind(kind, fail), name="the job", error_classes=[OSError]))

    await face.run()
    buried = await face.take_error()

    reason = "Broken is not among its error_classes (OSError)"
    (record,) = caplog.records
    fields = vars(record)["deferrable_fields"]
    assert buried is not None
    assert buried["error"]["reason"] == fields["reason"] == reason
    assert (fields["job"], fields["id"]) == ("the job", buried["id"])
    assert (fields["attempt"], fields["status"], fields["error"]) == (1, "errored", "Broken: no")


def _frames_of_the_library(text: str) -> list[str]:
    package = os.path.dirname(deferrable.__file__)
    return [line for line in text.splitlines() if f'File "{package}' in line]


async def test_a_traceback_begins_with_the_job(
    face: Face, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    def fail_twice() -> NoReturn:
        try:
            fail()
        except Broken as error:
            raise ExceptionGroup("both", [error, KeyError("other")]) from error

    await face.later(face.job(as_kind(kind, fail_twice)))

    await face.run()
    buried = await face.take_error()

    assert buried is not None
    for text in (buried["error"]["traceback"], caplog.text):
        assert _frames_of_the_library(text) == []
        assert text.count("in fail_twice") >= 2


async def test_a_traceback_of_a_call_into_the_library_keeps_what_failed_there(face: Face) -> None:
    def ask() -> None:
        Retry(after_seconds=-1)

    await face.later(face.job(ask))

    await face.run()
    buried = await face.take_error()

    assert buried is not None
    lines = buried["error"]["traceback"].splitlines()
    assert lines[1].endswith("in ask")
    assert "deferrable/retry.py" in buried["error"]["traceback"]


async def test_a_traceback_of_a_failure_inside_the_library_is_whole(face: Face) -> None:
    await face.later(face.job(succeed))
    item = await face.take()
    assert item is not None
    await face.broker.queue.push({**item, "method": "no.such.module:job"})

    outcome = await face.run()
    buried = await face.take_error()

    assert outcome.status == "errored"
    assert buried is not None
    assert _frames_of_the_library(buried["error"]["traceback"])
    assert buried["error"]["reason"] == "UnreadableItem is not among its error_classes (none)"


class Unprintable(Exception):
    def __str__(self) -> str:
        raise SystemExit("no text")


async def test_an_error_without_a_text_is_settled_and_logged(
    face: Face, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    def fail_without_text() -> NoReturn:
        raise Unprintable

    caplog.set_level("INFO", "deferrable")
    job = face.job(as_kind(kind, fail_without_text), error_classes=[Unprintable], max_attempts=2)
    await face.later(job)

    statuses = await run_until_empty(face)

    assert statuses == ["retried", "errored"]
    for record in caplog.records:
        assert "Unprintable: <Unprintable whose text raises SystemExit>" in record.getMessage()


# Time to live, delays, hops.


async def test_an_expired_item_is_not_run(face: Face, kind: Kind) -> None:
    calls: list[int] = []
    job = face.job(as_kind(kind, lambda: calls.append(1)), name="never", ttl_seconds=10)
    await face.later(job)
    face.clock.advance(10.1)

    outcome = await face.run()

    assert outcome.status == "expired"
    assert calls == []
    assert await face.items() == []


async def test_an_item_runs_at_the_very_end_of_its_ttl(face: Face) -> None:
    await face.later(face.job(succeed, ttl_seconds=10))
    face.clock.advance(10)

    assert (await face.run()).status == "completed"


async def test_the_ttl_counts_from_later_and_survives_retries(face: Face) -> None:
    job = face.job(fail, error_classes=[Broken], ttl_seconds=20)
    await face.later(job)

    first = await face.run()
    face.clock.advance(20.1)
    second = await face.run()

    assert (first.status, second.status) == ("retried", "expired")


async def test_a_delay_eats_into_the_ttl(face: Face) -> None:
    await face.later(face.job(succeed, ttl_seconds=10, delay_seconds=10))
    face.clock.advance(10.1)

    assert (await face.run()).status == "expired"


async def test_a_retry_that_could_not_start_before_the_ttl_ends_is_an_error(
    face: Face, kind: Kind
) -> None:
    job = face.job(as_kind(kind, fail), error_classes=[Broken], ttl_seconds=3.9)
    await face.later(job)

    outcome = await face.run()
    buried = await face.take_error()

    assert outcome.status == "errored"
    assert buried is not None
    assert buried["error"]["error_type"] == "Broken"


async def test_a_delayed_item_is_run_only_when_it_is_due(face: Face, kind: Kind) -> None:
    await face.later(face.job(as_kind(kind, succeed), delay_seconds=60))

    face.clock.advance(59.9)
    early = await face.run_once()
    face.clock.advance(0.1)

    assert early is None
    assert (await face.run()).status == "completed"


async def test_a_delay_over_the_brokers_maximum_hops_and_burns_no_attempt(face: Face) -> None:
    face.backend.queue.MAX_DELAY_SECONDS = 900  # type: ignore[misc] # this one object's
    start = face.clock.time()
    await face.later(face.job(succeed, delay_seconds=2000))

    statuses = await run_until_empty(face)

    assert statuses == ["hopped", "hopped", "completed"]
    assert face.clock.time() == start + 2000


async def test_a_hop_changes_nothing_but_the_delay(face: Face) -> None:
    await face.later(face.job(succeed, delay_seconds=60))
    face.clock.advance(60)
    item = await face.take()
    assert item is not None
    await face.broker.queue.push({**item, "delay": 0, "due_time": face.clock.time() + 50})

    outcome = await face.run()
    face.clock.advance(50)
    hopped = await face.take()

    assert outcome.status == "hopped"
    assert hopped == {**item, "delay": 50, "due_time": face.clock.time()}


async def test_an_item_that_is_not_due_on_a_queue_that_cannot_delay_is_hidden_for_the_rest(
    face: Face,
) -> None:
    await face.later(face.job(succeed))
    item = await face.take()
    assert item is not None
    await face.broker.queue.push({**item, "due_time": face.clock.time() + 50})
    face.backend.queue.SUPPORTS_DELAY = False  # type: ignore[misc] # this one object's

    outcome = await face.run()
    hidden = await face.stats()
    face.clock.advance(50)

    assert (outcome.status, hidden) == ("hopped", (0, 0, 1))
    assert (await face.run()).status == "completed"


async def test_a_hop_whose_lease_was_lost_sends_nothing_on(face: Face) -> None:
    await face.later(face.job(succeed))
    item = await face.take()
    assert item is not None
    await face.broker.queue.push({**item, "due_time": face.clock.time() + 50})
    face.record_events()
    face.faults.fail_before("replace", error=LeaseLost("gone"))

    outcome = await face.run()

    assert outcome.status == "lost"
    assert face.event_names == ["lease_lost"]
    assert await face.stats() == (0, 1, 0)


# Time limits.


async def test_an_async_job_over_its_time_fails_with_a_timeout_error(face: Face) -> None:
    async def hang() -> None:
        face.clock.advance(5)
        await asyncio.Event().wait()

    await face.later(face.job(hang, timeout_seconds=5))

    outcome = await face.run()
    buried = await face.take_error()

    assert outcome.status == "errored"
    assert isinstance(outcome.error, TimeoutError)
    assert isinstance(outcome.error.__cause__, asyncio.CancelledError)
    assert buried is not None
    assert buried["error"]["error_type"] == "TimeoutError"
    assert "timeout_seconds=5" in buried["error"]["error_text"]


async def test_a_timeout_is_retried_if_the_error_classes_say_so(face: Face) -> None:
    async def hang() -> None:
        face.clock.advance(5)
        await asyncio.Event().wait()

    await face.later(face.job(hang, timeout_seconds=5, error_classes=[TimeoutError]))

    assert (await face.run()).status == "retried"


async def test_an_async_job_in_time_is_not_disturbed(face: Face) -> None:
    async def in_time() -> str:
        face.clock.advance(4.9)
        await asyncio.sleep(0)
        return "in time"

    await face.later(face.job(in_time, timeout_seconds=5))

    assert (await face.run()).result == "in time"
    await face.no_timer_is_left()


async def test_a_job_over_its_time_may_clean_up_with_awaits(face: Face) -> None:
    cleaned: list[str] = []

    async def hang() -> None:
        face.clock.advance(5)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            cleaned.append("up")

    await face.later(face.job(hang, timeout_seconds=5))

    await face.run()

    assert cleaned == ["up"]


async def test_a_job_that_overcomes_its_time_limit_has_succeeded(face: Face) -> None:
    async def stubborn() -> str:
        face.clock.advance(5)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "all the same"

    await face.later(face.job(stubborn, timeout_seconds=5))

    outcome = await face.run()

    assert (outcome.status, outcome.result) == ("completed", "all the same")


async def test_an_error_in_the_cleanup_after_the_time_limit_is_the_jobs_error(face: Face) -> None:
    async def hang() -> None:
        face.clock.advance(5)
        try:
            await asyncio.Event().wait()
        finally:
            fail()

    await face.later(face.job(hang, timeout_seconds=5))

    assert isinstance((await face.run()).error, Broken)


async def test_the_limit_of_a_call_goes_before_the_jobs_own(face: Face) -> None:
    async def hang() -> None:
        face.clock.advance(5)
        await asyncio.Event().wait()

    await face.later(face.job(hang, timeout_seconds=500).options(timeout_seconds=5))

    assert isinstance((await face.run()).error, TimeoutError)


async def test_an_item_without_a_limit_of_its_own_has_the_jobs(face: Face) -> None:
    async def hang() -> None:
        face.clock.advance(5)
        await asyncio.Event().wait()

    await face.later(face.job(hang, timeout_seconds=5))
    item = await face.take()
    assert item is not None
    del item["timeout_seconds"]
    await face.broker.queue.push(item)

    assert isinstance((await face.run()).error, TimeoutError)


async def test_a_plain_job_over_its_time_is_reported_and_goes_on(face: Face) -> None:
    face.record_events()

    def overrun() -> str:
        face.clock.advance(5.1)
        if not face.is_blocking:  # there, this thread is busy with the job
            wait_here(lambda: "overrun" in face.event_names, "it was reported")
        return "late"

    await face.later(face.job(overrun, timeout_seconds=5))

    outcome = await face.run()

    assert (outcome.status, outcome.result) == ("completed", "late")
    assert face.event_names == ["push", "pop", "overrun", "complete"]


async def test_a_plain_job_in_time_is_not_reported(face: Face) -> None:
    face.record_events()
    await face.later(face.job(lambda: face.clock.advance(4.9), name="in_time", timeout_seconds=5))

    await face.run()

    assert "overrun" not in face.event_names


# Nothing is lost, whatever the broker does.


async def test_an_item_whose_complete_is_refused_comes_back_after_its_lease(
    face: Face, kind: Kind
) -> None:
    await face.later(face.job(as_kind(kind, succeed)))
    face.faults.fail_before("complete")

    with pytest.raises(BackendError):
        await face.run_once()
    in_flight = await face.stats()
    face.clock.advance(31)

    assert in_flight == (0, 1, 0)
    assert (await face.run()).status == "completed"


async def test_an_item_whose_complete_was_answered_by_nobody_is_complete(
    face: Face, kind: Kind
) -> None:
    await face.later(face.job(as_kind(kind, succeed)))
    face.faults.fail_after("complete")

    with pytest.raises(BackendUnavailable):
        await face.run_once()

    assert await face.items() == []


@pytest.mark.parametrize("error_classes", [[Broken], []])
@pytest.mark.parametrize("fault", ["fail_before", "drop"])
@pytest.mark.parametrize("has_atomic_replace", [True, False])
async def test_an_item_whose_copy_cannot_be_pushed_stays_and_comes_back(
    make_face: MakeFace, error_classes: Any, fault: str, has_atomic_replace: bool
) -> None:
    face = make_face(has_atomic_replace=has_atomic_replace)
    await face.later(face.job(fail, error_classes=error_classes))
    getattr(face.faults, fault)("replace" if has_atomic_replace else "push")

    with pytest.raises(BackendError):
        await face.run_once()
    items = await face.items()

    assert [item["attempts"] for item in items] == [0]
    assert "error" not in items[0]


@pytest.mark.parametrize("error_classes", [[Broken], []])
async def test_a_copy_that_was_pushed_without_an_answer_is_there_once(
    face: Face, error_classes: Any
) -> None:
    await face.later(face.job(fail, error_classes=error_classes))
    face.faults.fail_after("replace")

    with pytest.raises(BackendUnavailable):
        await face.run_once()

    assert len(await face.items()) == 1


@pytest.mark.parametrize("error_classes", [[Broken], []])
@pytest.mark.parametrize("fault", ["fail_before", "fail_after"])
async def test_a_copy_is_pushed_before_its_original_is_completed(
    make_face: MakeFace, error_classes: Any, fault: str
) -> None:
    face = make_face(has_atomic_replace=False)
    await face.later(face.job(fail, error_classes=error_classes))
    getattr(face.faults, fault)("complete")

    with pytest.raises(BackendError):
        await face.run_once()
    items = await face.items()

    # A complete that failed leaves both: a duplicate, never a loss.
    assert len(items) == (2 if fault == "fail_before" else 1)


async def test_a_pop_that_fails_is_raised_and_loses_nothing(face: Face) -> None:
    await face.later(face.job(succeed))
    face.faults.fail_after("pop")

    with pytest.raises(BackendUnavailable):
        await face.run_once()

    assert len(await face.items()) == 1


async def test_a_push_that_fails_is_raised_from_later(face: Face) -> None:
    job = face.job(succeed)
    face.faults.drop("push")

    with pytest.raises(BackendUnavailable):
        await face.later(job)

    assert await face.items() == []


async def test_a_holder_that_lost_its_lease_settles_nothing(face: Face) -> None:
    def lose_the_lease() -> None:
        face.clock.advance(31)

    await face.later(face.job(lose_the_lease))

    outcome = await face.run()

    assert outcome.status == "lost"
    assert await face.stats() == (1, 0, 0)


@pytest.mark.parametrize("error_classes", [[Broken], []])
@pytest.mark.parametrize("has_atomic_replace", [True, False])
async def test_a_holder_that_lost_its_lease_pushes_no_copy(
    make_face: MakeFace, error_classes: Any, has_atomic_replace: bool
) -> None:
    face = make_face(has_atomic_replace=has_atomic_replace)

    def lose_the_lease() -> None:
        face.clock.advance(31)
        fail()

    await face.later(face.job(lose_the_lease, error_classes=error_classes))

    outcome = await face.run()
    items = await face.items()

    assert outcome.status == "lost"
    assert [item["attempts"] for item in items] == [0]
    assert "error" not in items[0]


# Items are lent.


async def test_the_item_that_was_popped_is_never_changed(face: Face) -> None:
    await face.later(face.job(fail, error_classes=[Broken], max_attempts=2))
    envelope, item = await face.do(face.instance.backend.queue.pop)
    before = json.dumps(item)

    outcome = await face.do(face.instance.process, envelope, item)

    assert outcome.item is item
    assert json.dumps(item) == before


async def test_what_a_handler_does_to_an_item_changes_nothing(face: Face) -> None:
    class Vandal:
        def on_pop(self, item: Item) -> None:
            item["encoded_metadata"] = "broken"
            item["retry_on"].clear()
            item["method"] = "nowhere"

        on_retry = on_push = on_pop

    untouched: list[Item] = []

    class Second:
        def on_pop(self, item: Item) -> None:
            untouched.append(copy_item(item))

    face.instance.register_event_consumer(Vandal())
    face.instance.register_event_consumer(Second())
    await face.later(face.job(fail, error_classes=[Broken], max_attempts=2))

    statuses = await run_until_empty(face)

    assert statuses == ["retried", "errored"]
    assert {item["method"] for item in untouched} == {"fail"}


async def test_a_job_gets_arguments_of_its_own(face: Face) -> None:
    def change(values: list[int]) -> int:
        values.append(1)
        raise Broken

    argument: list[int] = []
    await face.later(face.job(change, error_classes=[Broken], max_attempts=3), argument)

    await run_until_empty(face)
    buried = await face.take_error()

    assert argument == []
    assert buried is not None


@pytest.mark.parametrize("door", ["awaiting", "blocking"])
def test_a_system_exit_of_a_job_is_released_counted_and_raised(door: Any, kind: Kind) -> None:
    face = Face(door, max_redeliveries=1)
    face.record_events()

    def leave() -> NoReturn:
        raise SystemExit(3)

    job = face.job(as_kind(kind, leave))

    async def main() -> list[str]:
        await face.later(job)
        codes = []
        for _ in range(2):
            try:
                await face.run_once()
            except SystemExit as error:
                codes.append(str(error.code))
        return codes

    codes: list[str] = asyncio.run(main())
    buried = asyncio.run(face.take_error())

    assert codes == ["3", "3"]
    assert face.event_names == ["push", "pop", "release", "pop", "release"]
    assert buried is not None
    assert "max_redeliveries" in buried["error"]["error_text"]


@pytest.mark.parametrize("door", ["awaiting", "blocking"])
def test_a_keyboard_interrupt_of_a_job_is_released_uncounted_and_raised(
    door: Any, kind: Kind
) -> None:
    face = Face(door, max_redeliveries=1)

    def interrupt() -> NoReturn:
        raise KeyboardInterrupt

    async def main(job: Any) -> int:
        await face.later(job)
        count = 0
        for _ in range(5):
            try:
                await face.run_once()
            except KeyboardInterrupt:
                count += 1
        return count

    count: int = asyncio.run(main(face.job(as_kind(kind, interrupt))))
    items = asyncio.run(face.items())

    assert count == 5
    assert [item["attempts"] for item in items] == [0]
    assert "error" not in items[0]


async def test_settings_of_jobs_are_those_of_their_instance_alone(make_face: MakeFace) -> None:
    first, second = make_face(), make_face()
    job: Callable[..., Any] = first.job(succeed)
    second.job(fail, name="succeed")
    await first.later(job)

    assert (await first.run()).result == "done"
    assert await second.run_once() is None
