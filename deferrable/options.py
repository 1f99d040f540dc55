"""The options of a job: what they are, what contradicts, and what they come to for one call.

Owns the checks, at decoration and at ``later``. It may not know queues or clocks. An option that is
a callable is resolved exactly once for each ``later``, by whoever calls `resolve`.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias, TypedDict, cast

from deferrable._durations import Duration, moment_of, plain_number, seconds_of
from deferrable.errors import InvalidOptions

__all__ = [
    "NO_DEBOUNCE_STORE",
    "ErrorClasses",
    "JobOptions",
    "OptionChanges",
    "ResolvedOptions",
    "Seconds",
    "are_constant",
    "change",
    "check",
    "error_class_tuple",
    "resolve",
]

Seconds: TypeAlias = Duration | Callable[[], Duration]
"""Seconds as a number or a `timedelta`, or a callable that gives them, once for each ``later``."""
ErrorClasses: TypeAlias = Iterable[type[BaseException]]


class OptionChanges(TypedDict, total=False):
    """What ``job.options`` takes."""

    error_classes: ErrorClasses | None
    max_attempts: int | None
    delay_seconds: Seconds
    run_at: datetime | float | None
    debounce_seconds: Seconds
    debounce_always_delay: bool
    debounce_key: Callable[..., object] | None
    ttl_seconds: Seconds
    use_exponential_backoff: bool
    timeout_seconds: Duration | None
    backoff_jitter: bool
    message_group_id: str | None


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The options of a job, or of one call of it. A `timedelta` is kept as its seconds.

    Attributes:
        error_classes: errors that are retried; None: the instance's default.
        max_attempts: how often it runs at most, from 1; None: the instance's default.
        delay_seconds: how long after ``later`` it may run.
        run_at: when it may run, instead of a delay: an aware datetime or epoch seconds.
        debounce_seconds: the window within which equal calls are one run.
        debounce_always_delay: the first call of a window waits for the window's end, too.
        debounce_key: makes of the arguments what calls are compared by.
        ttl_seconds: how long after ``later`` it may start at the latest; 0: without end.
        use_exponential_backoff: a retry waits; else it runs at once.
        timeout_seconds: how long it may run; None: without end.
        backoff_jitter: a retry waits between half of the backoff and all of it.
        message_group_id: on SQS, the group within which items keep their order (FIFO queues), or
            which has a fair share of the consumers (others); None: the queue's own, or none.
    """

    error_classes: tuple[type[BaseException], ...] | None = None
    max_attempts: int | None = None
    delay_seconds: Seconds = 0
    run_at: datetime | float | None = None
    debounce_seconds: Seconds = 0
    debounce_always_delay: bool = False
    debounce_key: Callable[..., object] | None = None
    ttl_seconds: Seconds = 0
    use_exponential_backoff: bool = True
    timeout_seconds: float | None = None
    backoff_jitter: bool = False
    message_group_id: str | None = None

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            value = getattr(self, name)
            if value is None or value.__class__ in (int, float):
                continue
            seconds = value.total_seconds() if isinstance(value, timedelta) else value
            object.__setattr__(self, name, plain_number(seconds))


NO_DEBOUNCE_STORE = (
    "this backend has no place of its own to keep debounce windows; give the instance a "
    "redis_client= (or a debounce_store=), which SQS and backends without a store require"
)


_NUMBERS = ("delay_seconds", "debounce_seconds", "ttl_seconds", "timeout_seconds", "max_attempts")
_GROUP_ID = re.compile(r"[!-~]{1,128}")
_NAMES = frozenset(JobOptions.__annotations__)


@dataclass(frozen=True, slots=True)
class ResolvedOptions:
    """The seconds of one call."""

    delay_seconds: float
    debounce_seconds: float
    ttl_seconds: float


def check(options: JobOptions, *, can_debounce: bool) -> None:
    """Refuse what contradicts or is out of range, as far as it can be told before a call.

    Args:
        can_debounce: the instance has a place to keep windows.

    Raises:
        InvalidOptions: naming the option, its value and what to do.
    """
    _check_seconds("delay_seconds", options.delay_seconds)
    _check_seconds("debounce_seconds", options.debounce_seconds)
    _check_seconds("ttl_seconds", options.ttl_seconds)
    if options.run_at is not None:
        moment_of("run_at", options.run_at)
    if options.max_attempts is not None:
        check_max_attempts("max_attempts", options.max_attempts)
    if options.timeout_seconds is not None:
        if options.timeout_seconds == 0:
            raise InvalidOptions("timeout_seconds is 0, no job could run; None is without end")
        seconds_of("timeout_seconds", options.timeout_seconds)
    if options.message_group_id is not None:
        _check_group_id(options.message_group_id)
    if options.debounce_seconds and not can_debounce:
        raise InvalidOptions(
            f"debounce_seconds={options.debounce_seconds!r}, but {NO_DEBOUNCE_STORE}"
        )
    if options.debounce_seconds and (options.delay_seconds or options.run_at is not None):
        raise InvalidOptions(
            "a call cannot be delayed and debounced at the same time (debounce delays by itself): "
            f"got delay_seconds={options.delay_seconds!r}, run_at={options.run_at!r}, "
            f"debounce_seconds={options.debounce_seconds!r}"
        )
    if options.delay_seconds and options.run_at is not None:
        raise InvalidOptions(
            f"run_at={options.run_at!r} and delay_seconds={options.delay_seconds!r} both say when "
            "to run; give one of them"
        )
    for name in ("debounce_always_delay", "debounce_key"):
        if getattr(options, name) and not options.debounce_seconds:
            raise InvalidOptions(f"{name} is an option to debounce_seconds, which is not set")


def check_max_attempts(name: str, value: object) -> None:
    """Refuse a number of attempts that is no whole number from 1 on."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidOptions(f"{name} is a whole number from 1 on, got {value!r}; 1 is no retry")


def error_class_tuple(name: str, classes: object) -> tuple[type[BaseException], ...] | None:
    """`classes`, an iterable of exception classes or None, as a tuple or None.

    Raises:
        InvalidOptions: it is something else; a bare class is told apart.
    """
    if classes is None:
        return None
    if isinstance(classes, type):
        raise InvalidOptions(
            f"{name} is an iterable of exception classes, got the bare class "
            f"{classes.__qualname__}; write {name}=[{classes.__qualname__}]"
        )
    try:
        members: tuple[Any, ...] = tuple(cast("Iterable[object]", classes))  # checked by trying
    except TypeError:
        members = (classes,)
    for member in members:
        if not (isinstance(member, type) and issubclass(member, BaseException)):
            raise InvalidOptions(
                f"{name} is an iterable of exception classes, got {classes!r:.200}"
            )
    return members


def change(options: JobOptions, changes: OptionChanges) -> JobOptions:
    """`options` with `changes`. A new moment to run replaces an old delay, and a delay a moment.

    Raises:
        TypeError: an option is unknown.
        InvalidOptions: error classes are no such thing.
    """
    given: dict[str, Any] = dict(changes)
    unknown = sorted(given.keys() - _NAMES)
    if unknown:
        raise TypeError(
            f"there is no option {unknown[0]!r}; options are {', '.join(sorted(_NAMES))}"
        )
    if "error_classes" in given:
        given["error_classes"] = error_class_tuple("error_classes", given["error_classes"])
    if given.get("run_at") is not None:
        given.setdefault("delay_seconds", 0)
    elif "delay_seconds" in given:
        given.setdefault("run_at", None)
    return replace(options, **given)


def are_constant(options: JobOptions) -> bool:
    """Whether `resolve` comes to the same at every call."""
    seconds = (options.delay_seconds, options.debounce_seconds, options.ttl_seconds)
    return options.run_at is None and not any(map(callable, seconds))


def resolve(options: JobOptions, now: float) -> ResolvedOptions:
    """Call what is a callable, and check what it comes to.

    Raises:
        InvalidOptions: a value is out of range, or a delay or window longer than the ttl.
    """
    delay = _resolved("delay_seconds", options.delay_seconds)
    debounce = _resolved("debounce_seconds", options.debounce_seconds)
    ttl = _resolved("ttl_seconds", options.ttl_seconds)
    if options.run_at is not None:
        delay = max(0.0, moment_of("run_at", options.run_at) - now)
    if ttl and max(delay, debounce) > ttl:
        wait = f"delay_seconds={delay!r} or debounce_seconds={debounce!r}"
        if options.run_at is not None:
            wait = f"the time until run_at={options.run_at!r} ({delay:.0f} s)"
        raise InvalidOptions(
            f"{wait} is longer than ttl_seconds={ttl!r}: the call would expire before it could run"
        )
    return ResolvedOptions(delay, debounce, ttl)


def _resolved(name: str, seconds: Seconds) -> float:
    if callable(seconds):
        return seconds_of(f"what {name} returned", seconds())
    return cast("float", seconds)  # `JobOptions` keeps plain numbers


def _check_seconds(name: str, value: Seconds) -> None:
    if not callable(value):
        seconds_of(name, value)


def _check_group_id(value: object) -> None:
    """Source: SQS API reference, SendMessage, MessageGroupId."""
    if not isinstance(value, str) or not _GROUP_ID.fullmatch(value):
        raise InvalidOptions(
            "message_group_id is a text of 1 to 128 ASCII letters, digits and punctuation, got "
            f"{value!r:.200}"
        )
