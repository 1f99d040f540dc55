"""Nothing that a job raises or returns ends a worker, or keeps its item from being settled."""

import asyncio
import io
import logging
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest
from faces import Face, Kind, as_kind
from test_worker import read

from deferrable.item import Item
from deferrable.outcome import Outcome

pytestmark = pytest.mark.anyio


class SilentError(Exception):
    def __str__(self) -> str:
        return None  # type: ignore[return-value]


class ExitingTextError(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


class ShyError(Exception):
    def __getattribute__(self, name: str) -> NoReturn:
        raise RuntimeError(f"no {name} for you")


class DisguisedError(Exception):
    @property  # type: ignore[misc]
    def __class__(self) -> NoReturn:  # type: ignore[override]
        raise OSError("who am I?")


class NamelessMeta(type):
    @property
    def __name__(cls) -> NoReturn:  # type: ignore[override]
        raise ValueError("no name")


class NamelessError(Exception, metaclass=NamelessMeta):
    """Its class has no usable name."""


class HomelessError(Exception):
    """Its module is not a text, and cannot be hashed."""


HomelessError.__module__ = []  # type: ignore[assignment]


class TracelessError(Exception):
    @property
    def __traceback__(self) -> NoReturn:  # type: ignore[override]
        raise OSError("lost it")

    @property
    def __cause__(self) -> NoReturn:  # type: ignore[override]
        raise OSError("for no reason")


class FatalError(BaseException):
    """Not even an Exception."""


class UnequalError(Exception):
    def __eq__(self, other: object) -> NoReturn:
        raise RuntimeError("incomparable")

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> NoReturn:
        raise RuntimeError("neither true nor false")


def circular() -> BaseException:
    one, other = ValueError("one"), KeyError("other")
    one.__cause__, other.__cause__ = other, one
    one.__context__ = one
    return one


def nested(depth: int) -> BaseException:
    error: Exception = ValueError()
    for _ in range(depth):
        error = ExceptionGroup("", [error, SilentError()])
    return error


def with_notes() -> BaseException:
    error = ValueError()
    error.__notes__ = [SilentError(), 3]  # type: ignore[list-item]
    return error


class SilentCauseError(Exception):
    def __init__(self) -> None:
        self.__cause__ = ExitingTextError()


ERRORS: dict[str, Callable[[], BaseException]] = {
    "no text": Exception,
    "text is None": SilentError,
    "text exits": ExitingTextError,
    "every attribute raises": ShyError,
    "class raises": DisguisedError,
    "name of the class raises": NamelessError,
    "module is a list": HomelessError,
    "traceback raises": TracelessError,
    "circular": circular,
    "cause's text exits": SilentCauseError,
    "nested groups": lambda: nested(50),
    "deeply nested groups": lambda: nested(5000),
    "notes": with_notes,
    "BaseException": FatalError,
    "base group": lambda: BaseExceptionGroup("", [SystemExit(), KeyboardInterrupt()]),
    "no equality": UnequalError,
    "GeneratorExit": GeneratorExit,
    "StopIteration": lambda: StopIteration(3),
    "StopAsyncIteration": StopAsyncIteration,
    "CancelledError": asyncio.CancelledError,
    "text of surrogates": lambda: ValueError("\ud800"),
    "args that have no repr": lambda: ValueError(Unspeakable()),
}


class Unspeakable:
    def __repr__(self) -> NoReturn:
        raise SystemExit(4)

    __str__ = __repr__

    def __eq__(self, other: object) -> NoReturn:
        raise RuntimeError("incomparable")

    __hash__ = None  # type: ignore[assignment]


def raising(name: str) -> Callable[[int], None]:
    def job(number: int) -> None:
        raise ERRORS[name]()

    return job


async def errors_of(face: Face) -> list[Any]:
    errors = []
    while (item := await face.take_error()) is not None:
        errors.append(item["error"])
    return errors


@pytest.mark.parametrize("name", ERRORS)
async def test_whatever_a_job_raises_is_recorded(face: Face, kind: Kind, name: str) -> None:
    await face.later(face.job(as_kind(kind, raising(name)), name="job"), 1)

    outcome = await face.run()

    assert outcome.status == "errored"
    assert "errored" in repr(outcome)
    assert len(await errors_of(face)) == 1
    assert await face.stats() == (0, 0, 0)


@pytest.mark.parametrize("name", ERRORS)
async def test_whatever_a_job_raises_a_worker_goes_on(
    each_face: Face, kind: Kind, name: str
) -> None:
    job = each_face.job(as_kind(kind, raising(name)), name="job")
    fine = each_face.job(as_kind(kind, lambda number: number), name="fine")
    for number in range(3):
        await each_face.later(job, number)
        await each_face.later(fine, number)

    outcomes = await read(each_face, 6)

    statuses = sorted(outcome.status for outcome in outcomes)
    assert statuses == ["completed"] * 3 + ["errored"] * 3
    assert len(await errors_of(each_face)) == 3
    assert await each_face.stats() == (0, 0, 0)


@pytest.fixture
def each_face(make_face: Any) -> Face:
    return make_face()


@pytest.mark.parametrize("name", ERRORS)
async def test_whatever_a_job_raises_is_retried_where_its_classes_say_so(
    face: Face, kind: Kind, name: str
) -> None:
    job = as_kind(kind, raising(name))
    options: Any = {"error_classes": [BaseException], "max_attempts": 2}
    await face.later(face.job(job, name="job", use_exponential_backoff=False, **options), 1)

    outcomes: list[Outcome | None] = [await face.run_once() for _ in range(3)]

    statuses = [None if outcome is None else outcome.status for outcome in outcomes]
    assert statuses == ["retried", "errored", None]


@pytest.fixture
def standard_log() -> Iterator[io.StringIO]:
    """What a handler with the standard formatter writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("deferrable")
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)


class Failing:
    def on_pop(self, item: Item) -> NoReturn:
        raise ValueError("first" + "x" * 1_000_000 + "last")


async def test_the_standard_log_of_a_huge_error_is_cut_and_its_record_holds_the_error(
    face: Face, kind: Kind, standard_log: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> NoReturn:
        raise ValueError("first" + "x" * 1_000_000 + "last")

    await face.later(face.job(as_kind(kind, fail), name="job"))
    face.instance.register_event_consumer(Failing())

    await face.run()

    of_handler, of_job = caplog.records
    assert all("characters cut)" in each.exc_text for each in (of_handler, of_job))  # type: ignore[operator]
    assert all(each.exc_info and type(each.exc_info[1]) is ValueError for each in caplog.records)
    assert (of_handler.funcName, of_job.funcName) == ("log_or_raise", "log_failure")
    assert standard_log.getvalue().count("xlast\n") == 2
    assert len(standard_log.getvalue()) < 50_000


async def test_a_formatter_of_ones_own_formats_a_traceback_that_is_short_enough(
    face: Face, kind: Kind, standard_log: io.StringIO
) -> None:
    class Brief(logging.Formatter):
        def formatException(self, ei: Any) -> str:  # noqa: N802
            return f"brief {ei[1]}"

    def fail() -> NoReturn:
        raise ValueError("no")

    logging.getLogger("deferrable").handlers[-1].setFormatter(Brief())
    await face.later(face.job(as_kind(kind, fail), name="job"))

    await face.run()

    assert standard_log.getvalue().endswith("\nbrief no\n")


async def test_whatever_a_job_returns_is_its_result(each_face: Face, kind: Kind) -> None:
    await each_face.later(each_face.job(as_kind(kind, lambda _: Unspeakable()), name="job"), 1)

    (outcome,) = await read(each_face, 1)

    assert outcome.status == "completed"
    assert "completed" in repr(outcome)
    assert type(outcome.result) is Unspeakable


async def test_a_job_that_cancels_itself_and_returns_has_returned(face: Face) -> None:
    async def cancel_itself() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "done"

    await face.later(face.job(cancel_itself))

    (outcome,) = await read(face, 1)

    assert (outcome.status, outcome.result) == ("completed", "done")


async def test_a_job_that_cancels_itself_and_raises_has_failed_with_its_error(face: Face) -> None:
    async def cancel_itself() -> NoReturn:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        raise ValueError("mine")

    await face.later(face.job(cancel_itself))

    (outcome,) = await read(face, 1)

    assert (outcome.status, repr(outcome.error)) == ("errored", "ValueError('mine')")


async def test_the_log_of_an_error_without_a_text_ends_with_its_class(
    face: Face, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> NoReturn:
        raise ConnectionError

    await face.later(face.job(fail))

    await face.run()

    assert "ConnectionError; not retried" in caplog.text
