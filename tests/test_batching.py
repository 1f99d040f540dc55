"""Single calls that travel together, and pops that share the broker's answers."""

import asyncio
from collections.abc import Sequence

import pytest

from deferrable.aio._contract.batching import Batcher
from deferrable.aio._contract.popping import Popped, Popper
from deferrable.aio.envelope import Envelope
from deferrable.errors import BackendError, BackendUnavailable
from deferrable.testing import wait_until

pytestmark = pytest.mark.anyio


class Broker:
    """Takes batches at once, or, when it holds them, one for each that is let through."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.done: list[int] = []
        self.tasks: list[asyncio.Task[object] | None] = []
        self.refused: dict[int, Exception] = {}
        self.failures: dict[int, BaseException] = {}
        self._permits: asyncio.Semaphore | None = None

    def hold(self) -> None:
        self._permits = asyncio.Semaphore(0)

    def let(self, count: int = 100) -> None:
        assert self._permits is not None
        for _ in range(count):
            self._permits.release()

    async def perform(self, entries: Sequence[int]) -> Sequence[Exception | None]:
        number = len(self.batches)
        self.batches.append(list(entries))
        self.tasks.append(asyncio.current_task())
        if self._permits is not None:
            await self._permits.acquire()
        if number in self.failures:
            raise self.failures[number]
        self.done.extend(entry for entry in entries if entry not in self.refused)
        return [self.refused.get(entry) for entry in entries]


@pytest.fixture
async def broker() -> Broker:
    return Broker()


@pytest.fixture
def batcher(broker: Broker) -> Batcher[int]:
    return Batcher(broker.perform, max_size=3)


async def pile_up(
    broker: Broker, batcher: Batcher[int], entries: Sequence[int]
) -> list[asyncio.Task[None]]:
    """The first entry is under way and held, the others wait for it."""
    broker.hold()
    tasks = [asyncio.create_task(batcher(entry)) for entry in entries]
    await wait_until(lambda: broker.batches, "the first entry is under way")
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def outcomes(tasks: Sequence[asyncio.Task[None]]) -> list[type]:
    results = await asyncio.gather(*tasks, return_exceptions=True)
    return [type(result) for result in results]


async def test_a_lone_call_goes_out_at_once_in_its_callers_own_task(
    broker: Broker, batcher: Batcher[int]
) -> None:
    await batcher(1)

    assert broker.batches == [[1]]
    assert broker.tasks == [asyncio.current_task()]


async def test_calls_one_after_another_are_alone_each_time(
    broker: Broker, batcher: Batcher[int]
) -> None:
    for entry in range(3):
        await batcher(entry)

    assert broker.batches == [[0], [1], [2]]
    assert set(broker.tasks) == {asyncio.current_task()}


async def test_what_piles_up_goes_together_in_order_up_to_the_maximum(
    broker: Broker, batcher: Batcher[int]
) -> None:
    tasks = await pile_up(broker, batcher, range(8))

    broker.let()
    await asyncio.gather(*tasks)

    assert broker.batches == [[0], [1, 2, 3], [4, 5, 6], [7]]


async def test_what_arrives_while_a_batch_is_under_way_goes_with_the_next(
    broker: Broker, batcher: Batcher[int]
) -> None:
    tasks = await pile_up(broker, batcher, range(2))
    broker.let(1)
    await tasks[0]
    await wait_until(lambda: len(broker.batches) == 2, "the second batch is under way")

    late = [asyncio.ensure_future(batcher(entry)) for entry in (2, 3)]
    await asyncio.sleep(0)
    broker.let()
    await asyncio.gather(*tasks, *late)

    assert broker.batches == [[0], [1], [2, 3]]


async def test_a_failure_reaches_exactly_its_caller(broker: Broker, batcher: Batcher[int]) -> None:
    broker.refused[2] = BackendError("2 is refused")
    tasks = await pile_up(broker, batcher, range(4))

    broker.let()

    assert await outcomes(tasks) == [type(None), type(None), BackendError, type(None)]
    assert broker.done == [0, 1, 3]


async def test_the_failure_of_a_whole_batch_reaches_all_of_its_callers_and_no_others(
    broker: Broker, batcher: Batcher[int]
) -> None:
    broker.failures[1] = BackendUnavailable("gone")
    tasks = await pile_up(broker, batcher, range(5))

    broker.let()

    assert await outcomes(tasks) == [type(None), *[BackendUnavailable] * 3, type(None)]


async def test_a_first_call_that_fails_lets_the_others_go_on(
    broker: Broker, batcher: Batcher[int]
) -> None:
    broker.failures[0] = BackendUnavailable("gone")
    tasks = await pile_up(broker, batcher, range(3))

    broker.let()

    assert await outcomes(tasks) == [BackendUnavailable, type(None), type(None)]


async def test_a_hook_that_answers_for_too_few_entries_is_at_fault(broker: Broker) -> None:
    async def perform(entries: Sequence[int]) -> Sequence[Exception | None]:
        return []

    with pytest.raises(BackendError, match="0 outcomes for 1 entries"):
        await Batcher(perform, 3)(1)


async def test_a_caller_cancelled_before_its_entry_left_takes_it_along(
    broker: Broker, batcher: Batcher[int]
) -> None:
    tasks = await pile_up(broker, batcher, range(3))

    tasks[1].cancel()
    await asyncio.sleep(0)
    broker.let()

    assert await outcomes(tasks) == [type(None), asyncio.CancelledError, type(None)]
    assert broker.batches == [[0], [2]]


async def test_a_caller_cancelled_after_its_entry_left_cancels_nobody_else(
    broker: Broker, batcher: Batcher[int]
) -> None:
    tasks = await pile_up(broker, batcher, range(3))
    broker.let(1)
    await tasks[0]
    await wait_until(lambda: len(broker.batches) == 2, "the second batch is under way")

    tasks[1].cancel()
    await asyncio.sleep(0)
    broker.let()

    assert await outcomes(tasks) == [type(None), asyncio.CancelledError, type(None)]
    assert broker.done == [0, 1, 2]


async def test_a_first_caller_that_is_cancelled_lets_the_others_go_on(
    broker: Broker, batcher: Batcher[int]
) -> None:
    tasks = await pile_up(broker, batcher, range(3))

    tasks[0].cancel()
    await asyncio.sleep(0)
    broker.let()

    assert await outcomes(tasks) == [asyncio.CancelledError, type(None), type(None)]


async def test_nobody_is_left_waiting_when_the_batches_are_cancelled_with_their_loop(
    broker: Broker, batcher: Batcher[int]
) -> None:
    tasks = await pile_up(broker, batcher, range(6))
    broker.let(1)
    await tasks[0]
    await wait_until(lambda: len(broker.batches) == 2, "the second batch is under way")

    flusher = broker.tasks[1]
    assert flusher is not None
    flusher.cancel()
    _, waiting = await asyncio.wait(tasks, timeout=30)

    assert waiting == set()
    assert await outcomes(tasks) == [type(None), *[asyncio.CancelledError] * 5]
    broker.let()
    await batcher(9)


async def test_the_batcher_goes_on_after_everything(broker: Broker, batcher: Batcher[int]) -> None:
    broker.failures[0] = BackendUnavailable("gone")
    broker.failures[1] = BackendUnavailable("gone")
    tasks = await pile_up(broker, batcher, range(3))
    broker.let()
    await outcomes(tasks)

    await batcher(9)

    assert broker.batches[-1] == [9]


class Store:
    """A broker to pop from: what is in `items` comes, what is not is waited for."""

    def __init__(self) -> None:
        self.items: list[int] = []
        self.asked: list[int] = []
        self.released: list[int] = []
        self.failure: Exception | None = None
        self.changed = asyncio.Event()
        self.is_interrupted = False

    async def pop(self, count: int) -> Sequence[Popped]:
        self.asked.append(count)
        while not self.items and self.failure is None and not self.is_interrupted:
            self.changed.clear()
            await self.changed.wait()
        self.is_interrupted = False
        if self.failure is not None:
            raise self.failure
        taken, self.items = self.items[:count], self.items[count:]
        return [(Envelope(number, 0, 0), {"number": number}) for number in taken]

    async def release(self, envelopes: Sequence[Envelope]) -> None:
        self.released.extend(envelope.handle for envelope in envelopes)  # type: ignore[misc]

    def interrupt(self) -> None:
        self.is_interrupted = True
        self.changed.set()

    def arrive(self, *numbers: int) -> None:
        self.items.extend(numbers)
        self.changed.set()

    def fail(self, failure: Exception) -> None:
        self.failure = failure
        self.changed.set()


@pytest.fixture
async def store() -> Store:
    return Store()


@pytest.fixture
def popper(store: Store) -> Popper:
    return Popper(store.pop, store.release, store.interrupt, max_size=5)


def found(popped: Sequence[Popped]) -> list[int]:
    return [item["number"] for _, item in popped]


async def waiting_pops(
    store: Store, popper: Popper, *counts: int
) -> list[asyncio.Task[list[Popped]]]:
    """Pops that were begun while nothing is there; the first one's count was asked for alone."""
    tasks = [asyncio.create_task(popper(counts[0]))]
    await wait_until(lambda: store.asked, "the broker was asked")
    tasks += [asyncio.create_task(popper(count)) for count in counts[1:]]
    await asyncio.sleep(0)
    return tasks


async def test_a_pop_gives_what_the_broker_gives(store: Store, popper: Popper) -> None:
    store.arrive(1, 2, 3)

    assert found(await popper(2)) == [1, 2]
    assert store.asked == [2]


async def test_pops_made_at_once_ask_the_broker_once(store: Store, popper: Popper) -> None:
    store.arrive(1, 2, 3)

    popped = await asyncio.gather(popper(1), popper(1), popper(1))

    assert [found(each) for each in popped] == [[1], [2], [3]]
    assert store.asked == [3]


async def test_the_broker_is_never_asked_for_more_than_its_maximum(
    store: Store, popper: Popper
) -> None:
    store.arrive(*range(8))

    popped = await asyncio.gather(*(popper(1) for _ in range(8)))

    assert [found(each) for each in popped] == [[number] for number in range(8)]
    assert store.asked == [5, 3]


async def test_who_came_first_is_served_first(store: Store, popper: Popper) -> None:
    tasks = await waiting_pops(store, popper, 1, 2, 3)

    store.arrive(1, 2, 3, 4)

    assert [found(await task) for task in tasks] == [[1], [2, 3], [4]]


async def test_a_wait_that_ended_without_items_sends_away_who_waited(
    store: Store, popper: Popper
) -> None:
    tasks = await waiting_pops(store, popper, 1)

    store.interrupt()

    assert await tasks[0] == []


async def test_a_failure_reaches_all_who_wait(store: Store, popper: Popper) -> None:
    tasks = await waiting_pops(store, popper, 1, 1)

    store.fail(BackendUnavailable("gone"))
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(result) for result in results] == [BackendUnavailable] * 2


async def test_pops_go_on_after_a_failure(store: Store, popper: Popper) -> None:
    tasks = await waiting_pops(store, popper, 1)
    store.fail(BackendUnavailable("gone"))
    await asyncio.gather(*tasks, return_exceptions=True)

    store.failure = None
    store.arrive(1)

    assert found(await popper(1)) == [1]


async def test_the_last_who_gives_up_ends_the_wait(store: Store, popper: Popper) -> None:
    (task,) = await waiting_pops(store, popper, 1)

    task.cancel()
    await asyncio.wait([task], timeout=30)

    assert task.cancelled()
    assert store.released == []


async def test_one_who_gives_up_leaves_the_others_waiting(store: Store, popper: Popper) -> None:
    first, second = await waiting_pops(store, popper, 1, 1)

    first.cancel()
    await asyncio.wait([first], timeout=30)
    store.arrive(1)

    assert found(await second) == [1]
    assert store.released == []


async def test_what_came_for_nobody_is_given_back(store: Store, popper: Popper) -> None:
    (task,) = await waiting_pops(store, popper, 3)

    store.arrive(1, 2, 3)
    task.cancel()
    await asyncio.wait([task], timeout=30)

    assert task.cancelled()
    assert store.released == [1, 2, 3]


async def test_what_came_for_one_who_gave_up_goes_to_the_next(store: Store, popper: Popper) -> None:
    first, second = await waiting_pops(store, popper, 1, 1)

    store.arrive(1)
    first.cancel()

    assert found(await second) == [1]
    assert store.released == []


async def test_who_is_cancelled_in_the_very_pass_it_was_served_gives_back(
    store: Store, popper: Popper
) -> None:
    (task,) = await waiting_pops(store, popper, 1)

    # Both run in the next pass, in this order; only then does the task get its result.
    store.arrive(1)
    asyncio.get_running_loop().call_soon(task.cancel)

    await asyncio.wait([task], timeout=30)

    assert task.cancelled()
    assert store.released == [1]


@pytest.mark.parametrize("passes", range(8))
async def test_a_cancelled_pop_is_cancelled_or_served_and_loses_nothing(
    store: Store, popper: Popper, passes: int
) -> None:
    store.arrive(1, 2, 3)
    task = asyncio.create_task(popper(2))
    for _ in range(passes):
        await asyncio.sleep(0)

    task.cancel()
    await asyncio.wait([task], timeout=30)

    served = [] if task.cancelled() else found(task.result())
    assert sorted(served + store.released + store.items) == [1, 2, 3]


async def test_nobody_is_left_waiting_when_the_pop_is_cancelled_with_its_loop(
    store: Store, popper: Popper
) -> None:
    tasks = await waiting_pops(store, popper, 1, 1)

    assert popper._popping is not None
    popper._popping.cancel()
    _, waiting = await asyncio.wait(tasks, timeout=30)

    assert waiting == set()
    assert all(task.cancelled() for task in tasks)
