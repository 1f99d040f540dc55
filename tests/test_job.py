"""The job object: callers and inspectors see the function, and it can be deferred."""

import asyncio
import copy
import functools
import inspect
import pickle
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

import pytest
from faces import Face, Kind, MakeFace, as_kind

import deferrable
from deferrable.aio import BoundJob, Deferrable, InMemoryDebounceStore, Job
from deferrable.aio.backend import InMemoryBackendFactory
from deferrable.backend import InMemoryBackendFactory as BlockingInMemoryBackendFactory
from deferrable.errors import UnserializableCall
from deferrable.pickling import dumps

pytestmark = pytest.mark.anyio

F = TypeVar("F", bound=Callable[..., Any])

instance = Deferrable(InMemoryBackendFactory().create_backend_for_group(None))
blocking_instance = deferrable.Deferrable(
    BlockingInMemoryBackendFactory().create_backend_for_group(None)
)


@instance.deferrable
def add(a: int, b: int = 2, *, c: int = 3) -> int:
    """Adds."""
    return a + b + c


@instance.deferrable()
async def add_later(a: int, b: int = 2) -> int:
    """Adds, but awaits."""
    await asyncio.sleep(0)
    return a + b


@blocking_instance.deferrable(error_classes=[ValueError])
async def on_the_blocking_face(a: int) -> int:
    return a


class Account:
    """What users have methods on."""

    def __init__(self, owner: str) -> None:
        self.owner = owner

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Account) and other.owner == self.owner

    __hash__ = None  # type: ignore[assignment]

    @instance.deferrable
    def greet(self, greeting: str, mark: str = "!") -> str:
        """Greets."""
        return f"{greeting}, {self.owner}{mark}"

    @instance.deferrable
    async def greet_later(self, greeting: str) -> str:
        return f"{greeting}, {self.owner}"

    @instance.deferrable
    def anything(*args: object) -> int:  # its first argument is among them
        return len(args)

    @staticmethod
    @instance.deferrable
    def count(values: list[int]) -> int:
        return len(values)


class Savings(Account):
    """Inherits them."""


def noisy(function: F) -> F:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


@noisy
@instance.deferrable
def decorated_above(a: int) -> int:
    return a


@instance.deferrable
@noisy
def decorated_below(a: int) -> int:
    return a


async def run_everything() -> list[Any]:
    results = []
    while (outcome := await instance.run_once()) is not None:
        results.append(outcome.result if outcome.error is None else outcome.error)
    return results


@pytest.fixture(autouse=True)
def _empty_queue() -> Iterator[None]:
    yield
    asyncio.run(instance.backend.queue.flush())


# It is the function.


async def test_a_job_is_called_like_its_function() -> None:
    assert add(1) == 6
    assert add(1, b=1, c=1) == 3
    assert await add_later(1) == 3
    assert await on_the_blocking_face(1) == 1


def test_a_job_has_its_functions_name_docs_and_signature() -> None:
    assert (add.__name__, add.__qualname__, add.__module__) == ("add", "add", __name__)
    assert add.__doc__ == "Adds."
    assert str(inspect.signature(add)) == "(a: int, b: int = 2, *, c: int = 3) -> int"
    assert inspect.getsource(add).startswith("@instance.deferrable")


@pytest.mark.parametrize(
    ("job", "is_async"),
    [(add, False), (add_later, True), (on_the_blocking_face, True), (Account.greet_later, True)],
)
def test_a_job_is_a_coroutine_function_exactly_if_its_function_is(job: Any, is_async: bool) -> None:
    assert inspect.iscoroutinefunction(job) is is_async
    if sys.version_info < (3, 14):  # deprecated there
        assert asyncio.iscoroutinefunction(job) is is_async


def test_a_bound_job_is_a_coroutine_function_exactly_if_its_method_is() -> None:
    account = Account("me")

    assert inspect.iscoroutinefunction(account.greet_later)
    assert not inspect.iscoroutinefunction(account.greet)


@pytest.mark.parametrize("job", [add, add_later, on_the_blocking_face])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_job_pickles_by_reference(job: Any, protocol: int) -> None:
    assert pickle.loads(pickle.dumps(job, protocol)) is job


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_job_is_copied_like_a_function_not_at_all(copied: Callable[[Any], Any]) -> None:
    assert copied(add) is add


async def test_a_job_may_travel_as_an_argument() -> None:
    await apply.later_async(add, 1)

    assert await run_everything() == [6]


@instance.deferrable
def apply(function: Callable[[int], int], value: int) -> int:
    return function(value)


def test_a_job_says_which_it_is() -> None:
    assert repr(add) == f"<Job {__name__}:add, no group: <InMemoryQueue deferrable>>"
    assert "greet" in repr(Account("me").greet)


# Methods.


async def test_a_job_binds_as_a_method() -> None:
    account = Account("me")

    assert account.greet("Hello") == "Hello, me!"
    assert Account.greet(account, "Hello", "?") == "Hello, me?"
    assert await account.greet_later("Hello") == "Hello, me"
    assert str(inspect.signature(account.greet)) == "(greeting: str, mark: str = '!') -> str"
    assert str(inspect.signature(account.anything)) == "(*args: object) -> int"
    assert account.greet.__doc__ == "Greets."


async def test_later_on_a_bound_job_sends_the_object_along() -> None:
    account = Account("me")

    await account.greet.later_async("Hello", mark="?")
    account.greet.later("Bye")
    account.owner = "somebody else"

    assert await run_everything() == ["Hello, me?", "Bye, me!"]


async def test_a_method_that_is_inherited_runs_on_the_object_that_was_sent() -> None:
    await Savings("me").greet.later_async("Hello")

    assert await run_everything() == ["Hello, me!"]


async def test_every_verb_is_on_a_bound_job() -> None:
    account = Account("me")

    await account.greet.later_many_async([("a",), account.greet.call("b", mark="?")])
    account.greet.later_many([("c",)])
    receipt = await account.greet.options(delay_seconds=3600).later_async("never")

    assert await run_everything() == ["a, me!", "b, me?", "c, me!"]
    assert receipt.status == "delayed"


async def test_many_calls_of_a_bound_job_are_tuples_too() -> None:
    with pytest.raises(TypeError, match="tuples"):
        await Account("me").greet.later_many_async(["a"])  # type: ignore[list-item]


async def test_a_bound_job_pickles_with_its_object() -> None:
    bound = pickle.loads(pickle.dumps(Account("me").greet))

    assert isinstance(bound, BoundJob)
    assert bound("Hello") == "Hello, me!"


async def test_a_static_method_is_a_job_when_staticmethod_stands_above() -> None:
    await Account.count.later_async([1, 2])
    await Account("me").count.later_async([1])

    assert await run_everything() == [2, 1]


async def test_an_object_item_of_the_old_library_calls_the_method_of_the_object() -> None:
    item = {
        "object": dumps(Account("me")),
        "method": "greet",
        "args": dumps(("Hello",)),
        "kwargs": dumps([("mark", "?")]),
    }
    await instance.backend.queue.push(item)
    await instance.backend.queue.push({**item, "kwargs": dumps({"mark": "."})})

    assert await run_everything() == ["Hello, me?", "Hello, me."]


@pytest.mark.parametrize("method", ["owner", "__init__", "missing", "__class__"])
async def test_an_object_item_calls_nothing_but_jobs(method: str) -> None:
    item = {
        "object": dumps(Account("me")),
        "method": method,
        "args": dumps(()),
        "kwargs": dumps([]),
    }
    await instance.backend.queue.push(item)

    [error] = await run_everything()

    assert method in str(error)
    assert "not a job of this instance" in str(error)


# What travels, and what does not.


async def test_other_decorators_above_and_below_are_fine() -> None:
    above: Any = decorated_above

    await decorated_below.later_async(1)
    await above.__wrapped__.later_async(2)

    assert decorated_above(3) == 3
    assert await run_everything() == [1, 2]


async def test_a_given_name_replaces_the_place_of_the_function(face: Face) -> None:
    job = face.job(lambda value: value + 1, name="increment")

    await face.later(job, 1)

    outcome = await face.run()
    assert (outcome.item["method"], outcome.result) == ("increment", 2)


async def test_a_partial_with_a_name_is_a_job(face: Face) -> None:
    job = face.job(functools.partial(divmod, 7), name="seven by")

    await face.later(job, 2)

    assert job(3) == (2, 1)
    assert (await face.run()).result == (3, 1)


def lonely() -> None:
    """Registered, but its name leads elsewhere."""


_replaced = lonely


def lonely() -> None:  # type: ignore[no-redef] # that is the point
    """What the name leads to."""


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: lambda: None, "lambda"),
        (lambda: _nested(), "defined inside the function _nested"),
        (lambda: functools.partial(print), "without a name"),
        (lambda: _replaced, "has something else with the name lonely"),
    ],
)
async def test_what_nobody_else_could_find_is_refused_by_later_with_what_to_do(
    face: Face, make: Callable[[], Any], reason: str
) -> None:
    face.backend.queue.IS_LOCAL = False  # type: ignore[misc]
    job = face.job(make(), name=None)

    with pytest.raises(UnserializableCall, match=reason) as caught:
        await face.later(job)

    assert "name=" in str(caught.value)
    assert await face.items() == []


def _nested() -> Callable[[], None]:
    def nested() -> None:
        """Nobody finds it."""

    return nested


def test_what_nobody_else_could_find_can_still_be_called(face: Face) -> None:
    assert face.job(lambda: 5, name=None)() == 5


async def test_a_call_with_wrong_arguments_that_was_pushed_fails_where_it_runs(
    make_face: MakeFace,
) -> None:
    face = make_face(check_arguments=False)
    await face.later(face.job(lambda a: a, name="one"), 1, 2)

    outcome = await face.run()

    assert outcome.status == "errored"
    assert isinstance(outcome.error, TypeError)


# What is no job.


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("function", [generator, async_generator, functools.partial(generator)])
def test_a_generator_function_is_refused(face: Face, function: Any) -> None:
    with pytest.raises(TypeError, match=r"generator function.*return a value instead"):
        face.instance.deferrable()(function)


async def coroutine() -> None: ...


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize(
    ("how", "make", "what"),
    [
        ("plain", generator, "a generator"),
        ("async", generator, "a generator"),
        ("plain", async_generator, "an async generator"),
        ("async", async_generator, "an async generator"),
        ("async", coroutine, "a coroutine"),
    ],
)
async def test_a_job_that_returns_what_has_not_run_has_failed(
    face: Face, how: Kind, make: Callable[[], Any], what: str
) -> None:
    await face.later(face.job(as_kind(how, lambda: make()), name="job"))

    outcome = await face.run()

    assert outcome.status == "errored"
    assert isinstance(outcome.error, TypeError)
    assert f"the job returned {what}, whose code has not run" in str(outcome.error)


def test_a_job_is_not_decorated_twice(face: Face) -> None:
    job = face.job(lambda: None, name="once")

    with pytest.raises(TypeError, match="is a job already"):
        face.instance.deferrable()(job)
    with pytest.raises(TypeError, match="is a job already"):
        face.instance.deferrable(job)


@pytest.mark.parametrize("thing", [5, "text", None, int, Account, classmethod(print)])
def test_what_is_no_function_is_refused(face: Face, thing: Any) -> None:
    with pytest.raises(TypeError, match="a job is a function"):
        face.instance.deferrable()(thing)


def test_a_static_method_below_the_decorator_is_refused_with_what_to_do(face: Face) -> None:
    with pytest.raises(TypeError, match="@staticmethod above"):
        face.instance.deferrable(staticmethod(lonely))


async def test_options_keep_the_name_and_what_is_registered(make_face: MakeFace) -> None:
    face = make_face(debounce_store=InMemoryDebounceStore())
    job = face.job(lambda: "done", name="named")

    changed = job.options(max_attempts=2).options(debounce_seconds=5)
    await face.later(changed)

    assert isinstance(changed, Job)
    assert (changed.name, changed()) == ("named", "done")
    outcome = await face.run()
    assert (outcome.item["max_attempts"], outcome.result) == (2, "done")


async def test_options_of_a_job_without_a_given_name_leave_it_findable() -> None:
    await add.options(max_attempts=2).later_async(1)

    assert await run_everything() == [6]
