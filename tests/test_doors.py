"""The two doors of the one engine: where what runs, and what it sees there.

Behind the blocking door everything plain is an ordinary call in the thread that called, because
code written for the old library relies on it. Behind the awaiting one a plain job runs in a worker
thread, and the rest on the loop.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest
from faces import Face, Kind, MakeFace, as_kind, wait_here

from deferrable import MetadataProducerConsumer
from deferrable.sync._portal import is_portal_thread

pytestmark = pytest.mark.anyio

request_id: ContextVar[str] = ContextVar("request_id", default="none")
thread_local = threading.local()


@pytest.fixture
def blocking() -> Face:
    return Face("blocking")


@pytest.fixture
def awaiting() -> Face:
    return Face("awaiting")


def here() -> int:
    return threading.get_ident()


class RequestId(MetadataProducerConsumer):
    """Carries the context variable, plain or async, and remembers where it was called."""

    NAMESPACE = "request_id"

    def __init__(self, kind: Kind = "plain") -> None:
        super().__init__()
        self.threads: list[int] = []

        def produce_metadata() -> str:
            self.threads.append(here())
            return request_id.get()

        def consume_metadata(metadata: Any) -> None:
            self.threads.append(here())
            request_id.set(metadata)

        self.produce_metadata = as_kind(kind, produce_metadata)  # type: ignore[method-assign]
        self.consume_metadata = as_kind(kind, consume_metadata)  # type: ignore[method-assign]


class Handlers:
    """Calls a function at every event."""

    def __init__(self, kind: Kind, function: Callable[[str], object]) -> None:
        for event in ("push", "pop", "complete", "error", "retry", "empty"):
            handler = as_kind(kind, lambda item, event=event: function(event))
            setattr(self, f"on_{event}", handler)


# The blocking door.


async def test_everything_plain_runs_in_the_thread_that_called(blocking: Face) -> None:
    threads: dict[str, int] = {}
    metadata = RequestId()

    def delay_seconds() -> float:
        threads["delay_seconds"] = here()
        return 0

    def job() -> None:
        threads["job"] = here()

    blocking.instance.register_metadata_producer_consumer(metadata)
    blocking.instance.register_event_consumer(
        Handlers("plain", lambda event: threads.update({event: here()}))
    )
    registered = blocking.job(job, delay_seconds=delay_seconds)

    def produce_and_consume() -> int:
        registered.later()
        blocking.instance.run_once()
        blocking.instance.run_once()
        return here()

    with ThreadPoolExecutor(1) as threads_of_its_own:
        caller = threads_of_its_own.submit(produce_and_consume).result()

    assert caller != here()
    assert threads.keys() == {"delay_seconds", "job", "push", "pop", "complete", "empty"}
    assert {*threads.values(), *metadata.threads} == {caller}
    assert len(metadata.threads) == 2


async def test_thread_locals_of_the_caller_are_seen_by_job_handler_and_producer(
    blocking: Face,
) -> None:
    seen: list[str] = []

    class CurrentRequest(MetadataProducerConsumer):
        NAMESPACE = "request"

        def produce_metadata(self) -> str:
            return str(thread_local.request)

        def consume_metadata(self, metadata: Any) -> None:
            seen.append(f"sent by {metadata}, consumed in {thread_local.request}")

    def job() -> None:
        seen.append(f"job in {thread_local.request}")

    blocking.instance.register_metadata_producer_consumer(CurrentRequest())
    blocking.instance.register_event_consumer(
        Handlers("plain", lambda event: seen.append(f"{event} in {thread_local.request}"))
    )
    registered = blocking.job(job)

    thread_local.request = "A"
    registered.later()
    thread_local.request = "B"
    blocking.instance.run_once()

    assert seen == [
        "push in A",
        "pop in B",
        "sent by A, consumed in B",
        "job in B",
        "complete in B",
    ]


async def test_handler_may_call_the_library_again(blocking: Face) -> None:
    seen: list[object] = []
    other = Face("blocking")
    audit = other.job(lambda event: event, name="audit")

    def look_and_defer(event: str) -> None:
        seen.append((event, blocking.instance.backend.queue.stats()["in_flight"]))
        audit.later(event)

    blocking.instance.register_event_consumer(Handlers("plain", look_and_defer))
    registered = blocking.job(lambda: None, name="job")

    registered.later()
    blocking.instance.run_once()

    assert seen == [("push", 0), ("pop", 1), ("complete", 0)]
    assert other.instance.backend.queue.stats()["available"] == 3


async def test_job_may_defer_run_and_look_in_the_middle_of_its_own_attempt(blocking: Face) -> None:
    inner = blocking.job(lambda: "inner", name="inner")

    def job() -> tuple[str, Any, int]:
        inner.later()
        outcome = blocking.instance.run_once()
        return "outer", outcome.result, blocking.instance.backend.queue.stats()["in_flight"]

    blocking.job(job).later()

    assert (await blocking.run()).result == ("outer", "inner", 1)


async def test_producer_of_metadata_may_defer(blocking: Face) -> None:
    other = Face("blocking")
    audit = other.job(lambda: None, name="audit")

    class Audit(MetadataProducerConsumer):
        NAMESPACE = "audit"

        def produce_metadata(self) -> Any:
            return audit.later().id

    blocking.instance.register_metadata_producer_consumer(Audit())

    blocking.job(lambda: None, name="job").later()

    item = await other.take()
    assert item is not None
    metadata = (await blocking.take() or {})["encoded_metadata"]
    assert blocking.instance._core.serializer.load_value(metadata["audit"]) == item["id"]


async def test_plain_job_in_the_main_thread_may_set_a_signal_handler(blocking: Face) -> None:
    def job() -> bool:
        previous = signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.signal(signal.SIGUSR1, previous)
        return threading.current_thread() is threading.main_thread()

    blocking.job(job).later()

    assert (await blocking.run()).result is True


async def test_async_callables_run_on_the_portal_and_the_job_sees_the_consumers_context(
    blocking: Face,
) -> None:
    are_on_portal: list[bool] = []
    metadata = RequestId("async")
    blocking.instance.register_metadata_producer_consumer(metadata)
    blocking.instance.register_event_consumer(
        Handlers("async", lambda event: are_on_portal.append(is_portal_thread()))
    )

    async def job() -> tuple[bool, str]:
        return is_portal_thread(), request_id.get()

    token = request_id.set("17")
    try:
        blocking.job(job).later()
    finally:
        request_id.reset(token)

    assert (await blocking.run()).result == (True, "17")
    assert are_on_portal == [True, True, True]
    assert here() not in metadata.threads


async def test_events_that_arise_while_the_thread_is_busy_wait_and_log_lines_do_not(
    make_face: MakeFace, caplog: pytest.LogCaptureFixture
) -> None:
    face = make_face()
    face.record_events()

    def says_so() -> bool:
        return any("timeout_seconds=5" in message for message in caplog.messages)

    def job() -> bool:
        wait_here(lambda: face.clock.pending > 1, "its time limit is watched")
        assert not says_so()
        face.clock.advance(5)
        wait_here(says_so, "the log said that it is over its time")
        return "overrun" in face.event_names

    caplog.set_level(logging.WARNING, "deferrable")
    await face.later(face.job(job, timeout_seconds=5))
    outcome = await face.run()

    if face.is_blocking:
        assert outcome.result is False
    assert face.event_names == ["push", "pop", "overrun", "complete"]


async def test_job_that_ends_in_time_is_not_said_to_be_over_it(
    face: Face, caplog: pytest.LogCaptureFixture
) -> None:
    await face.later(face.job(lambda: None, name="job", timeout_seconds=5))
    await face.run()

    face.clock.advance(10)
    # One more round of whatever loop the timer was on.
    await face.later(face.job(lambda: None, name="other"))
    await face.run()

    assert "timeout_seconds" not in caplog.text


# The awaiting door.


async def test_plain_job_runs_in_a_worker_thread_and_the_rest_on_the_loop(awaiting: Face) -> None:
    threads: dict[str, int] = {}
    metadata = RequestId()
    awaiting.instance.register_metadata_producer_consumer(metadata)
    awaiting.instance.register_event_consumer(
        Handlers("plain", lambda event: threads.update({event: here()}))
    )

    await awaiting.later(awaiting.job(lambda: here(), name="job"))
    outcome = await awaiting.run()

    assert outcome.result != here()
    assert {*threads.values(), *metadata.threads} == {here()}


async def test_handlers_and_jobs_of_a_running_loop_may_block_on_the_other_face(
    awaiting: Face, blocking: Face, kind: Kind
) -> None:
    other = blocking.job(lambda: "other", name="other")
    awaiting.instance.register_event_consumer(Handlers(kind, lambda event: other.later()))
    awaiting.job(as_kind(kind, lambda: other.later().status), name="job")

    await awaiting.later(awaiting.instance.registry["job"])
    outcome = await awaiting.run()

    assert outcome.result == "pushed"
    assert (await blocking.stats())[0] == 4  # push, pop, the job itself, complete


# Both.


@pytest.mark.parametrize("consumer", ["plain", "async"])
async def test_context_variable_that_a_consumer_sets_is_seen_by_this_job_and_no_other(
    face: Face, kind: Kind, consumer: Kind
) -> None:
    face.instance.register_metadata_producer_consumer(RequestId(consumer))
    seen: list[tuple[str, str]] = []

    def job(name: str) -> None:
        seen.append((name, request_id.get()))
        request_id.set("left behind by a job")

    registered = face.job(as_kind(kind, job), name="job")
    for name in ("first", "second"):
        token = request_id.set(f"request of {name}")
        await face.later(registered, name)
        request_id.reset(token)
    await face.run()
    await face.run()

    assert seen == [("first", "request of first"), ("second", "request of second")]
    assert request_id.get() == "none"


async def test_jobs_at_the_same_time_do_not_see_each_others_context(
    awaiting: Face, kind: Kind
) -> None:
    awaiting.instance.register_metadata_producer_consumer(RequestId())
    both, both_awaiting = threading.Barrier(2), asyncio.Barrier(2)

    def plain() -> str:
        both.wait(30)
        return request_id.get()

    async def awaited() -> str:
        await both_awaiting.wait()
        return request_id.get()

    registered = awaiting.job(plain if kind == "plain" else awaited, name="job")
    for name in ("first", "second"):
        token = request_id.set(name)
        await awaiting.later(registered)
        request_id.reset(token)

    outcomes = await asyncio.gather(awaiting.run(), awaiting.run())

    assert [outcome.result for outcome in outcomes] == ["first", "second"]


async def test_job_sees_the_context_of_the_caller_of_run_once(face: Face, kind: Kind) -> None:
    await face.later(face.job(as_kind(kind, request_id.get), name="job"))

    token = request_id.set("the consumer's own")
    try:
        outcome = await face.run()
    finally:
        request_id.reset(token)

    assert outcome.result == "the consumer's own"


async def test_a_handler_sees_the_context_variable_that_a_plain_job_has_set(face: Face) -> None:
    seen: list[str] = []
    face.instance.register_event_consumer(
        Handlers("plain", lambda event: event == "complete" and seen.append(request_id.get()))
    )

    await face.later(face.job(lambda: request_id.set("of the job"), name="job"))
    await face.run()

    assert seen == ["of the job"]
    assert request_id.get() == "none"


async def test_handler_that_sets_a_context_variable_changes_it_for_nobody(
    face: Face, kind: Kind
) -> None:
    face.instance.register_event_consumer(
        Handlers(kind, lambda event: event == "pop" and request_id.set("of a handler"))
    )

    await face.later(face.job(request_id.get, name="job"))

    assert (await face.run()).result == "none"
    assert request_id.get() == "none"


@pytest.mark.parametrize("error", [StopIteration("stop"), asyncio.CancelledError("its own")])
async def test_odd_errors_of_a_handler_change_nothing(
    face: Face, kind: Kind, error: BaseException
) -> None:
    def fail(event: str) -> None:
        raise error

    face.instance.register_event_consumer(Handlers(kind, fail))

    await face.later(face.job(lambda: "ran", name="job"))
    outcome = await face.run()

    assert (outcome.status, outcome.result) == ("completed", "ran")


@pytest.mark.parametrize(
    "error", [StopIteration("stop"), StopAsyncIteration("stop"), asyncio.CancelledError("its own")]
)
async def test_odd_errors_of_a_job_are_its_own_failure(
    face: Face, kind: Kind, error: BaseException
) -> None:
    def job() -> None:
        raise error

    await face.later(face.job(as_kind(kind, job), name="job"))
    outcome = await face.run()

    assert outcome.status == "errored"
    assert (await face.stats()) == (0, 0, 0)


async def test_callable_for_seconds_that_fails_leaves_nothing_behind(face: Face) -> None:
    def delay_seconds() -> float:
        raise LookupError("no such setting")

    with pytest.raises(LookupError, match="no such setting"):
        await face.later(face.job(lambda: None, name="job", delay_seconds=delay_seconds))

    assert (await face.stats()) == (0, 0, 0)


async def test_plain_function_that_returns_a_coroutine_is_run_to_its_end(face: Face) -> None:
    async def rest() -> str:
        await asyncio.sleep(0)
        return request_id.get()

    def job() -> Any:
        request_id.set("set by the plain part")
        return rest()

    await face.later(face.job(job))

    assert (await face.run()).result == "set by the plain part"
