"""Looking through the error queue, in both APIs."""

import asyncio
import gc
from typing import Any, NoReturn

import pytest
from faces import LEASE_SECONDS, Face

from deferrable.aio import Deferrable
from deferrable.aio._contract.entries import TOUCHES_PER_LEASE
from deferrable.aio.backend import InMemoryBackendFactory
from deferrable.errors import BackendError, LeaseLost, UnreadableItem
from deferrable.testing import MovingClock, wait_until

pytestmark = pytest.mark.anyio


class Broken(Exception):
    pass


def work(value: int, *, is_fixed: bool = False) -> int:
    if not is_fixed:
        raise Broken(value)
    return value


async def fail(face: Face, count: int, **options: Any) -> None:
    """Have `count` items fail for good, with the arguments 0, 1, ..."""
    job = face.job(work, **options)
    for number in range(count):
        await face.later(job, number)
    for _ in range(count):
        assert (await face.run()).status == "errored"


async def errors_left(face: Face) -> tuple[int, int]:
    """How many items of the error queue are available, and in flight."""
    stats = await face.broker.error_queue.stats()
    return stats["available"], stats["in_flight"]


def values(entries: list[Any]) -> list[int]:
    return [entry.call.args[0] for entry in entries]


async def test_each_error_is_met_once_the_oldest_first(face: Face) -> None:
    await fail(face, 5)

    entries = [entry async for entry in face.each(face.instance.errors())]

    assert values(entries) == [0, 1, 2, 3, 4]


async def test_an_empty_error_queue_has_none(face: Face) -> None:
    assert [entry async for entry in face.each(face.instance.errors())] == []


async def test_an_error_tells_what_happened_and_which_call_it_was(face: Face) -> None:
    await fail(face, 1)

    [entry] = [entry async for entry in face.each(face.instance.errors())]

    assert entry.error["error_type"] == "Broken"
    assert entry.error["error_text"] == "0"
    assert (entry.call.name, entry.call.args, entry.call.kwargs) == ("work", (0,), {})
    assert entry.id == entry.item["id"]
    assert "Broken" in repr(entry)


async def test_a_requeued_item_runs_again_as_if_it_were_new(face: Face) -> None:
    await fail(face, 1, error_classes=[Broken], max_attempts=1, ttl_seconds=50)
    face.clock.advance(100)

    async for entry in face.each(face.instance.errors()):
        await face.do(entry.requeue)
    outcome = await face.run()

    assert outcome.status == "errored"
    assert outcome.item["attempts"] == 0
    assert "error" not in outcome.item
    assert outcome.item["item_queued_timestamp"] == face.clock.time()
    assert await errors_left(face) == (1, 0)


async def test_a_discarded_item_is_gone(face: Face) -> None:
    await fail(face, 2)

    async for entry in face.each(face.instance.errors()):
        await face.do(entry.discard)

    assert await face.items() == []


async def test_what_was_neither_requeued_nor_discarded_stays(face: Face) -> None:
    await fail(face, 3)

    async for entry in face.each(face.instance.errors()):
        if entry.call.args == (1,):
            await face.do(entry.discard)

    assert await errors_left(face) == (2, 0)
    again = [entry async for entry in face.each(face.instance.errors())]
    assert values(again) == [0, 2]


async def test_they_are_leased_while_the_iteration_lasts(face: Face) -> None:
    await fail(face, 3)
    in_flight = []

    async for _ in face.each(face.instance.errors()):
        in_flight.append((await errors_left(face))[1])

    assert in_flight == [1, 2, 3]


async def test_two_iterations_at_once_meet_different_items(face: Face) -> None:
    await fail(face, 4)
    await face.no_timer_is_left()
    first, second = face.instance.errors(), face.instance.errors()

    seen = [await face.do(each.next_item) for each in (first, second, first, second, first)]
    await wait_until(lambda: face.clock.pending == 1, "the keeper sleeps for both")
    await face.do(first.close)
    assert face.clock.pending == 1, "it keeps what the second one holds"
    await face.do(second.close)
    assert face.clock.pending == 0, "nothing is kept any more"

    assert seen.pop() is None
    assert values(seen) == [0, 1, 2, 3]
    assert await errors_left(face) == (4, 0)


async def test_leases_are_renewed_while_the_iteration_lasts(face: Face) -> None:
    await fail(face, 2)
    held = []

    async for entry in face.each(face.instance.errors()):
        held.append(entry)
        for _ in range(3 * TOUCHES_PER_LEASE):
            await wait_until(lambda: face.clock.pending, "the keeper sleeps")
            face.clock.advance(LEASE_SECONDS / TOUCHES_PER_LEASE)
    for entry in held:
        with pytest.raises(LeaseLost):
            await face.do(entry.discard)  # the iteration has ended

    assert values(held) == [0, 1]
    assert await errors_left(face) == (2, 0)


async def test_leases_are_renewed_while_an_item_is_looked_at_for_long(face: Face) -> None:
    await fail(face, 2)
    errors = face.instance.errors()
    entries = [await face.do(errors.next_item) for _ in range(2)]

    for _ in range(3 * TOUCHES_PER_LEASE):
        await wait_until(lambda: face.clock.pending, "the keeper sleeps")
        face.clock.advance(LEASE_SECONDS / TOUCHES_PER_LEASE)
    await wait_until(lambda: face.clock.pending, "the last touch has ended")
    for entry in entries:
        await face.do(entry.requeue)
    await face.do(errors.close)

    assert await face.stats() == (2, 0, 0)


async def test_a_keeper_that_cannot_reach_the_broker_says_so_and_goes_on(
    face: Face, caplog: pytest.LogCaptureFixture
) -> None:
    await fail(face, 1)
    errors = face.instance.errors()
    entry = await face.do(errors.next_item)
    face.faults.drop("touch", times=1)

    for _ in range(3 * TOUCHES_PER_LEASE):
        await wait_until(lambda: face.clock.pending, "the keeper sleeps")
        face.clock.advance(LEASE_SECONDS / TOUCHES_PER_LEASE)
    await wait_until(lambda: face.clock.pending, "the last touch has ended")
    await face.do(entry.discard)
    await face.do(errors.close)

    assert caplog.text.count("cannot touch items of") == 1
    assert await face.items() == []


async def test_breaking_off_releases_what_is_held(face: Face) -> None:
    await fail(face, 3)

    if face.is_blocking:
        for _ in face.instance.errors():
            break
    else:
        async for _ in face.instance.errors():
            break
    gc.collect()

    async def all_are_back() -> bool:
        return await errors_left(face) == (3, 0)

    await wait_until(all_are_back, "they are back")


async def test_an_error_in_the_loop_releases_what_is_held(face: Face) -> None:
    await fail(face, 2)

    async def look() -> NoReturn:
        if face.is_blocking:
            with face.instance.errors() as errors:
                for _ in errors:
                    raise Broken
        async with face.instance.errors() as errors:
            async for _ in errors:
                raise Broken
        raise AssertionError

    with pytest.raises(Broken):
        await look()

    assert await errors_left(face) == (2, 0)


async def test_closing_twice_is_harmless(face: Face) -> None:
    await fail(face, 1)
    errors = face.instance.errors()
    await face.do(errors.next_item)

    await face.do(errors.close)
    await face.do(errors.close)

    assert await errors_left(face) == (1, 0)


async def test_an_item_that_fails_again_meanwhile_is_left_for_another_time(face: Face) -> None:
    await fail(face, 2)
    met = []

    async for entry in face.each(face.instance.errors()):
        met.append(entry)
        await face.do(entry.requeue)
        await face.run()

    assert values(met) == [0, 1]
    assert await errors_left(face) == (2, 0)


@pytest.mark.parametrize("first", ["requeue", "discard"])
@pytest.mark.parametrize("second", ["requeue", "discard"])
async def test_an_item_is_settled_once(face: Face, first: str, second: str) -> None:
    await fail(face, 1)
    errors = face.instance.errors()
    entry = await face.do(errors.next_item)
    await face.do(getattr(entry, first))

    with pytest.raises(LeaseLost):
        await face.do(getattr(entry, second))
    await face.do(errors.close)

    assert len(await face.items()) == (1 if first == "requeue" else 0)


@pytest.mark.parametrize("fault", ["drop", "fail_before"])
async def test_a_requeue_that_fails_leaves_it_in_the_error_queue(face: Face, fault: str) -> None:
    await fail(face, 1)
    getattr(face.faults, fault)("replace")

    async for entry in face.each(face.instance.errors()):
        with pytest.raises(BackendError):
            await face.do(entry.requeue)

    assert await errors_left(face) == (1, 0)
    assert await face.stats() == (0, 0, 0)


async def test_a_requeue_that_failed_may_be_tried_again(face: Face) -> None:
    await fail(face, 1)
    face.faults.drop("replace")

    async for entry in face.each(face.instance.errors()):
        with pytest.raises(BackendError):
            await face.do(entry.requeue)
        await face.do(entry.requeue)

    assert await errors_left(face) == (0, 0)
    assert await face.stats() == (1, 0, 0)


async def test_an_item_that_names_no_job_at_all_is_not_requeued(face: Face) -> None:
    await face.broker.error_queue.push({"serializer": "pickle", "error": {"error_type": "X"}})

    async for entry in face.each(face.instance.errors()):
        with pytest.raises(UnreadableItem):
            await face.do(entry.requeue)

    assert await errors_left(face) == (1, 0)


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"id": None, "error": None},
        {"id": ["a", "list"], "error": "text"},
        {"id": {"an": "object"}, "method": 5},
        {"id": 5},
    ],
)
async def test_an_item_of_any_shape_can_be_looked_at_and_discarded(face: Face, item: Any) -> None:
    await face.broker.error_queue.push(item)
    await face.broker.error_queue.push(item)
    met = []

    async for entry in face.each(face.instance.errors()):
        met.append((entry.item, entry.id, dict(entry.error)))
        with pytest.raises(UnreadableItem):
            entry.call  # noqa: B018 # decoded when it is asked for
        await face.do(entry.discard)

    assert met == [(item, None, {})] * 2
    assert await errors_left(face) == (0, 0)


async def test_an_item_without_an_id_is_met_once_although_its_lease_is_lost() -> None:
    clock = MovingClock()
    factory = InMemoryBackendFactory(max_lease_seconds=60, clock=clock)
    backend = factory.create_backend_for_group(None)
    for number in range(2):
        await backend.error_queue.push({"raw": f"text {number}", "error": {"id": f"e{number}"}})
    met = []

    async with Deferrable(backend, clock=clock).errors() as errors:
        async for entry in errors:
            met.append(entry.item["raw"])
            assert len(met) < 5
            clock.advance(100)

    assert met == ["text 0", "text 1"]


async def test_cancelling_the_iteration_releases_what_is_held() -> None:
    face = Face("awaiting")
    await fail(face, 2)
    met = asyncio.Event()

    async def look() -> None:
        async with face.instance.errors() as errors:
            async for _ in errors:
                met.set()
                await asyncio.Event().wait()

    looking = asyncio.create_task(look())
    await met.wait()
    looking.cancel()
    await asyncio.wait([looking])

    assert looking.cancelled()
    assert await errors_left(face) == (2, 0)
