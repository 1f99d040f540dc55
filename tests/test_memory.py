"""The in-memory backend: the conformance suite, and what is special to it."""

import asyncio
import json
import math
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import DEADLINE_SECONDS

from deferrable.aio.backend import memory
from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.memory import InMemoryBackendFactory, InMemoryQueue
from deferrable.aio.backend.memory._store import Now, StoredItem
from deferrable.aio.queue import Item, Queue
from deferrable.errors import InvalidOptions, LeaseLost, UnreadableItem
from deferrable.testing import (
    MovingClock,
    QueueConformance,
    WaitingQueueConformance,
    wait_until,
)


class InMemory:
    timeout: float | None = None

    @pytest.fixture(autouse=True)
    def factory(self, clock: MovingClock) -> None:
        self.made = InMemoryBackendFactory(timeout=self.timeout, clock=clock)

    def make_backend(self, clock: MovingClock) -> Backend:
        return self.made.create_backend_for_group(None)


class TestInMemoryQueue(InMemory, QueueConformance):
    pass


class TestWaitingInMemoryQueue(InMemory, WaitingQueueConformance):
    timeout = 3


pytestmark = pytest.mark.anyio

FOREVER = 1e9


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture
def backend(clock: MovingClock) -> Backend:
    return InMemoryBackendFactory(clock=clock).create_backend_for_group(None)


@pytest.fixture
def waiting(clock: MovingClock) -> Backend:
    """A backend whose pops wait forever."""
    return InMemoryBackendFactory(FOREVER, clock=clock).create_backend_for_group(None)


def item(number: int) -> Item:
    return {"number": number}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=()), max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(JSON)
def test_any_value_is_popped_as_it_was_pushed(value: object) -> None:
    queue = InMemoryBackendFactory().create_backend_for_group(None).queue

    async def there_and_back() -> Item | None:
        await queue.push({"value": value})
        return (await queue.pop())[1]

    assert json.dumps(asyncio.run(there_and_back())) == json.dumps({"value": value})


async def test_backends_of_one_factory_and_group_are_consumers_of_the_same_items() -> None:
    factory = InMemoryBackendFactory()
    producer, consumer = (factory.create_backend_for_group("a") for _ in range(2))

    await producer.queue.push(item(1))

    assert (await consumer.queue.pop())[1] == item(1)


async def test_waiting_for_items_ends_with_a_push(backend: Backend) -> None:
    waiting = asyncio.create_task(backend.queue.wait_for_items(FOREVER))
    await asyncio.sleep(0)

    await backend.queue.push(item(1))

    await wait_until(waiting.done, "the wait ended")
    await waiting
    assert (await backend.queue.pop())[1] == item(1)


async def test_items_that_are_there_are_not_waited_for(backend: Backend) -> None:
    await backend.queue.push(item(1))

    await asyncio.wait_for(backend.queue.wait_for_items(FOREVER), 30)


async def test_groups_and_factories_are_apart() -> None:
    factory = InMemoryBackendFactory()
    await factory.create_backend_for_group("a").queue.push(item(1))

    other_group = factory.create_backend_for_group("b")
    other_factory = InMemoryBackendFactory().create_backend_for_group("a")

    assert await other_group.queue.pop() == (None, None)
    assert await other_factory.queue.pop() == (None, None)


@pytest.mark.parametrize(
    "options", [{"timeout": -1}, {"visibility_timeout": 0}, {"max_redeliveries": -1}]
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptions, match=next(iter(options))):
        InMemoryBackendFactory(**options)


async def test_items_given_back_one_by_one_are_in_their_old_order_whatever_the_order(
    backend: Backend,
) -> None:
    await backend.queue.push_batch([item(number) for number in range(5)])
    popped = await backend.queue.pop_batch(4)

    for index in (2, 0, 3, 1):
        await backend.queue.release(popped[index][0])

    assert [each for _, each in await backend.queue.pop_batch(5)] == [item(n) for n in range(5)]


async def test_the_new_item_of_a_stale_holder_is_never_pushed(
    backend: Backend, clock: MovingClock
) -> None:
    await backend.queue.push(item(1))
    ((stale, _),) = await backend.queue.pop_batch(1)
    clock.advance(backend.queue.lease_seconds)
    stale.lease_end_time = math.inf

    for target in (backend.queue, backend.error_queue):
        with pytest.raises(LeaseLost):
            await backend.queue.replace(stale, item(2), target)

    assert [each for _, each in await backend.queue.pop_batch(5)] == [item(1)]
    assert await backend.error_queue.pop() == (None, None)


async def test_an_item_of_another_factory_is_replaced_in_two_steps(backend: Backend) -> None:
    elsewhere = InMemoryBackendFactory().create_backend_for_group(None)
    await backend.queue.push(item(1))
    ((envelope, _),) = await backend.queue.pop_batch(1)

    await backend.queue.replace(envelope, item(2), elsewhere.queue)

    assert (await elsewhere.queue.pop())[1] == item(2)
    assert (await backend.queue.stats())["in_flight"] == 0


async def test_an_item_that_cannot_be_read_goes_to_the_error_queue_and_stops_nobody(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_item(text: str) -> Item:
        if "1" in text:
            raise UnreadableItem("nested too deep")
        loaded: Item = json.loads(text)
        return loaded

    for room in ("_queue", "_store"):
        monkeypatch.setattr(f"deferrable.aio.backend.memory.{room}.load_item", load_item)
    await backend.queue.push_batch([item(1), item(2)])

    popped = await backend.queue.pop_batch(2)
    monkeypatch.undo()
    (_, buried) = await backend.error_queue.pop()

    assert [each for _, each in popped] == [item(2)]
    assert buried is not None
    assert json.loads(buried["raw"]) == item(1)
    assert buried["error"]["error_type"] == "UnreadableItem"


async def test_settled_leases_do_not_pile_up_behind_one_that_is_held(backend: Backend) -> None:
    await backend.queue.push(item(0))
    await backend.queue.pop()

    for number in range(3000):
        await backend.queue.push(item(number))
        ((envelope, _),) = await backend.queue.pop_batch(1)
        await backend.queue.complete(envelope)

    assert isinstance(backend.queue, memory.InMemoryQueue)
    assert len(backend.queue.store._lease_ends) <= 1003


async def start_waiting(queue: Queue, clock: MovingClock) -> "asyncio.Task[Any]":
    already = clock.pending
    popping = asyncio.create_task(queue.pop())
    await wait_until(lambda: clock.pending > already, "the pop waits")
    return popping


async def test_a_push_from_another_loop_wakes_a_waiting_pop_while_time_stands_still(
    waiting: Backend, clock: MovingClock
) -> None:
    popping = await start_waiting(waiting.queue, clock)

    await asyncio.to_thread(asyncio.run, waiting.queue.push(item(1)))

    assert (await asyncio.wait_for(popping, 30))[1] == item(1)


async def test_a_waiting_pop_leaves_no_timer_behind(waiting: Backend, clock: MovingClock) -> None:
    popping = await start_waiting(waiting.queue, clock)

    await waiting.queue.push(item(1))
    await asyncio.wait_for(popping, 30)

    assert clock.pending == 0


async def test_a_waiting_pop_wakes_in_time_for_a_delay_that_came_after_it(
    waiting: Backend, clock: MovingClock
) -> None:
    popping = await start_waiting(waiting.queue, clock)
    await waiting.queue.push({**item(2), "delay": 20})
    await waiting.queue.push({**item(1), "delay": 10})
    for _ in range(5):
        await asyncio.sleep(0)

    clock.advance(10)

    assert (await asyncio.wait_for(popping, 30))[1] == {**item(1), "delay": 10}


async def test_a_waiting_pop_of_the_error_queue_gets_what_is_buried(clock: MovingClock) -> None:
    factory = InMemoryBackendFactory(FOREVER, max_redeliveries=0, clock=clock)
    backend = factory.create_backend_for_group(None)
    await backend.queue.push(item(1))
    await backend.queue.pop()
    popping = await start_waiting(backend.error_queue, clock)

    clock.advance(backend.queue.lease_seconds)

    buried = (await asyncio.wait_for(popping, 30))[1]
    assert buried["number"] == 1
    assert buried["error"]["error_type"] == "TooManyDeliveries"


async def test_closing_ends_the_waiting_pops_of_its_own_consumer_on_every_loop(
    waiting: Backend, clock: MovingClock
) -> None:
    here = await start_waiting(waiting.queue, clock)
    elsewhere = asyncio.create_task(asyncio.to_thread(asyncio.run, waiting.queue.pop()))
    await wait_until(lambda: clock.pending == 2, "both pops wait")

    await waiting.queue.close()

    assert await asyncio.wait_for(here, 30) == (None, None)
    assert await asyncio.wait_for(elsewhere, 30) == (None, None)


async def test_closing_one_consumer_leaves_another_waiting(clock: MovingClock) -> None:
    factory = InMemoryBackendFactory(FOREVER, clock=clock)
    one, other = (factory.create_backend_for_group(None).queue for _ in range(2))
    popping = await start_waiting(other, clock)

    await one.close()
    for _ in range(5):
        await asyncio.sleep(0)
    await other.push(item(1))

    assert (await asyncio.wait_for(popping, 30))[1] == item(1)


async def test_giving_up_on_one_loop_leaves_another_loop_waiting(
    waiting: Backend, clock: MovingClock
) -> None:
    here = await start_waiting(waiting.queue, clock)
    elsewhere = asyncio.create_task(asyncio.to_thread(asyncio.run, waiting.queue.pop()))
    await wait_until(lambda: clock.pending == 2, "both pops wait")

    here.cancel()
    await asyncio.wait([here], timeout=30)

    assert isinstance(waiting.queue, memory.InMemoryQueue)
    assert [waiter.is_interrupted for waiter in waiting.queue._group.waiters] == [False]
    await waiting.queue.push(item(1))
    assert (await asyncio.wait_for(elsewhere, 30))[1] == item(1)


async def test_many_threads_with_a_loop_each_lose_nothing_and_run_nothing_twice() -> None:
    queue = InMemoryBackendFactory().create_backend_for_group(None).queue
    start = threading.Barrier(4)
    completed: list[int] = []

    async def work(worker: int) -> None:
        for number in range(100):
            await queue.push(item(worker * 100 + number))
            ((envelope, popped),) = await queue.pop_batch(1)
            if number % 3:
                await queue.complete(envelope)
                completed.append(popped["number"])
            else:
                await queue.release(envelope)

    def run(worker: int) -> None:
        start.wait(30)
        asyncio.run(work(worker))

    await asyncio.gather(*(asyncio.to_thread(run, worker) for worker in range(4)))
    rest = [popped["number"] for _, popped in await queue.pop_batch(1000)]

    assert sorted([*completed, *rest]) == list(range(400))


def test_a_forked_child_has_a_copy_of_its_own() -> None:
    script = """
        import asyncio, os
        from deferrable.aio.backend.memory import InMemoryBackendFactory

        queue = InMemoryBackendFactory().create_backend_for_group(None).queue
        asyncio.run(queue.push_batch([{"number": 1}, {"number": 2}]))

        queue._group.lock.acquire()  # as another thread would at that moment
        child = os.fork()
        if child:
            queue._group.lock.release()
            status = os.waitpid(child, 0)[1]
        popped = asyncio.run(queue.pop_batch(5))
        assert [item["number"] for _, item in popped] == [1, 2]
        if not child:
            os._exit(0)
        print(os.waitstatus_to_exitcode(status))
    """

    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )

    assert (run.stdout.strip(), run.stderr) == ("0", "")


@pytest.mark.anyio
@pytest.mark.parametrize("depth", [300, 900, 985, 995, 2000, 9000, 100_000])
async def test_an_item_however_deep_that_kills_its_consumers_is_buried(depth: int) -> None:
    clock = MovingClock()
    factory = InMemoryBackendFactory(max_redeliveries=0, clock=clock)
    backend = factory.create_backend_for_group(None)
    queue = backend.queue
    assert isinstance(queue, InMemoryQueue)
    now = Now(clock.time(), clock.monotonic())
    queue.store.push(StoredItem('{"args":' + "[" * depth + "]" * depth + "}", now.time), now, 0)
    queue.store.pop(1, now)

    clock.advance(1000)
    envelope, _ = await backend.error_queue.pop()

    assert await queue.stats() == {"available": 0, "in_flight": 0, "delayed": 0}
    assert envelope is not None


@pytest.mark.anyio
@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf")])
async def test_a_release_after_no_number_of_seconds_is_refused_and_the_item_kept(
    delay: float,
) -> None:
    queue = InMemoryBackendFactory().create_backend_for_group("refused releases").queue
    await queue.push({"number": 1})
    envelope, _ = await queue.pop()
    assert envelope is not None

    with pytest.raises(ValueError, match="delay_seconds must be a number of seconds of at least 0"):
        await queue.release(envelope, delay)

    assert (await queue.stats())["in_flight"] == 1
