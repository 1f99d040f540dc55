"""Each API used as if it were the other: what works warns, and what cannot work says what to do."""

import contextlib
import sys
import warnings
from collections.abc import Callable, Coroutine, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from faces import Face, MakeFace

import deferrable
import deferrable.aio
from deferrable import BlocksEventLoop, UnserializableCall, WrongApi
from deferrable.aio.backend import DocketsBackendFactory, InMemoryBackendFactory

pytestmark = pytest.mark.anyio

HERE = __file__

instance = deferrable.aio.Deferrable(InMemoryBackendFactory().create_backend_for_group("shelf"))


@pytest.fixture
def blocking() -> Face:
    return Face("blocking")


@pytest.fixture
def awaiting() -> Face:
    return Face("awaiting")


@contextlib.contextmanager
def recorded() -> Iterator[list[warnings.WarningMessage]]:
    """The warnings of a block, each place's first one."""
    with warnings.catch_warnings(record=True) as records:
        warnings.resetwarnings()
        warnings.simplefilter("default")
        yield records


def calls(face: Face) -> dict[str, Callable[[], object]]:
    job = face.job(lambda *_: None, name="job")
    return {
        "later_async": lambda: job.later(1),
        "later_many_async": lambda: job.later_many([(1,)]),
        "run_once": lambda: face.instance.run_once(),
        "process": lambda: face.instance.process(None, None),
        "stats": lambda: face.instance.backend.queue.stats(),
        "close": lambda: face.instance.close(),
    }


@pytest.mark.parametrize("instead", sorted(calls(Face("blocking"))))
async def test_a_blocking_call_on_a_loop_works_and_warns_once_for_its_place(
    blocking: Face, instead: str
) -> None:
    call = calls(blocking)[instead]

    with recorded() as records:
        for _ in range(3):
            call()

    (warning,) = records
    assert warning.category is BlocksEventLoop
    assert warning.filename == HERE
    assert instead in str(warning.message)


async def test_one_run_once_warns_once_even_where_every_warning_is_shown(blocking: Face) -> None:
    await blocking.later(blocking.job(lambda: 1, name="one"))

    with recorded() as records:
        warnings.simplefilter("always")
        outcome = blocking.instance.run_once()

    assert outcome.result == 1
    assert len(records) == 1


async def test_each_place_warns_for_itself(blocking: Face) -> None:
    job = blocking.job(lambda: None, name="job")

    with recorded() as records:
        job.later()
        job.later()

    assert len(records) == 2
    assert len({warning.lineno for warning in records}) == 2


def test_no_call_warns_where_no_loop_runs(blocking: Face) -> None:
    with recorded() as records:
        for call in calls(blocking).values():
            call()

    assert not records


async def test_a_warning_made_an_error_comes_before_the_push(blocking: Face) -> None:
    job = blocking.job(lambda: None, name="job")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BlocksEventLoop):
            job.later()

    assert await blocking.stats() == (0, 0, 0)


async def test_awaiting_later_raises_before_the_push(face: Face) -> None:
    def send(*_: object, **__: object) -> None: ...

    job = face.job(send)

    with pytest.raises(WrongApi, match=r"write await send\.later_async\(\.\.\.\)"):
        await job.later(1)
    with pytest.raises(WrongApi, match="later_async"):
        await job.later(*(1,), key=2)
    with pytest.raises(WrongApi, match="later_many_async"):
        await job.later_many([(1,)])

    assert await face.stats() == (0, 0, 0)


async def test_awaiting_a_blocking_run_once_raises_before_the_pop(blocking: Face) -> None:
    ran = []
    await blocking.later(blocking.job(lambda: ran.append(1), name="job"))

    with pytest.raises(WrongApi, match="run_once"):
        await blocking.instance.run_once()

    assert not ran
    assert await blocking.stats() == (1, 0, 0)


async def with_of(thing: Any) -> None:
    with thing:
        pass


async def async_with_of(thing: Any) -> None:
    async with thing:
        pass


async def for_of(thing: Any) -> None:
    for _ in thing:
        pass


async def async_for_of(thing: Any) -> None:
    async for _ in thing:
        pass


async def await_of(thing: Any) -> None:
    await thing


THINGS: dict[str, Callable[[Any], Any]] = {
    "instance": lambda instance: instance,
    "backend": lambda instance: instance.backend,
    "queue": lambda instance: instance.backend.queue,
    "errors": lambda instance: instance.errors(),
    "worker": lambda instance: instance.worker(),
}
READ = ("errors", "worker")


@pytest.mark.parametrize("name", THINGS)
async def test_the_wrong_with_says_what_to_write(face: Face, name: str) -> None:
    use, write = (async_with_of, "`with`") if face.is_blocking else (with_of, "`async with`")

    with pytest.raises(WrongApi, match=f"write {write} instead"):
        await use(THINGS[name](face.instance))


@pytest.mark.parametrize("name", READ)
async def test_the_wrong_for_says_what_to_write(face: Face, name: str) -> None:
    use, write = (async_for_of, "`for`") if face.is_blocking else (for_of, "`async for`")

    with pytest.raises(WrongApi, match=f"write {write} instead"):
        await use(THINGS[name](face.instance))


@pytest.mark.parametrize("name", READ)
async def test_what_is_iterated_is_not_awaited(face: Face, name: str) -> None:
    with pytest.raises(WrongApi, match=r"for \.\.\. in` instead of `await`"):
        await await_of(THINGS[name](face.instance))


def test_the_wrong_context_manager_looks_absent(make_face: MakeFace) -> None:
    instance = make_face().instance
    is_blocking = isinstance(instance, deferrable.Deferrable)

    assert hasattr(instance, "__enter__") is is_blocking
    assert hasattr(instance, "__aenter__") is not is_blocking
    assert isinstance(instance, contextlib.AbstractContextManager) is is_blocking
    assert isinstance(instance, contextlib.AbstractAsyncContextManager) is not is_blocking


async def test_an_instance_may_be_a_lifespan() -> None:
    other = deferrable.Deferrable(InMemoryBackendFactory().create_backend_for_group("other"))
    face = Face("awaiting", lifespan=lambda: other)

    async with face.instance.worker() as worker:
        worker.stop()


async def test_a_job_may_take_arguments_called_self(face: Face) -> None:
    job = face.job(lambda **values: values, name="job")
    deferred = job.later if face.is_blocking else job.later_async
    await face.do(lambda: deferred(self=1))

    assert (await face.run()).result == {"self": 1}
    assert job(self=2) == {"self": 2}
    assert job.call(self=3).kwargs == {"self": 3}


async def test_a_handler_that_returns_a_receipt_is_not_awaited(face: Face) -> None:
    job = face.job(lambda: None, name="job")

    class Again:
        def on_complete(self, _: object) -> object:
            return job.options(delay_seconds=60).later()

    await face.later(job)
    face.instance.register_event_consumer(Again())

    assert (await face.run()).status == "completed"
    assert await face.stats() == (0, 0, 1)


@pytest.mark.parametrize("with_parentheses", [False, True])
@pytest.mark.parametrize("wrap", [classmethod, staticmethod, property])
def test_a_descriptor_below_the_decorator_is_refused_with_what_to_do(
    face: Face, wrap: Callable[[Any], Any], with_parentheses: bool
) -> None:
    thing = wrap(lambda *_: None)
    remedy = "decorate a plain one" if wrap is property else f"put @{wrap.__name__} above"
    decorate = face.instance.deferrable() if with_parentheses else face.instance.deferrable

    with pytest.raises(TypeError, match=remedy):
        decorate(thing)


class Shelf:
    @classmethod
    @instance.deferrable
    def count(cls, books: int) -> str:
        return f"{books} in {cls.__name__}"

    @classmethod
    @instance.deferrable(name="count shelves")
    def count_named(cls, books: int) -> str:
        return f"{books} in {cls.__name__}"


@pytest.mark.parametrize("job", [Shelf.count, Shelf.count_named])
async def test_a_class_method_gets_its_class_or_is_refused(job: Any) -> None:
    deferring = job.later_async(3)
    if sys.version_info >= (3, 13):
        with pytest.raises(UnserializableCall, match="class method"):
            await deferring
        return

    await deferring
    outcome = await instance.run_once()

    assert outcome is not None
    assert outcome.result == "3 in Shelf"


def test_a_bound_job_is_not_decorated_again(face: Face) -> None:
    job = face.job(lambda _: None, name="job")

    with pytest.raises(TypeError, match="is a job already"):
        face.instance.deferrable(job.__get__(object()))


def test_an_object_whose_call_is_a_generator_is_refused(face: Face) -> None:
    class Numbers:
        def __call__(self) -> Iterator[int]:
            yield 1

    with pytest.raises(TypeError, match="generator function"):
        face.job(Numbers(), name="numbers")


@pytest.mark.parametrize("package", [deferrable, deferrable.aio])
def test_the_decorator_of_the_class_says_that_it_needs_an_instance(package: Any) -> None:
    with pytest.raises(TypeError, match=r"on the class.* write `@d\.deferrable`"):

        @package.Deferrable.deferrable
        def job() -> None: ...


@pytest.mark.parametrize("package", [deferrable, deferrable.aio])
def test_a_factory_in_the_place_of_a_backend_is_refused_with_what_to_write(package: Any) -> None:
    with pytest.raises(TypeError, match="create_backend_for_group"):
        package.Deferrable(package.backend.InMemoryBackendFactory())


# Event loops that are not asyncio's.


async def errors_of(face: Face) -> None:
    async for _ in face.instance.errors():
        pass


async def worker_of(face: Face) -> None:
    async with face.instance.worker():
        pass


AWAITED: dict[str, Callable[[Face], Coroutine[Any, Any, object]]] = {
    "later_async": lambda face: face.job(lambda: None, name="job").later_async(),
    "run_once": lambda face: face.instance.run_once(),
    "close": lambda face: face.instance.close(),
    "worker": worker_of,
}


@pytest.mark.parametrize("name", AWAITED)
def test_awaiting_on_a_loop_that_is_not_asyncios_says_what_to_do(awaiting: Face, name: str) -> None:
    coroutine = AWAITED[name](awaiting)

    with pytest.raises(WrongApi, match=r"no asyncio event loop .*trio\.to_thread\.run_sync"):
        coroutine.send(None)  # as a loop of any framework does


@pytest.mark.parametrize("use", [errors_of, worker_of])
def test_redis_on_a_loop_that_is_not_asyncios_says_what_to_do(
    use: Callable[[Any], Coroutine[Any, Any, object]],
) -> None:
    factory = DocketsBackendFactory("redis://127.0.0.1:1/0")
    face = SimpleNamespace(
        instance=deferrable.aio.Deferrable(factory.create_backend_for_group(None))
    )

    with pytest.raises(WrongApi, match="no asyncio event loop"):
        use(face).send(None)
