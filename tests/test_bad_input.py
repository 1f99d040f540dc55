"""What bad input gets: a clear error, and nothing is lost.

One test for each kind, behind both doors, with plain and async jobs where jobs matter. What only a
Redis can get wrong (an item that is no JSON, a payload missing from the delayed set, a server that
is away) is in that backend's own tests.
"""

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from faces import Face, Kind, as_kind

from deferrable.errors import InvalidOptions, UnserializableCall
from deferrable.item import Item
from deferrable.metadata import MetadataProducerConsumer

pytestmark = pytest.mark.anyio


def work(*args: object, **kwargs: object) -> str:
    return "done"


async def good_item(face: Face, **changes: Any) -> Item:
    """An item of `work`, with changes."""
    await face.later(face.job(work))
    item = await face.take()
    assert item is not None
    return {**item, **changes}


async def run_bad_item(face: Face, item: Item) -> Item:
    """Run an item that cannot be read; it as it is in the error queue."""
    await face.broker.queue.push(item)

    outcome = await face.run()
    buried = await face.take_error()

    assert outcome.status == "errored"
    assert buried is not None
    assert _lasting(buried) == _lasting(item)
    assert await face.items() == []
    return buried


def _lasting(item: Item) -> Item:
    """What burying an item does not change."""
    changing = ("error", "last_push_time", "delay", "due_time")
    return {field: value for field, value in item.items() if field not in changing}


# Producers.


class Unpicklable:
    def __reduce__(self) -> NoReturn:
        raise TypeError("it holds a socket")


class Exits:
    def __reduce__(self) -> NoReturn:
        raise SystemExit


class Unspeakable:
    def __reduce__(self) -> NoReturn:
        raise TypeError

    def __repr__(self) -> NoReturn:
        raise ValueError


@pytest.mark.parametrize(
    "argument",
    [Unpicklable(), Exits(), Unspeakable(), threading.Lock(), lambda: None, (n for n in "a")],
    ids=lambda argument: type(argument).__name__,
)
@pytest.mark.parametrize("where", ["args", "kwargs"])
async def test_arguments_that_do_not_serialize_are_refused_by_later(
    face: Face, kind: Kind, argument: Any, where: str
) -> None:
    face.record_events()
    job = face.job(as_kind(kind, work))

    args, kwargs = ((1, argument), {}) if where == "args" else ((), {"good": 1, "bad": argument})

    with pytest.raises(UnserializableCall, match="Nothing was pushed") as caught:
        await face.later(job, *args, **kwargs)

    assert ("args[1]" if where == "args" else "'bad'") in str(caught.value)
    assert caught.value.__cause__ is not None
    assert await face.items() == []
    assert face.events == []


async def test_a_lambda_is_refused_by_later_by_name_with_what_to_do(face: Face) -> None:
    job = face.job(lambda: None, name=None)

    with pytest.raises(UnserializableCall, match=r"<lambda>.*it is a lambda.*name="):
        await face.later(job)

    assert await face.items() == []


def test_an_unknown_option_is_refused_at_decoration_and_for_one_call(face: Face) -> None:
    with pytest.raises(TypeError, match="retries"):
        face.instance.deferrable(retries=5)
    with pytest.raises(TypeError, match="retries"):
        face.job(work).options(retries=5)


@pytest.mark.parametrize(
    "options",
    [
        {"debounce_seconds": 5},
        {"debounce_always_delay": True},
        {"delay_seconds": -1},
        {"max_attempts": 0},
        {"timeout_seconds": 0},
    ],
)
def test_options_that_contradict_or_are_out_of_range_are_refused_at_decoration(
    face: Face, options: Any
) -> None:
    with pytest.raises(InvalidOptions, match=next(iter(options))):
        face.instance.deferrable(**options)


def test_a_bare_class_as_error_classes_is_refused_with_what_to_write(face: Face) -> None:
    with pytest.raises(InvalidOptions, match=r"error_classes=\[ValueError\]"):
        face.instance.deferrable(error_classes=ValueError)


# Items.


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (f"{__name__}:missing", "not a job of this instance"),
        (f"{__name__}:good_item", "not a job of this instance"),
        ("no_such_module:work", "ModuleNotFoundError"),
        (5, "method"),
        (None, "method"),
    ],
)
async def test_an_item_of_a_function_that_is_not_there_or_not_registered_is_kept_as_an_error(
    face: Face, method: Any, reason: str
) -> None:
    buried = await run_bad_item(face, await good_item(face, method=method))

    assert buried["error"]["error_type"] == "UnreadableItem"
    assert reason in buried["error"]["error_text"]


async def test_an_item_of_a_module_that_raises_on_import_is_kept_as_an_error(
    face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "module_that_raises.py").write_text("raise SystemExit('no')")
    monkeypatch.syspath_prepend(tmp_path)

    buried = await run_bad_item(face, await good_item(face, method="module_that_raises:work"))

    assert "importing module_that_raises raised SystemExit" in buried["error"]["error_text"]


@pytest.mark.parametrize(
    "changes",
    [
        {"args": "no pickle"},
        {"args": None},
        {"args": [1]},
        {"kwargs": "no pickle"},
        {"kwargs": 5},
        {"serializer": "unknown"},
        {"serializer": 5},
        {"serializer": None},
        {"due_time": "tomorrow"},
        pytest.param({"due_time": 10**400}, id="a due_time beyond floats"),
        {"ttl_seconds": "long", "item_queued_timestamp": 1},
        {"timeout_seconds": "short"},
        {"retry_on": 5, "args": "no pickle"},
        {"object": "no pickle"},
    ],
    ids=str,
)
async def test_an_item_that_does_not_decode_is_kept_as_an_error_whole(
    face: Face, changes: Item
) -> None:
    buried = await run_bad_item(face, await good_item(face, **changes))

    assert buried["error"]["error_type"] == "UnreadableItem"


@pytest.mark.parametrize("item", [{}, {"unknown": 1}, {"serializer": "pickle"}, {"error": 5}])
async def test_an_item_that_holds_no_call_at_all_is_kept_as_an_error(
    face: Face, item: Item
) -> None:
    await face.broker.queue.push(item)

    outcome = await face.run()
    buried = await face.take_error()

    assert outcome.status == "errored"
    assert buried is not None
    assert buried["error"]["error_type"] == "UnreadableItem"


@pytest.mark.parametrize("changes", [{"attempts": "many"}, {"max_attempts": []}, {"retry_on": 5}])
async def test_an_item_whose_retries_cannot_be_told_is_kept_with_both_errors(
    face: Face, kind: Kind, changes: Item
) -> None:
    def fail() -> NoReturn:
        raise ValueError("the job's own")

    await face.later(face.job(as_kind(kind, fail), error_classes=[ValueError]))
    item = await face.take()
    assert item is not None
    await face.broker.queue.push({**item, **changes})

    outcome = await face.run()
    buried = await face.take_error()

    assert outcome.status == "errored"
    assert buried is not None
    assert "UnreadableItem" in buried["error"]["traceback"]
    assert "the job's own" in buried["error"]["traceback"]


async def test_metadata_that_does_not_decode_is_kept_as_an_error(face: Face, kind: Kind) -> None:
    class Consumer(MetadataProducerConsumer):
        NAMESPACE = "consumer"

    face.instance.register_metadata_producer_consumer(Consumer())
    calls: list[int] = []
    job = face.job(as_kind(kind, lambda: calls.append(1)), name="job")
    await face.later(job)
    item = await face.take()
    assert item is not None

    buried = await run_bad_item(face, {**item, "encoded_metadata": {"consumer": "no pickle"}})

    assert buried["error"]["error_type"] == "UnreadableItem"
    assert calls == []


async def test_a_handler_that_raises_at_every_event_changes_nothing(face: Face, kind: Kind) -> None:
    class Raises:
        def __getattr__(self, name: str) -> Callable[[Any], Any]:
            def handler(item: Any) -> NoReturn:
                raise ZeroDivisionError(name)

            if not name.startswith("on_"):
                raise AttributeError(name)
            return as_kind(kind, handler)

    def fail() -> NoReturn:
        raise ValueError

    face.instance.register_event_consumer(Raises())
    await face.later(face.job(as_kind(kind, fail), error_classes=[ValueError], max_attempts=2))

    statuses = [(await face.run()).status]
    face.clock.advance(4)
    statuses.append((await face.run()).status)
    assert await face.run_once() is None

    assert statuses == ["retried", "errored"]
    assert len(await face.items()) == 1


@pytest.mark.parametrize(
    "written",
    [
        {"error": "payment failed", "order": 5},
        {"last_push_time": "noon", "due_time": None},
        {"method": "GET", "error": {"code": 402}},
        {"raw": "wool", "error": "payment failed"},
        {"raw": "wool", "order": 5, "error": {"error_type": "Payment"}},
    ],
)
async def test_what_another_program_wrote_is_kept_whole(face: Face, written: Item) -> None:
    await face.broker.queue.push({**written})

    outcome = await face.run()
    buried = await face.take_error()

    assert outcome.status == "errored"
    assert buried is not None
    assert json.loads(buried["raw"]) == written
    assert buried["error"]["error_type"] == "UnreadableItem"


# What a job raises.


class Unencodable(Exception):
    def __str__(self) -> str:
        return "lone \ud800 surrogate"


class Textless(Exception):
    def __str__(self) -> NoReturn:
        raise SystemExit("even this")


class NotText(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value] # that is the point


class Contrary(Exception):
    def __eq__(self, other: object) -> NoReturn:
        raise ZeroDivisionError

    def __hash__(self) -> NoReturn:
        raise ZeroDivisionError

    def __repr__(self) -> NoReturn:
        raise ZeroDivisionError


FAILURES = {
    "StopIteration": StopIteration("value"),
    "StopAsyncIteration": StopAsyncIteration(),
    "GeneratorExit": GeneratorExit(),
    "CancelledError": asyncio.CancelledError("own"),
    "ExceptionGroup": ExceptionGroup("two", [ValueError(1), ExceptionGroup("in", [OSError()])]),
    "BaseExceptionGroup": BaseExceptionGroup("base", [GeneratorExit(), ValueError()]),
    "Unencodable": Unencodable(),
    "UnicodeEncodeError": UnicodeEncodeError("ascii", "\udfff", 0, 1, "\ud800"),
    "Textless": Textless(),
    "NotText": NotText(),
    "Contrary": Contrary(),
    "RecursionError": RecursionError(),
    "MemoryError": MemoryError(),
    "BaseException": BaseException("bare"),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_whatever_a_job_raises_is_its_failure_and_its_item_is_kept(
    face: Face, kind: Kind, name: str
) -> None:
    def fail() -> NoReturn:
        raise FAILURES[name]

    face.record_events()
    await face.later(face.job(as_kind(kind, fail)))

    outcome = await face.run()
    buried = await face.take_error()

    assert outcome.status == "errored"
    assert face.event_names == ["push", "pop", "error", "complete"]
    assert buried is not None
    # A StopIteration cannot leave a coroutine: Python itself replaces it there.
    is_replaced = kind == "async" and name == "StopIteration"
    assert buried["error"]["error_type"] == ("RuntimeError" if is_replaced else name)
    assert name in buried["error"]["traceback"]
    assert await face.items() == []


@pytest.mark.parametrize("name", FAILURES)
async def test_whatever_a_job_raises_is_retried_if_its_error_classes_say_so(
    face: Face, kind: Kind, name: str
) -> None:
    def fail() -> NoReturn:
        raise FAILURES[name]

    await face.later(face.job(as_kind(kind, fail), error_classes=[BaseException], max_attempts=2))

    statuses = [(await face.run()).status]
    face.clock.advance(4)
    statuses.append((await face.run()).status)

    assert statuses == ["retried", "errored"]
    assert len(await face.items()) == 1


async def test_an_exception_group_is_not_the_errors_that_it_holds(face: Face, kind: Kind) -> None:
    def fail() -> NoReturn:
        raise ExceptionGroup("group", [ValueError("inside")])

    await face.later(face.job(as_kind(kind, fail), error_classes=[ValueError]))

    await face.run()
    buried = await face.take_error()

    assert buried is not None
    assert "inside" in buried["error"]["traceback"]


@pytest.mark.parametrize("door", ["awaiting", "blocking"])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_job_that_ends_the_process_gives_its_item_back(
    door: Any, kind: Kind, error: type[BaseException]
) -> None:
    def leave() -> NoReturn:
        raise error

    face = Face(door)
    face.record_events()
    job = face.job(as_kind(kind, leave), error_classes=[BaseException])

    async def main() -> bool:
        await face.later(job)
        try:
            await face.run_once()
        except error:
            return True
        return False

    was_raised = asyncio.run(main())  # the loop has lived on: this returns
    items = asyncio.run(face.items())

    assert was_raised
    assert face.event_names == ["push", "pop", "release"]
    assert [item["attempts"] for item in items] == [0]


async def test_the_portal_lives_on_whatever_a_job_raises() -> None:
    face = Face("blocking")

    async def leave() -> NoReturn:
        raise SystemExit

    face.job(leave).later()
    with pytest.raises(SystemExit):
        face.instance.run_once()

    assert face.job(work).later().status == "pushed"
