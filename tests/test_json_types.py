"""Paths and models of pydantic as arguments of the serializer ``json``."""

import subprocess
import sys
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypedDict
from zoneinfo import ZoneInfo

import msgspec
import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel, SecretStr
from pydantic.dataclasses import dataclass as checked_dataclass

from deferrable._codec.serializers import get_serializer
from deferrable.errors import ArgumentMismatch, UnreadableItem, UnserializableCall

serializer = get_serializer("json")


class Line(BaseModel):
    sku: str
    count: int = Field(default=1, gt=0)


class Order(BaseModel):
    model_config = ConfigDict(strict=True)

    id: int
    due: date
    price: Decimal
    lines: list[Line] = []
    note: str | None = Field(default=None, alias="Note")


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"


class Pet(BaseModel):
    animal: Cat | Dog = Field(discriminator="kind")


Names = RootModel[list[str]]


class Login(BaseModel):
    user: str
    password: SecretStr


@dataclass
class Parcel:
    label: Path
    order: Order | None = None


@dataclass
class Sizes:
    of: dict[Path, dict[int, int]]


@checked_dataclass
class Coupon:
    """A dataclass of pydantic."""

    percent: int = Field(gt=0, le=100)
    until: date | None = None
    code: str = Field(default="", alias="Code")
    next: "Coupon | None" = None


@dataclass
class Basket:
    coupon: Coupon
    label: Path = Path("basket")


class Offer(BaseModel):
    coupon: Coupon


class Envelope(msgspec.Struct):
    """Which pydantic cannot read."""

    coupon: Coupon


@checked_dataclass
class Key:
    secret: SecretStr


def there_and_back(function: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    fields = serializer.dump_call("job", args, kwargs, function)
    call = serializer.load_call(fields, function)
    return call.args, call.kwargs


ORDER = Order(
    id=1, due=date(2026, 11, 27), price=Decimal("9.90"), lines=[Line(sku="a")], Note="with care"
)


COUPON = Coupon(percent=5, until=date(2026, 12, 24), Code="x", next=Coupon(percent=6))  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Path, Path("/tmp/ä b.pdf")),
        (PurePosixPath, PurePosixPath("a/b")),
        (Path | None, None),
        (Path | None, Path("x")),
        (list[Path], [Path("x"), Path("y")]),
        (dict[Path, int], {Path("x"): 1, Path("\u00e4"): 2}),
        (dict[Path, Path] | None, {Path("x"): Path("y")}),
        (Sizes, Sizes({Path("x"): {1: 2}})),
        (Order, ORDER),
        (Order | None, None),
        (list[Order], [ORDER, ORDER]),
        (dict[str, Line], {"a": Line(sku="a", count=3)}),
        (Pet, Pet(animal=Cat(lives=8))),
        (Names, Names(["a", "b"])),
        (Parcel, Parcel(Path("label.pdf"), ORDER)),
        (Coupon, COUPON),
        (Coupon | None, None),
        (list[Coupon], [COUPON, COUPON]),
        (dict[str, Coupon] | None, {"a": COUPON}),
        (Annotated[Coupon, "a comment"], COUPON),
        (Basket, Basket(COUPON)),
        (Offer, Offer(coupon=COUPON)),
        (Envelope, Envelope(Coupon(percent=5))),
    ],
    ids=str,
)
def test_value_comes_back_as_its_annotation_says(annotation: Any, value: Any) -> None:
    def job(argument: Any) -> None: ...

    job.__annotations__["argument"] = annotation

    (argument,), _ = there_and_back(job, value)

    assert argument == value
    assert type(argument) is type(value)


def test_text_that_is_no_key_of_a_dict_with_paths_is_refused() -> None:
    def job(sizes: dict[Path, int]) -> None: ...

    with pytest.raises(ArgumentMismatch, match=r"Expected `int`, got `str` - at `\$\[...\]`"):
        serializer.dump_call("job", ({Path("x"): "secret"},), {}, job)


def test_without_annotation_a_model_is_its_json() -> None:
    def job(order: Any, path: Any) -> None: ...

    args, _ = there_and_back(job, ORDER, Path("x"))

    assert args == (ORDER.model_dump(mode="json", by_alias=True), "x")


def take_order(order: Order) -> None: ...


def take_line(line: Line) -> None: ...


def take_path(path: Path) -> None: ...


def take_coupon(coupon: Coupon) -> None: ...


def take_baskets(baskets: list[Basket]) -> None: ...


@pytest.mark.parametrize(
    ("job", "value", "place"),
    [
        (take_line, {"sku": "secret-sku", "count": 0}, "greater than 0 - at `count`"),
        (take_line, {"count": "secret"}, "Field required - at `sku`"),
        (take_order, Line(sku="secret"), "Field required - at `id`"),
        (take_path, 13, "Expected the text of a path"),
        (take_coupon, {"percent": 0, "Code": "secret"}, "greater than 0 - at `percent`"),
        (take_baskets, [{"coupon": {"percent": 101}}], "equal to 100 - at `0.coupon.percent`"),
    ],
)
def test_later_refuses_what_does_not_fit_and_shows_no_value(
    job: Any, value: Any, place: str
) -> None:
    with pytest.raises(ArgumentMismatch, match=place) as refused:
        serializer.dump_call("job", (value,), {}, job)

    assert "secret" not in str(refused.value)


def test_item_from_elsewhere_that_does_not_fit_is_unreadable() -> None:
    fields = serializer.dump_call("job", ({"count": 1},), {})

    with pytest.raises(UnreadableItem, match=r"'line' of .*take_line.*Field required - at `sku`"):
        serializer.load_call(fields, take_line)


def test_model_that_hides_a_field_is_refused_and_not_emptied() -> None:
    def job(login: Login) -> None: ...

    with pytest.raises(
        UnserializableCall, match="Login does not come back equal from JSON, in password"
    ) as no:
        serializer.dump_call("job", (Login(user="a", password=SecretStr("pw-1")),), {}, job)

    assert "pw-1" not in str(no.value)


def test_dataclass_of_pydantic_that_hides_a_field_is_refused() -> None:
    def job(key: Key) -> None: ...

    with pytest.raises(
        UnserializableCall, match="Key does not come back equal from JSON, in secret"
    ) as no:
        serializer.dump_call("job", (Key(SecretStr("pw-1")),), {}, job)

    assert "pw-1" not in str(no.value)


class Gift(Order):
    card: str


@dataclass
class Letter(Parcel):
    stamp: int = 1


class Note(TypedDict):
    text: str


BEFORE_TIME_ZONES = datetime(1890, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))
"""Its offset is that of the sun: 53 minutes and 28 seconds."""
GIFT = Gift(id=2, due=date(2026, 11, 27), price=Decimal(1), card="secret-card")


@pytest.mark.parametrize(
    ("annotation", "value", "reason"),
    [
        (Order, GIFT, "a Gift would arrive as a Order"),
        (list[Order], [ORDER, GIFT], r"a Gift at \[1\] would arrive as a Order"),
        (dict[str, Order], {"secret-key": GIFT}, r"a Gift at \[...\] would arrive"),
        (Parcel, Letter(Path("x")), "a Letter would arrive as a Parcel"),
        (Parcel, Parcel(Path("x"), GIFT), "a Gift at .order would arrive as a Order"),
        (Note, {"text": "a", "secret-key": 1}, "a dict has keys that its annotation does not name"),
        (Parcel, {"label": "x", "secret-key": 1}, "a dict has keys that its annotation does not"),
        (list[Parcel], [{"label": "x", "secret-key": 1}], r"\[0\] has keys that its annotation"),
        (datetime, BEFORE_TIME_ZONES, "a datetime would arrive as another moment, because"),
        (list[datetime], [BEFORE_TIME_ZONES], r"a datetime at \[0\] would arrive as another"),
    ],
    ids=str,
)
def test_later_refuses_what_would_arrive_with_less(
    annotation: Any, value: Any, reason: str
) -> None:
    def job(argument: Any) -> None: ...

    job.__annotations__["argument"] = annotation

    for call in (((value,), {}), ((), {"argument": value})):
        with pytest.raises(ArgumentMismatch, match=reason) as refused:
            serializer.dump_call("job", *call, job)
        assert "secret" not in str(refused.value)


def test_dict_of_the_fields_of_a_dataclass_and_a_moment_of_today_are_taken() -> None:
    def job(parcel: Parcel, moment: datetime, text: Any) -> None: ...

    now = datetime(2026, 11, 27, tzinfo=ZoneInfo("Europe/Berlin"))

    (parcel, moment, _), _ = there_and_back(job, {"label": "x"}, now, BEFORE_TIME_ZONES)

    assert (parcel, moment) == (Parcel(Path("x")), now)


def test_subclass_that_arrives_as_plain_json_loses_nothing() -> None:
    def job(order: Any) -> None: ...

    (argument,), _ = there_and_back(job, GIFT)

    assert argument["card"] == "secret-card"


def test_tag_of_a_union_is_not_shown() -> None:
    def job(pet: Pet) -> None: ...

    with pytest.raises(ArgumentMismatch, match="union_tag_invalid") as refused:
        serializer.dump_call("job", ({"animal": {"kind": "secret"}},), {}, job)

    assert "secret" not in str(refused.value)


def test_pydantic_is_not_imported_for_it() -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from deferrable._codec.serializers import get_serializer\n"
        "serializer = get_serializer('json')\n"
        "def job(path: Path): ...\n"
        "fields = serializer.dump_call('job', (Path('x'),), {}, job)\n"
        "assert serializer.load_call(fields, job).args == (Path('x'),)\n"
        "assert 'pydantic' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
