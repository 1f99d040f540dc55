"""Which queue of a worker goes first: shared slots, the strict order, weights."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from redis_server import unique_group

from deferrable.aio import Deferrable, InvalidOptions, Worker
from deferrable.aio.backend import DocketsBackendFactory, InMemoryBackendFactory
from deferrable.errors import BackendUnavailable

pytestmark = pytest.mark.anyio


class Site:
    """Some instances whose jobs write down their start.

    Attributes:
        started: the number of the instance and the argument of each job, in the order of starts.
    """

    def __init__(self, factory: Any, count: int = 2) -> None:
        backends = [factory.create_backend_for_group(unique_group()) for _ in range(count)]
        self.instances = [Deferrable(backend) for backend in backends]
        self.started: list[tuple[int, int]] = []
        self.then: dict[tuple[int, int], tuple[int, Iterable[int]]] = {}
        """What a job defers when it starts: the instance, and the arguments."""
        self.jobs = [self._job(place) for place in range(count)]

    def _job(self, place: int) -> Any:
        async def run(number: int) -> None:
            self.started.append((place, number))
            if (place, number) in self.then:
                await self.defer(*self.then[place, number])

        return self.instances[place].deferrable(name="run")(run)

    async def defer(self, place: int, numbers: Iterable[int]) -> None:
        await self.jobs[place].later_many_async([(number,) for number in numbers])

    async def work(self, count: int, **settings: Any) -> list[tuple[int, int]]:
        """Until so many jobs have run; what had started then."""
        async with Worker(self.instances, **settings) as worker:
            for _ in range(count):
                await worker.next_outcome()
            return self.started[:count]


@pytest.fixture(params=["memory", "dockets"])
def site(request: pytest.FixtureRequest, redis_url: str) -> Site:
    if request.param == "memory":
        return Site(InMemoryBackendFactory())
    return Site(DocketsBackendFactory(redis_url, wait_time=1))


async def test_a_later_queue_is_served_only_while_those_before_it_have_nothing(site: Site) -> None:
    site.then[1, 5] = (0, range(3))
    await site.defer(1, range(20))

    started = await site.work(23, concurrency=1, order="strict")

    # A few items of the later queue may have been asked for before the others came.
    assert [each for each in started[6:14] if each[0] == 0] == [(0, 0), (0, 1), (0, 2)]


async def test_the_first_of_full_queues_is_emptied_first(site: Site) -> None:
    await site.defer(1, range(50))
    await site.defer(0, range(50))

    started = await site.work(100, concurrency=5, order="strict")

    assert {place for place, _ in started[:50]} == {0}


async def test_weights_are_the_shares_of_full_queues(site: Site) -> None:
    for place in (0, 1):
        await site.defer(place, range(400))

    started = await site.work(200, concurrency=4, weights=[3, 1])

    assert 140 <= sum(place == 0 for place, _ in started) <= 160


async def test_a_queue_that_had_nothing_gets_no_more_than_its_share_later(site: Site) -> None:
    site.then[0, 99] = (1, range(400))
    await site.defer(0, range(600))

    started = await site.work(400, concurrency=4, weights=[1, 1])

    shared = started[120:]
    assert 0.4 < sum(place == 0 for place, _ in shared) / len(shared) < 0.6


@pytest.mark.parametrize("settings", [{}, {"weights": [1, 1]}])
async def test_a_flood_in_one_queue_starves_no_other(site: Site, settings: Any) -> None:
    site.then[0, 100] = (1, [0])
    await site.defer(0, range(500))

    started = await site.work(501, concurrency=10, **settings)

    assert started.index((1, 0)) < 150


@pytest.mark.parametrize("fault", ["is away", "does not answer"])
@pytest.mark.parametrize("settings", [{"order": "strict"}, {"weights": [9, 1]}])
async def test_a_queue_that_does_not_answer_holds_up_no_other(
    site: Site, settings: Any, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_over = asyncio.Event()

    async def pop(*args: Any) -> Any:
        if fault == "does not answer":
            await is_over.wait()
        raise BackendUnavailable("away")

    monkeypatch.setattr(site.instances[0].backend.queue, "_pop_batch", pop)
    await site.defer(1, range(20))

    async with Worker(site.instances, concurrency=2, **settings) as worker:
        for _ in range(20):
            await worker.next_outcome()
        is_over.set()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"order": "fast"}, "order is 'fair' or 'strict', got 'fast'"),
        ({"weights": [1]}, "weights has 1 numbers for 2 instances; give one for each"),
        ({"weights": [1, 0]}, "each of weights must be a number of at least 0.001; got 0"),
        ({"weights": [1, float("nan")]}, "must be a number of at least 0.001; got nan"),
        ({"order": "strict", "weights": [1, 2]}, "order='strict' takes no weights"),
    ],
)
async def test_an_order_that_cannot_be_is_refused(settings: Any, message: str) -> None:
    with pytest.raises(InvalidOptions, match=message.replace("(", r"\(")):
        Worker(Site(InMemoryBackendFactory()).instances, **settings)
