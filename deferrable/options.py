"""The options of a job: their declaration, and what they come to for one call.

`JobOptions` declares each option once. The rule: an option that is a callable is resolved exactly
once for each ``later``, by the caller of `resolve`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, cast, get_args

from deferrable._durations import Duration, moment_of, seconds_of
from deferrable._option_checks import (
    check_attributes,
    check_call_id,
    check_group_id,
    check_max_attempts,
    check_seconds,
    check_time_limit,
    error_class_tuple,
    kept_attributes,
    kept_number,
    plain_seconds,
    truth,
)
from deferrable.errors import InvalidOptions

__all__ = [
    "OPTIONS",
    "DecoratorKeywords",
    "ErrorClasses",
    "JobOptions",
    "KeywordOptions",
    "Option",
    "OptionChanges",
    "ResolvedOptions",
    "Seconds",
    "UniqueUntil",
    "are_constant",
    "change",
    "check_max_attempts",
    "error_class_tuple",
    "item_fields",
    "resolve",
]

T = TypeVar("T")

Seconds: TypeAlias = Duration | Callable[[], Duration]
"""Seconds as a number or a `timedelta`, or a callable that gives them, once for each ``later``."""
ErrorClasses: TypeAlias = Iterable[type[BaseException]]
UniqueUntil: TypeAlias = Literal["end", "start"]


@dataclass(frozen=True, slots=True)
class Option:
    """The declaration of an option, apart from its name, type and default.

    Attributes:
        meaning: what the option does, for docstrings and docs/options.md.
        keep: returns what is kept of a value.
        check: raises `InvalidOptions` for a wrong value. An option whose default is None may be
            None without a check.
        travels: the item has the option under its name, if the value is not the default.
        is_for_calls: only ``job.options(...)`` takes it.
    """

    meaning: str
    keep: Callable[[str, Any], object] | None
    check: Callable[[str, Any], object] | None
    travels: bool
    is_for_calls: bool


def _option(
    meaning: str,
    *,
    keep: Callable[[str, Any], object] | None = None,
    check: Callable[[str, Any], object] | None = None,
    travels: bool = False,
    is_for_calls: bool = False,
) -> dict[str, Option]:
    """The metadata of a field of `JobOptions`."""
    return {"option": Option(meaning, keep, check, travels, is_for_calls)}


def _check_unique(name: str, value: object) -> None:
    if not isinstance(value, bool) and not callable(value):
        raise InvalidOptions(
            f"{name} is True, False or a callable that takes the call's arguments, got "
            f"{value!r:.200}"
        )


def _check_unique_until(name: str, value: object) -> None:
    if value not in get_args(UniqueUntil):
        choices = " or ".join(map(repr, get_args(UniqueUntil)))
        raise InvalidOptions(f"{name} is {choices}, got {value!r:.200}")


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The options of a job, or of one call of it: the declaration of each option.

    The decorator takes those before ``KW_ONLY`` by position too, as the first library did. Its
    signature, ``job.options(...)``, the docstrings, the item and the table in the docs follow from
    what stands here. A new option goes at the end, with its type for users in `KeywordOptions`.
    """

    error_classes: tuple[type[BaseException], ...] | None = field(
        default=None,
        metadata=_option(
            "errors that are retried, an iterable of classes; None: the instance's "
            "``default_error_classes``",
            keep=error_class_tuple,
        ),
    )
    max_attempts: int | None = field(
        default=None,
        metadata=_option(
            "how often it runs at most; None: the instance's ``default_max_attempts`` (5); "
            "1: no retry",
            keep=kept_number,
            check=check_max_attempts,
        ),
    )
    delay_seconds: Seconds = field(
        default=0,
        metadata=_option(
            "how long after ``later`` it may run, or a callable",
            keep=plain_seconds,
            check=check_seconds,
        ),
    )
    debounce_seconds: Seconds = field(
        default=0,
        metadata=_option(
            "the window within which equal calls share a run, or a callable",
            keep=plain_seconds,
            check=check_seconds,
        ),
    )
    debounce_always_delay: bool = field(
        default=False,
        metadata=_option("the first call of a window also waits for the window's end", keep=truth),
    )
    ttl_seconds: Seconds = field(
        default=0,
        metadata=_option(
            "how long after ``later`` it may start at the latest, or a callable; 0: no limit",
            keep=plain_seconds,
            check=check_seconds,
        ),
    )
    use_exponential_backoff: bool = field(
        default=True,
        metadata=_option(
            "a retry waits 4, 6, 10, 18, ... up to 900 s; without it a retry is available at once",
            keep=truth,
        ),
    )
    _: KW_ONLY
    timeout_seconds: float | None = field(
        default=None,
        metadata=_option(
            "how long it may run. An async function is cancelled then; a plain one cannot be, "
            "and the event ``overrun`` reports it; None: no limit",
            keep=plain_seconds,
            check=check_time_limit,
            travels=True,
        ),
    )
    backoff_jitter: bool = field(
        default=False,
        metadata=_option(
            "a retry waits between half of the backoff and all of it",
            keep=truth,
            travels=True,
        ),
    )
    debounce_key: Callable[..., object] | None = field(
        default=None,
        metadata=_option(
            "a callable that takes the arguments and returns the key by which calls are compared"
        ),
    )
    message_group_id: str | None = field(
        default=None,
        metadata=_option(
            "on SQS, the group within which items keep their order (FIFO queues), or which gets a "
            "fair share of the consumers (other queues); None: the queue's own, or none",
            check=check_group_id,
            travels=True,
        ),
    )
    keep_results_seconds: float | None = field(
        default=None,
        metadata=_option(
            "how long what it returns, or its error, is kept for ``receipt.result()``; 0: not at "
            "all; None: the instance's ``keep_results_seconds``",
            keep=plain_seconds,
            check=seconds_of,
            travels=True,
        ),
    )
    unique: bool | Callable[..., object] = field(
        default=False,
        metadata=_option(
            "an equal call is not pushed while this one is pending; a callable takes the arguments "
            "and returns the key by which calls are compared",
            check=_check_unique,
        ),
    )
    unique_until: UniqueUntil = field(
        default="end",
        metadata=_option(
            "when a unique call lets go of its key: at the ``end`` (it is completed or failed for "
            "good), or at its first ``start``",
            check=_check_unique_until,
            travels=True,
        ),
    )
    keep_call: bool = field(
        default=False,
        metadata=_option(
            "its kept result also has the call itself: the job and its arguments",
            keep=truth,
            travels=True,
        ),
    )
    call_id: str | None = field(
        default=None,
        metadata=_option(
            "the id of the call, if it must be known before the push; it must be new",
            check=check_call_id,
            is_for_calls=True,
        ),
    )
    deduplication_id: str | None = field(
        default=None,
        metadata=_option(
            "on a FIFO queue in SQS, which drops a call whose id another call of the last five "
            "minutes had; None: no call is dropped",
            check=check_group_id,
            travels=True,
            is_for_calls=True,
        ),
    )
    attributes: Mapping[str, str] | None = field(
        default=None,
        metadata=_option(
            "at most 9 texts by name that travel with the call, for "
            "``current_attempt().attributes``; on SQS also the attributes of the message",
            keep=kept_attributes,
            check=check_attributes,
            travels=True,
        ),
    )
    run_at: datetime | float | None = field(
        default=None,
        metadata=_option(
            "when it may run, instead of a delay: an aware datetime or epoch seconds",
            check=moment_of,
            is_for_calls=True,
        ),
    )

    def __post_init__(self) -> None:
        for name, keep in _KEEPERS:
            value = getattr(self, name)
            kept = keep(name, value)
            if kept is not value:
                object.__setattr__(self, name, kept)


class KeywordOptions(TypedDict, total=False):
    """The types that users may give for the options after ``KW_ONLY``."""

    timeout_seconds: Duration | None
    backoff_jitter: bool
    debounce_key: Callable[..., object] | None
    message_group_id: str | None
    keep_results_seconds: Duration | None
    unique: bool | Callable[..., object]
    unique_until: UniqueUntil
    keep_call: bool
    attributes: Mapping[str, str] | None


class DecoratorKeywords(KeywordOptions, total=False):
    """What the decorator takes by name only."""

    name: str | None


class OptionChanges(KeywordOptions, total=False):
    """What ``job.options`` takes."""

    error_classes: ErrorClasses | None
    max_attempts: int | None
    delay_seconds: Seconds
    debounce_seconds: Seconds
    debounce_always_delay: bool
    ttl_seconds: Seconds
    use_exponential_backoff: bool
    call_id: str | None
    deduplication_id: str | None
    run_at: datetime | float | None


OPTIONS: Mapping[str, Option] = {each.name: each.metadata["option"] for each in fields(JobOptions)}
"""What is declared of each option, by its name."""
_DEFAULTS = {each.name: each.default for each in fields(JobOptions)}
_KEEPERS = [(name, each.keep) for name, each in OPTIONS.items() if each.keep is not None]
_TRAVELLING = [(name, _DEFAULTS[name]) for name, each in OPTIONS.items() if each.travels]


@dataclass(frozen=True, slots=True)
class ResolvedOptions:
    """The seconds of one call."""

    delay_seconds: float
    debounce_seconds: float
    ttl_seconds: float


def change(options: JobOptions, changes: OptionChanges) -> JobOptions:
    """`options` with `changes`. A new moment to run replaces an old delay, and a delay a moment.

    Raises:
        TypeError: an option is unknown.
        InvalidOptions: error classes are no such thing.
    """
    given: dict[str, Any] = dict(changes)
    unknown = sorted(given.keys() - OPTIONS.keys())
    if unknown:
        raise TypeError(
            f"there is no option {unknown[0]!r}; options are {', '.join(sorted(OPTIONS))}"
        )
    if given.get("run_at") is not None:
        given.setdefault("delay_seconds", 0)
    elif "delay_seconds" in given:
        given.setdefault("run_at", None)
    return replace(options, **given)


def item_fields(options: JobOptions) -> dict[str, object]:
    """The options that travel under their own names, where they are not the default."""
    given = ((name, getattr(options, name), default) for name, default in _TRAVELLING)
    return {name: value for name, value, default in given if value != default}


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
        return seconds_of(f"the value that {name} returned", seconds())
    return cast("float", seconds)  # `JobOptions` keeps plain numbers
