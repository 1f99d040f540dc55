"""Typed examples, which mypy --strict and pyright both run over; they are never executed.

Owns what users may rely on: ``assert_type`` for what an expression is, and a line that both
checkers have to refuse for each mistake that they have to find. Such a line carries an ignore for
each of them; an ignore that nothing needs is an error itself, in both.
"""


# ruff: noqa: B018

from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, assert_type

import deferrable
import deferrable.aio
import deferrable.aio.backend
import deferrable.backend
from deferrable import (
    CallState,
    EndedCall,
    MetadataProducerConsumer,
    Outcome,
    Pause,
    Receipt,
    Retry,
)
from deferrable.aio import BoundJob, Call, Clock, DebounceStore, Envelope, Job
from deferrable.item import Item
from deferrable.testing import MovingClock, QueueConformance, wait_until

# The blocking API.

factory = deferrable.backend.InMemoryBackendFactory(timeout=1, visibility_timeout=30)
backend = factory.create_backend_for_group("mail")
assert_type(backend, deferrable.Backend)
assert_type(backend.queue, deferrable.Queue)
assert_type(backend.queue.identity, Hashable | None)
assert_type(backend.group, str | None)
instance = deferrable.Deferrable(backend, default_error_classes=[OSError], default_max_attempts=3)
with deferrable.backend.DocketsBackendFactory(
    "redis://localhost", wait_time=3, timeout=300
).create_backend_for_group(None) as on_redis:
    assert_type(on_redis, deferrable.Backend)

with deferrable.backend.SQSBackendFactory(
    visibility_timeout=60, large_items=deferrable.backend.S3Store("bucket", "jobs")
).create_backend_for_group("mail") as on_sqs:
    assert_type(on_sqs, deferrable.Backend)
    assert_type(on_sqs.queue.pop_up_to(25), list[tuple[Envelope, Item]])
    assert_type(on_sqs.queue.excess_bytes({}), int)
assert_type(deferrable.backend.from_url(), deferrable.BackendFactory)
assert_type(
    deferrable.backend.from_url("redis://localhost", wait_time=2).create_backend_for_group("mail"),
    deferrable.Backend,
)
deferrable.backend.from_url(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
deferrable.backend.SQSBackendFactory(wait_time="20")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Hidden:
    def encrypt(self, data: bytes) -> bytes:
        return data

    def decrypt(self, data: bytes) -> bytes:
        return data


deferrable.Deferrable(
    backend,
    serializer="json",
    accept=("json",),
    signing_keys=(b"k" * 32, "k" * 32),
    encryption=Hidden(),
    import_from=("app.",),
    check_arguments=False,
)
deferrable.Deferrable(backend, encryption=Hidden)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
deferrable.Deferrable(backend, signing_keys=(5,))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
deferrable.Deferrable()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
deferrable.Deferrable(backend, retries=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
deferrable.Deferrable("redis://localhost")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# Without parentheses, and with.


@instance.deferrable
def bare(number: int, name: str = "x") -> float:
    return number / len(name)


@instance.deferrable()
def with_parentheses(number: int, *, name: str) -> float:
    return number / len(name)


@instance.deferrable(
    error_classes=[ValueError, OSError],
    max_attempts=3,
    delay_seconds=lambda: 1.5,
    ttl_seconds=timedelta(minutes=1),
    use_exponential_backoff=False,
    name="mail.send",
    timeout_seconds=10,
    backoff_jitter=True,
    message_group_id="customer-7",
    attributes={"traceparent": "00-1-2-01"},
)
def with_options(number: int) -> None: ...


@instance.deferrable
async def awaited(number: int) -> str:
    return str(number)


@instance.deferrable([ValueError], 3, 10)
def with_positional_options(number: int) -> None: ...


as_annotation: Job[[int], None] = with_options
as_annotation = with_positional_options
of_async_function: Job[[int], Coroutine[Any, Any, str]] = awaited

instance.deferrable(max_attemps=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
instance.deferrable(delay_seconds="soon")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
instance.deferrable(max_attempts=1.5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


# A job is called like its function.

assert_type(bare(1), float)
assert_type(bare(1, name="y"), float)
bare("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
bare()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
bare(1, title="y")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
with_parentheses(1, "y")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


# Deferring takes the function's arguments and gives a receipt.

assert_type(bare.later(1), Receipt)
assert_type(with_parentheses.later(1, name="y"), Receipt)
assert_type(awaited.later(1), Receipt)
bare.later("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
bare.later()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
bare.later(1, 2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
bare.later(1, delay_seconds=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
awaited.later("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

receipt = bare.later(1)
assert_type(receipt.id, str | None)
assert_type(receipt.available_time, float)
if receipt.status == "skipped":
    pass
assert_type(receipt.state(), CallState)
assert_type(receipt.cancel(stop=True), Literal["cancelled", "running", "ended"])
assert_type(receipt.result(timeout_seconds=5), Any)
assert_type(receipt.run_now(), bool)
assert_type(receipt.serves_id, str | None)
assert_type(deferrable.gather_results([receipt]), list[Any])
instance.pause(for_seconds=5, reason="deploy")
assert_type(instance.resume(), bool)
assert_type(instance.is_paused(), bool)
assert_type(instance.find_pause(), Pause | None)
instance.pause(reason=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
receipt.result(5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
receipt.status = "pushed"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


async def deferring_in_asyncio() -> None:
    assert_type(await bare.later_async(1, "y"), Receipt)
    assert_type(await awaited.later_async(1), Receipt)
    assert_type(await receipt.state_async(), CallState)
    assert_type(await receipt.result_async(), Any)
    async for ended in deferrable.aio.results_as_they_end([receipt]):
        assert_type(ended, EndedCall)
    assert_type(await awaited(1), str)
    await bare.later_async("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await bare.later_async()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await bare.later(1)  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    bare.later_async(1).id  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    assert_type(await bare.later_many_async([(1,), bare.call(2)]), list[Receipt])


# Many calls.

assert_type(bare.later_many([(1,), (2, "y")]), list[Receipt])
assert_type(bare.call(1, name="y"), Call[float])
assert_type(bare.later_many([bare.call(1), (2,)]), list[Receipt])
assert_type(bare.later_many((number,) for number in range(3)), list[Receipt])
bare.call("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
bare.call()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
bare.later_many([1, 2])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
bare.later_many([with_options.call(1)])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]


# Options are a job of the same type; they never mix with arguments.

as_annotation = with_options.options(delay_seconds=5)
assert_type(with_options.options(run_at=datetime.now(UTC), ttl_seconds=60).later(1), Receipt)
assert_type(bare.options(error_classes=None, debounce_key=lambda number: number)(1), float)
assert_type(bare.options(unique=lambda number: number, unique_until="start")(1), float)
bare.options(delay_seconds=5).later("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
bare.options(delay=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
bare.options(run_at="tomorrow")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# Methods are bound like methods.


class Mailer:
    @instance.deferrable
    def send(self, to: str, copies: int = 1) -> bool:
        return bool(to) and copies > 0

    @instance.deferrable(max_attempts=2)
    async def send_slowly(self, to: str) -> bool:
        return bool(to)


mailer = Mailer()
assert_type(mailer.send("you"), bool)
assert_type(mailer.send.later("you", copies=2), Receipt)
assert_type(mailer.send.options(delay_seconds=5).later("you"), Receipt)
assert_type(mailer.send.later_many([("you",), mailer.send.call("me", 2)]), list[Receipt])
assert_type(mailer.send_slowly.later("you"), Receipt)
assert_type(Mailer.send(mailer, "you"), bool)
mailer.send.later(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
mailer.send.later()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
mailer.send("you", copies="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
mailer.send.call(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def methods_in_asyncio() -> None:
    assert_type(await mailer.send.later_async("you"), Receipt)
    assert_type(await mailer.send_slowly("you"), bool)
    await mailer.send.later_async(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def takes_jobs(job: Job[[int], None], bound: BoundJob[[str, int], bool]) -> None:
    job.later(1)
    bound.later("you", 2)
    function: Callable[[int], None] = job
    function(1)


takes_jobs(with_options, mailer.send)
takes_jobs(bare, None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# Running, behind the blocking door.

assert_type(instance.worker(10, prefetch=100, report=False), deferrable.Worker)
outcome = instance.run_once()
assert_type(outcome, Outcome | None)
if outcome is not None:
    assert_type(outcome.item, Item)
    assert_type(outcome.error, BaseException | None)
    assert_type(outcome.duration_seconds, float)
    outcome.status = "lost"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
outcome.status  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
assert_type(instance.backend, deferrable.Backend)
assert_type(instance.default_max_attempts, int)
instance.default_error_classes = [ValueError]
instance.default_max_attempts = "5"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]

for failed in instance.errors():
    assert_type(failed, deferrable.ErrorItem)
    assert_type(failed.error, Mapping[str, Any])
    assert_type(failed.id, str | None)
    failed.requeue()
    failed.discard()

with instance as closing:
    assert_type(closing, deferrable.Deferrable)


# The verbs of a queue.

queue = backend.queue
queue.push({"number": 1})
assert_type(queue.push_batch([{"number": 1}]), list[tuple[Item, bool]])
popped = queue.pop()
assert_type(popped, tuple[Envelope, Item] | tuple[None, None])
envelope, item = popped
assert_type(instance.process(envelope, item), Outcome | None)
if envelope is not None and item is not None:
    queue.touch(envelope, 10)
    queue.release(envelope, delay_seconds=timedelta(seconds=5))
    queue.replace(envelope, item, to=backend.error_queue._core)
    queue.complete(envelope)
    assert_type(queue.complete_batch([envelope]), list[tuple[Envelope, bool]])
assert_type(queue.pop_batch(5), list[tuple[Envelope, Item]])
assert_type(queue.stats(), Mapping[str, float])
assert_type(queue.flush(), None)
assert_type(queue.close(), None)
assert_type(queue.FIFO, bool)
queue.push("item")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
queue.push()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
queue.pop_batch("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
queue.touch(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
queue.stats()["available"] = 1  # type: ignore[index]  # pyright: ignore[reportIndexIssue]


# The asyncio API.

aio_factory = deferrable.aio.backend.InMemoryBackendFactory(timeout=1)
aio_backend = aio_factory.create_backend_for_group(None)
assert_type(aio_backend, deferrable.aio.Backend)
aio_sqs = deferrable.aio.backend.SQSBackendFactory(None, 60, 20, "staging", create=False)
assert_type(aio_sqs.create_backend_for_group(None), deferrable.aio.Backend)
aio_from_url = deferrable.aio.backend.from_url("memory://", visibility_timeout=60)
assert_type(aio_from_url, deferrable.aio.BackendFactory)
aio_instance = deferrable.aio.Deferrable(aio_backend)
deferrable.Deferrable(aio_backend)
deferrable.aio.Deferrable(backend)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@aio_instance.deferrable(debounce_seconds=5, debounce_always_delay=True)
async def aio_job(number: int) -> str:
    return str(number)


of_async_function = aio_job
assert_type(aio_job.later(1), Receipt)


async def in_asyncio() -> None:
    assert_type(await aio_job.later_async(1), Receipt)
    assert_type(await aio_job(1), str)
    assert_type(await aio_instance.run_once(), Outcome | None)
    assert_type(aio_instance.worker(10, prefetch=100, report=False), deferrable.aio.Worker)
    envelope, item = await aio_backend.queue.pop()
    assert_type(await aio_instance.process(envelope, item), Outcome | None)
    assert_type(await aio_backend.queue.pop_batch(5), list[tuple[Envelope, Item]])
    assert_type(await aio_backend.queue.stats(), Mapping[str, float])
    assert_type(await aio_backend.queue.push_batch([{"number": 1}]), list[tuple[Item, bool]])
    await aio_backend.queue.push("item")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    (await aio_job.later_async("1"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async for failed in aio_instance.errors():
        assert_type(failed, deferrable.aio.ErrorItem)
        await failed.requeue()
    for wrong in aio_instance.errors():  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues]
        print(wrong)
    async with aio_instance as closing:
        assert_type(closing, deferrable.aio.Deferrable)
    async with aio_backend, aio_backend.queue:
        pass


# What users write.


class Events:
    def on_push(self, item: Item) -> None: ...

    async def on_error(self, item: Item) -> None: ...


instance.register_event_consumer(Events())


class Sessions(deferrable.Middleware):
    def around_job(self, attempt: deferrable.CurrentAttempt) -> AbstractContextManager[object]:
        assert_type(attempt.job_name, str | None)
        return nullcontext()

    def around_later(self, deferral: deferrable.Deferral) -> None:
        assert_type(deferral.receipts, Sequence[Receipt])


instance.register_middleware(Sessions())
assert_type(instance.middleware, tuple[deferrable.Middleware, ...])


class RequestId(MetadataProducerConsumer):
    NAMESPACE = "request_id"

    def produce_metadata(self) -> str:
        return "17"

    async def consume_metadata(self, metadata: str | None) -> None: ...


instance.register_metadata_producer_consumer(RequestId())
instance.register_metadata_producer_consumer(Events())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@instance.deferrable
def asks_for_a_retry() -> None:
    try:
        bare(1)
    except ValueError as error:
        raise Retry(after_seconds=5, count=False) from error


# Periodic jobs.


@instance.periodic("*/5 * * * *", timezone="Europe/Berlin", args=(1,))
@instance.periodic(every_seconds=timedelta(minutes=1), catch_up="all", kwargs={"number": 2})
@instance.deferrable(max_attempts=2)
def periodic(number: int) -> str:
    return str(number)


@deferrable.aio.Deferrable(
    deferrable.aio.backend.InMemoryBackendFactory().create_backend_for_group(None),
    schedule_store=deferrable.aio.InMemoryScheduleStore(),
).periodic(every_seconds=30)
async def plain_periodic() -> int:
    return 1


assert_type(periodic(1), str)
assert_type(periodic.later(1), Receipt)
plain_number: Coroutine[Any, Any, int] = plain_periodic()
assert_type(instance.schedules(), list[deferrable.Schedule])
assert_type(instance.schedules()[0].next_times(2), list[datetime])
assert_type(instance.schedules()[0].later(), Receipt)
periodic.later("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
instance.periodic(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
instance.periodic(every_seconds=5, catch_up="none")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def handles_errors() -> Sequence[Receipt | None] | None:
    try:
        bare.later_many([(1,)])
    except deferrable.BackendError as error:
        return error.receipts
    except (deferrable.InvalidOptions, deferrable.ArgumentMismatch, deferrable.UnserializableCall):
        raise
    return None


def takes_a_clock(clock: Clock, store: DebounceStore) -> deferrable.Deferrable:
    clock.time()
    return deferrable.Deferrable(backend, debounce_store=store, clock=clock)


takes_a_clock(MovingClock(), deferrable.aio.InMemoryDebounceStore(clock=MovingClock()))
takes_a_clock(1.0, None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class TestMine(QueueConformance):
    def make_backend(self, clock: MovingClock) -> deferrable.aio.Backend:
        return deferrable.aio.backend.InMemoryBackendFactory(clock=clock).create_backend_for_group(
            None
        )


async def waits() -> None:
    await wait_until(lambda: True, "it is true")
