"""Ctrl-C: it reaches the caller, nothing is lost by it, and everything works afterwards.

Each test is a program that gets a real SIGINT, once it has printed where it is.
"""

import textwrap

import pytest
from processes import WITH_WARNINGS, Program, run_program

PRELUDE = """
import asyncio, functools, sys, threading, time
import deferrable, deferrable.aio
import deferrable.backend, deferrable.aio.backend

FACE = {face!r}

if FACE == "blocking":
    factory = deferrable.backend.InMemoryBackendFactory({wait})
    backend = factory.create_backend_for_group(None)
    instance = deferrable.Deferrable(backend)
    core = backend._core.queue
else:
    factory = deferrable.aio.backend.InMemoryBackendFactory({wait})
    backend = factory.create_backend_for_group(None)
    instance = deferrable.aio.Deferrable(backend)
    core = backend.queue

def say(*words):
    print(*words, flush=True)

events = []

class Recorder:
    def __getattr__(self, name):
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda item: events.append(name[3:])

instance.register_event_consumer(Recorder())

def before(hook, function):
    "Have `function` awaited before each call of a hook of the queue."
    original = getattr(core, hook)
    async def wrapped(*args):
        await function()
        return await original(*args)
    setattr(core, hook, wrapped)

def call(function, *args):
    "Call it as a program on this face would; on the awaiting one, as its main coroutine."
    if FACE == "blocking":
        return function(*args)
    async def main():
        return await function(*args)
    return asyncio.run(main())

def interrupted(function, *args):
    try:
        call(function, *args)
    except KeyboardInterrupt:
        say("interrupted")
    else:
        say("not interrupted")

def stats():
    counts = call(backend.queue.stats)
    return counts["available"], counts["in_flight"]

later = "later" if FACE == "blocking" else "later_async"
has_begun = False
"""

both_faces = pytest.mark.parametrize("face", ["blocking", "awaiting"])


def program(face: str, source: str, wait: float | None = None) -> Program:
    prelude = PRELUDE.replace("{face!r}", repr(face)).replace("{wait}", repr(wait))
    return Program(prelude + textwrap.dedent(source), *WITH_WARNINGS)


def interrupt_at(begun: Program, *marks: str, leaves_a_task: bool = False) -> list[str]:
    """Send one SIGINT at each of the marks; what the program printed afterwards.

    Args:
        leaves_a_task: Python may find, as it ends, a task that would not be cancelled.
    """
    with begun as running:
        for mark in marks:
            running.wait_for(mark)
            running.interrupt()
        lines, errors = running.end()
    if leaves_a_task and errors.startswith("Task was destroyed but it is pending!"):
        errors = "".join(errors.splitlines(keepends=True)[2:])
    assert errors == ""
    return lines


@both_faces
def test_interrupt_while_run_once_waits_for_an_item_keeps_none(face: str) -> None:
    waiting = program(
        face,
        """
        async def say_that_it_waits():
            global has_begun
            if not has_begun:
                has_begun = True
                say("waiting")

        before("_pop_batch", say_that_it_waits)

        @instance.deferrable(name="job")
        def job():
            return "ran"

        interrupted(instance.run_once)
        call(getattr(job, later))
        say(*stats())
        say(call(instance.run_once).result)
        """,
        wait=60,
    )

    assert interrupt_at(waiting, "waiting") == ["interrupted", "1 0", "ran"]


@both_faces
def test_interrupt_while_an_async_job_runs_cancels_it_once_and_releases_its_item(
    face: str,
) -> None:
    running = program(
        face,
        """
        @instance.deferrable(name="job")
        async def job():
            global has_begun
            if has_begun:
                return "ran"
            has_begun = True
            say("running")
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                say("cleaned up")

        call(getattr(job, later))
        interrupted(instance.run_once)
        say(*events)
        say(*stats())
        outcome = call(instance.run_once)
        say(outcome.result, outcome.item["attempts"])
        """,
    )

    assert interrupt_at(running, "running") == [
        "cleaned up",
        "interrupted",
        "push pop release",
        "1 0",
        "ran 0",
    ]


def test_interrupt_while_a_plain_job_runs_in_the_calling_thread_releases_its_item() -> None:
    running = program(
        "blocking",
        """
        @instance.deferrable(name="job")
        def job():
            global has_begun
            if has_begun:
                return "ran"
            has_begun = True
            say("running")
            threading.Event().wait()

        job.later()
        interrupted(instance.run_once)
        say(*events)
        say(*stats())
        outcome = instance.run_once()
        say(outcome.result, outcome.item["attempts"])
        """,
    )

    assert interrupt_at(running, "running") == ["interrupted", "push pop release", "1 0", "ran 0"]


def test_interrupt_while_a_plain_job_runs_in_a_worker_thread_waits_for_its_end() -> None:
    running = program(
        "awaiting",
        """
        cancelled = threading.Event()

        @instance.deferrable(name="job")
        def job():
            say("running")
            cancelled.wait()
            say("ended")

        async def consume():
            running = asyncio.create_task(instance.run_once())
            try:
                await asyncio.shield(running)
            except asyncio.CancelledError:
                running.cancel()
                asyncio.get_running_loop().call_soon(cancelled.set)
                await running

        call(job.later_async)
        interrupted(consume)
        say(*events)
        say(*stats())
        """,
    )

    assert interrupt_at(running, "running") == [
        "ended",
        "interrupted",
        "push pop complete",
        "0 0",
    ]


@both_faces
def test_interrupt_while_a_slow_broker_takes_a_push_gives_the_caller_back(face: str) -> None:
    pushing = program(
        face,
        """
        async def be_slow():
            global has_begun
            if not has_begun:
                has_begun = True
                say("pushing")
                await asyncio.Event().wait()

        before("_push_batch", be_slow)

        @instance.deferrable(name="job")
        def job():
            return "ran"

        interrupted(getattr(job, later))
        say(call(getattr(job, later)).status)
        say(call(instance.run_once).result)
        """,
    )

    assert interrupt_at(pushing, "pushing") == ["interrupted", "pushed", "ran"]


def test_interrupt_while_an_item_is_settled_settles_it_first() -> None:
    settling = program(
        "blocking",
        """
        async def be_slow():
            say("settling")
            while not has_struck:
                await asyncio.sleep(0.001)

        import signal
        has_struck = False
        def note_and_raise(*args):
            global has_struck
            has_struck = True
            raise KeyboardInterrupt
        signal.signal(signal.SIGINT, note_and_raise)

        before("_complete_batch", be_slow)

        @instance.deferrable(name="job")
        def job():
            pass

        job.later()
        interrupted(instance.run_once)
        say(*events)
        say(*stats())
        """,
    )

    assert interrupt_at(settling, "settling") == ["interrupted", "push pop complete", "0 0"]


def test_interrupt_of_an_async_job_that_completes_all_the_same_completes_its_item() -> None:
    running = program(
        "blocking",
        """
        @instance.deferrable(name="job")
        async def job():
            say("running")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass

        job.later()
        interrupted(instance.run_once)
        say(*events)
        say(*stats())
        """,
    )

    assert interrupt_at(running, "running") == ["interrupted", "push pop complete", "0 0"]


def test_interrupt_while_an_async_handler_runs_releases_what_was_popped() -> None:
    handling = program(
        "blocking",
        """
        class Slow:
            async def on_pop(self, item):
                say("handling")
                await asyncio.Event().wait()

        @instance.deferrable(name="job")
        def job():
            return "ran"

        instance.register_event_consumer(Slow())
        job.later()
        interrupted(instance.run_once)
        say(*stats())
        instance.clear_event_consumers()
        say(instance.run_once().result)
        """,
    )

    assert interrupt_at(handling, "handling") == ["interrupted", "1 0", "ran"]


def test_second_interrupt_leaves_a_call_that_ignores_the_first() -> None:
    stuck = program(
        "blocking",
        """
        class Stubborn:
            async def on_push(self, item):
                while True:
                    try:
                        say("stuck")
                        await asyncio.Event().wait()
                    except asyncio.CancelledError:
                        pass

        from deferrable import _portal as portal
        portal._STOP_SECONDS = 0.1

        @instance.deferrable(name="job")
        def job():
            return "ran"

        instance.register_event_consumer(Stubborn())
        interrupted(job.later)
        instance.clear_event_consumers()
        say(instance.run_once().result)
        """,
    )

    printed = interrupt_at(stuck, "stuck", "stuck", leaves_a_task=True)

    assert printed[:2] == ["interrupted", "ran"]


@pytest.mark.parametrize("verb", ["pop()", "pop_batch(5)"])
def test_item_that_arrives_in_the_moment_of_the_interrupt_is_put_back(verb: str) -> None:
    """The main thread sees this interrupt when the pop has ended already, and before its result."""
    lines = run_program(
        f"""
        import _thread
        import deferrable.backend

        factory = deferrable.backend.InMemoryBackendFactory()
        queue = factory.create_backend_for_group(None).queue
        core = queue._core
        queue.push_batch([{{"number": number}} for number in range(3)])
        original = core._pop_batch

        async def interrupt_after(count):
            popped = await original(count)
            _thread.interrupt_main()
            return popped

        core._pop_batch = interrupt_after
        try:
            queue.{verb}
        except KeyboardInterrupt:
            print("interrupted")
        print(queue.stats()["available"], queue.stats()["in_flight"])
        core._pop_batch = original
        """
    )

    assert lines == ["interrupted", "3 0"]


def test_interrupt_in_the_moment_in_which_the_lease_is_kept_releases_the_item() -> None:
    lines = run_program(
        """
        import deferrable, deferrable.backend
        from deferrable.aio._engine.keeper import keeper
        from deferrable.sync._portal import portal

        factory = deferrable.backend.InMemoryBackendFactory()
        instance = deferrable.Deferrable(factory.create_backend_for_group(None))
        leases = keeper(portal().loop)
        keep = leases.keep

        @instance.deferrable(name="job")
        def job():
            return "ran"

        def be_interrupted(*args):
            leases.keep = keep
            keep(*args)
            raise KeyboardInterrupt

        job.later()
        leases.keep = be_interrupted
        try:
            instance.run_once()
        except KeyboardInterrupt:
            print("interrupted")
        print(instance.run_once().result)
        """
    )

    assert lines == ["interrupted", "ran"]


def test_signal_handler_that_exits_the_process_releases_the_item() -> None:
    """What a service does on SIGTERM: ``signal.signal(SIGTERM, lambda *_: sys.exit())``."""
    running = program(
        "blocking",
        """
        import signal
        signal.signal(signal.SIGINT, lambda *_: sys.exit(0))

        @instance.deferrable(name="job")
        async def job():
            say("running")
            await asyncio.Event().wait()

        job.later()
        try:
            instance.run_once()
        finally:
            say(*stats())
        """,
    )

    assert interrupt_at(running, "running") == ["1 0"]
