"""Calls as JSON: what arrives is what the function's annotations say, or it is refused by name."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntFlag, StrEnum
from typing import Annotated, Any, Literal, NamedTuple, NewType, NoReturn, TypedDict, Union, Unpack
from uuid import UUID

import msgspec
import pytest
from faces import Face
from hypothesis import given
from hypothesis import strategies as st

from deferrable._codec.serializers import DecodedCall, get_serializer
from deferrable.errors import UnreadableItem, UnserializableCall
from deferrable.pickling import pretty_unpickle, unpickle_method_call

pytestmark = pytest.mark.anyio

serializer = get_serializer("json")


class Colour(Enum):
    RED = "red"


class Size(StrEnum):
    SMALL = "s"


class Flags(IntFlag):
    A = 1
    B = 2


class Pair(NamedTuple):
    left: int
    right: date


class Options(TypedDict, total=False):
    when: datetime
    count: int


@dataclass
class Line:
    sku: UUID
    price: Decimal


@dataclass
class Order:
    lines: list[Line]
    notes: dict[int, str] = field(default_factory=dict)


class Point(msgspec.Struct):
    x: int


Cents = NewType("Cents", int)
ID = UUID("00000000-0000-0000-0000-000000000007")
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


def travelled(function: Callable[..., Any], *args: Any, **kwargs: Any) -> DecodedCall:
    """The call as the consumer decodes it, from the text that a broker kept."""
    item = json.loads(json.dumps(serializer.dump_call("m:f", args, kwargs), allow_nan=False))
    return serializer.load_call(item, function)


def takes(annotation: Any) -> Callable[..., None]:
    def function(value: Any) -> None: ...

    function.__annotations__["value"] = annotation
    return function


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (UUID, ID),
        (datetime, MOMENT),
        (datetime, MOMENT.replace(tzinfo=None)),
        (date, MOMENT.date()),
        (time, time(1, 2, 3)),
        (timedelta, timedelta(days=1, microseconds=5)),
        (Decimal, Decimal("1.10")),
        (bytes, b"\xff\x00"),
        (Colour, Colour.RED),
        (Size, Size.SMALL),
        (Flags, Flags.A | Flags.B),
        (Order, Order([Line(ID, Decimal("2.5"))], {3: "x"})),
        (Point, Point(3)),
        (Options, {"when": MOMENT, "count": 1}),
        (Pair, Pair(1, MOMENT.date())),
        (tuple[int, ...], (1, 2)),
        (set[UUID], {ID}),
        (frozenset[str], frozenset({"a"})),
        (dict[UUID, list[Size]], {ID: [Size.SMALL]}),
        (int | None, None),
        (list[date] | None, [MOMENT.date()]),
        (Literal["a", 1], "a"),
        (Cents, 5),
        (Annotated[int, msgspec.Meta(ge=0)], 5),
        (float, 5),
        (int, 2**200),
        (str, "\ud800 \x00 ü"),
    ],
)
def test_an_argument_arrives_as_what_its_annotation_says(annotation: Any, value: Any) -> None:
    (by_place,) = travelled(takes(annotation), value).args
    by_name = travelled(takes(annotation), value=value).kwargs["value"]

    assert by_place == by_name == value
    assert type(by_place) is (float if annotation is float else type(value))


PLAIN = {
    int: 2**200,
    float: 1.5,
    bool: True,
    str: "ü",
    type(None): None,
}


@pytest.mark.parametrize(
    "annotation",
    [*PLAIN, int | None, str | None, float | None, int | str, int | float, Union[str, None, bool]],  # noqa: UP007
)
@pytest.mark.parametrize("kind", PLAIN)
def test_a_plain_value_is_taken_where_msgspec_takes_it(annotation: Any, kind: type) -> None:
    value = PLAIN[kind]
    try:
        expected = msgspec.convert(value, annotation)
    except msgspec.ValidationError:
        with pytest.raises(UnreadableItem, match="'value'"):
            travelled(takes(annotation), value)
        return

    (taken,) = travelled(takes(annotation), value).args

    assert (type(taken), taken) == (type(expected), expected)


def test_an_annotation_that_cannot_be_hashed_is_converted_to() -> None:
    small = Annotated[list[int], msgspec.Meta(max_length=2), []]

    assert travelled(takes(small), (1, 2)).args == ([1, 2],)
    with pytest.raises(UnreadableItem, match="length <= 2"):
        travelled(takes(small), [1, 2, 3])


def test_a_mismatch_within_an_argument_names_its_place() -> None:
    with pytest.raises(UnreadableItem, match=r"`\$\[1\]`"):
        travelled(takes(list[int]), [1, "two"])


def test_what_is_not_annotated_arrives_as_plain_json() -> None:
    def function(first, *rest, last=None): ...  # type: ignore[no-untyped-def]

    call = travelled(function, (1, "x"), ID, last={"when": MOMENT.date()})

    assert call == DecodedCall(
        "m:f", ([1, "x"], str(ID)), {"last": {"when": MOMENT.date().isoformat()}}
    )


def test_annotations_hold_for_the_rest_of_the_arguments_too() -> None:
    def function(*dates: date, only: UUID, **others: Decimal) -> None: ...

    call = travelled(function, MOMENT.date(), MOMENT.date(), only=ID, other=Decimal("1.5"))

    assert call.args == (MOMENT.date(), MOMENT.date())
    assert call.kwargs == {"only": ID, "other": Decimal("1.5")}


def test_keywords_of_a_typed_dict_are_read_one_by_one() -> None:
    def function(**options: Unpack[Options]) -> None: ...

    assert travelled(function, when=MOMENT).kwargs == {"when": MOMENT}


def test_annotations_are_found_through_what_wraps_a_function() -> None:
    def function(first: date, second: UUID) -> None: ...

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None: ...

    class Called:
        def __call__(self, first: date, second: UUID) -> None: ...

    for each in (wrapped, Called(), functools.partial(function)):
        assert travelled(each, MOMENT.date(), second=ID).args == (MOMENT.date(),)
        assert travelled(each, MOMENT.date(), second=ID).kwargs == {"second": ID}
    assert travelled(functools.partial(function, MOMENT.date()), ID).args == (ID,)


def test_annotations_written_as_text_are_resolved() -> None:
    def function(value: "list[UUID]") -> None: ...

    assert travelled(function, [ID]).args == ([ID],)


def test_an_annotation_that_is_not_there_at_run_time_is_named() -> None:
    function = takes("OnlyForTypes")

    with pytest.raises(UnreadableItem, match="'OnlyForTypes' is not defined; import the") as caught:
        travelled(function, 1)

    assert isinstance(caught.value.__cause__, NameError)


@pytest.mark.parametrize(
    ("annotation", "value", "problem"),
    [
        (int, "7", "Expected `int`, got `str`"),
        (UUID, "x", "Invalid UUID"),
        (list[int], [1, "x"], r"Expected `int`, got `str` - at `\$\[1\]`"),
        (Order, {"lines": [{"sku": str(ID)}]}, "missing required field `price`"),
        (Annotated[int, msgspec.Meta(ge=0)], -1, "Expected `int` >= 0"),
        (Size, "secret", "none of the values that are allowed"),
        (dict[str, Size], {"a": "secret"}, r"allowed - at `\$\[...\]`"),
        (Callable[[], int], 1, "Expected `Callable`"),
        (Order | Line, {}, "not supported"),
    ],
)
def test_a_mismatch_names_the_argument_and_hides_its_value(
    annotation: Any, value: Any, problem: str
) -> None:
    for call in (((value,), {}), ((), {"value": value})):
        with pytest.raises(UnreadableItem, match=problem) as caught:
            travelled(takes(annotation), *call[0], **call[1])

        assert "the argument 'value' of test_json_serializer:takes" in str(caught.value)
        assert caught.value.__cause__ is not None
        assert "secret" not in f"{caught.value} {caught.value.__cause__}"


def test_a_class_that_raises_anything_makes_an_unreadable_item() -> None:
    @dataclass
    class Exits:
        number: int

        def __post_init__(self) -> NoReturn:
            raise SystemExit(3)

    with pytest.raises(UnreadableItem, match=r"'value'.*SystemExit: 3"):
        travelled(takes(Exits), {"number": 1})


def test_too_many_arguments_are_left_for_the_call_to_refuse() -> None:
    def function(only: int) -> None: ...

    call = travelled(function, 1, 2, other=3)

    assert call == DecodedCall("m:f", (1, 2), {"other": 3})


@pytest.mark.parametrize(
    "value",
    [object(), 1j, float("nan"), [float("inf")], {(1, 2): 3}, {"a": lambda: 1}, range(3), Order],
)
def test_what_json_cannot_hold_is_refused_by_name(value: Any) -> None:
    with pytest.raises(UnserializableCall, match=r"positional argument 2 \(args\[1\]\) of m:f"):
        serializer.dump_call("m:f", (1, value), {})
    with pytest.raises(UnserializableCall, match="keyword argument 'key' of m:f"):
        serializer.dump_call("m:f", (), {"key": value})
    with pytest.raises(UnserializableCall):
        serializer.dump_value(value)


def test_an_argument_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)

    with pytest.raises(UnserializableCall, match="positional argument 1"):
        serializer.dump_call("m:f", (loop,), {})


def test_text_and_numbers_of_a_subclass_travel_as_what_they_are() -> None:
    class Safe(str):
        __slots__ = ()

    (value,) = travelled(takes(str), Safe("x")).args

    assert type(value) is str
    assert value == "x"


@pytest.mark.parametrize(
    "change", [{"args": {}}, {"args": "[]"}, {"kwargs": []}, {"args": ...}, {"method": 5}]
)
def test_fields_of_another_shape_are_unreadable(change: dict[str, Any]) -> None:
    item = {**serializer.dump_call("m:f", (1,), {}), **change}

    with pytest.raises(UnreadableItem):
        serializer.load_call({key: value for key, value in item.items() if value is not ...})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    )
)  # fmt: skip
def test_every_json_value_arrives_unchanged(value: Any) -> None:
    assert travelled(takes(Any), value).args == (value,)
    assert serializer.load_value(serializer.dump_value(value)) == value


def ship(order: Order, *, when: datetime) -> tuple[Order, datetime]:
    return order, when


def test_outside_code_can_read_a_json_item() -> None:
    order = Order([Line(ID, Decimal("2.5"))])
    item = serializer.dump_call(f"{__name__}:ship", (order,), {"when": MOMENT})

    function, args, kwargs = unpickle_method_call(item)

    assert function(*args, **kwargs) == (order, MOMENT)
    assert str(ID) in pretty_unpickle(item)


async def test_a_job_is_given_what_its_producer_passed(make_face: Any) -> None:
    face = make_face(serializer="json")
    job = face.job(ship)
    order = Order([Line(ID, Decimal("2.5"))], {1: "one"})

    await face.later(job, order, when=MOMENT)
    outcome = await face.run()

    assert outcome.result == (order, MOMENT)
    assert outcome.item["serializer"] == "json"
    assert outcome.item["args"] == [
        {"lines": [{"sku": str(ID), "price": "2.5"}], "notes": {"1": "one"}}
    ]


async def test_an_item_that_does_not_fit_goes_to_the_error_queue_whole(make_face: Any) -> None:
    face = make_face(serializer="json", check_arguments=False)
    job = face.job(ship, error_classes=[ValueError])

    await face.later(job, {"lines": 5}, when=MOMENT)
    outcome = await face.run()

    assert outcome.status == "errored"
    buried = await face.take_error()
    assert buried["args"] == [{"lines": 5}]
    assert buried["error"]["error_type"] == "UnreadableItem"
    assert "'order'" in buried["error"]["error_text"]


async def test_a_call_that_json_cannot_hold_is_refused_and_nothing_pushed(make_face: Any) -> None:
    face = make_face(serializer="json")
    job = face.job(ship)

    with pytest.raises(UnserializableCall, match="keyword argument 'when'"):
        await face.later(job, Order([]), when=object())

    assert await face.stats() == (0, 0, 0)


async def test_an_error_item_shows_the_call_as_the_job_would_see_it(make_face: Any) -> None:
    def fail(when: datetime) -> NoReturn:
        raise RuntimeError

    face: Face = make_face(serializer="json")
    await face.later(face.job(fail), MOMENT)
    await face.run()

    calls = [entry.call async for entry in face.each(face.instance.errors())]

    assert calls == [DecodedCall("fail", (MOMENT,), {})]
