"""When a schedule has ticks: every so many seconds, and cron expressions across clock changes."""

import builtins
import math
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deferrable._timetables import Every, Timetable, timetable_of
from deferrable.errors import InvalidOptions

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
MOMENTS = st.floats(1_000_000_000, 2_000_000_000)


def cron(expression: str, zone: str | None = None) -> Timetable:
    return timetable_of(expression, None, zone)


def ticks(
    timetable: Timetable, zone: str, start: tuple[int, ...], end: tuple[int, ...]
) -> list[str]:
    """Local times with their offset of the ticks after `start` until `end`."""
    tz = ZoneInfo(zone)
    moment = datetime(*start, tzinfo=tz).timestamp()  # type: ignore[arg-type, misc]
    last = datetime(*end, tzinfo=tz).timestamp()  # type: ignore[arg-type, misc]
    found = []
    while (moment := timetable.next_after(moment)) <= last:
        found.append(datetime.fromtimestamp(moment, tz).strftime("%d %H:%M %z"))
    return found


def test_every_seconds_counts_from_the_beginning_of_1970() -> None:
    table = timetable_of(None, 30, None)

    assert table.next_after(1_000_000_000) == 1_000_000_020
    assert table.next_after(1_000_000_020) == 1_000_000_050


@given(seconds=st.floats(1, 100_000), moment=MOMENTS)
def test_ticks_of_every_seconds_are_the_same_from_wherever_they_are_asked_for(
    seconds: float, moment: float
) -> None:
    table = Every(seconds)
    first = table.next_after(moment)
    second = table.next_after(first)

    assert moment < first < second
    assert first - moment <= seconds * (1 + 1e-6)
    assert table.next_after((first + second) / 2) == second
    assert table.next_after(math.nextafter(first, 0)) == first


@pytest.mark.parametrize(
    ("zone", "day", "missing", "after"),
    [
        (BERLIN, (2026, 3, 29), "30 2", "29 03:00 +0200"),
        (NEW_YORK, (2026, 3, 8), "30 2", "08 03:00 -0400"),
    ],
)
def test_a_time_that_is_left_out_in_spring_comes_at_the_end_of_the_gap(
    zone: str, day: tuple[int, int, int], missing: str, after: str
) -> None:
    found = ticks(cron(f"{missing} * * *", zone), zone, day, (*day[:2], day[2] + 1, 12))

    assert found[0] == after
    assert found[1].split()[1] == "02:30"
    assert len(found) == 2


@pytest.mark.parametrize(
    ("zone", "day", "time", "first"),
    [
        (BERLIN, (2026, 10, 25), "30 2", "25 02:30 +0200"),
        (NEW_YORK, (2026, 11, 1), "30 1", "01 01:30 -0400"),
    ],
)
def test_a_time_that_comes_twice_in_autumn_has_one_tick(
    zone: str, day: tuple[int, int, int], time: str, first: str
) -> None:
    assert ticks(cron(f"{time} * * *", zone), zone, day, (*day, 12)) == [first]


@pytest.mark.parametrize(
    ("zone", "spring", "autumn"),
    [(BERLIN, (2026, 3, 29), (2026, 10, 25)), (NEW_YORK, (2026, 3, 8), (2026, 11, 1))],
)
def test_every_hour_is_every_hour_across_both_changes(
    zone: str, spring: tuple[int, int, int], autumn: tuple[int, int, int]
) -> None:
    table = cron("0 * * * *", zone)

    assert len(ticks(table, zone, spring, (*spring, 12))) == 11
    assert len(ticks(table, zone, autumn, (*autumn, 12))) == 13


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK])
@pytest.mark.parametrize(
    "expression", ["30 2 * * *", "0,30 1,2,3 * * *", "*/20 * * * *", "0 3 * * *", "15 */2 * * *"]
)
def test_ticks_around_a_change_do_not_depend_on_where_they_are_asked_for(
    zone: str, expression: str
) -> None:
    table = cron(expression, zone)
    tz = ZoneInfo(zone)
    for day in [(2026, 3, 8), (2026, 3, 29), (2026, 10, 25), (2026, 11, 1)]:
        start = datetime(*day, tzinfo=tz).timestamp()
        moments = [start]
        while moments[-1] < start + 30 * 3600:
            moments.append(table.next_after(moments[-1]))
        assert moments == sorted(set(moments))
        for minute in range(0, 30 * 60, 10):
            moment = start + 60 * minute + 0.5
            assert table.next_after(moment) == next(each for each in moments[1:] if each > moment)


def test_six_fields_begin_with_the_second() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC).timestamp()

    assert cron("*/10 * * * * *").next_after(start) == start + 10


@pytest.mark.parametrize(
    ("expression", "seconds", "zone", "message"),
    [
        (None, None, None, "got neither"),
        ("* * * * *", 30, None, "one of them"),
        ("* * * *", None, None, "is no cron expression"),
        ("61 * * * *", None, None, "is no cron expression"),
        ("0 0 30 2 *", None, None, "30 2"),
        (30, None, None, "every_seconds="),
        ("* * * * *", None, "Europe/Berlim", "'Europe/Berlim'"),
        ("* * * * *", None, "../etc/passwd", "'../etc/passwd'"),
        ("* * * * *", None, "", "time zone"),
        ("* * * * *", None, 2, "time zone"),
        (None, 30, BERLIN, "is for cron expressions"),
        (None, 0.5, None, "every_seconds"),
        (None, -1, None, "every_seconds"),
        (None, math.nan, None, "every_seconds"),
        (None, "30", None, "every_seconds"),
    ],
)
def test_what_is_no_timetable_is_refused(
    expression: Any, seconds: Any, zone: Any, message: str
) -> None:
    with pytest.raises(InvalidOptions, match=message):
        timetable_of(expression, seconds, zone)


def test_a_missing_extra_is_named_for_cron_expressions_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    importing = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "cronsim":
            raise ModuleNotFoundError("No module named 'cronsim'", name="cronsim")
        return importing(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)

    assert timetable_of(None, 30, None).next_after(0) == 30
    with pytest.raises(ImportError, match=r"\[periodic\]"):
        timetable_of("* * * * *", None, None)


def test_intervals_that_differ_have_texts_that_differ() -> None:
    assert Every(2_592_000).text == "every 2592000 s"
    assert Every(2_592_001).text == "every 2592001 s"
    assert Every(0.5).text == "every 0.5 s"
