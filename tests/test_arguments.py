"""What ``later`` refuses because the job's function would: arguments that do not fit it."""

import asyncio
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest
from faces import Face, MakeFace
from hypothesis import given
from hypothesis import strategies as st

from deferrable._arguments import binder_for
from deferrable.errors import ArgumentMismatch, UnserializableCall

pytestmark = pytest.mark.anyio


def plain(first: Any, second: Any = 2) -> Any:
    return first, second


def positional_only(first: Any, second: Any = 2, /) -> Any:
    return first, second


def keyword_only(*, key: Any, other: Any = 2) -> Any:
    return key, other


def any_positional(first: Any, *rest: Any) -> Any:
    return first, rest


def any_keyword(first: Any, /, **others: Any) -> Any:
    return first, others


def everything(first: Any, /, second: Any, *rest: Any, key: Any, **others: Any) -> Any:
    return first, second, rest, key, others


def injects_a_session(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function("session", *args, **kwargs)

    return wrapper


@injects_a_session
def with_session(session: Any, order: Any) -> Any:
    return session, order


class CallableObject:
    def __call__(self, value: Any) -> Any:
        return value


async def awaits(value: Any) -> Any:
    return value


FITTING: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
    (plain, (1,), {}),
    (plain, (), {"second": 1, "first": 2}),
    (positional_only, (1, 2), {}),
    (keyword_only, (), {"key": 1}),
    (any_positional, (1, 2, 3, 4), {}),
    (any_keyword, (1,), {"first": 2, "x": 3}),
    (everything, (1, 2, 3), {"key": 4, "x": 5}),
    (with_session, (7,), {}),
    (functools.partial(plain, 1), (), {"second": 3}),
    (functools.partial(plain, second=1), (1,), {"second": 3}),
    (CallableObject(), (1,), {}),
    (awaits, (1,), {}),
    (max, (1, 2), {}),
]

UNFIT: list[tuple[Any, tuple[Any, ...], dict[str, Any], str]] = [
    (plain, (), {}, "missing 1 required positional argument: 'first'"),
    (plain, (1, 2, 3), {}, "takes from 1 to 2 positional arguments but 3 were given"),
    (plain, (1,), {"first": 1}, "multiple values for argument 'first'"),
    (plain, (1,), {"secnd": 1}, "unexpected keyword argument 'secnd'"),
    (positional_only, (1,), {"second": 2}, "positional-only"),
    (keyword_only, (1,), {}, "takes 0 positional arguments but 1"),
    (keyword_only, (), {}, "missing 1 required keyword-only argument: 'key'"),
    (any_positional, (), {}, "missing 1 required positional argument: 'first'"),
    (any_keyword, (), {"first": 1}, "missing 1 required positional argument: 'first'"),
    (everything, (1, 2), {}, "missing 1 required keyword-only argument: 'key'"),
    (functools.partial(plain, 1, 2), (3,), {}, "positional argument"),
    (CallableObject(), (), {}, "missing 1 required positional argument: 'value'"),
    (awaits, (), {}, "missing 1 required positional argument: 'value'"),
]


@pytest.mark.parametrize(("function", "args", "kwargs"), FITTING)
async def test_a_call_that_the_function_takes_is_run(
    face: Face, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    job = face.job(function, name="job")

    await face.later(job, *args, **kwargs)
    outcome = await face.run()

    expected = function(*args, **kwargs)
    assert outcome.status == "completed"
    assert outcome.result == (await expected if inspect.isawaitable(expected) else expected)


@pytest.mark.parametrize(("function", "args", "kwargs", "why"), UNFIT)
async def test_a_call_that_the_function_rejects_is_refused_and_nothing_is_pushed(
    face: Face, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], why: str
) -> None:
    job = face.job(function, name="the-job")

    with pytest.raises(ArgumentMismatch, match="cannot defer the-job") as caught:
        await face.later(job, *args, **kwargs)

    assert why in str(caught.value)
    assert "its signature is (" in str(caught.value)
    assert isinstance(caught.value, UnserializableCall)
    assert isinstance(caught.value, TypeError)
    assert await face.stats() == (0, 0, 0)


async def test_a_method_is_checked_with_its_object_as_first_argument(face: Face) -> None:
    class Shop:
        def send(self, order: int) -> int:
            return order

    job = face.job(Shop.send, name="send").__get__(5, int)

    with pytest.raises(ArgumentMismatch, match="missing 1 required positional argument: 'order'"):
        await face.later(job)
    await face.later(job, 3)

    assert (await face.run()).result == 3


async def test_one_of_many_calls_that_is_rejected_stops_all_of_them(face: Face) -> None:
    job = face.job(plain)

    with pytest.raises(ArgumentMismatch):
        await face.later_many(job, [(1,), (1, 2, 3), (2,)])

    assert await face.stats() == (0, 0, 0)


async def test_a_producer_may_leave_the_check_to_its_consumers(make_face: MakeFace) -> None:
    face = make_face(check_arguments=False)
    job = face.job(plain, name="job")
    await face.later(job, 1, 2, 3)

    outcome = await face.run()

    assert outcome.status == "errored"
    assert isinstance(outcome.error, TypeError)


async def test_a_default_that_may_be_a_secret_is_not_shown(face: Face) -> None:
    def connect(host: str, password: str = "hunter2") -> None: ...

    with pytest.raises(ArgumentMismatch) as caught:
        await face.later(face.job(functools.partial(connect, password="hunter3"), name="job"))

    assert "hunter" not in str(caught.value)


@given(
    args=st.lists(st.integers(), max_size=4).map(tuple),
    kwargs=st.dictionaries(st.sampled_from(["first", "second", "key", "x"]), st.integers()),
)
def test_what_is_refused_is_what_the_function_rejects(
    args: tuple[int, ...], kwargs: dict[str, int]
) -> None:
    for function in (plain, positional_only, keyword_only, any_positional, any_keyword, everything):
        binder = binder_for(function)
        assert binder is not None
        assert _takes(binder, args, kwargs) == _takes(function, args, kwargs)


def _takes(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    try:
        function(*args, **kwargs)
    except TypeError:
        return False
    return True


# json: the annotations, too.


@dataclass
class Order:
    number: int
    when: date


def ship(order: Order, note: str = "", *more: int, **labels: str) -> Any:
    return order, note, more, labels


JSON_UNFIT = [
    ((5,), {}, "'order'"),
    ((Order("x", date(2026, 1, 2)),), {}, "'order'"),  # type: ignore[arg-type]
    ((Order(1, date(2026, 1, 2)), 5), {}, "'note'"),
    ((Order(1, date(2026, 1, 2)), "n", 1, "two"), {}, "'more'"),
    ((Order(1, date(2026, 1, 2)),), {"label": 5}, "'label'"),
]


@pytest.mark.parametrize(("args", "kwargs", "which"), JSON_UNFIT)
async def test_an_argument_that_does_not_fit_its_annotation_is_refused_with_json(
    make_face: MakeFace, args: tuple[Any, ...], kwargs: dict[str, Any], which: str
) -> None:
    face = make_face(serializer="json")
    job = face.job(ship)

    with pytest.raises(ArgumentMismatch, match=f"the argument {which} of .* does not fit"):
        await face.later(job, *args, **kwargs)

    assert await face.stats() == (0, 0, 0)


async def test_arguments_that_fit_their_annotations_arrive_with_json(make_face: MakeFace) -> None:
    face = make_face(serializer="json")
    order = Order(1, date(2026, 1, 2))
    await face.later(face.job(ship), order, "n", 1, 2, label="x")

    assert (await face.run()).result == (order, "n", (1, 2), {"label": "x"})


async def test_annotations_are_not_checked_where_arguments_are_not(make_face: MakeFace) -> None:
    face = make_face(serializer="json", check_arguments=False)
    await face.later(face.job(ship), 5)

    assert (await face.run()).status == "errored"


def test_a_running_loop_is_no_obstacle_to_the_check() -> None:
    async def main() -> None:
        face = Face("awaiting")
        with pytest.raises(TypeError):
            await face.later(face.job(plain))

    asyncio.run(main())
