"""Forks: gunicorn's and multiprocessing's children work, and their parents are not disturbed.

Each test is a program that has used the library before it forks. The child ends as a gunicorn
worker does, by an ordinary exit, so that whatever it would collect of its parent's, it collects.
"""

import textwrap

import pytest
from processes import run_program
from redis_server import unique_group
from sqs_server import SQSServer

HOOKS = ["with hooks", "without hooks"]

IN_MEMORY = "InMemoryBackendFactory({wait})"
DOCKETS = "DocketsBackendFactory({url!r}, wait_time={wait} or 1)"

PRELUDE = """
import asyncio, multiprocessing, os, sys, threading, time, warnings
import deferrable, deferrable.aio
import deferrable.backend, deferrable.aio.backend

# Python 3.12 and later warn of every fork in a process with threads: this library has one.
warnings.filterwarnings("ignore", ".* is multi-threaded, use of ", DeprecationWarning)

factory = deferrable.{package}backend.{factory}
backend = factory.create_backend_for_group({group!r})
instance = deferrable.{package}Deferrable(backend)
queue = backend.queue

def say(*words):
    print(*words, flush=True)

@instance.deferrable(name="job")
def job(who):
    return who

@instance.deferrable(name="async_job")
async def async_job(who):
    await asyncio.sleep(0)
    return who

def work(who):
    "Everything that a process does, with nothing but its own item in the queue."
    queue.flush()
    job.later(who)
    counts = queue.stats()["available"]
    ran = instance.run_once().result
    async_job.later(who)
    ran_async = instance.run_once().result
    say(who, counts, ran, ran_async)

async def work_async(who):
    await queue.flush()
    await job.later_async(who)
    counts = (await queue.stats())["available"]
    outcome = await instance.run_once()
    say(who, counts, outcome.result)

def fork(work):
    "Fork; the child does `work` and exits, and the parent waits for that."
    child = os.fork()
    if child == 0:
        work()
        # Python knows nothing of a fork without hooks, and would wait for threads of the parent.
        (os._exit if "{hooks}" == "without hooks" else sys.exit)(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status

if "{hooks}" == "without hooks":
    # As a server written in C forks (uWSGI): Python hears nothing of it.
    import ctypes
    bare_fork = ctypes.PyDLL(None).fork

    def fork_quietly():
        # A child in which another thread of the parent had asked for the interpreter's lock would
        # wait for that thread, whatever it runs. Nobody asks while the interval is long.
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1000)
        time.sleep(0.1)  # Those that wait with the old interval get the lock meanwhile.
        try:
            return bare_fork()
        finally:
            sys.setswitchinterval(interval)

    os.fork = fork_quietly
"""


@pytest.fixture(params=["in memory", "dockets"])
def prelude(request: pytest.FixtureRequest) -> "Prelude":
    if request.param == "dockets":
        url = request.getfixturevalue("redis_url")
        return Prelude(DOCKETS, url)
    return Prelude(IN_MEMORY)


class Prelude:
    """The beginning of a program that uses one backend."""

    def __init__(self, factory: str, url: str = "") -> None:
        self._factory = factory
        self._url = url
        self._group = unique_group()

    @property
    def is_shared(self) -> bool:
        """Whether parent and child see one queue."""
        return bool(self._url)

    def run(
        self,
        source: str,
        *,
        package: str = "",
        wait: float | None = None,
        hooks: str = "with hooks",
    ) -> list[str]:
        factory = self._factory.replace("{url!r}", repr(self._url)).replace("{wait}", repr(wait))
        prelude = PRELUDE.replace("{factory}", factory).replace("{package}", package)
        prelude = prelude.replace("{group!r}", repr(self._group)).replace("{hooks}", hooks)
        return run_program(prelude + textwrap.dedent(source))


@pytest.mark.parametrize("hooks", HOOKS)
def test_child_and_parent_both_work_when_the_portal_ran_before_the_fork(
    prelude: Prelude, hooks: str
) -> None:
    lines = prelude.run(
        """
        work("parent before")
        fork(lambda: work("child"))
        work("parent after")
        fork(lambda: work("second child"))
        work("parent at last")
        """,
        hooks=hooks,
    )

    assert lines == [
        f"{who} 1 {who} {who}"
        for who in ("parent before", "child", "parent after", "second child", "parent at last")
    ]


def test_child_of_a_fork_without_hooks_works_on_sqs(
    sqs_server: SQSServer, sqs_group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqs_server.set_environment(monkeypatch)
    prelude = PRELUDE.replace("{factory}", "SQSBackendFactory(wait_time=1)")
    prelude = prelude.replace("{package}", "").replace("{group!r}", repr(sqs_group))

    lines = run_program(
        prelude.replace("{hooks}", "without hooks")
        + textwrap.dedent(
            """
            def work(who):
                job.later(who)
                say(who, instance.run_once().result)

            work("parent before")
            fork(lambda: work("child"))
            work("parent after")
            """
        )
    )

    assert lines == [f"{who} {who}" for who in ("parent before", "child", "parent after")]


def test_child_that_closes_its_queues_leaves_those_of_the_parent_open(prelude: Prelude) -> None:
    lines = prelude.run(
        """
        # A wait for a loop of the parent never ends.
        from deferrable.aio._contract import loops as _loops
        _loops._PATIENCE_SECONDS = 60

        work("parent before")
        fork(lambda: (work("child"), instance.close(), backend.close()))
        work("parent after")
        fork(backend.close)
        work("parent at last")
        """
    )

    assert lines == [
        f"{who} 1 {who} {who}"
        for who in ("parent before", "child", "parent after", "parent at last")
    ]


def test_grandchild_works(prelude: Prelude) -> None:
    lines = prelude.run(
        """
        def child():
            work("child")
            fork(lambda: work("grandchild"))
            work("child after")

        work("parent")
        fork(child)
        work("parent after")
        """
    )

    assert lines == [
        f"{who} 1 {who} {who}"
        for who in ("parent", "child", "grandchild", "child after", "parent after")
    ]


def test_child_of_multiprocessing_works(prelude: Prelude) -> None:
    lines = prelude.run(
        """
        work("parent before")
        context = multiprocessing.get_context("fork")
        child = context.Process(target=work, args=("child",))
        child.start()
        child.join()
        assert child.exitcode == 0
        with context.Pool(1) as pool:
            pool.apply(work, ("in a pool",))
            pool.close()
            pool.join()
        work("parent after")
        """
    )

    assert lines == [
        f"{who} 1 {who} {who}" for who in ("parent before", "child", "in a pool", "parent after")
    ]


def test_fork_in_the_middle_of_another_threads_pop_disturbs_neither(prelude: Prelude) -> None:
    lines = prelude.run(
        """
        def consume():
            say("in a thread:", instance.run_once().result)

        work("parent")
        consumer = threading.Thread(target=consume)
        consumer.start()
        core = queue._core
        while not core._traffic._entries or not any(
            entry.value.pop._waiters for entry in core._traffic._entries.values()
        ):
            pass
        child = os.fork()
        if child == 0:
            say("child", queue.stats()["available"])
            if not IS_SHARED:
                work("child")
            sys.exit(0)
        os.waitpid(child, 0)
        job.later("from the parent")
        consumer.join()
        """.replace("IS_SHARED", repr(prelude.is_shared)),
        wait=30,
    )

    expected = ["parent 1 parent parent", "child 0", "in a thread: from the parent"]
    if not prelude.is_shared:
        expected.insert(2, "child 1 child child")
    assert lines == expected


def test_job_that_forks_is_settled_by_the_parent_alone(prelude: Prelude) -> None:
    lines = prelude.run(
        """
        import logging
        logging.disable()  # the child says that the lease is not its own

        @instance.deferrable(name="forking")
        def forking():
            # The child's exit passes through its own copy of this attempt.
            fork(lambda: say("child", job.later("child").status))
            return "parent"

        queue.flush()
        forking.later()
        outcome = instance.run_once()
        say(outcome.result, outcome.status)
        say(queue.stats()["available"], queue.stats()["in_flight"])
        """
    )

    assert lines[:2] == ["child pushed", "parent completed"]
    assert lines[2] == ("1 0" if prelude.is_shared else "0 0")


def test_fork_out_of_a_running_event_loop_disturbs_neither(prelude: Prelude) -> None:
    lines = prelude.run(
        """
        def child():
            asyncio.run(work_async("child"))
            # As multiprocessing does. An exit would close the parent's loop on its way out.
            os._exit(0)

        async def parent():
            await work_async("parent before")
            fork(child)
            await work_async("parent after")

        asyncio.run(parent())
        asyncio.run(work_async("parent, another loop"))
        """,
        package="aio.",
    )

    assert lines == [
        f"{who} 1 {who}"
        for who in ("parent before", "child", "parent after", "parent, another loop")
    ]


CLOCK = """
from deferrable.testing import MovingClock
clock = MovingClock()
"""


def test_parent_and_child_each_keep_their_own_leases() -> None:
    prelude = CLOCK + PRELUDE.replace("{factory}", "InMemoryBackendFactory(clock=clock)")
    lines = run_program(
        prelude.replace("{package}", "").replace("{group!r}", "None")
        + textwrap.dedent(
            """
            import time

            @instance.deferrable(name="long")
            def long(seconds):
                for _ in range(int(seconds / 10)):
                    while not clock.pending:
                        time.sleep(0.001)
                    clock.advance(10)
                while not clock.pending:
                    time.sleep(0.001)

            def work(who):
                long.later(70)
                say(who, instance.run_once().status)

            work("parent before")
            fork(lambda: work("child"))
            work("parent after")
            """
        )
    )

    assert lines == ["parent before completed", "child completed", "parent after completed"]


def test_fork_leaves_the_portal_unstarted_until_the_child_needs_it() -> None:
    lines = run_program(
        PRELUDE.replace("{factory}", "InMemoryBackendFactory()")
        .replace("{package}", "")
        .replace("{group!r}", "None")
        + textwrap.dedent(
            """
            work("parent")
            fork(lambda: say(threading.active_count()))
            """
        )
    )

    assert lines == ["parent 1 parent parent", "1"]


def test_child_of_a_fork_without_hooks_awaits_as_its_parent_does(prelude: Prelude) -> None:
    lines = prelude.run(
        """
        async def work(who):
            await queue.flush()
            await async_job.later_async(who)  # no thread: Python would not know that it is gone
            counts = (await queue.stats())["available"]
            outcome = await instance.run_once()
            say(who, counts, outcome.result)

        asyncio.run(work("parent before"))
        fork(lambda: asyncio.run(work("child")))
        asyncio.run(work("parent after"))
        """,
        package="aio.",
        hooks="without hooks",
    )

    assert lines == [f"{who} 1 {who}" for who in ("parent before", "child", "parent after")]


@pytest.mark.parametrize("hooks", HOOKS)
def test_what_the_parent_holds_is_neither_settled_nor_lost_by_a_child_that_pops(
    prelude: Prelude, hooks: str
) -> None:
    lines = prelude.run(
        """
        job.later("parent"), job.later("child")
        envelope, item = queue.pop()

        def take():
            say(instance.run_once().result)

        fork(take)
        queue.complete(envelope)
        say(queue.stats()["available"], queue.stats()["in_flight"])
        """,
        hooks=hooks,
    )

    assert lines[0] == "child"
    assert lines[1] == ("0 0" if prelude.is_shared else "1 0")


@pytest.mark.parametrize("hooks", HOOKS)
def test_child_and_parent_give_out_no_id_twice(hooks: str) -> None:
    lines = Prelude(IN_MEMORY).run(
        """
        job.later("before")
        parent_ends, child_ends = os.pipe()

        def defer():
            os.write(child_ends, job.later("child").id.encode() + b" ")

        fork(defer)
        defer()
        say(len(set(os.read(parent_ends, 1000).split())))
        """,
        hooks=hooks,
    )

    assert lines == ["2"]
