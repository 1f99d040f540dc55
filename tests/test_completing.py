"""What a worker completes together, and what happens when that fails."""

import asyncio
from collections.abc import Sequence

import pytest

import deferrable.aio
from deferrable.aio.backend import InMemoryBackendFactory
from deferrable.aio.backend.base import Backend
from deferrable.aio.envelope import Envelope
from deferrable.testing import FaultyQueue, wait_until

pytestmark = pytest.mark.anyio


class CountingQueue(FaultyQueue):
    """An in-memory queue that notes how many items each native complete had."""

    def __init__(self, gather_seconds: float = 0, max_size: int = 100) -> None:
        backend = InMemoryBackendFactory(timeout=0.05).create_backend_for_group("completing")
        super().__init__(backend.queue)
        self.error_queue = backend.error_queue
        self.COMPLETE_GATHER_SECONDS = gather_seconds
        self.MAX_COMPLETE_BATCH_SIZE = max_size
        self.sizes: list[int] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def _complete_batch(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        self.sizes.append(len(envelopes))
        await self.may_answer.wait()
        return await super()._complete_batch(envelopes)


def gathering_queue() -> CountingQueue:
    return CountingQueue(gather_seconds=60, max_size=3)


def make_instance(queue: CountingQueue) -> deferrable.aio.Deferrable:
    return deferrable.aio.Deferrable(Backend(None, queue, queue.error_queue))


async def test_what_ends_while_the_broker_is_busy_is_completed_in_one_call() -> None:
    queue = CountingQueue()
    instance = make_instance(queue)
    ended = []

    @instance.deferrable(name="note")
    async def note(number: int) -> None:
        ended.append(number)

    queue.may_answer.clear()
    await note.later_async(0)
    async with instance.worker(concurrency=20) as worker:
        await wait_until(lambda: queue.sizes == [1], "the first complete is under way")
        await note.later_many_async([(number,) for number in range(1, 10)])
        await wait_until(lambda: len(ended) == 10, "all jobs have ended")
        queue.may_answer.set()
        outcomes = [await anext(worker) for _ in range(10)]

    assert queue.sizes == [1, 9]
    assert {outcome.status for outcome in outcomes} == {"completed"}
    assert (await queue.stats())["in_flight"] == 0


async def test_more_than_a_batch_leaves_in_full_batches_and_the_rest_waits_for_others() -> None:
    queue = gathering_queue()
    instance = make_instance(queue)
    may_end = asyncio.Event()

    @instance.deferrable(name="note")
    async def note(number: int) -> None:
        await may_end.wait()

    await note.later_many_async([(number,) for number in range(8)])
    async with instance.worker(concurrency=20) as worker:
        await wait_until(lambda: worker._slots.running == 8, "all jobs run")
        may_end.set()
        for _ in range(6):
            await anext(worker)
        sizes = list(queue.sizes)

    assert sizes == [3, 3]
    assert queue.sizes == [3, 3, 2]


async def test_a_full_batch_does_not_wait_for_others() -> None:
    queue = gathering_queue()
    instance = make_instance(queue)

    @instance.deferrable(name="note")
    async def note(number: int) -> None:
        await asyncio.sleep(0)

    await note.later_many_async([(number,) for number in range(6)])
    async with instance.worker(concurrency=1) as worker:
        outcomes = [await anext(worker) for _ in range(6)]

    assert {outcome.status for outcome in outcomes} == {"completed"}
    assert queue.sizes == [3, 3]


async def test_a_worker_that_stops_does_not_wait_for_a_batch_to_fill() -> None:
    queue = gathering_queue()
    instance = make_instance(queue)
    ended = asyncio.Event()

    @instance.deferrable(name="note")
    async def note() -> None:
        ended.set()

    await note.later_async()
    async with instance.worker() as worker:
        await ended.wait()
        worker.stop()
        statuses = [outcome.status async for outcome in worker]

    assert statuses == ["completed"]
    assert queue.sizes == [1]


async def test_a_complete_that_failed_is_tried_again_alone() -> None:
    queue = CountingQueue()
    instance = make_instance(queue)

    @instance.deferrable(name="note")
    async def note(number: int) -> None:
        pass

    queue.faults.fail_before("complete", times=2)
    await note.later_many_async([(number,) for number in range(3)])
    async with instance.worker() as worker:
        outcomes = [await anext(worker) for _ in range(3)]

    assert [outcome.status for outcome in outcomes] == ["completed"] * 3
    assert (await queue.stats())["in_flight"] == 0


async def test_an_item_whose_lease_is_lost_before_its_complete_is_lost() -> None:
    queue = gathering_queue()
    instance = make_instance(queue)
    ended = asyncio.Event()

    @instance.deferrable(name="note")
    async def note() -> None:
        ended.set()

    await note.later_async()
    async with instance.worker() as worker:
        await ended.wait()
        await queue.flush()  # somebody else has taken it away
        worker.stop()
        statuses = [outcome.status async for outcome in worker]

    assert statuses == ["lost"]
