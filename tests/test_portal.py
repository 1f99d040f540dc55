"""The portal: what its callers get back, what cannot break it, and how it ends with the process."""

import asyncio
import contextlib
import gc
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest
from processes import run_program
from redis_server import RedisServer
from sqs_server import SQSServer

import deferrable
import deferrable.backend
from deferrable import CalledFromEventLoop
from deferrable._ended import Raised
from deferrable._portal import Portal, _Handover
from deferrable.sync._portal import is_portal_thread, portal
from deferrable.testing import wait_until

instance = deferrable.Deferrable(
    deferrable.backend.InMemoryBackendFactory().create_backend_for_group(None)
)


@instance.deferrable
def job(number: int = 0) -> int:
    return number


@pytest.fixture(autouse=True)
def _empty_queue() -> Iterator[None]:
    yield
    instance.backend.queue.flush()


@pytest.fixture
def own_portal() -> Iterator[Portal]:
    """One that the test may stop."""
    made = Portal()
    yield made
    made.stop()


async def answer(value: Any) -> Any:
    return value


async def fail(error: BaseException) -> None:
    raise error


# What callers get back.


def test_result_comes_back_to_the_caller() -> None:
    assert portal().run(answer(7)) == 7


@pytest.mark.parametrize(
    "error",
    [
        ValueError("broken"),
        asyncio.CancelledError("its own"),
        KeyboardInterrupt("its own"),
        SystemExit(3),
        GeneratorExit(),
        ExceptionGroup("several", [ValueError("one")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_coroutine_raises_reaches_the_caller_and_leaves_the_portal_running(
    error: BaseException,
) -> None:
    before = portal()

    with pytest.raises(type(error)) as caught:
        before.run(fail(error))

    assert caught.value is error
    assert portal() is before
    assert portal().run(answer("still here")) == "still here"


def test_coroutine_that_raises_stop_iteration_is_a_runtime_error_as_in_python() -> None:
    with pytest.raises(RuntimeError, match="coroutine raised StopIteration"):
        portal().run(fail(StopIteration("its own")))

    assert portal().run(answer(1)) == 1


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=["exit", "interrupt"])
def test_task_that_a_coroutine_started_cannot_end_the_portal(error: BaseException) -> None:
    async def start_and_await() -> str:
        with pytest.raises(type(error)):
            await asyncio.create_task(fail(error))
        return "awaited"

    assert portal().run(start_and_await()) == "awaited"
    assert portal().run(answer(1)) == 1


def test_each_of_many_threads_gets_its_own_answer() -> None:
    async def slowly(number: int) -> int:
        await asyncio.sleep(0)
        return number

    def ask(thread: int) -> list[int]:
        return [portal().run(slowly(thread * 1000 + call)) for call in range(50)]

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(ask, range(20)))

    assert answers == [[thread * 1000 + call for call in range(50)] for thread in range(20)]


def test_all_threads_share_one_portal_that_was_not_started_yet() -> None:
    lines = run_program(
        """
        import threading
        from deferrable.sync._portal import portal

        barrier = threading.Barrier(20)
        portals = []

        def ask():
            barrier.wait()
            portals.append(portal())

        threads = [threading.Thread(target=ask) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(len(set(portals)), sum("portal" in each.name for each in threading.enumerate()))
        """
    )

    assert lines == ["1 1"]


def test_coroutine_sees_the_context_of_its_caller() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    variable.set("the caller's")

    async def read() -> str:
        return variable.get()

    assert portal().run(read()) == "the caller's"


@contextlib.contextmanager
def standing_still(running: Portal) -> Iterator[None]:
    """The portal's loop is blocked during the block, so that new work piles up."""
    stands, may_go_on = threading.Event(), threading.Event()

    def stand() -> None:
        stands.set()
        may_go_on.wait()

    running.call_soon(stand)
    stands.wait()
    try:
        yield
    finally:
        may_go_on.set()


@pytest.mark.anyio
async def test_each_of_those_that_are_handed_over_together_sees_the_context_of_its_caller(
    own_portal: Portal,
) -> None:
    variable: ContextVar[int] = ContextVar("variable", default=-1)

    async def read() -> int:
        return variable.get()

    def ask(number: int) -> tuple[int, list[int]]:
        variable.set(number)
        of_callback: list[int] = []
        own_portal.call_soon(lambda: of_callback.append(variable.get()))
        return own_portal.run(read()), of_callback

    with ThreadPoolExecutor(5) as threads, standing_still(own_portal):
        answers = [threads.submit(ask, number) for number in range(5)]
        await wait_until(lambda: len(own_portal._steps) == 10, "ten steps are told")

    assert [each.result() for each in answers] == [(number, [number]) for number in range(5)]


@pytest.mark.anyio
async def test_callback_that_fails_does_not_hold_up_what_was_handed_over_with_it(
    own_portal: Portal, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise ValueError("broken")

    with ThreadPoolExecutor(1) as threads, standing_still(own_portal):
        own_portal.call_soon(broken)
        own_portal.call_soon(broken)
        answered = threads.submit(own_portal.run, answer(7))
        await wait_until(lambda: len(own_portal._steps) == 3, "all are told")

    assert answered.result() == 7
    assert "broken" in caplog.text


@pytest.mark.anyio
async def test_a_caller_that_relied_on_a_wake_up_of_a_portal_that_was_stopped_is_told(
    own_portal: Portal,
) -> None:
    own_portal.stop()
    with ThreadPoolExecutor(2) as threads:
        own_portal._is_woken = True  # as while somebody else is about to wake its loop
        relying = threads.submit(own_portal.run, answer(1))
        await wait_until(lambda: own_portal._handovers, "it waits")
        own_portal._is_woken = False
        waking = threads.submit(own_portal.run, answer(2))

        for each in (relying, waking):
            with pytest.raises(SystemExit, match="exiting"):
                each.result(10)


def test_interrupt_while_the_loop_is_woken_does_not_leave_later_callers_waiting(
    own_portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    wake = own_portal._loop.call_soon_threadsafe
    strikes = [KeyboardInterrupt()]

    def wake_or_be_struck(callback: Callable[[], object]) -> object:
        if strikes:
            raise strikes.pop()
        return wake(callback)

    monkeypatch.setattr(own_portal._loop, "call_soon_threadsafe", wake_or_be_struck)

    with pytest.raises(KeyboardInterrupt):
        own_portal.run(answer(1))

    assert own_portal.run(answer(2)) == 2


def test_caller_of_a_failing_coroutine_leaves_no_reference_cycle() -> None:
    class Argument:
        pass

    argument = Argument()
    reference = weakref.ref(argument)

    async def fail_with(value: Argument) -> None:
        raise ValueError("broken")

    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            portal().run(fail_with(argument))
        del argument
        # The portal's thread lets go of its own frames once it has run the next thing.
        portal().run(answer(1))
        portal().run(answer(1))

        assert reference() is None
    finally:
        gc.enable()


# Where it would wait for itself.


@pytest.mark.parametrize(
    ("call", "instead"),
    [
        (lambda: job.later(1), r"await job\.later_async\(\.\.\.\)"),
        (lambda: job.later_many([(1,)]), r"await job\.later_many_async\(\.\.\.\)"),
        (instance.run_once, r"await run_once\(\) of deferrable\.aio"),
        (lambda: instance.process(None, None), r"await process\(\.\.\.\) of deferrable\.aio"),
        (instance.close, r"await Deferrable\.close\(\) of deferrable\.aio"),
        (instance.backend.queue.stats, r"await Queue\.stats\(\.\.\.\) of deferrable\.aio"),
        (lambda: instance.backend.queue.find("an id"), r"await Queue\.find\(\.\.\.\) of"),
        (instance.errors().next_item, r"await ErrorItems\.next_item\(\.\.\.\) of"),
    ],
    ids=["later", "later_many", "run_once", "process", "close", "stats", "find", "errors"],
)
def test_blocking_call_on_the_portals_own_thread_is_refused_and_names_what_to_await(
    call: Callable[[], object], instead: str
) -> None:
    async def call_it() -> None:
        assert is_portal_thread()
        call()

    with pytest.raises(CalledFromEventLoop, match=instead) as caught:
        portal().run(call_it())

    assert isinstance(caught.value, RuntimeError)
    assert instance.backend.queue.stats()["available"] == 0


def test_thread_started_by_an_async_job_may_block() -> None:
    async def from_a_thread() -> str:
        receipt = await asyncio.to_thread(job.later, 1)
        return receipt.status

    assert portal().run(from_a_thread()) == "pushed"


# Being given up.


def test_coroutine_cancelled_before_its_first_step_still_ends() -> None:
    running = portal()
    handover = _Handover(running._loop, answer(1))

    def start_and_cancel() -> None:
        handover.start()
        handover.cancel()

    running.call_soon(start_and_cancel)
    handover.wait()

    assert handover.ended is not None


def test_coroutine_cancelled_before_it_was_handed_over_never_begins() -> None:
    running = portal()
    handover = _Handover(running._loop, answer(1))

    running.call_soon(handover.cancel)
    handover.wait()
    running.call_soon(handover.start)
    running.run(answer(2))

    assert isinstance(handover.ended, Raised)
    assert isinstance(handover.ended.error, asyncio.CancelledError)


# Its end.


def test_stopping_cancels_what_runs_and_ends_the_thread(own_portal: Portal) -> None:
    has_begun = threading.Event()
    ends: list[str] = []

    async def run_for_ever() -> None:
        has_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ends.append("cleaned up")

    def call() -> None:
        with pytest.raises(SystemExit):
            own_portal.run(run_for_ever())
        ends.append("caller freed")

    caller = threading.Thread(target=call)
    caller.start()
    has_begun.wait()
    own_portal.stop()
    caller.join(30)

    assert ends == ["cleaned up", "caller freed"]
    assert own_portal.thread_id not in {thread.ident for thread in threading.enumerate()}


def test_stopping_closes_what_async_generators_hold_open(own_portal: Portal) -> None:
    closed: list[str] = []
    kept: list[AsyncIterator[int]] = []

    async def hold() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            closed.append("closed")

    async def open_it() -> None:
        kept.append(hold())
        await anext(kept[0])

    own_portal.run(open_it())
    own_portal.stop()

    assert closed == ["closed"]


def test_stopping_twice_is_harmless(own_portal: Portal) -> None:
    own_portal.stop()
    own_portal.stop()

    with pytest.raises(SystemExit):
        own_portal.run(answer(1))


MEMORY = """
import deferrable
from deferrable.backend import InMemoryBackendFactory

instance = deferrable.Deferrable(InMemoryBackendFactory().create_backend_for_group(None))

@instance.deferrable(name="job")
def job():
    pass
"""


def test_process_that_exits_right_after_later_leaves_no_warnings() -> None:
    lines = run_program(MEMORY + "print(job.later().status)")

    assert lines == ["pushed"]


def test_process_that_never_deferred_starts_no_portal_at_exit() -> None:
    lines = run_program(
        """
        import atexit, sys
        atexit.register(lambda: print("deferrable.sync._portal" in sys.modules))
        import deferrable
        """
    )

    assert lines == ["False"]


def test_at_exit_handlers_may_call_later_whenever_they_were_registered() -> None:
    lines = run_program(
        "import atexit\n"
        "atexit.register(lambda: print('before the import', job.later().status))\n"
        "atexit.register(lambda: print('and again', instance.backend.queue.stats()['available']))\n"
        + MEMORY
        + "atexit.register(lambda: print('after the import', job.later().status))\n"
        "job.later()\n"
    )

    assert lines == ["after the import pushed", "and again 2", "before the import pushed"]


def test_at_exit_handler_may_make_the_first_blocking_call_of_the_process() -> None:
    lines = run_program(
        MEMORY + "import atexit\natexit.register(lambda: print(job.later().status))\n"
    )

    assert lines == ["pushed"]


def test_at_exit_handler_may_run_a_job() -> None:
    lines = run_program(
        "import atexit\natexit.register(lambda: print(instance.run_once().status))\n"
        + MEMORY
        + "job.later()\n"
    )

    assert lines == ["completed"]


OUTLIVING = """
import asyncio, threading

def outlive(work):
    def wait():
        threading.main_thread().join()
        work()
    threading.Thread(target=wait).start()
"""


def test_thread_that_outlives_the_main_one_may_make_the_first_blocking_call() -> None:
    lines = run_program(
        MEMORY
        + OUTLIVING
        + """
@instance.deferrable(name="awaited")
async def awaited():
    await asyncio.sleep(0)

@outlive
def work():
    print(job.later().status)
    print(awaited.later().status)
    print(asyncio.run(job.later_async()).status)
    while (outcome := instance.run_once()) is not None:
        print(outcome.status)
    print(instance.backend.queue.stats())
    instance.backend.queue.close()
    print("closed")
"""
    )

    nothing = {"available": 0, "in_flight": 0, "delayed": 0}
    assert lines == [*["pushed"] * 3, *["completed"] * 3, str(nothing), "closed"]


def test_thread_that_outlives_the_main_one_hears_of_what_cannot_be_served() -> None:
    lines = run_program(
        MEMORY
        + OUTLIVING
        + """
import warnings
warnings.simplefilter("ignore", deferrable.BlocksEventLoop)

async def block_the_loop():
    try:
        print(job.later().status)
    except deferrable.CalledFromEventLoop as error:
        print("pushed" if "no thread can be started" in str(error) else error)

@outlive
def work():
    asyncio.run(block_the_loop())
    try:
        with instance.worker():
            print("works")
    except RuntimeError as error:
        print("works" if "can't create new thread" in str(error) else error)
"""
    )

    assert lines == ["pushed", "works"]


def test_thread_that_outlives_the_main_one_may_make_the_first_connection(
    redis_server: RedisServer,
    sqs_server: SQSServer,
    sqs_group: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Both clients have threads do what blocks: read credentials and certificates, find names.
    sqs_server.set_environment(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", sqs_server.url.replace("127.0.0.1", "localhost"))

    lines = run_program(
        OUTLIVING
        + f"""
import deferrable, redis
from deferrable.backend import DocketsBackendFactory, SQSBackendFactory

class Provider(redis.CredentialProvider):
    def get_credentials(self):
        return "default", "whatever"

client = redis.Redis("localhost", {redis_server.port}, credential_provider=Provider())
factories = [
    DocketsBackendFactory(client),
    SQSBackendFactory(wait_time=1),
]

@outlive
def work():
    for factory in factories:
        instance = deferrable.Deferrable(factory.create_backend_for_group({sqs_group!r}))
        job = instance.deferrable(name="job")(lambda: None)
        print(job.later().status, instance.run_once().status)
"""
    )

    assert lines == ["pushed completed"] * 2


def test_threads_of_the_portal_work_in_place_after_the_end_of_the_main_thread() -> None:
    lines = run_program(
        OUTLIVING
        + """
from deferrable.sync._portal import portal

async def resolve():
    return await asyncio.get_running_loop().getaddrinfo("localhost", 6379)

def fail():
    raise ValueError("its own")

async def fail_in_thread():
    await asyncio.to_thread(fail)

print(bool(portal().run(resolve())))

@outlive
def work():
    print(bool(portal().run(resolve())))
    try:
        portal().run(fail_in_thread())
    except ValueError as error:
        print(error)
"""
    )

    assert lines == ["True", "True", "its own"]


def test_own_loop_after_the_end_of_the_main_thread_says_what_is_missing() -> None:
    lines = run_program(
        OUTLIVING
        + """
import concurrent.futures.thread, os, sys
import aiobotocore.session
os.environ.update(AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b", AWS_DEFAULT_REGION="eu-west-1")
from deferrable.aio import Deferrable
from deferrable.aio.backend import (
    DocketsBackendFactory, InMemoryBackendFactory, SQSBackendFactory
)
from deferrable.errors import BackendUnavailable

def instance_of(factory):
    instance = Deferrable(factory.create_backend_for_group(None))
    return instance, instance.deferrable(name="job")(lambda: None)

factories = [DocketsBackendFactory("redis://localhost:1"), SQSBackendFactory()]

async def main():
    for factory in factories:
        _, job = instance_of(factory)
        try:
            await job.later_async()
        except BackendUnavailable as error:
            print(error)
    if sys.version_info[:2] != (3, 12):
        return
    instance, job = instance_of(InMemoryBackendFactory(60))
    await job.later_async()
    for start in (instance.worker().__aenter__, instance.run_once):
        try:
            await start()
        except RuntimeError as error:
            print(error)

@outlive
def work():
    loop = asyncio.new_event_loop()  # `asyncio.run` starts a thread, too
    loop.run_until_complete(main())
    loop.close()
"""
    )

    asked = ["Redis at localhost:1 ", "GetQueueUrl on "]
    if sys.version_info[:2] == (3, 12):  # the others still start threads of one's own
        asked += ["a worker ", "a plain job "]
    for line, start in zip(lines, asked, strict=True):
        assert line.startswith(start)
        assert "the main thread has ended" in line
        assert "keep the main thread alive" in line
        assert "right" not in line


CONSUMER = """
import atexit, sys, threading
if "join" in sys.argv:
    atexit.register(lambda: (consumer.join(60), print("joined", not consumer.is_alive())))

import asyncio
import deferrable
from deferrable.backend import InMemoryBackendFactory

instance = deferrable.Deferrable(InMemoryBackendFactory(60).create_backend_for_group(None))
is_running = threading.Event()

@instance.deferrable(name="job")
async def job():
    is_running.set()
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        print("cleaned up")

def consume():
    while True:
        instance.run_once()

consumer = threading.Thread(target=consume, daemon=True)
"""


def test_daemon_thread_that_waits_for_an_item_ends_silently_with_the_process() -> None:
    lines = run_program(CONSUMER + "consumer.start()\ninstance.backend.queue.stats()\n")

    assert lines == []


def test_at_exit_handler_may_join_a_daemon_thread_that_waits_for_an_item() -> None:
    lines = run_program(
        "import sys; sys.argv.append('join')\n"
        + CONSUMER
        + "consumer.start()\ninstance.backend.queue.stats()\n"
    )

    assert lines == ["joined True"]


def test_async_job_of_a_daemon_thread_cleans_up_when_the_process_exits() -> None:
    lines = run_program(CONSUMER + "consumer.start()\njob.later()\nis_running.wait()\n")

    assert lines == ["cleaned up"]


def test_job_that_ignores_its_cancellation_does_not_keep_the_process() -> None:
    lines = run_program(
        CONSUMER
        + """
from deferrable import _portal as portal
portal._STOP_SECONDS = 0.1

@instance.deferrable(name="stubborn")
async def stubborn():
    is_running.set()
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

consumer.start()
stubborn.later()
is_running.wait()
print("exiting")
"""
    )

    assert lines == ["exiting"]
