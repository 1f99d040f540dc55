"""Options: what is refused at decoration, what at ``later``, and in which words."""

import enum
import inspect
import math
import time
from collections.abc import Callable, Coroutine
from dataclasses import astuple, fields
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_overloads, get_type_hints

import pytest
from faces import Face, MakeFace
from redis_server import unique_group

import deferrable
from deferrable._option_conflicts import check
from deferrable.aio import Deferrable, InMemoryDebounceStore
from deferrable.aio._decorating import MEANINGS, SIGNATURE, Decorating
from deferrable.aio.backend import (
    DocketsBackendFactory,
    InMemoryBackendFactory,
    SQSBackendFactory,
)
from deferrable.aio.backend.base import Backend
from deferrable.errors import DeferrableError, InvalidOptions
from deferrable.options import (
    OPTIONS,
    DecoratorKeywords,
    JobOptions,
    OptionChanges,
    change,
    error_class_tuple,
    resolve,
)
from deferrable.retry import Retry

pytestmark = pytest.mark.anyio

NOW = 1_000_000.0


def give_five() -> float:
    return 5


def instance(**options: Any) -> Deferrable:
    return Deferrable(InMemoryBackendFactory().create_backend_for_group(None), **options)


def function(*args: object) -> None:
    """A function to decorate."""


# What type checkers read stands as text beside the declaration, and says the same.


def test_type_checkers_know_the_decorator_as_it_is_declared() -> None:
    _, with_options = get_overloads(Decorating.deferrable)
    *classic, _ = inspect.signature(with_options).parameters.values()
    shown = {each.name: (each.default, each.annotation) for each in classic}
    shown |= {name: (None, hint) for name, hint in get_type_hints(DecoratorKeywords).items()}
    declared = {
        each.name: (each.default, each.annotation) for each in SIGNATURE.parameters.values()
    }

    assert shown.keys() == declared.keys()
    for name, (default, annotation) in declared.items():
        by_name = name in DecoratorKeywords.__annotations__
        assert shown[name] == (None if by_name else default, annotation), name
        assert (SIGNATURE.parameters[name].kind is inspect.Parameter.KEYWORD_ONLY) == by_name


def test_type_checkers_know_every_option_of_one_call() -> None:
    assert set(get_type_hints(OptionChanges)) == {each.name for each in fields(JobOptions)}


def test_every_option_is_explained_where_help_shows_it() -> None:
    shown = inspect.getdoc(deferrable.Deferrable.deferrable)

    for name, meaning in MEANINGS.items():
        assert (name in OPTIONS and OPTIONS[name].is_for_calls) or f"{name}: {meaning}" in " ".join(
            (shown or "").split()
        )


@pytest.mark.parametrize("name", sorted(DecoratorKeywords.__annotations__))
def test_options_that_the_first_library_lacked_are_given_by_name(name: str) -> None:
    job = instance().deferrable

    with pytest.raises(TypeError, match="too many positional arguments"):
        job([], 3, 0, 0, False, 0, True, name)  # type: ignore[call-overload]


@pytest.mark.parametrize("option", ["delay_seconds", "debounce_seconds", "ttl_seconds"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, -math.inf, "5", True, None, [], 10**400])
def test_seconds_out_of_range_are_refused_at_decoration(option: str, value: Any) -> None:
    options = JobOptions(**{option: value})

    with pytest.raises(InvalidOptions, match=option) as caught:
        check(options, can_debounce=True)

    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, DeferrableError)


@pytest.mark.parametrize("option", ["delay_seconds", "debounce_seconds", "ttl_seconds"])
@pytest.mark.parametrize("value", [-1, math.nan, "5", True, None])
def test_seconds_out_of_range_of_a_callable_are_refused_at_later(option: str, value: Any) -> None:
    options = JobOptions(**{option: lambda: value})
    check(options, can_debounce=True)

    with pytest.raises(InvalidOptions, match=option):
        resolve(options, NOW)


@pytest.mark.parametrize("value", ["", "x" * 129, "two words", "é", 7, b"x"])
def test_a_group_id_that_sqs_would_refuse_is_refused(value: Any) -> None:
    with pytest.raises(InvalidOptions, match="message_group_id"):
        check(JobOptions(message_group_id=value), can_debounce=False)


async def test_a_group_id_travels_with_the_item(face: Face) -> None:
    await face.later(face.job(function, message_group_id="customer-7"))

    item = await face.take()

    assert item is not None
    assert item["message_group_id"] == "customer-7"


@pytest.mark.parametrize("value", [0, -1, True, 2.0, "3"])
def test_attempts_are_a_whole_number_from_one_on(value: Any) -> None:
    with pytest.raises(InvalidOptions, match="max_attempts"):
        check(JobOptions(max_attempts=value), can_debounce=False)


def test_one_attempt_is_allowed() -> None:
    check(JobOptions(max_attempts=1), can_debounce=False)


@pytest.mark.parametrize("value", [0, -1, math.nan, "1", True])
def test_a_time_limit_is_over_zero(value: Any) -> None:
    with pytest.raises(InvalidOptions, match="timeout_seconds"):
        check(JobOptions(timeout_seconds=value), can_debounce=False)


@pytest.mark.parametrize("seconds", [5, give_five])
def test_debounce_needs_a_place_to_keep_windows(seconds: Any) -> None:
    backend = InMemoryBackendFactory().create_backend_for_group(None)
    without_store = Deferrable(Backend(None, backend.queue, backend.error_queue))

    with pytest.raises(InvalidOptions, match="redis_client"):
        without_store.deferrable(debounce_seconds=seconds)


@pytest.mark.parametrize("delay", [1, give_five])
@pytest.mark.parametrize("debounce", [1, give_five])
def test_delay_and_debounce_exclude_each_other_where_a_callable_counts_as_set(
    delay: Any, debounce: Any
) -> None:
    with pytest.raises(InvalidOptions, match="delayed and debounced"):
        instance(debounce_store=InMemoryDebounceStore()).deferrable(
            delay_seconds=delay, debounce_seconds=debounce
        )


@pytest.mark.parametrize("option", ["debounce_always_delay", "debounce_key"])
def test_an_option_to_debounce_needs_debounce(option: str) -> None:
    with pytest.raises(InvalidOptions, match=option):
        instance(debounce_store=InMemoryDebounceStore()).deferrable(**{option: function})


def test_a_moment_to_run_and_a_delay_exclude_each_other() -> None:
    with pytest.raises(InvalidOptions, match="run_at"):
        check(JobOptions(delay_seconds=1, run_at=NOW), can_debounce=False)


def test_a_moment_to_run_and_debounce_exclude_each_other() -> None:
    with pytest.raises(InvalidOptions, match="run_at"):
        check(JobOptions(debounce_seconds=1, run_at=NOW), can_debounce=True)


@pytest.mark.parametrize("value", ["tomorrow", math.nan, math.inf, True])
def test_a_moment_to_run_is_a_datetime_or_epoch_seconds(value: Any) -> None:
    with pytest.raises(InvalidOptions, match="run_at"):
        check(JobOptions(run_at=value), can_debounce=False)


@pytest.mark.parametrize("classes", [ValueError, Exception, int])
def test_a_bare_class_as_error_classes_is_refused_with_what_to_write(classes: type) -> None:
    with pytest.raises(InvalidOptions, match=rf"write error_classes=\[{classes.__name__}\]"):
        instance().deferrable(error_classes=classes)  # type: ignore[call-overload]


def test_error_classes_of_one_call_are_checked_like_the_jobs() -> None:
    job = instance().deferrable(function)

    with pytest.raises(InvalidOptions, match=r"write error_classes=\[ValueError\]"):
        job.options(error_classes=ValueError)  # type: ignore[typeddict-item]


@pytest.mark.parametrize("classes", [5, [5], ["ValueError"], [int], [ValueError()], ValueError()])
def test_error_classes_that_are_no_exception_classes_are_refused(classes: Any) -> None:
    with pytest.raises(InvalidOptions, match="error_classes"):
        instance().deferrable(error_classes=classes)


@pytest.mark.parametrize("value", [ValueError, 5, [int]])
def test_default_error_classes_are_checked_like_a_jobs(value: Any) -> None:
    with pytest.raises(InvalidOptions, match="default_error_classes"):
        instance(default_error_classes=value)
    with pytest.raises(InvalidOptions, match="default_error_classes"):
        instance().default_error_classes = value


@pytest.mark.parametrize("value", [0, None, "2"])
def test_default_max_attempts_are_checked_like_a_jobs(value: Any) -> None:
    with pytest.raises(InvalidOptions, match="default_max_attempts"):
        instance(default_max_attempts=value)


def test_an_iterable_of_error_classes_is_read_once() -> None:
    classes = error_class_tuple("error_classes", (each for each in (KeyError, ValueError)))

    assert classes == (KeyError, ValueError)


@pytest.mark.parametrize("option", ["delay_secconds", "retries", "run_at", "args"])
def test_an_unknown_option_is_refused_at_decoration(option: str) -> None:
    with pytest.raises(TypeError, match=option):
        instance().deferrable(**{option: 1})


@pytest.mark.parametrize("option", ["delay_secconds", "name", "args"])
def test_an_unknown_option_of_one_call_is_refused_and_the_known_ones_named(option: str) -> None:
    job = instance().deferrable(function)

    with pytest.raises(TypeError, match=f"no option '{option}'.*delay_seconds"):
        job.options(**{option: 1})


def test_an_unknown_serializer_is_refused() -> None:
    with pytest.raises(InvalidOptions, match="serializer"):
        instance(serializer="yaml")


def test_a_name_cannot_travel_in_a_classic_item() -> None:
    with pytest.raises(InvalidOptions, match="name="):
        instance(serializer="classic").deferrable(name="mine")


def test_error_classes_that_python_2_lacks_are_refused_at_decoration_of_a_classic_job() -> None:
    with pytest.raises(InvalidOptions, match="ExceptionGroup"):
        instance(serializer="classic").deferrable(error_classes=[ExceptionGroup])


async def test_closing_an_instance_closes_its_backend_and_its_store(make_face: MakeFace) -> None:
    closed: list[str] = []

    class Store(InMemoryDebounceStore):
        async def close(self) -> None:
            closed.append("store")

    face = make_face(debounce_store=Store())
    face.backend.queue._close = _note(closed, "queue")  # type: ignore[method-assign]
    face.backend.error_queue._close = _note(closed, "error queue")  # type: ignore[method-assign]

    await face.do(face.instance.close)
    once = list(closed)
    await face.do(face.instance.close)

    assert sorted(once) == ["error queue", "queue", "store"]


def _note(notes: list[str], name: str) -> Callable[[], Coroutine[Any, Any, None]]:
    async def note() -> None:
        notes.append(name)

    return note


@pytest.mark.parametrize(
    "options",
    [{"delay_seconds": 11}, {"debounce_seconds": 11}, {"delay_seconds": lambda: 11}],
)
def test_a_delay_or_window_longer_than_the_ttl_is_refused_at_later(options: Any) -> None:
    with pytest.raises(InvalidOptions, match="ttl_seconds=10"):
        resolve(JobOptions(ttl_seconds=10, **options), NOW)


@pytest.mark.parametrize("option", ["delay_seconds", "debounce_seconds"])
def test_a_delay_or_window_as_long_as_the_ttl_is_allowed(option: str) -> None:
    resolved = resolve(JobOptions(ttl_seconds=10, **{option: 10}), NOW)

    assert getattr(resolved, option) == 10


def test_each_callable_is_called_exactly_once() -> None:
    calls: list[str] = []

    def seconds(name: str) -> Callable[[], float]:
        def give() -> float:
            calls.append(name)
            return 5

        return give

    resolve(JobOptions(delay_seconds=seconds("delay"), ttl_seconds=seconds("ttl")), NOW)
    resolve(JobOptions(debounce_seconds=seconds("debounce")), NOW)

    assert calls == ["delay", "ttl", "debounce"]


@pytest.mark.parametrize(
    "run_at",
    [
        NOW + 60,
        datetime.fromtimestamp(NOW + 60, UTC),
        datetime.fromtimestamp(NOW + 60, timezone(timedelta(hours=-7))),
    ],
)
def test_a_moment_to_run_is_a_delay_until_then(run_at: Any) -> None:
    assert resolve(JobOptions(run_at=run_at), NOW).delay_seconds == 60


def test_a_moment_of_the_past_is_now() -> None:
    assert resolve(JobOptions(run_at=NOW - 60), NOW).delay_seconds == 0


def test_a_moment_after_the_ttl_is_refused() -> None:
    with pytest.raises(InvalidOptions, match=r"run_at=.* \(60 s\) is longer than ttl_seconds=59"):
        resolve(JobOptions(run_at=NOW + 60, ttl_seconds=59), NOW)


def test_a_new_moment_replaces_an_old_delay_and_a_new_delay_an_old_moment() -> None:
    delayed, dated = JobOptions(delay_seconds=5), JobOptions(run_at=NOW)

    assert change(delayed, {"run_at": NOW}) == JobOptions(run_at=NOW)
    assert change(dated, {"delay_seconds": 5}) == JobOptions(delay_seconds=5)
    assert change(dated, {"delay_seconds": 0}) == JobOptions()
    assert change(dated, {"max_attempts": 2}) == JobOptions(run_at=NOW, max_attempts=2)


def test_what_contradicts_the_jobs_own_options_is_refused_for_one_call_too() -> None:
    job = instance(debounce_store=InMemoryDebounceStore()).deferrable(debounce_seconds=5)(function)

    with pytest.raises(InvalidOptions, match="delayed and debounced"):
        job.options(delay_seconds=1)


# The classic signatures, which code that was written for the old library calls.


@pytest.mark.parametrize("face", [Deferrable, deferrable.Deferrable])
def test_an_instance_takes_what_it_always_took_in_the_old_order(face: Any) -> None:
    parameters = list(inspect.signature(face).parameters.values())

    positional = [
        (each.name, each.default) for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD
    ]
    assert positional == [
        ("backend", inspect.Parameter.empty),
        ("redis_client", None),
        ("default_error_classes", None),
        ("default_max_attempts", 5),
    ]


def test_the_decorator_takes_what_it_always_took_in_the_old_order() -> None:
    parameters = list(inspect.signature(Deferrable.deferrable).parameters.values())[1:]

    positional = [
        (each.name, each.default) for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD
    ]
    assert positional == [
        ("error_classes", None),
        ("max_attempts", None),
        ("delay_seconds", 0),
        ("debounce_seconds", 0),
        ("debounce_always_delay", False),
        ("ttl_seconds", 0),
        ("use_exponential_backoff", True),
    ]


@pytest.mark.parametrize("decorate", ["bare", "empty", "positional"])
async def test_the_decorator_stands_with_or_without_parentheses(face: Face, decorate: str) -> None:
    decorators = {
        "bare": face.instance.deferrable,
        "empty": face.instance.deferrable(),
        "positional": face.instance.deferrable([ValueError], 3, 0, 0, False, 0, True),
    }

    job = decorators[decorate](function)
    await face.later(job)
    item = await face.take()

    assert item is not None
    assert item["method"] == f"{__name__}:function"
    assert item["max_attempts"] == (3 if decorate == "positional" else 5)


def test_what_users_may_read_and_set_is_public(face: Face) -> None:
    face.instance.default_error_classes = [ValueError]
    face.instance.default_max_attempts = 7

    assert face.instance.default_error_classes == (ValueError,)
    assert face.instance.default_max_attempts == 7
    assert face.instance.backend.group is None


# Durations and moments.


@pytest.mark.parametrize(
    "option", ["delay_seconds", "debounce_seconds", "ttl_seconds", "timeout_seconds"]
)
def test_seconds_may_be_a_timedelta(option: str) -> None:
    options = JobOptions(**{option: timedelta(minutes=1, milliseconds=500)})

    check(options, can_debounce=True)

    assert getattr(options, option) == 60.5
    assert getattr(change(JobOptions(), {option: timedelta(1)}), option) == 86_400  # type: ignore[misc]


@pytest.mark.parametrize("option", ["delay_seconds", "debounce_seconds", "ttl_seconds"])
def test_a_callable_may_return_a_timedelta(option: str) -> None:
    options = JobOptions(**{option: lambda: timedelta(minutes=1)})

    assert getattr(resolve(options, NOW), option) == 60


@pytest.mark.parametrize(
    "option", ["delay_seconds", "debounce_seconds", "ttl_seconds", "timeout_seconds"]
)
def test_a_timedelta_out_of_range_is_refused(option: str) -> None:
    options = JobOptions(**{option: timedelta(seconds=-1)})

    with pytest.raises(
        InvalidOptions, match=f"{option} must be a number of seconds .* or a timedelta"
    ):
        check(options, can_debounce=True)


async def test_a_timedelta_travels_as_seconds(face: Face) -> None:
    job = face.job(
        function, delay_seconds=timedelta(minutes=1), timeout_seconds=timedelta(minutes=2)
    )
    await face.later(job)
    face.clock.advance(61)

    item = await face.take()

    assert item is not None
    assert (item["original_delay_seconds"], item["timeout_seconds"]) == (60, 120)


def test_a_retry_may_be_after_a_timedelta() -> None:
    assert Retry(after_seconds=timedelta(minutes=1)).after_seconds == 60


class Spelled(float):
    """A number whose text is no number, as those of numpy are."""

    def __repr__(self) -> str:
        return f"Spelled({float(self)})"

    __str__ = __repr__


class Pause(enum.Enum):
    SHORT = 3


class Count(int, enum.Enum):
    TWO = 2


ODD_NUMBERS = [Spelled(2.0), Count.TWO]


@pytest.mark.parametrize("number", ODD_NUMBERS)
def test_a_number_of_a_subclass_becomes_a_plain_number(number: Any) -> None:
    options = JobOptions(
        delay_seconds=number, debounce_seconds=number, ttl_seconds=number, timeout_seconds=number
    )
    called = JobOptions(delay_seconds=lambda: number, ttl_seconds=lambda: number)
    later = resolve(JobOptions(run_at=number), now=0)

    resolved = [resolve(each, NOW) for each in (options, called)]

    numbers = [value for each in (*resolved, later) for value in astuple(each) if value]
    numbers += [options.timeout_seconds, Retry(after_seconds=number).after_seconds]
    assert [repr(float(value)) for value in numbers] == ["2.0"] * len(numbers)
    assert {type(value) for value in numbers} <= {int, float}
    assert type(JobOptions(max_attempts=Count.TWO).max_attempts) is int


def test_an_enum_that_is_no_number_is_refused() -> None:
    with pytest.raises(InvalidOptions, match=r"Pause\.SHORT"):
        instance().deferrable(delay_seconds=Pause.SHORT)(function)


@pytest.mark.parametrize("number", ODD_NUMBERS)
async def test_redis_takes_a_number_of_a_subclass(redis_url: str, number: Any) -> None:
    factory = DocketsBackendFactory(redis_url, wait_time=0)
    backend = factory.create_backend_for_group(unique_group("numbers-"))

    async with Deferrable(backend) as numbers:

        @numbers.deferrable(name="job")
        async def job() -> None:
            raise Retry(after_seconds=number)

        await job.later_async()
        outcome = await numbers.run_once()
        for options in (
            {"delay_seconds": number},
            {"run_at": Spelled(time.time() + 60)},
            {"debounce_seconds": number, "debounce_always_delay": True},
        ):
            receipt = await job.options(**options).later_async()  # type: ignore[typeddict-item]
            assert receipt.status == "delayed"
        stats = await backend.queue.stats()

    assert outcome is not None
    assert outcome.status == "retried"
    assert (stats["in_flight"], stats["delayed"]) == (0, 4)


@pytest.mark.parametrize("value", [timedelta(-1), -1, math.nan, math.inf, "5", True])
def test_a_retry_after_something_else_is_refused(value: Any) -> None:
    with pytest.raises(InvalidOptions, match="after_seconds"):
        Retry(after_seconds=value)


def test_the_seconds_of_factories_and_workers_may_be_timedeltas() -> None:
    minute = timedelta(minutes=1)
    memory = InMemoryBackendFactory(minute, minute, max_lease_seconds=minute)
    redis = DocketsBackendFactory("redis://127.0.0.1:1/0", minute, minute, max_lease_seconds=minute)
    sqs = SQSBackendFactory(None, minute, timedelta(seconds=1.5), max_lease_seconds=minute)

    for factory in (memory, redis, sqs):
        queue = factory.create_backend_for_group(None).queue
        assert (queue.lease_seconds, queue.max_lease_seconds) == (60, 60)
    Deferrable(memory.create_backend_for_group(None)).worker(grace_seconds=minute)


@pytest.mark.parametrize("value", [timedelta(0), 0, -1, math.nan, "5", None, True])
def test_a_lease_that_is_no_time_is_refused_by_every_factory(value: Any) -> None:
    for make in (
        lambda: InMemoryBackendFactory(None, value),
        lambda: DocketsBackendFactory("redis://127.0.0.1:1/0", 3, value),
        lambda: SQSBackendFactory(None, value),
    ):
        with pytest.raises(InvalidOptions, match="timeout must be a number of seconds"):
            make()


@pytest.mark.parametrize("value", [-1, math.nan, "5", None, True, []])
def test_a_number_of_redeliveries_that_is_none_is_refused(value: Any) -> None:
    for make in (
        lambda: InMemoryBackendFactory(max_redeliveries=value),
        lambda: DocketsBackendFactory("redis://127.0.0.1:1/0", max_redeliveries=value),
    ):
        with pytest.raises(
            InvalidOptions, match="max_redeliveries must be a number of at least 0; got"
        ):
            make()


@pytest.mark.parametrize("value", [0, 1001, math.nan, "5", True])
def test_a_number_of_receives_that_sqs_would_refuse_is_refused(value: Any) -> None:
    with pytest.raises(
        InvalidOptions, match="max_receive_count must be a number from 1 to 1000; got"
    ):
        SQSBackendFactory(max_receive_count=value)


@pytest.mark.parametrize("value", [-1, 2.0, math.nan, "3", True])
@pytest.mark.parametrize(("option", "least"), [("concurrency", 1), ("threads", 1), ("prefetch", 0)])
def test_counts_of_a_worker_are_whole_numbers(option: str, least: int, value: Any) -> None:
    message = f"{option} must be a whole number of at least {least}; got"

    with pytest.raises(InvalidOptions, match=message):
        instance().worker(**{option: value})


async def test_an_item_is_kept_and_given_back_for_a_timedelta(face: Face) -> None:
    queue = face.broker.queue
    await queue.push({"n": 1})
    envelope, _ = await queue.pop()
    assert envelope is not None

    await queue.touch(envelope, timedelta(minutes=1))
    kept_until = envelope.lease_end_time
    await queue.release(envelope, timedelta(minutes=1))

    assert kept_until == face.clock.monotonic() + 60
    assert (await face.stats())[2] == 1


@pytest.mark.parametrize("moment", [datetime.min, datetime.max, datetime(2026, 7, 1, 12)])
def test_a_moment_without_a_time_zone_is_refused_with_what_to_write(moment: datetime) -> None:
    with pytest.raises(InvalidOptions, match=r"no time zone.*datetime.now\(UTC\)"):
        check(JobOptions(run_at=moment), can_debounce=False)


@pytest.mark.parametrize("hours", [-14, 0, 14])
@pytest.mark.parametrize("moment", [datetime.min, datetime.max])
def test_the_first_and_the_last_moment_of_any_zone_are_moments(
    moment: datetime, hours: int
) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(hours=hours)))

    delay = resolve(JobOptions(run_at=aware), NOW).delay_seconds

    assert delay == max(0, (aware - datetime.fromtimestamp(0, UTC)).total_seconds() - NOW)


@pytest.mark.parametrize("moment", [10**400, -(10**400), math.inf])
def test_a_moment_beyond_all_numbers_is_refused(moment: float) -> None:
    with pytest.raises(InvalidOptions, match="run_at"):
        check(JobOptions(run_at=moment), can_debounce=False)
