"""What code of the first library relies on: the function itself has ``later``, and attributes."""

import functools
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from faces import Face, MakeFace

from deferrable.aio import Deferrable
from deferrable.aio.backend import InMemoryBackendFactory, RedisDebounceStore

pytestmark = pytest.mark.anyio

instance = Deferrable(InMemoryBackendFactory().create_backend_for_group(None))


def double(number: int) -> int:
    return 2 * number


def triple(number: int) -> int:
    return 3 * number


double_job = instance.deferrable(double)


def passing_on(function: Callable[..., Any]) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


@passing_on
@instance.deferrable
def half(number: int) -> float:
    return number / 2


async def run() -> Any:
    outcome = await instance.run_once()
    assert outcome is not None
    return outcome.result


async def test_a_function_whose_job_was_not_kept_has_later(face: Face) -> None:
    def greet(name: str) -> str:
        return f"Hello, {name}!"

    face.job(greet)
    await face.later(greet, "Ada")

    assert (await face.run()).result == "Hello, Ada!"


async def test_a_module_level_function_is_found_although_its_name_is_not_bound_to_the_job() -> None:
    await double.later_async(21)  # type: ignore[attr-defined]

    assert await run() == 42


async def test_a_decorator_above_ours_has_later() -> None:
    await half.later_async(84)

    assert await run() == 42


def test_the_function_is_still_pickled_by_reference_and_is_no_job() -> None:
    assert pickle.loads(pickle.dumps(double)) is double
    assert double(2) == 4
    assert vars(double).keys() == {"later", "later_async"}


async def test_each_of_two_instances_keeps_its_own_queue(make_face: MakeFace) -> None:
    first, second = make_face(), make_face()
    first_job, _ = first.job(triple, name="triple"), second.job(triple, name="triple")

    await first.later(first_job, 1)
    await second.later(triple, 2)

    assert (await first.run()).result == 3
    assert (await second.run()).result == 6


def test_an_attribute_of_the_users_own_stays(face: Face) -> None:
    def tagged() -> None: ...

    tagged.later = "not ours"  # type: ignore[attr-defined]
    tagged.tag = "blue"  # type: ignore[attr-defined]
    job = face.job(tagged)

    assert tagged.later == "not ours"  # type: ignore[attr-defined]
    assert job.tag == "blue"
    assert callable(job.later)


async def test_no_attribute_of_the_function_takes_the_place_of_a_method(face: Face) -> None:
    def tagged() -> None: ...

    vars(tagged).update(later="a", options="b", later_many="c", call="d", settings="e")
    job = face.job(tagged).options(delay_seconds=30)

    assert (await face.later(job)).status == "delayed"


async def test_options_count_although_the_function_has_later(face: Face) -> None:
    def greet() -> None: ...

    job = face.job(greet)

    assert (await face.later(job.options(delay_seconds=30))).status == "delayed"
    assert (await face.later(greet)).status == "pushed"


async def test_what_takes_no_attributes_is_a_job_all_the_same(face: Face) -> None:
    job = face.job(math.sqrt, name="root")
    await face.later(job, 9)

    assert (await face.run()).result == 3


def test_the_redis_client_is_an_attribute_that_can_be_set(face: Face) -> None:
    assert face.instance.redis_client is None

    face.instance.redis_client = "redis://localhost:1"
    assert face.instance.redis_client == "redis://localhost:1"
    assert isinstance(face.instance.debounce_store, RedisDebounceStore)
    face.job(lambda: None, name="debounced", debounce_seconds=5)

    face.instance.redis_client = None
    assert face.instance.debounce_store is None


def test_the_redis_client_is_the_object_that_was_given(make_face: MakeFace) -> None:
    url = "redis://localhost:1"

    assert make_face(redis_client=url).instance.redis_client is url
