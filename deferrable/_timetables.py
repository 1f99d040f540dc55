"""The moments at which a schedule has a tick: a cron expression, or every so many seconds.

Owns which moments these are. The rule: they depend on nothing but the timetable, so every worker
comes to the same ones, whatever its clock shows and whenever it was started.

cronsim knows cron expressions and what they mean when clocks are put forward or back.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from deferrable._codec.refusals import short_repr
from deferrable._durations import seconds_of
from deferrable._extras import missing_extra
from deferrable.errors import InvalidOptions

__all__ = ["Cron", "Every", "Timetable", "timetable_of"]

_LEAST_SECONDS = 1.0


class Timetable(Protocol):
    """When there is a tick."""

    @property
    def text(self) -> str:
        """It in words, which tell it from every other timetable."""
        ...

    @property
    def zone(self) -> tzinfo:
        """The zone in which people read its moments."""
        ...

    def next_after(self, moment: float) -> float:
        """The first tick after `moment`, in epoch seconds; infinity: there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """The multiples of `seconds` since the beginning of 1970 in UTC."""

    seconds: float

    @property
    def text(self) -> str:
        return f"every {self.seconds:.15g} s"

    @property
    def zone(self) -> tzinfo:
        return UTC

    def next_after(self, moment: float) -> float:
        number = math.floor(moment / self.seconds) - 1  # the division may have been rounded up
        while number * self.seconds <= moment:
            number += 1
        return number * self.seconds


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression, read in a time zone."""

    expression: str
    zone_name: str
    zone: tzinfo

    @property
    def text(self) -> str:
        return f"{self.expression} {self.zone_name}"

    def next_after(self, moment: float) -> float:
        start = datetime.fromtimestamp(moment, self.zone)
        # What is left out when clocks are put forward falls on one moment. What is repeated when
        # they are put back may come out before the start.
        for found in _cronsim().CronSim(self.expression, start):
            tick: float = found.timestamp()
            if tick > moment:
                return tick
        return math.inf


def timetable_of(cron: object, every_seconds: object, timezone: object) -> Timetable:
    """The timetable that `periodic` was given.

    Raises:
        InvalidOptions: none or both kinds were given, or it is none.
        ImportError: a cron expression needs the extra ``deferrable[periodic]``.
    """
    if (cron is None) == (every_seconds is None):
        given = "neither" if cron is None else f"{short_repr(cron)} and {short_repr(every_seconds)}"
        raise InvalidOptions(
            "a schedule is a cron expression or every_seconds=, one of them; got "
            f'{given}; write periodic("*/5 * * * *") or periodic(every_seconds=30)'
        )
    if cron is not None:
        return _cron(cron, timezone)
    if timezone is not None:
        raise InvalidOptions(
            f"timezone={short_repr(timezone)} is for cron expressions; every_seconds= counts from "
            "the beginning of 1970 in UTC, so leave it out"
        )
    return Every(float(seconds_of("every_seconds", every_seconds, least=_LEAST_SECONDS)))


def _cron(expression: object, timezone: object) -> Cron:
    if not isinstance(expression, str):
        raise InvalidOptions(
            f"a cron expression is a text of five or six fields, got {short_repr(expression)}; for "
            "seconds write every_seconds="
        )
    zone = UTC if timezone is None else _zone(timezone)
    cron = Cron(" ".join(expression.split()), _zone_name(zone), zone)
    cronsim = _cronsim()
    try:
        cronsim.CronSim(cron.expression, datetime.now(zone))
    except cronsim.CronSimError as error:
        raise InvalidOptions(
            f"{short_repr(expression)} is no cron expression: {error}; write minute, hour, day of "
            'the month, month and day of the week, as in "*/5 * * * *"'
        ) from error
    if cron.next_after(datetime.now(zone).timestamp()) == math.inf:
        raise InvalidOptions(f"{short_repr(expression)} never comes; correct its day or month")
    return cron


def _zone(timezone: object) -> tzinfo:
    if isinstance(timezone, tzinfo):
        return timezone
    if isinstance(timezone, str):
        try:
            return UTC if timezone == "UTC" else ZoneInfo(timezone)
        except (OSError, ValueError) as error:
            reason: Exception | None = error
        except KeyError as error:
            reason = error
    else:
        reason = None
    raise InvalidOptions(
        f"timezone is the name of a time zone, such as 'Europe/Berlin', or a tzinfo; got "
        f"{short_repr(timezone)}, which this machine does not know; check its name, or install "
        "the package tzdata"
    ) from reason


def _zone_name(zone: tzinfo) -> str:
    name = getattr(zone, "key", None)
    return name if isinstance(name, str) else str(zone)


def _cronsim() -> Any:
    """The module that reads cron expressions."""
    try:
        import cronsim
    except ImportError as error:
        lacking = missing_extra("a cron expression", "periodic", error)
        raise ImportError(f"{lacking}; or use every_seconds=", name=error.name) from error
    return cronsim
