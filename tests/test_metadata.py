"""Metadata: what a producer sends along, and what a consumer is given before the job."""

import asyncio
import contextvars
import threading
from typing import Any, ClassVar, NoReturn

import pytest
from faces import Face, Kind, MakeFace, as_kind

from deferrable._codec.serializers import get_serializer
from deferrable.metadata import MetadataProducerConsumer

pytestmark = pytest.mark.anyio

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="none")
here = threading.local()


class RequestId(MetadataProducerConsumer):
    """What users write it for: a correlation id that travels from the request to the job."""

    NAMESPACE = "request_id"

    def produce_metadata(self) -> str:
        return request_id.get()

    def consume_metadata(self, metadata: Any) -> None:
        request_id.set(metadata)


class AsyncRequestId(RequestId):
    async def produce_metadata(self) -> str:
        await asyncio.sleep(0)
        return request_id.get()

    async def consume_metadata(self, metadata: Any) -> None:
        await asyncio.sleep(0)
        request_id.set(metadata)


class Noting(MetadataProducerConsumer):
    """Notes what it is given."""

    NAMESPACE = "noting"

    def __init__(self, value: Any = "value") -> None:
        super().__init__()
        self.value = value
        self.produced = 0
        self.given: list[Any] = []

    def produce_metadata(self) -> Any:
        self.produced += 1
        return self.value

    def consume_metadata(self, metadata: Any) -> None:
        self.given.append(metadata)


def read_request_id() -> str:
    return request_id.get()


@pytest.mark.parametrize("consumer", [RequestId, AsyncRequestId])
async def test_a_context_variable_set_by_a_consumer_is_seen_by_its_job_and_no_other(
    face: Face, kind: Kind, consumer: type[RequestId]
) -> None:
    job = face.job(as_kind(kind, read_request_id))
    face.instance.register_metadata_producer_consumer(consumer())
    for name in ("first", "second"):
        request_id.set(name)
        await face.later(job)
    request_id.set("the consumer's own")
    face.instance.clear_metadata_producer_consumers()
    await face.later(job)
    face.instance.register_metadata_producer_consumer(consumer())
    item = await face.take()
    assert item is not None
    await face.broker.queue.push(item)  # the first now comes last

    results = [(await face.run()).result for _ in range(3)]

    assert results == ["second", None, "first"]
    assert request_id.get() == "the consumer's own"


async def test_an_async_consumer_may_handle_what_it_awaits(face: Face) -> None:
    class Careful(MetadataProducerConsumer):
        NAMESPACE = "careful"

        async def consume_metadata(self, metadata: Any) -> None:
            failing = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(failing.set_exception, LookupError("handled"))
            try:
                await failing
            except LookupError as error:
                request_id.set(str(error))

    face.instance.register_metadata_producer_consumer(Careful())
    await face.later(face.job(read_request_id))

    assert (await face.run()).result == "handled"


async def test_an_async_consumer_may_wait_with_a_time_limit(face: Face) -> None:
    class Impatient(MetadataProducerConsumer):
        NAMESPACE = "impatient"

        async def consume_metadata(self, metadata: Any) -> None:
            try:
                async with asyncio.timeout(0):
                    await asyncio.Event().wait()
            except TimeoutError:
                request_id.set("unused")

    face.instance.register_metadata_producer_consumer(Impatient())
    await face.later(face.job(read_request_id))

    assert (await face.run()).result == "unused"


async def test_a_value_travels_as_it_is_and_is_made_again(face: Face) -> None:
    value = {"deep": [1, (2, b"\xff")], "when": None}
    consumer = Noting(value)
    face.instance.register_metadata_producer_consumer(consumer)
    await face.later(face.job(read_request_id))

    await face.run()

    assert consumer.given == [value]
    assert consumer.given[0] is not value


async def test_a_consumer_is_given_none_where_the_item_has_nothing_for_it(face: Face) -> None:
    await face.later(face.job(read_request_id))
    consumer = Noting()
    face.instance.register_metadata_producer_consumer(consumer)

    await face.run()

    assert consumer.given == [None]


async def test_a_value_of_none_travels_as_none(face: Face) -> None:
    consumer = Noting(None)
    face.instance.register_metadata_producer_consumer(consumer)
    await face.later(face.job(read_request_id))
    item = await face.take()
    assert item is not None
    await face.broker.queue.push(item)

    await face.run()

    assert "noting" in item["encoded_metadata"]
    assert "metadata" not in item
    assert consumer.given == [None]


async def test_each_consumer_is_given_the_value_of_its_own_namespace(face: Face) -> None:
    first, second = Noting(1), Noting(2)
    second.NAMESPACE = "second"  # type: ignore[misc] # this one object's
    face.instance.register_metadata_producer_consumer(first)
    face.instance.register_metadata_producer_consumer(second)
    await face.later(face.job(read_request_id))

    await face.run()

    assert (first.given, second.given) == ([1], [2])


async def test_metadata_survives_retries_unchanged_and_is_consumed_at_each(face: Face) -> None:
    def fail() -> NoReturn:
        raise ValueError

    consumer = Noting()
    face.instance.register_metadata_producer_consumer(consumer)
    await face.later(face.job(fail, error_classes=[ValueError], max_attempts=3))

    for _ in range(3):
        await face.run()
        face.clock.advance(100)

    assert consumer.produced == 1
    assert consumer.given == ["value"] * 3


async def test_metadata_is_consumed_before_the_item_is_found_expired(face: Face) -> None:
    consumer = Noting()
    face.instance.register_metadata_producer_consumer(consumer)
    await face.later(face.job(read_request_id, ttl_seconds=1))
    face.clock.advance(2)

    assert (await face.run()).status == "expired"
    assert consumer.given == ["value"]


async def test_an_item_that_expires_while_its_metadata_is_consumed_is_not_run(face: Face) -> None:
    class Slow(Noting):
        def consume_metadata(self, metadata: Any) -> None:
            face.clock.advance(2)

    face.instance.register_metadata_producer_consumer(Slow())
    await face.later(face.job(read_request_id, ttl_seconds=1))

    assert (await face.run()).status == "expired"


async def test_a_hop_consumes_no_metadata(face: Face) -> None:
    consumer = Noting()
    face.instance.register_metadata_producer_consumer(consumer)
    await face.later(face.job(read_request_id))
    item = await face.take()
    assert item is not None
    await face.broker.queue.push({**item, "due_time": face.clock.time() + 5})

    assert (await face.run()).status == "hopped"
    assert consumer.given == []


async def test_plain_producers_and_consumers_run_in_the_thread_that_called(face: Face) -> None:
    class ThreadLocal(MetadataProducerConsumer):
        NAMESPACE = "thread"
        seen: ClassVar[list[Any]] = []

        def produce_metadata(self) -> str:
            user: str = here.user
            return user

        def consume_metadata(self, metadata: Any) -> None:
            self.seen.append((metadata, threading.get_ident()))

    here.user = "of this very thread"
    face.instance.register_metadata_producer_consumer(ThreadLocal())
    await face.later(face.job(read_request_id))

    await face.run()

    assert ThreadLocal.seen[-1] == ("of this very thread", threading.get_ident())


def test_a_consumer_behind_the_blocking_door_sets_thread_locals_for_the_job() -> None:
    class ThreadLocal(MetadataProducerConsumer):
        NAMESPACE = "thread"

        def produce_metadata(self) -> str:
            return "the producer's"

        def consume_metadata(self, metadata: Any) -> None:
            here.user = metadata

    face = Face("blocking")
    face.instance.register_metadata_producer_consumer(ThreadLocal())
    job = face.job(lambda: here.user, name="read")
    job.later()

    assert face.instance.run_once().result == "the producer's"


OWN_ERRORS = [
    ValueError("own"),
    StopIteration(),
    asyncio.CancelledError(),
    ExceptionGroup("", [OSError()]),
]


class Raising(MetadataProducerConsumer):
    NAMESPACE = "raising"

    def __init__(self, kind: Kind, when: str, error: BaseException) -> None:
        super().__init__()

        def fail(metadata: Any = None) -> NoReturn:
            raise error

        setattr(self, f"{when}_metadata", as_kind(kind, fail))


@pytest.mark.parametrize("error", OWN_ERRORS, ids=lambda error: type(error).__name__)
async def test_a_producer_that_raises_is_logged_and_the_item_goes_without_it(
    face: Face, kind: Kind, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    other = Noting()
    face.instance.register_metadata_producer_consumer(Raising(kind, "produce", error))
    face.instance.register_metadata_producer_consumer(other)
    await face.later(face.job(read_request_id))

    assert (await face.run()).status == "completed"
    assert other.given == ["value"]
    assert "Raising.produce_metadata failed" in caplog.text


@pytest.mark.parametrize("error", OWN_ERRORS, ids=lambda error: type(error).__name__)
async def test_a_consumer_that_raises_fails_the_attempt_like_the_job_itself(
    face: Face, kind: Kind, error: BaseException
) -> None:
    face.instance.register_metadata_producer_consumer(Raising(kind, "consume", error))
    face.record_events()
    await face.later(face.job(read_request_id))

    outcome = await face.run()
    buried = await face.take_error()

    assert outcome.status == "errored"
    assert face.event_names == ["push", "pop", "error", "complete"]
    assert buried is not None
    # A StopIteration cannot leave a coroutine: Python itself replaces it there.
    is_replaced = kind == "async" and isinstance(error, StopIteration)
    expected = "RuntimeError" if is_replaced else type(error).__name__
    assert buried["error"]["error_type"] == expected


async def test_a_consumers_error_is_retried_like_the_jobs(face: Face, kind: Kind) -> None:
    consumer = Raising(kind, "consume", ValueError())
    face.instance.register_metadata_producer_consumer(consumer)
    await face.later(face.job(read_request_id, error_classes=[ValueError]))

    assert (await face.run()).status == "retried"


@pytest.mark.parametrize("door", ["awaiting", "blocking"])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_consumer_that_ends_the_process_releases_the_item_like_the_job(
    door: Any, kind: Kind, error: type[BaseException]
) -> None:
    face = Face(door)
    face.record_events()
    face.instance.register_metadata_producer_consumer(Raising(kind, "consume", error()))
    asyncio.run(face.later(face.job(read_request_id)))

    async def run() -> bool:
        try:
            await face.run_once()
        except error:
            return True
        return False

    assert asyncio.run(run())
    assert face.event_names == ["push", "pop", "release"]
    assert asyncio.run(face.stats()) == (1, 0, 0)


async def test_metadata_that_does_not_decode_is_an_error_of_the_item(face: Face) -> None:
    face.instance.register_metadata_producer_consumer(Noting())
    await face.later(face.job(read_request_id))
    item = await face.take()
    assert item is not None
    await face.broker.queue.push({**item, "encoded_metadata": {"noting": "no pickle"}})

    outcome = await face.run()
    buried = await face.take_error()

    assert outcome.status == "errored"
    assert buried is not None
    assert buried["error"]["error_type"] == "UnreadableItem"
    assert buried["encoded_metadata"] == {"noting": "no pickle"}


@pytest.mark.parametrize("metadata", ["text", [1], 5, True])
async def test_metadata_that_is_no_object_is_an_error_of_the_item(
    face: Face, metadata: Any
) -> None:
    face.instance.register_metadata_producer_consumer(Noting())
    await face.later(face.job(read_request_id))
    item = await face.take()
    assert item is not None
    await face.broker.queue.push({**item, "encoded_metadata": metadata})

    await face.run()
    buried = await face.take_error()

    assert buried is not None
    assert "no object" in buried["error"]["error_text"]


async def test_metadata_nobody_consumes_is_not_read(face: Face) -> None:
    await face.later(face.job(read_request_id))
    item = await face.take()
    assert item is not None
    await face.broker.queue.push({**item, "encoded_metadata": {"unknown": "no pickle"}})

    assert (await face.run()).status == "completed"


async def test_a_second_user_of_a_namespace_is_refused(face: Face) -> None:
    face.instance.register_metadata_producer_consumer(Noting())

    with pytest.raises(ValueError, match="NAMESPACE noting is already in use"):
        face.instance.register_metadata_producer_consumer(Noting())


async def test_a_namespace_is_free_again_once_cleared(face: Face) -> None:
    face.instance.register_metadata_producer_consumer(Noting())
    face.instance.clear_metadata_producer_consumers()

    face.instance.register_metadata_producer_consumer(Noting())


def test_a_producer_consumer_without_a_namespace_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="NAMESPACE must be provided"):
        MetadataProducerConsumer()


@pytest.mark.parametrize("namespace", [None, 5, b"bytes"])
async def test_a_namespace_that_is_no_text_is_refused_at_registration(
    face: Face, namespace: Any
) -> None:
    class Forgetful(MetadataProducerConsumer):
        NAMESPACE = namespace

        def __init__(self) -> None:
            """It does not call the base's."""

    with pytest.raises(ValueError, match="Forgetful"):
        face.instance.register_metadata_producer_consumer(Forgetful())


# Where it stands in an item.


@pytest.mark.parametrize("serializer", ["pickle", "json"])
async def test_only_a_classic_item_has_a_field_that_python_2_decodes(
    make_face: MakeFace, serializer: str
) -> None:
    face = make_face(serializer=serializer)
    face.instance.register_metadata_producer_consumer(Noting("v"))
    await face.later(face.job(read_request_id))

    item = await face.take()

    assert item is not None
    assert "metadata" not in item
    assert get_serializer(serializer).load_value(item["encoded_metadata"]["noting"]) == "v"


async def test_metadata_of_an_item_queued_by_an_early_version_is_consumed(face: Face) -> None:
    noting = Noting("from an early version")
    face.instance.register_metadata_producer_consumer(noting)
    await face.later(face.job(read_request_id))
    item = await face.take()
    assert item is not None
    item["metadata"] = item.pop("encoded_metadata")
    await face.broker.queue.push(item)

    outcome = await face.run()

    assert outcome.status == "completed"
    assert noting.given == ["from an early version"]
