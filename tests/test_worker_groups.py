"""Groups in a worker: one item of each at a time, in order, and other groups beside it."""

import asyncio
import math
from collections.abc import Sequence
from typing import cast

import pytest
from faces import Face
from test_worker import args_of

from deferrable import Retry
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Item, Popped, Queue
from deferrable.aio.worker._groups import Groups, key_of
from deferrable.testing import wait_until
from deferrable.testing.faults import FaultyQueue

pytestmark = pytest.mark.anyio


class GroupedQueue(FaultyQueue):
    """The group of an item is the hundreds of its job's number."""

    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        popped = await super()._pop_batch(count)
        for envelope, item in popped:
            envelope.order_key = str(args_of(item)[0] // 100)
        return popped


def wrap(queue: Queue) -> Queue:
    return GroupedQueue(queue)


class Site:
    """An instance with one job.

    Attributes:
        started: the numbers of the jobs that began.
        most_at_once: of one group.
    """

    def __init__(self) -> None:
        self.face = Face("awaiting", wrap=wrap)
        self.job = self.face.job(self._run, name="job", error_classes=[ValueError])
        self.started: list[int] = []
        self.ended: list[int] = []
        self.most_at_once = 0
        self.opened = asyncio.Event()
        self.errors: dict[int, list[Exception]] = {}

    async def _run(self, number: int) -> None:
        self.started.append(number)
        at_once = [each for each in self.started if each // 100 == number // 100]
        ended = [each for each in self.ended if each // 100 == number // 100]
        self.most_at_once = max(self.most_at_once, len(at_once) - len(ended))
        try:
            if self.errors.get(number):
                raise self.errors[number].pop()
            await self.opened.wait()
        finally:
            self.ended.append(number)

    async def defer(self, *numbers: int) -> None:
        for number in numbers:
            await self.face.later(self.job, number)


async def test_one_item_of_a_group_runs_at_a_time_in_order_and_other_groups_beside_it() -> None:
    site = Site()
    await site.defer(1, 2, 3, 101, 102, 201)

    async with site.face.instance.worker(concurrency=10) as worker:
        await wait_until(lambda: len(site.started) == 3, "one of each group runs")
        assert sorted(site.started) == [1, 101, 201]
        site.opened.set()
        for _ in range(6):
            await worker.next_outcome()

    assert site.most_at_once == 1
    assert [each for each in site.started if each < 100] == [1, 2, 3]


async def test_those_that_wait_for_their_group_take_no_slot() -> None:
    site = Site()
    await site.defer(*range(10), 101)

    async with site.face.instance.worker(concurrency=2):
        await wait_until(lambda: sorted(site.started) == [0, 101], "another group runs beside it")
        site.opened.set()

    assert site.most_at_once == 1


async def test_the_next_one_starts_when_the_last_one_is_settled() -> None:
    site = Site()
    site.opened.set()
    await site.defer(1, 2)
    site.face.faults.delay("complete", 5, times=1)

    async with site.face.instance.worker() as worker:
        await wait_until(lambda: site.ended == [1], "the first one has ended")
        await asyncio.sleep(0.05)
        assert site.started == [1]
        site.face.clock.advance(6)
        await worker.next_outcome()
        await worker.next_outcome()

    assert site.started == [1, 2]


async def test_a_retry_goes_behind_its_group() -> None:
    site = Site()
    site.opened.set()
    site.errors[1] = [Retry(after_seconds=0)]
    await site.defer(1, 2, 3)

    async with site.face.instance.worker() as worker:
        for _ in range(4):
            await worker.next_outcome()

    assert site.started == [1, 2, 3, 1]


async def test_when_an_item_goes_back_those_behind_it_go_back_in_their_order() -> None:
    site = Site()
    await site.defer(1, 2, 3)

    async with site.face.instance.worker(grace_seconds=0) as worker:
        await wait_until(lambda: site.started == [1], "the first one runs")
        worker.stop()

    assert site.started == [1]
    numbers = [args_of(item)[0] for item in await site.face.items()]
    assert sorted(numbers) == [1, 2, 3]
    assert numbers.index(2) < numbers.index(3)


async def test_when_a_lease_is_lost_those_behind_it_go_back() -> None:
    site = Site()
    await site.defer(1, 2)

    async with site.face.instance.worker() as worker:
        await wait_until(lambda: site.started == [1], "the first one runs")
        (attempt,) = worker._attempts._running
        attempt.lose()
        outcome = await worker.next_outcome()
        assert outcome is not None
        assert outcome.status == "lost"
        await wait_until(lambda: 2 in site.started, "the second one came again")
        site.opened.set()


async def test_when_a_waiting_item_is_lost_those_behind_it_go_back() -> None:
    site = Site()
    await site.defer(1, 2, 3)

    async with site.face.instance.worker() as worker:
        await wait_until(lambda: site.started == [1], "the first one runs")
        second, third = worker._attempts._buffer.blocked()
        second.envelope.lease_end_time = -math.inf
        worker._attempts._buffer._drop(second)
        await wait_until(lambda: third.envelope.settlement == "done", "the third one goes back")
        site.opened.set()

    assert site.started[0] == 1


class Waits:
    """What waits in `Groups`."""

    def __init__(self, item_id: str) -> None:
        self.queue = cast(Queue, "queue")
        self.envelope = Envelope(None, 0.0, 0.0)
        self.envelope.order_key = "group"
        self.item: Item = {"id": item_id}


@pytest.mark.parametrize(
    ("behind", "following", "back", "kept"),
    [
        ("", None, "", ""),
        ("bc", None, "bc", ""),
        ("a", "a", "", ""),
        ("abc", "a", "", "bc"),
        ("bca", "a", "bc", ""),
    ],
)
def test_one_that_came_again_before_its_worker_knew_that_it_went_is_the_next(
    behind: str, following: str | None, back: str, kept: str
) -> None:
    groups: Groups[Waits] = Groups()
    first, *others = map(Waits, ["a", *behind])
    assert groups.enter(first)
    assert not any(map(groups.enter, others))

    next_one, returned = groups.leave(key_of(first), goes_on=False, item_id="a")

    assert (next_one and next_one.item["id"]) == following
    assert "".join(str(each.item["id"]) for each in returned) == back
    assert "".join(str(each.item["id"]) for each in groups.waiting()) == kept
    assert groups.enter(Waits("d")) == (following is None)
