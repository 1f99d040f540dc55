"""Each way to defer and to run, with each kind of job and broker: the call is run once.

{producer} x {API of the instance} x {plain, async job} x {API of the consumer} x {backend}. Where a
blocking call would wait for itself, an error names what to await. Also: one client for each event
loop, and no socket is left open.
"""

import asyncio
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import pytest
from faces import FaceName, Kind, as_kind
from processes import run_program
from redis_server import unique_group

import deferrable
import deferrable.aio
import deferrable.aio.backend
from deferrable import CalledFromEventLoop
from deferrable.aio.backend.base import Backend
from deferrable.testing import wait_until

BackendName = Literal["in memory", "dockets"]


class World:
    """A backend, an instance of one API with a job, and a consumer of another API.

    Attributes:
        ran: the arguments of the calls that were run, in order.
    """

    def __init__(self, backend: Backend, owner: FaceName, kind: Kind, consumer: FaceName) -> None:
        self.backend = backend
        self.ran: list[str] = []
        self.job = self._instance(owner).deferrable(name="job")(as_kind(kind, self.ran.append))
        self.consumer = self._instance(consumer)
        self.consumer.deferrable(name="job")(as_kind(kind, self.ran.append))
        self._consumer_face = consumer

    def _instance(self, face: FaceName) -> Any:
        if face == "blocking":
            return deferrable.Deferrable(self.backend)
        return deferrable.aio.Deferrable(self.backend)

    def other_job(self, name: str, function: Callable[..., Any]) -> Any:
        """Another job that the consumer runs."""
        return self.consumer.deferrable(name=name)(function)

    def consume(self) -> None:
        """Run all items in the consumer's API, called from a thread without a loop."""
        while self.run_once() is not None:
            pass

    def run_once(self) -> Any:
        if self._consumer_face == "blocking":
            return self.consumer.run_once()
        return asyncio.run(self.consumer.run_once())

    @property
    def runs_async_on_portal(self) -> bool:
        return self._consumer_face == "blocking"


@pytest.fixture(params=["in memory", "dockets"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    made = make_backend(request.param, request)
    yield made
    blocking = deferrable.Backend(made)
    blocking.queue.flush()
    blocking.close()


def make_backend(name: BackendName, request: pytest.FixtureRequest) -> Backend:
    if name == "in memory":
        factory: Any = deferrable.aio.backend.InMemoryBackendFactory()
    else:
        url = request.getfixturevalue("redis_url")
        factory = deferrable.aio.backend.DocketsBackendFactory(url, wait_time=0)
    made: Backend = factory.create_backend_for_group(unique_group())
    return made


@pytest.fixture(params=["blocking", "awaiting"])
def owner(request: pytest.FixtureRequest) -> FaceName:
    """The API of the instance that the job belongs to."""
    value: FaceName = request.param
    return value


@pytest.fixture(params=["blocking", "awaiting"])
def consumer(request: pytest.FixtureRequest) -> FaceName:
    value: FaceName = request.param
    return value


@pytest.fixture
def world(backend: Backend, owner: FaceName, kind: Kind, consumer: FaceName) -> World:
    return World(backend, owner, kind, consumer)


# Producers: each defers "a", or "a" and "b".


def from_a_plain_thread(world: World) -> None:
    thread = threading.Thread(target=lambda: world.job.later("a"))
    thread.start()
    thread.join()


def from_the_main_thread(world: World) -> None:
    world.job.later("a")


def from_a_thread_pool(world: World) -> None:
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(world.job.later, ["a", "b"]))


def inside_a_running_loop(world: World) -> None:
    async def cell_of_a_notebook() -> None:
        world.job.later("a")

    asyncio.run(cell_of_a_notebook())


def inside_a_running_loop_awaited(world: World) -> None:
    asyncio.run(world.job.later_async("a"))


def both_ways_inside_one_loop(world: World) -> None:
    async def both() -> None:
        await world.job.later_async("a")
        world.job.later("b")

    asyncio.run(both())


def in_a_thread_of_a_running_loop(world: World) -> None:
    asyncio.run(asyncio.to_thread(world.job.later, "a"))


def on_two_loops_at_once(world: World) -> None:
    both_run = threading.Barrier(2)

    async def defer(name: str) -> None:
        both_run.wait(30)
        await world.job.later_async(name)
        both_run.wait(30)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda name: asyncio.run(defer(name)), ["a", "b"]))


def on_a_new_loop_after_the_first_was_closed(world: World) -> None:
    asyncio.run(world.job.later_async("a"))
    asyncio.run(world.job.later_async("b"))


def on_a_new_loop_after_one_that_was_just_dropped(world: World) -> None:
    """Closed without shutting its async generators down, as old code does."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(world.job.later_async("a"))
    loop.close()
    asyncio.run(world.job.later_async("b"))


def inside_a_plain_job(world: World) -> None:
    outer = world.other_job("outer", lambda: world.job.later("a"))
    outer.later()


def inside_an_async_job(world: World) -> None:
    async def job() -> None:
        await world.job.later_async("a")

    world.other_job("outer", job).later()


def inside_a_plain_handler(world: World) -> None:
    class Handler:
        def on_complete(self, item: Any) -> None:
            world.consumer.clear_event_consumers()
            world.job.later("a")

    world.consumer.register_event_consumer(Handler())
    world.other_job("outer", lambda: None).later()


def inside_an_async_handler(world: World) -> None:
    class Handler:
        async def on_complete(self, item: Any) -> None:
            world.consumer.clear_event_consumers()
            await world.job.later_async("a")

    world.consumer.register_event_consumer(Handler())
    world.other_job("outer", lambda: None).later()


def inside_an_async_job_in_a_thread_of_it(world: World) -> None:
    async def job() -> None:
        await asyncio.to_thread(world.job.later, "a")

    world.other_job("outer", job).later()


PRODUCERS: dict[Callable[[World], None], list[str]] = {
    from_the_main_thread: ["a"],
    from_a_plain_thread: ["a"],
    from_a_thread_pool: ["a", "b"],
    inside_a_running_loop: ["a"],
    inside_a_running_loop_awaited: ["a"],
    both_ways_inside_one_loop: ["a", "b"],
    in_a_thread_of_a_running_loop: ["a"],
    on_two_loops_at_once: ["a", "b"],
    on_a_new_loop_after_the_first_was_closed: ["a", "b"],
    on_a_new_loop_after_one_that_was_just_dropped: ["a", "b"],
    inside_a_plain_job: ["a"],
    inside_an_async_job: ["a"],
    inside_a_plain_handler: ["a"],
    inside_an_async_handler: ["a"],
    inside_an_async_job_in_a_thread_of_it: ["a"],
}


@pytest.mark.parametrize("produce", PRODUCERS, ids=lambda producer: producer.__name__)
def test_call_deferred_from_anywhere_is_run_once(
    produce: Callable[[World], None], world: World
) -> None:
    produce(world)
    world.consume()

    assert sorted(world.ran) == PRODUCERS[produce]


@pytest.mark.parametrize("place", ["job", "handler"])
def test_blocking_call_in_async_code_works_unless_it_would_wait_for_itself(
    place: str, backend: Backend, owner: FaceName, consumer: FaceName
) -> None:
    """Only the portal's own thread, which runs a blocking consumer's async code, is refused."""
    world = World(backend, owner, "plain", consumer)
    refused: list[str] = []

    async def defer(*_: object) -> None:
        world.consumer.clear_event_consumers()
        try:
            world.job.later("a")
        except CalledFromEventLoop as error:
            refused.append(str(error))
            await world.job.later_async("a")

    if place == "job":
        world.other_job("outer", defer).later()
    else:
        handler = type("Handler", (), {"on_complete": lambda self, item: defer()})()
        world.consumer.register_event_consumer(handler)
        world.other_job("outer", lambda: None).later()
    world.consume()

    assert world.ran == ["a"]
    assert len(refused) == (1 if world.runs_async_on_portal else 0)
    assert all("use await append.later_async(...)" in message for message in refused)


def test_blocking_consumer_may_run_inside_a_running_loop(
    backend: Backend, owner: FaceName, kind: Kind
) -> None:
    world = World(backend, owner, kind, "blocking")

    async def cell_of_a_notebook() -> None:
        await world.job.later_async("a")
        world.consumer.run_once()
        assert world.consumer.backend.queue.stats()["available"] == 0

    asyncio.run(cell_of_a_notebook())

    assert world.ran == ["a"]


def test_two_loops_and_a_thread_share_the_items_of_one_queue(backend: Backend) -> None:
    instance = deferrable.aio.Deferrable(backend)
    blocking = deferrable.Deferrable(backend)
    ran: list[int] = []
    instance.deferrable(name="job")(ran.append)
    job = blocking.deferrable(name="job")(ran.append)
    job.later_many([(number,) for number in range(30)])

    async def consume() -> None:
        while await instance.run_once() is not None:
            pass

    def consume_blocking() -> None:
        while blocking.run_once() is not None:
            pass

    with ThreadPoolExecutor(3) as threads:
        work: list[Callable[[], object]] = [
            lambda: asyncio.run(consume()),
            lambda: asyncio.run(consume()),
            consume_blocking,
        ]
        for done in [threads.submit(function) for function in work]:
            done.result()

    assert sorted(ran) == list(range(30))


# Sockets.


@pytest.fixture
def dockets(redis_url: str) -> Iterator[Backend]:
    factory = deferrable.aio.backend.DocketsBackendFactory(redis_url, wait_time=0)
    made = factory.create_backend_for_group(unique_group())
    yield made
    deferrable.Backend(made).close()


def sockets() -> set[str]:
    """The open sockets of this process that lead somewhere; not the loops' own pairs."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            mode = os.stat(f"/proc/self/fd/{name}").st_mode
            link = os.readlink(f"/proc/self/fd/{name}")
            if stat.S_ISSOCK(mode) and _is_inet(int(name)):
                found.add(link)
        except OSError:  # closed meanwhile, as the listing's own
            continue
    return found


def _is_inet(descriptor: int) -> bool:
    with socket.socket(fileno=os.dup(descriptor)) as duplicate:
        return duplicate.family in (socket.AF_INET, socket.AF_INET6)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts sockets in /proc")
class TestSockets:
    def test_twenty_runs_of_asyncio_leave_no_socket(self, dockets: Backend) -> None:
        instance = deferrable.aio.Deferrable(dockets)
        job = instance.deferrable(name="job")(lambda: "ran")
        before = sockets()

        async def produce_and_consume() -> Any:
            await job.later_async()
            outcome = await instance.run_once()
            return outcome.result if outcome else None

        results = [asyncio.run(produce_and_consume()) for _ in range(20)]

        assert results == ["ran"] * 20
        assert sockets() == before

    def test_loops_that_were_just_dropped_are_swept_on_next_use(self, dockets: Backend) -> None:
        instance = deferrable.aio.Deferrable(dockets)
        job = instance.deferrable(name="job")(lambda: "ran")
        before = sockets()

        for _ in range(5):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(job.later_async())
            loop.close()
        asyncio.run(job.later_async())

        assert sockets() == before

    def test_closing_leaves_no_socket_of_any_loop(self, dockets: Backend) -> None:
        instance = deferrable.Deferrable(dockets)
        job = instance.deferrable(name="job")(lambda: "ran")
        before = sockets()

        async def on_two_loops() -> set[str]:
            await job.later_async()
            await asyncio.to_thread(job.later)
            await asyncio.to_thread(instance.run_once)
            opened = sockets() - before
            await asyncio.to_thread(instance.close)
            return opened

        opened = asyncio.run(on_two_loops())

        assert len(opened) >= 2
        assert sockets() == before

    def test_closing_inside_the_loop_that_has_a_client_neither_hangs_nor_leaves_it_open(
        self, dockets: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a notebook does: its loop's thread waits for the close, and cannot take part."""
        monkeypatch.setattr("deferrable.aio._contract.loops._PATIENCE_SECONDS", 60)
        instance = deferrable.Deferrable(dockets)
        job = instance.deferrable(name="job")(lambda: "ran")
        before = sockets()

        async def cell_of_a_notebook() -> None:
            await job.later_async()
            job.later()
            assert len(sockets() - before) == 2
            instance.close()
            await wait_until(lambda: sockets() == before, "the loop has closed its own client")

        asyncio.run(cell_of_a_notebook())

    def test_loop_that_ends_right_after_such_a_close_still_closes_its_client(
        self, redis_url: str
    ) -> None:
        lines = run_program(
            f"""
            import asyncio
            import deferrable, deferrable.backend
            import warnings
            warnings.simplefilter("ignore", deferrable.BlocksEventLoop)

            factory = deferrable.backend.DocketsBackendFactory({redis_url!r})
            instance = deferrable.Deferrable(factory.create_backend_for_group({unique_group()!r}))
            job = instance.deferrable(name="job")(lambda: None)

            async def main():
                await job.later_async()
                instance.backend.queue.flush()
                instance.close()

            asyncio.run(main())
            """
        )

        assert lines == []

    def test_each_loop_has_one_client_whatever_the_number_of_calls(self, dockets: Backend) -> None:
        job = deferrable.Deferrable(dockets).deferrable(name="job")(lambda: "ran")
        before = sockets()

        for _ in range(10):
            job.later()

        assert len(sockets() - before) == 1
