"""One resource for each event loop: made on its loop, used on its loop, closed on its loop."""

import asyncio
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncGenerator, Iterator

import pytest
from processes import DEADLINE_SECONDS

from deferrable.aio._contract import loops as _loops
from deferrable.aio._contract.loops import PerLoop
from deferrable.errors import WrongApi

pytestmark = pytest.mark.anyio


class Resource:
    """Remembers the loop that it was closed on."""

    def __init__(self) -> None:
        self.closed_on: asyncio.AbstractEventLoop | None = None


class Opener:
    """Knows every resource that it opened, and those that were abandoned."""

    def __init__(self) -> None:
        self.opened: list[Resource] = []
        self.abandoned: list[Resource] = []

    async def open(self) -> AsyncGenerator[Resource, None]:
        resource = Resource()
        self.opened.append(resource)
        try:
            yield resource
        finally:
            await asyncio.sleep(0)
            resource.closed_on = asyncio.get_running_loop()


class Other:
    """Another event loop, which runs in its own thread until the test is over."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    async def get(self, per_loop: PerLoop[Resource]) -> Resource:
        async def get() -> Resource:
            return per_loop.get()

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(get(), self.loop))

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def close(self) -> None:
        if self.loop.is_running():
            self.stop()
        if not self.loop.is_closed():
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()


@pytest.fixture
def opener() -> Opener:
    return Opener()


@pytest.fixture
def per_loop(opener: Opener) -> PerLoop[Resource]:
    return PerLoop(opener.open, opener.abandoned.append)


@pytest.fixture
def other() -> Iterator[Other]:
    other = Other()
    yield other
    other.close()


async def test_a_loop_gets_the_same_resource_each_time(per_loop: PerLoop[Resource]) -> None:
    assert per_loop.get() is per_loop.get()


async def test_two_loops_get_a_resource_each(per_loop: PerLoop[Resource], other: Other) -> None:
    mine, others = per_loop.get(), await other.get(per_loop)

    assert mine is not others
    assert per_loop.get() is mine
    assert await other.get(per_loop) is others


def test_there_is_no_resource_without_a_loop(per_loop: PerLoop[Resource]) -> None:
    with pytest.raises(WrongApi, match="no asyncio event loop runs here"):
        per_loop.get()


def test_asyncio_run_closes_the_resource_on_its_loop(per_loop: PerLoop[Resource]) -> None:
    async def use() -> tuple[Resource, asyncio.AbstractEventLoop]:
        return per_loop.get(), asyncio.get_running_loop()

    resource, loop = asyncio.run(use())

    assert resource.closed_on is loop


def test_twenty_loops_in_a_row_leave_nothing_open(
    per_loop: PerLoop[Resource], opener: Opener
) -> None:
    async def use() -> None:
        per_loop.get()

    for _ in range(20):
        asyncio.run(use())

    assert len(opener.opened) == 20
    assert all(resource.closed_on is not None for resource in opener.opened)
    assert opener.abandoned == []


async def test_the_resource_of_a_loop_that_was_just_closed_is_swept_on_the_next_use(
    per_loop: PerLoop[Resource], opener: Opener, other: Other
) -> None:
    resource = await other.get(per_loop)
    other.stop()
    other.loop.close()

    per_loop.get()

    assert opener.abandoned == [resource]
    assert resource.closed_on is None


async def test_a_loop_with_the_id_of_a_former_one_gets_a_resource_of_its_own(
    per_loop: PerLoop[Resource], other: Other
) -> None:
    others = await other.get(per_loop)
    here = asyncio.get_running_loop()
    per_loop._entries[id(here)] = per_loop._entries.pop(id(other.loop))

    assert per_loop.get() is not others


async def test_close_closes_each_resource_on_its_own_loop(
    per_loop: PerLoop[Resource], other: Other
) -> None:
    mine, others = per_loop.get(), await other.get(per_loop)

    await per_loop.close()

    assert mine.closed_on is asyncio.get_running_loop()
    assert others.closed_on is other.loop


async def test_close_leaves_the_resource_of_a_loop_that_stands_still_to_that_loop(
    per_loop: PerLoop[Resource], opener: Opener, other: Other
) -> None:
    resource = await other.get(per_loop)
    other.stop()

    await per_loop.close()
    before = resource.closed_on
    await asyncio.to_thread(other.close)

    assert (before, resource.closed_on) == (None, other.loop)
    assert opener.abandoned == []


async def test_close_does_not_wait_for_a_loop_that_waits_for_it(
    per_loop: PerLoop[Resource], other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_loops, "_PATIENCE_SECONDS", 0.01)
    resource = await other.get(per_loop)
    is_closed = threading.Event()
    other.loop.call_soon_threadsafe(is_closed.wait)

    try:
        await per_loop.close()
        before = resource.closed_on
    finally:
        is_closed.set()
    await asyncio.to_thread(other.close)

    assert (before, resource.closed_on) == (None, other.loop)


async def test_close_twice_is_harmless_and_the_next_use_opens_again(
    per_loop: PerLoop[Resource],
) -> None:
    before = per_loop.get()

    await per_loop.close()
    await per_loop.close()

    assert per_loop.get() is not before


async def test_a_resource_that_is_not_opened_lazily_is_refused() -> None:
    async def open_eagerly() -> AsyncGenerator[Resource, None]:
        await asyncio.sleep(0)
        yield Resource()

    with pytest.raises(RuntimeError, match="lazily"):
        PerLoop(open_eagerly).get()


def test_a_forked_child_neither_uses_nor_closes_what_it_inherits() -> None:
    script = """
        import asyncio, gc, os
        from deferrable.aio._contract.loops import PerLoop

        closed = []

        async def open_resource():
            try:
                yield object()
            finally:
                closed.append(os.getpid())

        per_loop = PerLoop(open_resource)

        async def use():
            return id(per_loop.get())

        async def fork():
            before = await use()
            child = os.fork()
            if child:
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            inherited = not per_loop._lock.locked() and not per_loop._entries
            gc.collect()
            os._exit(0 if inherited and not closed else 1)

        print(asyncio.run(fork()), len(closed))
    """

    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )

    assert (run.stdout.split(), run.stderr) == (["0", "1"], "")
