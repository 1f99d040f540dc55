"""The fault injector: without faults it is any queue; with them, exactly what was scripted."""

import asyncio

import pytest

from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.memory import InMemoryBackendFactory
from deferrable.aio.queue import Item
from deferrable.errors import BackendError, BackendUnavailable, LeaseLost
from deferrable.testing import Faults, FaultyQueue, MovingClock, QueueConformance, wait_until
from deferrable.testing.fault_script import Verb


class TestFaultyQueueWithoutFaults(QueueConformance):
    """The asyncio API is enough here: the other one calls it, and injects nothing itself."""

    @pytest.fixture(params=["awaiting"])
    def face(self, request: pytest.FixtureRequest) -> object:
        return lambda backend, role: getattr(backend, role)

    @pytest.fixture(autouse=True)
    def factory(self, clock: MovingClock) -> None:
        self.made = InMemoryBackendFactory(clock=clock)

    def make_backend(self, clock: MovingClock) -> Backend:
        backend = self.made.create_backend_for_group(None)
        return Backend(None, FaultyQueue(backend.queue), FaultyQueue(backend.error_queue))


class TestFaultyQueueWithoutAtomicReplace(TestFaultyQueueWithoutFaults):
    def make_backend(self, clock: MovingClock) -> Backend:
        backend = self.made.create_backend_for_group(None)
        return Backend(
            None,
            FaultyQueue(backend.queue, has_atomic_replace=False),
            FaultyQueue(backend.error_queue, has_atomic_replace=False),
        )


pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture
def backend(clock: MovingClock) -> Backend:
    return InMemoryBackendFactory(clock=clock).create_backend_for_group(None)


@pytest.fixture
def queue(backend: Backend) -> FaultyQueue:
    return FaultyQueue(backend.queue)


def item(number: int) -> Item:
    return {"number": number}


async def test_a_dropped_push_never_arrives(queue: FaultyQueue) -> None:
    queue.faults.drop("push")

    with pytest.raises(BackendUnavailable, match="push"):
        await queue.push(item(1))

    assert await queue.pop() == (None, None)


async def test_a_push_whose_answer_is_lost_has_arrived(queue: FaultyQueue) -> None:
    queue.faults.fail_after("push")

    with pytest.raises(BackendUnavailable):
        await queue.push(item(1))

    assert (await queue.pop())[1] == item(1)


async def test_a_refusal_has_no_effect_and_the_error_that_was_asked_for(
    queue: FaultyQueue,
) -> None:
    refusal = BackendError("full")
    queue.faults.fail_before("push", error=refusal)

    with pytest.raises(BackendError) as caught:
        await queue.push(item(1))

    assert caught.value is refusal
    assert await queue.pop() == (None, None)


async def test_a_duplicated_push_arrives_twice(queue: FaultyQueue) -> None:
    queue.faults.duplicate("push")

    await queue.push(item(1))

    assert [popped for _, popped in await queue.pop_batch(5)] == [item(1), item(1)]


async def test_a_late_push_arrives_when_the_clock_says_so(
    queue: FaultyQueue, clock: MovingClock
) -> None:
    queue.faults.delay("push", 5)
    pushing = asyncio.create_task(queue.push(item(1)))
    await wait_until(lambda: clock.pending == 1, "the push is on its way")

    before = await queue.stats()
    clock.advance(5)
    await pushing

    assert before["available"] == 0
    assert (await queue.stats())["available"] == 1


async def test_items_of_a_lost_pop_come_back_after_their_lease(
    queue: FaultyQueue, clock: MovingClock
) -> None:
    await queue.push(item(1))
    queue.faults.fail_after("pop")

    with pytest.raises(BackendUnavailable):
        await queue.pop()

    assert (await queue.stats())["in_flight"] == 1
    clock.advance(queue.lease_seconds)
    assert (await queue.pop())[1] == item(1)


async def test_a_dropped_pop_takes_nothing(queue: FaultyQueue) -> None:
    await queue.push(item(1))
    queue.faults.drop("pop")

    with pytest.raises(BackendUnavailable):
        await queue.pop()

    assert (await queue.stats())["in_flight"] == 0


async def test_a_duplicated_pop_delivers_twice_with_a_lease_each(queue: FaultyQueue) -> None:
    await queue.push(item(1))
    queue.faults.duplicate("pop")

    popped = [await queue.pop(), await queue.pop(), await queue.pop()]

    assert [each for _, each in popped] == [item(1), item(1), None]
    for envelope, _ in popped[:2]:
        assert envelope is not None
        await queue.complete(envelope)


async def test_a_completion_without_answer_may_be_repeated_and_finds_nothing(
    queue: FaultyQueue,
) -> None:
    await queue.push(item(1))
    envelope, _ = await queue.pop()
    assert envelope is not None
    queue.faults.fail_after("complete")

    with pytest.raises(BackendUnavailable):
        await queue.complete(envelope)

    with pytest.raises(LeaseLost):
        await queue.complete(envelope)


async def test_a_dropped_completion_may_be_repeated(queue: FaultyQueue) -> None:
    await queue.push(item(1))
    envelope, _ = await queue.pop()
    assert envelope is not None
    queue.faults.drop("complete")

    with pytest.raises(BackendUnavailable):
        await queue.complete(envelope)
    await queue.complete(envelope)

    assert (await queue.stats())["in_flight"] == 0


@pytest.mark.parametrize("verb", ["touch", "complete", "release"])
async def test_a_duplicated_use_of_an_envelope_succeeds_once(
    queue: FaultyQueue, verb: Verb
) -> None:
    await queue.push(item(1))
    envelope, _ = await queue.pop()
    queue.faults.duplicate(verb)

    await getattr(queue, verb)(envelope)

    assert queue.faults.injected == [(verb, "duplicate")]


async def test_only_the_struck_entry_of_a_batch_fails(queue: FaultyQueue) -> None:
    queue.faults.drop("push", matching=lambda each: each["number"] == 2)

    answers = await queue.push_batch([item(1), item(2), item(3)])

    assert [ok for _, ok in answers] == [True, False, True]
    assert [popped["number"] for _, popped in await queue.pop_batch(5)] == [1, 3]


async def test_a_predicate_sees_the_popped_item_of_the_envelope(queue: FaultyQueue) -> None:
    await queue.push_batch([item(1), item(2)])
    envelopes = [envelope for envelope, _ in await queue.pop_batch(2)]
    queue.faults.drop("complete", matching=lambda each: each["number"] == 2)

    answers = await queue.complete_batch(envelopes)

    assert [ok for _, ok in answers] == [True, False]


async def test_a_fault_strikes_as_often_as_it_was_scripted(queue: FaultyQueue) -> None:
    queue.faults.drop("push", times=2)

    answers = [ok for n in range(4) for _, ok in await queue.push_batch([item(n)])]

    assert answers == [False, False, True, True]


async def test_a_fault_without_a_number_strikes_until_it_is_cleared(queue: FaultyQueue) -> None:
    queue.faults.drop("push", times=None)

    failed = [ok for n in range(3) for _, ok in await queue.push_batch([item(n)])]
    queue.faults.clear()
    after = await queue.push_batch([item(4)])

    assert failed == [False] * 3
    assert [ok for _, ok in after] == [True]


async def test_the_first_fault_of_the_script_strikes_first(queue: FaultyQueue) -> None:
    queue.faults.fail_after("push")
    queue.faults.drop("push")

    await queue.push_batch([item(1)])
    await queue.push_batch([item(2)])

    assert queue.faults.injected == [("push", "fail_after"), ("push", "drop")]


async def test_the_same_seed_meets_the_same_faults(backend: Backend) -> None:
    async def strikes(seed: int) -> list[bool]:
        faults = Faults(seed)
        faults.at_random("push", "drop", 0.5, times=None)
        queue = FaultyQueue(backend.queue, faults)
        return [ok for _, ok in await queue.push_batch([item(n) for n in range(50)])]

    first, again, other = await strikes(1), await strikes(1), await strikes(2)

    assert first == again
    assert first != other
    assert True in first
    assert False in first


@pytest.mark.parametrize("kind", ["drop", "fail_before", "fail_after"])
async def test_an_atomic_replace_fails_whole(
    queue: FaultyQueue, backend: Backend, kind: str
) -> None:
    await queue.push(item(1))
    envelope, _ = await queue.pop()
    assert envelope is not None
    getattr(queue.faults, kind)("replace")

    with pytest.raises(BackendError):
        await queue.replace(envelope, item(2), backend.error_queue)

    is_done = kind == "fail_after"
    assert (await backend.error_queue.stats())["available"] == (1 if is_done else 0)
    assert (await queue.stats())["in_flight"] == (0 if is_done else 1)


async def test_a_replace_in_two_steps_can_fail_between_them(backend: Backend) -> None:
    queue = FaultyQueue(backend.queue, has_atomic_replace=False)
    await queue.push(item(1))
    envelope, _ = await queue.pop()
    assert envelope is not None
    queue.faults.drop("complete")

    with pytest.raises(BackendUnavailable):
        await queue.replace(envelope, item(2), backend.error_queue)

    assert (await backend.error_queue.stats())["available"] == 1
    assert (await queue.stats())["in_flight"] == 1


@pytest.mark.parametrize("verb", ["flush", "stats"])
async def test_what_concerns_the_whole_queue_can_fail_too(queue: FaultyQueue, verb: Verb) -> None:
    queue.faults.drop(verb)

    with pytest.raises(BackendUnavailable):
        await getattr(queue, verb)()


def test_a_fault_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="enqueue"):
        Faults().drop("enqueue")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pop"):
        Faults().drop("pop", matching=lambda _: True)


async def test_waiting_in_vain_tells_for_what() -> None:
    with pytest.raises(TimeoutError, match="the moon is full"):
        await wait_until(lambda: False, "the moon is full", deadline_seconds=0)


async def test_a_condition_may_be_awaited() -> None:
    answers = iter([False, True])

    async def condition() -> bool:
        return next(answers)

    await wait_until(condition, "the second answer came")

    assert list(answers) == []
