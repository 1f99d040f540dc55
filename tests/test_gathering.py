"""Calls that wait a moment for others to travel with."""

import asyncio
import math
from collections.abc import Sequence

import pytest

from deferrable.aio._gathering import Gatherer
from deferrable.errors import BackendError, BackendUnavailable
from deferrable.testing import wait_until

pytestmark = pytest.mark.anyio


class Broker:
    """Takes batches, each held until it is let through if it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.outcomes: dict[int, Exception] = {}
        self.failure: BaseException | None = None
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def perform(self, entries: Sequence[int]) -> Sequence[Exception | None]:
        self.batches.append(list(entries))
        await self.is_open.wait()
        if self.failure is not None:
            raise self.failure
        return [self.outcomes.get(entry) for entry in entries]


@pytest.fixture
async def broker() -> Broker:
    return Broker()


def gatherer(broker: Broker, seconds: float = math.inf) -> Gatherer[int]:
    return Gatherer(broker.perform, 3, 1e6 if seconds == math.inf else seconds)


def call(gather: Gatherer[int], *entries: int) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(gather(entry)) for entry in entries]


async def pass_turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_lone_entry_leaves_after_its_wait(broker: Broker) -> None:
    await gatherer(broker, 0.001)(1)

    assert broker.batches == [[1]]


async def test_a_full_batch_leaves_at_once(broker: Broker) -> None:
    gather = gatherer(broker)

    await asyncio.gather(*call(gather, 1, 2, 3))

    assert broker.batches == [[1, 2, 3]]


async def test_a_full_batch_leaves_while_another_is_under_way(broker: Broker) -> None:
    broker.is_open.clear()
    tasks = call(gatherer(broker), 1, 2, 3, 4, 5, 6)

    await wait_until(lambda: len(broker.batches) == 2, "both are under way")
    broker.is_open.set()
    await asyncio.gather(*tasks)

    assert broker.batches == [[1, 2, 3], [4, 5, 6]]


async def test_what_does_not_fill_a_batch_goes_on_waiting(broker: Broker) -> None:
    *full, late = call(gatherer(broker), 1, 2, 3, 4)

    await asyncio.gather(*full)
    await pass_turns()

    assert broker.batches == [[1, 2, 3]]
    assert not late.done()
    late.cancel()


async def test_the_wait_begins_anew_with_the_first_entry_of_the_next_batch(broker: Broker) -> None:
    gather = gatherer(broker, 0.01)

    await asyncio.gather(*call(gather, 1, 2, 3))
    await gather(4)

    assert broker.batches == [[1, 2, 3], [4]]


async def test_each_entry_gets_its_own_outcome(broker: Broker) -> None:
    broker.outcomes[2] = BackendError("no")

    outcomes = await asyncio.gather(*call(gatherer(broker), 1, 2, 3), return_exceptions=True)

    assert outcomes == [None, broker.outcomes[2], None]


async def test_the_failure_of_a_batch_is_that_of_each_entry(broker: Broker) -> None:
    broker.failure = BackendUnavailable("away")

    outcomes = await asyncio.gather(*call(gatherer(broker), 1, 2, 3), return_exceptions=True)

    assert outcomes == [broker.failure] * 3


async def test_an_entry_that_is_cancelled_while_it_waits_does_not_leave(broker: Broker) -> None:
    gather = gatherer(broker)
    first, second = call(gather, 1, 2)
    await pass_turns()

    first.cancel()
    await pass_turns()
    await asyncio.gather(*call(gather, 3, 4), second)

    assert broker.batches == [[2, 3, 4]]
    assert first.cancelled()


async def test_an_entry_that_is_cancelled_on_its_way_leaves_the_others_their_outcomes(
    broker: Broker,
) -> None:
    broker.is_open.clear()
    first, *others = call(gatherer(broker), 1, 2, 3)
    await wait_until(lambda: broker.batches, "it is under way")

    first.cancel()
    await pass_turns()
    broker.is_open.set()
    await asyncio.gather(*others)

    assert first.cancelled()


async def test_a_batch_that_is_cancelled_cancels_who_waits_for_it(broker: Broker) -> None:
    broker.failure = asyncio.CancelledError()

    tasks = call(gatherer(broker), 1, 2, 3)
    await asyncio.wait(tasks)

    assert all(task.cancelled() for task in tasks)
