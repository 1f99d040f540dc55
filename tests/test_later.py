"""Deferring a call: what is pushed, in which order things happen, and what a failure leaves."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import pytest
from faces import Face, MakeFace, cancelled

from deferrable.aio import InMemoryDebounceStore
from deferrable.aio.debounce import DebounceKey, Reservation
from deferrable.errors import (
    BackendError,
    BackendUnavailable,
    CalledFromEventLoop,
    InvalidOptions,
    ItemTooLarge,
    UnserializableCall,
    Unsupported,
)
from deferrable.item import Item
from deferrable.metadata import MetadataProducerConsumer
from deferrable.testing import wait_until

pytestmark = pytest.mark.anyio

WINDOW_SECONDS = 100.0


class Broken(Exception):
    pass


def work(*args: object, **kwargs: object) -> tuple[Any, ...]:
    return args, kwargs


class SpyStore(InMemoryDebounceStore):
    """Notes its calls, and fails or hangs where the test says so."""

    def __init__(self, steps: list[str]) -> None:
        super().__init__()
        self.steps = steps
        self.errors: dict[str, BaseException] = {}
        self.hanging: set[str] = set()
        self.slow: set[str] = set()
        self.may_end = asyncio.Event()

    async def _step(self, name: str) -> None:
        self.steps.append(name)
        if name in self.hanging:
            await asyncio.Event().wait()
        if name in self.slow:
            await self.may_end.wait()
            self.steps.append(f"{name} has ended")
        if name in self.errors:
            raise self.errors[name]

    async def reserve(
        self, key: DebounceKey, window_seconds: float, always_delay: bool, token: str
    ) -> Reservation:
        reservation = await super().reserve(key, window_seconds, always_delay, token)
        await self._step("reserve")  # after its effect: the answer is what gets lost
        return reservation

    async def confirm(self, key: DebounceKey, token: str) -> None:
        await self._step("confirm")
        await super().confirm(key, token)

    async def restore(self, key: DebounceKey, token: str) -> None:
        await self._step("restore")
        await super().restore(key, token)


class Producer(MetadataProducerConsumer):
    NAMESPACE = "producer"

    def __init__(self, produce: Callable[[], Any]) -> None:
        super().__init__()
        self.produce_metadata = produce  # type: ignore[method-assign]


@pytest.fixture
def steps() -> list[str]:
    return []


@pytest.fixture
def debounced(make_face: MakeFace, steps: list[str]) -> Face:
    """An API that notes each step of a debounced `later` in `steps`."""
    face = make_face(debounce_store=SpyStore(steps))
    face.instance.debounce_store._clock = face.clock
    push_batch = face.backend.queue._push_batch

    async def noted(pushes: Sequence[Any]) -> Any:
        steps.append("push")
        return await push_batch(pushes)

    face.backend.queue._push_batch = noted  # type: ignore[method-assign] # this one object's
    face.instance.register_metadata_producer_consumer(Producer(lambda: steps.append("metadata")))
    return face


# What is pushed.


async def test_an_item_holds_the_fields_that_are_documented(face: Face) -> None:
    now = face.clock.time()
    receipt = await face.later(face.job(work, error_classes=[Broken], max_attempts=3), 1, a=2)

    item = await face.take()

    assert item is not None
    assert item.pop("args")
    assert item.pop("kwargs")
    assert item == {
        "id": receipt.id,
        "method": "work",
        "serializer": "pickle",
        "error_classes": None,
        "retry_on": [f"{__name__}:Broken"],
        "group": None,
        "attempts": 0,
        "max_attempts": 3,
        "first_push_time": now,
        "last_push_time": now,
        "original_delay_seconds": 0,
        "original_debounce_seconds": 0,
        "original_debounce_always_delay": False,
        "original_delay": 0,
        "use_exponential_backoff": True,
        "delay": 0,
    }


async def test_options_that_are_set_travel_with_the_item(face: Face) -> None:
    job = face.job(
        work,
        delay_seconds=60,
        ttl_seconds=600,
        use_exponential_backoff=False,
        backoff_jitter=True,
        timeout_seconds=5,
    )
    now = face.clock.time()

    await face.later(job)
    face.clock.advance(60)
    item = await face.take()

    assert item is not None
    assert item["delay"] == item["original_delay"] == item["original_delay_seconds"] == 60
    assert item["due_time"] == now + 60
    assert (item["ttl_seconds"], item["item_queued_timestamp"]) == (600, now)
    assert item["use_exponential_backoff"] is False
    assert item["backoff_jitter"] is True
    assert item["timeout_seconds"] == 5


async def test_a_receipt_tells_when_a_call_may_run(face: Face) -> None:
    job, now = face.job(work), face.clock.time()

    pushed = await face.later(job)
    delayed = await face.later(job.options(delay_seconds=60))

    assert (pushed.status, pushed.available_time) == ("pushed", now)
    assert (delayed.status, delayed.available_time) == ("delayed", now + 60)
    assert pushed.id != delayed.id


@pytest.mark.parametrize("make", [float, lambda moment: datetime.fromtimestamp(moment, UTC)])
async def test_a_call_may_be_deferred_to_a_moment(face: Face, make: Any) -> None:
    moment = face.clock.time() + 90

    receipt = await face.later(face.job(work).options(run_at=make(moment)))
    face.clock.advance(89.9)
    early = await face.run_once()
    face.clock.advance(0.1)

    assert (receipt.status, receipt.available_time) == ("delayed", moment)
    assert early is None
    assert (await face.run()).status == "completed"


async def test_a_moment_of_the_past_is_now(face: Face) -> None:
    receipt = await face.later(face.job(work).options(run_at=face.clock.time() - 1))

    assert receipt.status == "pushed"
    assert await face.stats() == (1, 0, 0)


async def test_a_delay_over_the_brokers_maximum_is_taken_and_capped(face: Face) -> None:
    face.backend.queue.MAX_DELAY_SECONDS = 900  # type: ignore[misc] # this one object's
    now = face.clock.time()

    receipt = await face.later(face.job(work).options(delay_seconds=100_000))
    face.clock.advance(900)
    item = await face.take()

    assert receipt.available_time == now + 100_000
    assert item is not None
    assert (item["delay"], item["due_time"]) == (900, now + 100_000)


async def test_a_delay_that_the_queue_cannot_keep_is_refused_before_any_io(face: Face) -> None:
    face.backend.queue.SUPPORTS_DELAY = False  # type: ignore[misc] # this one object's
    face.faults.drop("push", times=None)

    with pytest.raises(Unsupported, match="SUPPORTS_DELAY"):
        await face.later(face.job(work).options(delay_seconds=5))


async def test_an_item_over_the_brokers_limit_is_refused_before_any_io(face: Face) -> None:
    face.backend.queue.MAX_ITEM_BYTES = 2000  # type: ignore[misc] # this one object's
    face.faults.drop("push", times=None)
    produced: list[int] = []
    producer = Producer(lambda: produced.append(1))
    face.instance.register_metadata_producer_consumer(producer)

    with pytest.raises(ItemTooLarge):
        await face.later(face.job(work), "x" * 2000)

    assert produced == []


async def test_options_of_one_call_leave_the_job_as_it_was(face: Face) -> None:
    job = face.job(work)

    await face.later(job.options(delay_seconds=60))
    receipt = await face.later(job)

    assert receipt.status == "pushed"


async def test_callables_for_seconds_are_called_exactly_once_for_each_later(face: Face) -> None:
    calls: list[str] = []

    def give(name: str) -> Callable[[], float]:
        def seconds() -> float:
            calls.append(name)
            return 5

        return seconds

    job = face.job(work, delay_seconds=give("delay"), ttl_seconds=give("ttl"))
    at_decoration = list(calls)

    await face.later(job)
    once = list(calls)
    await face.later_many(job, [(), ()])

    assert at_decoration == []
    assert once == ["delay", "ttl"]
    assert calls == ["delay", "ttl"] * 3


async def test_a_callable_for_seconds_is_called_where_the_caller_is(make_face: MakeFace) -> None:
    face = make_face(debounce_store=InMemoryDebounceStore())
    threads: list[int] = []

    def seconds() -> float:
        threads.append(threading.get_ident())
        return 5

    await face.later(face.job(work, debounce_seconds=seconds))

    assert threads == [threading.get_ident()]


async def test_what_a_callable_for_seconds_raises_reaches_the_caller(face: Face) -> None:
    def seconds() -> NoReturn:
        raise Broken

    with pytest.raises(Broken):
        await face.later(face.job(work, delay_seconds=seconds))

    assert await face.items() == []


@pytest.mark.parametrize(
    "options",
    [
        {"delay_seconds": lambda: -1},
        {"ttl_seconds": lambda: float("nan")},
        {"delay_seconds": lambda: 11, "ttl_seconds": 10},
    ],
)
async def test_seconds_out_of_range_are_refused_at_later_and_nothing_is_pushed(
    face: Face, options: Any
) -> None:
    job = face.job(work, **options)

    with pytest.raises(InvalidOptions):
        await face.later(job)

    assert await face.items() == []


async def test_both_verbs_are_on_the_jobs_of_both_faces(face: Face) -> None:
    job = face.job(work)

    job.later(1)
    await job.later_async(2)
    job.later_many([(3,)])
    await job.later_many_async([(4,)])

    results = [(await face.run()).result[0] for _ in range(4)]
    assert results == [(1,), (2,), (3,), (4,)]


async def test_a_blocking_later_where_it_would_deadlock_names_the_awaitable() -> None:
    face = Face("blocking")
    job = face.job(work)

    async def on_the_portal() -> None:
        with pytest.raises(CalledFromEventLoop, match="later_async"):
            job.later()
        with pytest.raises(CalledFromEventLoop, match="later_many_async"):
            job.later_many([()])
        await job.later_async()

    await face.later(face.job(on_the_portal))

    assert (await face.run()).status == "completed"
    assert (await face.run()).item["method"] == "work"


# Many calls.


async def test_many_calls_travel_in_native_batches_in_their_order(face: Face) -> None:
    face.backend.queue.MAX_PUSH_BATCH_SIZE = 4  # type: ignore[misc] # this one object's
    job = face.job(work)

    receipts = await face.later_many(job, [*((number,) for number in range(9)), job.call(9, a=1)])
    outcomes = [await face.run() for _ in range(10)]

    assert [outcome.item["id"] for outcome in outcomes] == [receipt.id for receipt in receipts]
    assert [outcome.result[0] for outcome in outcomes] == [(number,) for number in range(10)]
    assert outcomes[-1].result[1] == {"a": 1}


async def test_no_calls_at_all_are_no_receipts(face: Face) -> None:
    assert await face.later_many(face.job(work), []) == []


async def test_each_of_many_calls_is_checked_before_any_is_pushed(face: Face) -> None:
    with pytest.raises(UnserializableCall):
        await face.later_many(face.job(work), [(1,), (lambda: None,)])

    assert await face.items() == []


async def test_one_of_many_calls_that_is_too_large_stops_before_any_push(face: Face) -> None:
    face.backend.queue.MAX_ITEM_BYTES = 2000  # type: ignore[misc] # this one object's

    with pytest.raises(ItemTooLarge):
        await face.later_many(face.job(work), [(1,), ("x" * 2000,)])

    assert await face.items() == []


async def test_metadata_of_many_calls_that_cannot_be_sent_stops_before_any_push(face: Face) -> None:
    produced = iter([1, lambda: None])
    face.instance.register_metadata_producer_consumer(Producer(lambda: next(produced)))

    with pytest.raises(UnserializableCall):
        await face.later_many(face.job(work), [(1,), (2,)])

    assert await face.items() == []


@pytest.mark.parametrize("calls", [[5], ["ab"], [[1]], [None]])
async def test_many_calls_are_tuples_or_calls(face: Face, calls: Any) -> None:
    with pytest.raises(TypeError, match="tuples of positional arguments"):
        await face.later_many(face.job(work), calls)


async def test_some_of_many_calls_that_fail_leave_receipts_for_the_others(face: Face) -> None:
    face.record_events()
    number = iter(range(3))
    face.faults.drop("push", matching=lambda item: next(number) == 1)

    with pytest.raises(BackendError, match=r"1 of 3 calls were not pushed, .* index 1") as caught:
        await face.later_many(face.job(work), [(0,), (1,), (2,)])

    receipts = caught.value.receipts
    assert receipts is not None
    assert [receipt is None for receipt in receipts] == [False, True, False]
    assert isinstance(caught.value.__cause__, BackendUnavailable)
    assert face.event_names == ["push", "push"]
    assert len(await face.items()) == 2


async def test_a_debounced_call_of_many_that_fails_leaves_receipts_for_the_others(
    make_face: MakeFace,
) -> None:
    face = make_face(debounce_store=InMemoryDebounceStore())
    number = iter(range(3))
    face.faults.drop("push", matching=lambda item: next(number) == 1)
    job = face.job(work, debounce_seconds=WINDOW_SECONDS)

    with pytest.raises(BackendError) as caught:
        await face.later_many(job, [(0,), (1,), (2,)])

    receipts = caught.value.receipts
    assert receipts is not None
    assert [receipt is None for receipt in receipts] == [False, True, False]


async def test_many_equal_debounced_calls_are_two_runs(make_face: MakeFace) -> None:
    face = make_face(debounce_store=InMemoryDebounceStore())
    job = face.job(work, debounce_seconds=WINDOW_SECONDS)

    receipts = await face.later_many(job, [()] * 5)

    assert [receipt.status for receipt in receipts] == ["pushed", "delayed", *["skipped"] * 3]
    assert len(await face.items()) == 2


# The order, and what a failure leaves.


async def test_a_debounced_call_reserves_then_takes_metadata_then_pushes_then_confirms(
    debounced: Face, steps: list[str]
) -> None:
    await debounced.later(debounced.job(work, debounce_seconds=WINDOW_SECONDS))

    assert steps == ["reserve", "metadata", "push", "confirm"]


async def test_a_skipped_call_takes_no_metadata_and_pushes_nothing(
    debounced: Face, steps: list[str]
) -> None:
    job = debounced.job(work, debounce_seconds=WINDOW_SECONDS)
    now = debounced.clock.time()
    await debounced.later(job)
    await debounced.later(job)
    steps.clear()

    receipt = await debounced.later(job)

    assert (receipt.id, receipt.status) == (None, "skipped")
    assert receipt.available_time == now + WINDOW_SECONDS
    assert steps == ["reserve"]


async def test_a_debounced_call_in_a_window_is_delayed_to_its_end(debounced: Face) -> None:
    job = debounced.job(work, debounce_seconds=WINDOW_SECONDS)
    first = await debounced.later(job)
    debounced.clock.advance(40)

    second = await debounced.later(job)
    other = await debounced.later(job, "other arguments")
    debounced.clock.advance(60)
    items = await debounced.items()

    assert [first.status, second.status, other.status] == ["pushed", "delayed", "pushed"]
    assert second.available_time == first.available_time + WINDOW_SECONDS
    assert {item["id"]: item["delay"] for item in items}[second.id] == 60


async def test_what_cannot_be_serialized_reserves_no_window(
    debounced: Face, steps: list[str]
) -> None:
    job = debounced.job(work, debounce_seconds=WINDOW_SECONDS)

    with pytest.raises(UnserializableCall):
        await debounced.later(job, lambda: None)

    assert steps == []


@pytest.mark.parametrize("fault", ["drop", "fail_before", "fail_after"])
async def test_a_push_that_fails_puts_the_window_back(
    debounced: Face, steps: list[str], fault: str
) -> None:
    job = debounced.job(work, debounce_seconds=WINDOW_SECONDS)
    getattr(debounced.faults, fault)("push")

    with pytest.raises(BackendError):
        await debounced.later(job)
    again = await debounced.later(job)

    assert steps[:4] == ["reserve", "metadata", "push", "restore"]
    assert again.status == "pushed"  # a duplicate is allowed, a lost update is not


async def test_a_second_push_that_fails_puts_the_window_back_as_it_was(debounced: Face) -> None:
    job = debounced.job(work, debounce_seconds=WINDOW_SECONDS)
    await debounced.later(job)
    debounced.faults.drop("push")

    with pytest.raises(BackendUnavailable):
        await debounced.later(job)
    again = await debounced.later(job)

    assert again.status == "delayed"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("door", ["awaiting", "blocking"])
def test_an_interrupt_in_the_metadata_puts_the_window_back(
    door: Any, error: type[BaseException], steps: list[str]
) -> None:
    def produce() -> NoReturn:
        raise error

    face = Face(door, debounce_store=SpyStore(steps))
    face.instance.register_metadata_producer_consumer(Producer(produce))
    job = face.job(work, debounce_seconds=WINDOW_SECONDS)

    with pytest.raises(error):
        asyncio.run(face.later(job))

    assert steps == ["reserve", "restore"]
    assert asyncio.run(face.items()) == []


async def test_metadata_that_cannot_be_sent_puts_the_window_back(
    make_face: MakeFace, steps: list[str]
) -> None:
    face = make_face(debounce_store=SpyStore(steps))
    face.instance.register_metadata_producer_consumer(Producer(lambda: lambda: None))

    with pytest.raises(UnserializableCall, match=r"Producer\.produce_metadata"):
        await face.later(face.job(work, debounce_seconds=WINDOW_SECONDS))

    assert steps == ["reserve", "restore"]


async def test_a_later_that_is_cancelled_while_it_pushes_puts_the_window_back(
    steps: list[str],
) -> None:
    face = Face("awaiting", debounce_store=SpyStore(steps))
    face.faults.delay("push", seconds=5)
    job = face.job(work, debounce_seconds=WINDOW_SECONDS)
    pushing = asyncio.create_task(face.later(job))
    await wait_until(lambda: face.clock.pending, "it pushes")

    assert await cancelled(pushing)
    assert steps == ["reserve", "restore"]


async def test_a_later_that_is_cancelled_while_it_reserves_puts_the_window_back(
    steps: list[str],
) -> None:
    store = SpyStore(steps)
    store.hanging.add("reserve")
    face = Face("awaiting", debounce_store=store)
    pushing = asyncio.create_task(face.later(face.job(work, debounce_seconds=WINDOW_SECONDS)))
    await wait_until(lambda: steps, "it reserves")

    assert await cancelled(pushing)
    assert steps == ["reserve", "restore"]
    assert len(store) == 0


async def test_a_later_that_is_cancelled_while_it_confirms_confirms_first_and_then_raises(
    steps: list[str],
) -> None:
    store = SpyStore(steps)
    face = Face("awaiting", debounce_store=store)
    job = face.job(work, debounce_seconds=WINDOW_SECONDS)
    store.slow.add("confirm")
    pushing = asyncio.create_task(face.later(job))
    await wait_until(lambda: "confirm" in steps, "it confirms")

    pushing.cancel()
    await asyncio.sleep(0)
    store.may_end.set()
    await asyncio.wait([pushing])

    assert pushing.cancelled()
    assert steps == ["reserve", "confirm", "confirm has ended"]


async def test_a_debounced_later_cancelled_at_any_step_silences_nobody() -> None:
    class Slow(MetadataProducerConsumer):
        NAMESPACE = "slow"

        async def produce_metadata(self) -> None:
            await asyncio.sleep(0)

    for count in range(50):
        face = Face("awaiting", debounce_store=InMemoryDebounceStore())
        face.instance.register_metadata_producer_consumer(Slow())
        job = face.job(work, debounce_seconds=WINDOW_SECONDS)
        task = asyncio.create_task(face.later(job))
        for _ in range(count):
            await asyncio.sleep(0)
        was_cancelled = await cancelled(task)

        pushed = (await face.stats())[0]
        again = await face.later(job)

        assert again.status == "pushed" or pushed == 1
        if not was_cancelled:
            return
    raise AssertionError("it never came through")


async def test_a_broken_store_never_stops_work_and_is_logged(
    debounced: Face, steps: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    debounced.instance.debounce_store.errors["reserve"] = BackendUnavailable("the store is away")
    job = debounced.job(work, debounce_seconds=WINDOW_SECONDS)
    debounced.record_events()

    receipts = [await debounced.later(job) for _ in range(2)]

    assert [receipt.status for receipt in receipts] == ["pushed", "pushed"]
    assert debounced.event_names == ["debounce_error", "push"] * 2
    assert "the store is away" in caplog.text
    assert len(await debounced.items()) == 2


@pytest.mark.parametrize("step", ["confirm", "restore"])
async def test_a_store_that_breaks_after_the_decision_changes_nothing_about_the_push(
    debounced: Face, step: str, caplog: pytest.LogCaptureFixture
) -> None:
    debounced.instance.debounce_store.errors[step] = Broken("the store is away")
    job = debounced.job(work, debounce_seconds=WINDOW_SECONDS)
    if step == "restore":
        debounced.faults.drop("push")
        with pytest.raises(BackendUnavailable):
            await debounced.later(job)
    else:
        assert (await debounced.later(job)).status == "pushed"

    assert "the store is away" in caplog.text


async def test_a_debounce_key_replaces_the_arguments(make_face: MakeFace) -> None:
    face = make_face(debounce_store=InMemoryDebounceStore())
    job = face.job(
        work, debounce_seconds=WINDOW_SECONDS, debounce_key=lambda user, **rest: user["id"]
    )

    receipts = [
        await face.later(job, {"id": 1, "name": "a"}),
        await face.later(job, {"id": 1, "name": "b"}, c=1),
        await face.later(job, {"id": 2, "name": "a"}),
    ]

    assert [receipt.status for receipt in receipts] == ["pushed", "delayed", "pushed"]


async def test_what_a_debounce_key_raises_reaches_the_caller_and_reserves_nothing(
    debounced: Face, steps: list[str]
) -> None:
    def key(*args: object) -> NoReturn:
        raise Broken

    with pytest.raises(Broken):
        await debounced.later(
            debounced.job(work, debounce_seconds=WINDOW_SECONDS, debounce_key=key)
        )

    assert steps == []


async def test_a_window_of_nothing_is_no_debounce(debounced: Face, steps: list[str]) -> None:
    await debounced.later(debounced.job(work, debounce_seconds=lambda: 0))

    assert steps == ["metadata", "push"]


async def test_the_group_travels_with_the_item(make_face: MakeFace) -> None:
    face = make_face()
    face.backend.group = "reports"

    await face.later(face.job(work))
    item: Item | None = await face.take()

    assert item is not None
    assert item["group"] == "reports"
