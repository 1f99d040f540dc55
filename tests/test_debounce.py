"""What a debounce decides, what it remembers, and which calls it takes for the same."""

import collections
import copy
import enum
import heapq
import json
import math
import os
import pickle
import subprocess
import sys
import uuid
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from python2 import requires_python2, run_python2

from deferrable.debounce import (
    RESERVATION_SECONDS,
    Decision,
    PushDelayed,
    PushNow,
    Skip,
    Window,
    classic_keys,
    confirm,
    decide,
    identity,
    identity_of_key,
    life_seconds,
    reserve,
    restore,
)
from deferrable.errors import UnserializableCall
from deferrable.pickling import build_later_item

START = 1_700_000_000.0


# The table.


def test_first_call_is_pushed_now() -> None:
    assert decide(None, START, 10, False) == PushNow()


def test_call_within_the_window_is_delayed_to_its_end() -> None:
    assert decide(START, START + 3, 10, False) == PushDelayed(7)


def test_call_is_skipped_while_an_item_is_pending() -> None:
    assert decide(START + 7, START + 3, 10, False) == Skip(START + 7)


def test_call_at_the_moment_a_pending_item_becomes_available_is_not_skipped() -> None:
    assert decide(START, START, 10, False) == PushDelayed(10)


def test_call_after_the_window_is_pushed_now() -> None:
    assert decide(START, START + 10.25, 10, False) == PushNow()


def test_call_at_the_very_end_of_the_window_waits_no_time() -> None:
    assert decide(START, START + 10, 10, False) == PushDelayed(0)


@pytest.mark.parametrize("available_time", [None, START - 3, START - 1000, START])
def test_always_delay_delays_by_the_whole_window(available_time: float | None) -> None:
    assert decide(available_time, START, 2.5, True) == PushDelayed(2.5)


def test_always_delay_skips_while_an_item_is_pending() -> None:
    assert decide(START + 1, START, 10, True) == Skip(START + 1)


def test_delay_is_rounded_up_to_whole_seconds() -> None:
    assert decide(START, START + 2.75, 10, False) == PushDelayed(8)


def test_rounding_never_leads_beyond_a_fractional_window() -> None:
    assert decide(START, START + 0.25, 2.5, False) == PushDelayed(2.5)
    assert decide(START, START + 0.25, 0.5, False) == PushDelayed(0.5)


@given(
    available_time=st.floats(START - 100, START),
    now=st.floats(START, START + 100),
    window_seconds=st.floats(1e-9, 1e9),
    always_delay=st.booleans(),
)
def test_no_delay_is_negative_or_beyond_the_window(
    available_time: float, now: float, window_seconds: float, always_delay: bool
) -> None:
    decision = decide(available_time, now, window_seconds, always_delay)

    assert not isinstance(decision, Skip)
    if isinstance(decision, PushDelayed):
        assert 0 <= decision.delay_seconds <= window_seconds


# The laws.


@dataclass(frozen=True)
class Call:
    """A call made `after_seconds` after the one before; its push ends `push_seconds` later."""

    after_seconds: float
    always_delay: bool = False
    fate: Literal["works", "fails", "dies"] = "works"
    push_seconds: float = 0.0


@dataclass
class Made:
    call: Call
    time: float
    decision: Decision
    available_time: float


@dataclass
class World:
    """Producers that share one window, and what happened to their calls."""

    window_seconds: float
    now: float = START
    window: Window | None = None
    made: list[Made] = field(default_factory=list)
    under_way: list[tuple[float, int]] = field(default_factory=list)

    def play(self, calls: list[Call]) -> None:
        for number, call in enumerate(calls):
            self.pass_time(self.now + call.after_seconds)
            self.make(number, call)
        self.pass_time(math.inf)

    def pass_time(self, until: float) -> None:
        while self.under_way and self.under_way[0][0] <= until:
            self.now, number = heapq.heappop(self.under_way)
            end = confirm if self.made[number].call.fate == "works" else restore
            self.window = end(self.window, self.now, f"token {number}")
        self.now = until

    def make(self, number: int, call: Call) -> None:
        decision, self.window = reserve(
            self.window, self.now, self.window_seconds, call.always_delay, f"token {number}"
        )
        match decision:
            case Skip(pending_time):
                available_time = pending_time
            case PushNow():
                available_time = self.now
            case PushDelayed(delay_seconds):
                available_time = self.now + delay_seconds
        self.made.append(Made(call, self.now, decision, available_time))
        if not isinstance(decision, Skip) and call.fate != "dies":
            heapq.heappush(self.under_way, (self.now + call.push_seconds, number))

    def runs(self) -> list[float]:
        return sorted(each.available_time for each in self.pushes("works"))

    def pushes(self, *fates: str) -> list[Made]:
        return [
            each
            for each in self.made
            if not isinstance(each.decision, Skip) and each.call.fate in fates
        ]

    def skips(self) -> Iterator[tuple[Made, list[Made]]]:
        """Each skipped call, with the calls before it."""
        for number, each in enumerate(self.made):
            if isinstance(each.decision, Skip):
                yield each, self.made[:number]


def eighths(low: float, high: float) -> st.SearchStrategy[float]:
    """Moments that floats add without rounding, so that the laws hold exactly."""
    return st.integers(int(low * 8), int(high * 8)).map(lambda number: number / 8)


WINDOWS = st.one_of(eighths(0.125, 4), eighths(4, 40))
GAPS = st.one_of(st.just(0.0), eighths(0, 3), eighths(0, 50))
HEALTHY_CALLS = st.lists(st.builds(Call, GAPS, st.booleans()), max_size=30)
FRAIL_CALLS = st.lists(
    st.builds(
        Call,
        GAPS,
        st.booleans(),
        st.sampled_from(["works", "fails", "dies"]),
        eighths(0, RESERVATION_SECONDS - 0.125),
    ),
    max_size=30,
)


@given(WINDOWS, HEALTHY_CALLS)
def test_each_call_is_followed_by_a_run_within_one_window(
    window_seconds: float, calls: list[Call]
) -> None:
    world = World(window_seconds)

    world.play(calls)

    for each in world.made:
        latest = each.time + math.ceil(window_seconds)
        assert any(each.time <= run <= latest for run in world.runs())


@given(WINDOWS, FRAIL_CALLS)
def test_at_most_one_run_becomes_available_per_window(
    window_seconds: float, calls: list[Call]
) -> None:
    world = World(window_seconds)

    world.play(calls)

    assert all(later - earlier >= window_seconds for earlier, later in pairwise(world.runs()))


@given(WINDOWS, HEALTHY_CALLS)
def test_a_skip_implies_a_pending_run(window_seconds: float, calls: list[Call]) -> None:
    world = World(window_seconds)

    world.play(calls)

    for skipped, before in world.skips():
        assert any(
            each.available_time == skipped.available_time > skipped.time
            for each in before
            if not isinstance(each.decision, Skip)
        )


@given(WINDOWS, FRAIL_CALLS)
def test_a_call_is_silenced_without_a_run_only_while_the_failing_push_is_under_way(
    window_seconds: float, calls: list[Call]
) -> None:
    world = World(window_seconds)

    world.play(calls)

    for skipped, before in world.skips():
        if skipped.available_time in world.runs():
            continue
        assert any(
            each.available_time == skipped.available_time
            and skipped.time < each.time + _silence_seconds(each.call)
            for each in before
            if not isinstance(each.decision, Skip) and each.call.fate != "works"
        )


def _silence_seconds(call: Call) -> float:
    """A push that fails is put back at once, in the same moment; one that died is waited for."""
    return RESERVATION_SECONDS if call.fate == "dies" else call.push_seconds


@given(st.floats(0.001, 1e4), st.lists(st.floats(0, 1e4), max_size=30))
def test_the_laws_hold_to_the_microsecond_at_moments_that_floats_round(
    window_seconds: float, gaps: list[float]
) -> None:
    world = World(window_seconds)

    world.play([Call(gap) for gap in gaps])

    runs = world.runs()
    for each in world.made:
        assert each.time <= each.available_time <= each.time + window_seconds + 1e-6
        assert each.available_time in runs
    assert all(later - earlier > window_seconds - 1e-6 for earlier, later in pairwise(runs))


# Reservations.


def reserved(now: float = START, token: str = "mine", window: Window | None = None) -> Window:
    _, after = reserve(window, now, 60, False, token)
    assert after is not None
    return after


def test_a_reservation_counts_as_a_push_for_every_other_producer() -> None:
    decision, _ = reserve(reserved(START), START + 1, 60, False, "another")

    assert decision == PushDelayed(59)


def test_a_skipped_call_leaves_the_window_as_it_was() -> None:
    pending = Window(START + 30)

    assert reserve(pending, START, 60, False, "mine") == (Skip(START + 30), pending)


def test_a_reservation_that_nobody_confirmed_is_as_if_it_had_never_been() -> None:
    before = Window(START)
    abandoned = reserved(START + 1, "the dead one's", before)

    late = START + 1 + RESERVATION_SECONDS

    assert reserve(abandoned, late - 0.5, 60, False, "mine")[0] == Skip(START + 60)
    assert reserve(abandoned, late, 60, False, "mine") == reserve(before, late, 60, False, "mine")


def test_a_confirmed_push_counts_for_good() -> None:
    confirmed = confirm(reserved(START), START + 1, "mine")

    assert confirmed == Window(START, item_id="mine")


def test_a_failed_push_puts_the_window_back() -> None:
    before = Window(START)

    assert restore(reserved(START + 1, "mine", before), START + 2, "mine") == before
    assert restore(reserved(START, "mine"), START + 2, "mine") is None


@pytest.mark.parametrize("end", [confirm, restore])
def test_a_reservation_of_another_stays_as_it_is(end: Any) -> None:
    of_another = reserved(START, "another")

    assert end(of_another, START + 1, "mine") == of_another
    assert end(None, START, "mine") is None
    assert end(Window(START), START, "mine") == Window(START)


@pytest.mark.parametrize("end", [confirm, restore])
def test_a_reservation_that_is_past_is_neither_confirmed_nor_restored(end: Any) -> None:
    before = Window(START)
    past = reserved(START + 1, "mine", before)

    assert end(past, START + 1 + RESERVATION_SECONDS, "mine") == before


def test_asking_twice_with_one_token_is_one_push() -> None:
    first = reserved(START + 1, "mine", Window(START))

    assert reserve(first, START + 3, 60, False, "mine") == (PushDelayed(57), first)


def test_asking_twice_for_a_push_now_is_one_push() -> None:
    first = reserved(START, "mine")

    assert reserve(first, START + 1, 60, False, "mine") == (PushNow(), first)


@given(WINDOWS, HEALTHY_CALLS, st.booleans())
def test_a_window_past_its_life_decides_nothing(
    window_seconds: float, calls: list[Call], always_delay: bool
) -> None:
    world = World(window_seconds)

    world.play(calls)

    for each in world.pushes("works"):
        late = each.time + life_seconds(window_seconds) + 0.125
        remembered = decide(each.available_time, late, window_seconds, always_delay)
        assert remembered == decide(None, late, window_seconds, always_delay)


# Which calls are the same.


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class Point:
    x: int
    tags: Any = None

    @cached_property
    def doubled(self) -> int:
        return 2 * self.x


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a: Any, b: Any) -> None:
        self.a, self.b = a, b


class Reduced:
    def __init__(self, text: str) -> None:
        self.text = text
        self.noise = object()

    def __reduce__(self) -> tuple[Any, ...]:
        return Reduced, (self.text,)


class Stateful:
    def __init__(self, kept: Any) -> None:
        self.kept, self.connection = kept, object()

    def __getstate__(self) -> dict[str, Any]:
        return {"kept": self.kept}


class Names(set[str]):
    pass


def same(*values: Any) -> bool:
    return len({identity(None, "jobs:run", [value], {}) for value in values}) == 1


def test_order_of_keywords_makes_no_difference() -> None:
    assert identity("g", "f", (), {"a": 1, "b": 2}) == identity("g", "f", (), {"b": 2, "a": 1})


def test_order_of_dicts_and_sets_makes_no_difference() -> None:
    assert same({"a": 1, "b": {1, 2}}, {"b": {2, 1}, "a": 1})
    assert same(
        collections.Counter({"x": 1, "y": 2}),
        collections.Counter({"y": 2, "x": 1}),
    )


def test_order_of_what_is_ordered_makes_a_difference() -> None:
    assert not same([1, 2], [2, 1])
    assert not same(
        collections.OrderedDict(a=1, b=2),
        collections.OrderedDict(b=2, a=1),
    )


def test_equal_values_are_the_same_whether_one_object_or_two() -> None:
    one = [1, "text"]

    assert same([one, one], [one, [1, "text"]])
    assert same(Point(1, one), Point(1, copy.deepcopy(one)))


def test_equal_cycles_are_the_same_however_many_objects_they_are_made_of() -> None:
    short: list[Any] = []
    short.append(short)
    long: list[Any] = [[]]
    long[0].append(long)

    assert same(short, [short], long)
    assert not same(short, [[]])


def test_cycles_with_different_content_differ() -> None:
    def ring(*numbers: int) -> Point:
        points = [Point(number) for number in numbers]
        for point, successor in zip(points, [*points[1:], points[0]], strict=True):
            point.tags = successor
        return points[0]

    def loop(first: int, second: int) -> list[Any]:
        made: list[Any] = [first]
        made.append([second, made])
        return made

    assert same(loop(1, 2), loop(1, 2))
    assert not same(loop(1, 2), loop(1, 3))
    assert same(ring(1, 2), ring(1, 2), ring(1, 2, 1, 2))
    assert not same(ring(1, 2), ring(2, 1))
    assert not same(ring(1, 2), ring(1, 2, 2))


@pytest.mark.parametrize(
    "values",
    [
        (1, 1.0, True, "1", b"1", Decimal(1)),
        ("a", b"a", bytearray(b"a"), ["a"], ("a",), {"a"}, frozenset("a")),
        (None, 0, "", (), [], {}, set(), False),
        (Colour.RED, Colour.BLUE, "red"),
        (Point(1), Point(2), Point(1, []), {"x": 1, "tags": None}),
        (Slotted(1, 2), Slotted(2, 1)),
        (datetime(2020, 1, 1), datetime(2020, 1, 1, tzinfo=UTC)),
        ({1: 2}, {2: 1}, [(1, 2)]),
        ({"a": 1}, {"a": 1, "b": None}),
        ([[1], 2], [[1, 2]]),
        (int, str, len, "builtins:int"),
    ],
)
def test_what_differs_in_value_or_type_is_not_the_same(values: tuple[Any, ...]) -> None:
    assert len({identity(None, "f", [value], {}) for value in values}) == len(values)


def test_a_look_at_a_cached_property_makes_no_difference() -> None:
    looked_at = Point(4)
    assert looked_at.doubled == 8

    assert same(looked_at, Point(4))


def test_what_pickle_leaves_out_makes_no_difference() -> None:
    assert same(Reduced("a"), Reduced("a"))
    assert same(Stateful([1]), Stateful([1]))
    assert not same(Stateful([1]), Stateful([2]))


def test_group_name_and_kind_of_key_make_a_difference() -> None:
    identities = [
        identity("a", "f", ("k",), {}),
        identity("b", "f", ("k",), {}),
        identity("a", "g", ("k",), {}),
        identity("a", "f", (), {"k": "k"}),
        identity_of_key("a", "f", "k"),
        identity_of_key("a", "f", (("k",), {})),
    ]

    assert len(set(identities)) == len(identities)


def test_the_nameless_group_is_one_group() -> None:
    assert identity(None, "f", (), {}) == identity("", "f", (), {})


def test_a_key_replaces_the_arguments() -> None:
    assert identity_of_key(None, "f", {"a", "b"}) == identity_of_key(None, "f", {"b", "a"})


@pytest.mark.parametrize("value", [lambda: 1, (number for number in ())])
def test_an_argument_without_a_name_or_a_pickle_is_refused(value: Any) -> None:
    with pytest.raises(UnserializableCall, match="debounce_key="):
        identity(None, "f", [[value]], {})


def test_depth_and_sharing_cost_no_recursion_and_no_explosion() -> None:
    deep: list[Any] = []
    for _ in range(20_000):
        deep = [deep]
    wide: list[Any] = []
    for _ in range(100):
        wide = [wide, wide]
    clique = [Point(number) for number in range(20)]
    for point in clique:
        point.tags = clique

    assert len({identity(None, "f", [value], {}) for value in (deep, wide, clique)}) == 3


def many_kinds() -> list[Any]:
    return [
        *(None, True, -7, 1 << 20_000, -0.0, 1e300, float("nan"), 2j, "é\ud800", b"\xff"),
        *(Colour.RED, Access.READ | Access.WRITE, Access(0), Point(1, {"b", "a"}), Slotted(1, [2])),
        *(Reduced("a"), Stateful({1, 2}), Names("abc"), uuid.UUID(int=5), Decimal("1.10")),
        *(Fraction(1, 3), PurePosixPath("/a/b"), timedelta(1), datetime(2020, 1, 1, fold=1)),
        datetime(2020, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC")),
        *(collections.deque([1], 3), collections.defaultdict(list, {"b": [1], "a": []})),
        *(ValueError("x"), int, len, "text".upper, range(3), frozenset("xyz"), list[int]),
    ]


GOLDEN = "9f41ff9d7035b9de635f7606eb54d4a055d34c405ea474a8704e4305cc438dea"


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_every_process_and_version_of_python_sees_the_same_identity(hash_seed: str) -> None:
    source = (
        "import test_debounce as t;"
        "print(t.identity('g', 'f', t.many_kinds(), {'b': 1, 'a': {'x', 'y'}}))"
    )

    printed = subprocess.run(
        [sys.executable, "-c", source],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert printed.strip() == GOLDEN


PICKLABLE = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.text(),
        st.binary(),
        st.sampled_from(Colour),
        st.uuids(),
        st.datetimes(),
        st.decimals(allow_nan=False),
    ),
    lambda inner: st.one_of(
        st.lists(inner),
        st.tuples(inner, inner),
        st.dictionaries(st.text(), inner),
        st.builds(Point, st.integers(), inner),
        st.builds(Slotted, inner, inner),
        st.builds(Stateful, inner),
    ),
    max_leaves=20,
)


@given(PICKLABLE)
def test_what_a_pickle_gives_back_is_the_same(value: Any) -> None:
    assert same(value, pickle.loads(pickle.dumps(value)), copy.deepcopy(value))


@given(PICKLABLE, PICKLABLE)
@settings(max_examples=50)
def test_what_differs_when_written_down_is_not_the_same(one: Any, other: Any) -> None:
    plain = (_written(one), _written(other))

    assert same(one, other) == (plain[0] == plain[1])


def _written(value: Any) -> str:
    """Types and values, spelt out; dicts sorted."""
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({', '.join(map(_written, value))})"
    if isinstance(value, dict):
        return f"dict({', '.join(sorted(f'{k!r}: {_written(v)}' for k, v in value.items()))})"
    if isinstance(value, Point):
        return f"Point({value.x}, {_written(value.tags)})"
    if isinstance(value, Slotted):
        return f"Slotted({_written(value.a)}, {_written(value.b)})"
    if isinstance(value, Stateful):
        return f"Stateful({_written(value.kept)})"
    return f"{type(value).__name__} {value!r}"


# The old library's keys.


def test_classic_keys_are_made_of_the_fields_and_leave_the_group_out() -> None:
    item = {"method": "M", "args": "A", "kwargs": "K", "group": "g"}

    assert classic_keys(item) == ("debounce.M.A.K", "last_push.M.A.K")


OLD_LIBRARY = """
import cPickle, json, sys
def dumps(value):
    return cPickle.dumps(value).encode('string_escape')
def later(*args, **kwargs):
    item = {'method': u'M', 'args': dumps(args), 'kwargs': dumps(sorted(kwargs.items()))}
    return [u'debounce.{}.{}.{}'.format(item['method'], item['args'], item['kwargs']),
            u'last_push.{}.{}.{}'.format(item['method'], item['args'], item['kwargs'])]
print(json.dumps([eval(call) for call in json.loads(sys.argv[1])]))
"""

PLAIN_CALLS = [
    "later()",
    "later(1, -3, 2 ** 40, True, None, 1.5)",
    "later('text', user_id=7, name=u'\\xe9\\n')",
    "later([1, 2], {'a': 1}, z=1, a=['x', 'it\\'s'])",
    "later('', 'x', {'nested': ['plain', u'\\u20ac']}, key='value')",
]


def job() -> None: ...


def later(*args: Any, **kwargs: Any) -> list[str]:
    return list(classic_keys({**build_later_item(job, *args, **kwargs), "method": "M"}))


@requires_python2
def test_classic_keys_are_those_of_the_old_library_for_plain_arguments() -> None:
    of_the_old = json.loads(run_python2(OLD_LIBRARY, json.dumps(PLAIN_CALLS)))

    assert [eval(call) for call in PLAIN_CALLS] == of_the_old
