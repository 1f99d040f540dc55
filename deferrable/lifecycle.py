"""What happens to an item: the decisions, without the actions.

Owns when an item is due and when it expires; the choice to run it, expire it or push it again;
after its job has failed, the choice between a retry, with its wait, and the error queue; and the
record of the error. Each decision is a small frozen value, which the engine performs.

The one rule: everything here is pure. The caller passes `now`, a random number, the longest delay
that the queue takes, and the names of error classes.

``due_time`` is the moment before which an item is never run; ``delay`` is how long the queue must
hide it. A delay that is too long for the queue hops: the item reappears before it is due, and is
pushed again for the rest. A ttl counts from ``later``: retries do not restart it, and a delay uses
it up. The backoff is that of the old library, because its items use the same queues.
"""

import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeAlias

from deferrable._codec.json import dump
from deferrable._codec.refusals import short_repr
from deferrable._durations import is_number, is_whole_number, optional_seconds_of
from deferrable._pauses import jittered
from deferrable._texts import stands_for_text
from deferrable._tracebacks import limited_text, traceback_text
from deferrable.errors import UnreadableItem
from deferrable.item import CALL_FIELDS, Item, copy_item, new_id
from deferrable.retry import Retry

__all__ = [
    "MAX_BACKOFF_SECONDS",
    "Bury",
    "Hop",
    "RetryLater",
    "TooManyDeliveries",
    "Verdict",
    "add_ttl",
    "after_error",
    "backoff_seconds",
    "before_run",
    "bury",
    "counted",
    "error_record",
    "expiry_time",
    "is_expired",
    "kept_whole",
    "read_count",
    "read_seconds",
    "requeued",
    "seconds_until_due",
    "set_delay",
    "shortened",
    "with_error",
]

_SHORTENED = "(shortened) ..."
_MOST_NAMES = 10
"""Error classes that a reason lists."""

MAX_BACKOFF_SECONDS = 900.0
"""The longest wait, in seconds: the longest delay of a message in SQS, a limit the old library
kept on every broker."""

_CONSTANT_SECONDS = 2.0
_LARGEST_EXPONENT = 10  # 2 + 2**10 is over the maximum already.


# Fields that another process wrote. A wrong one is named with its value.


def read_seconds(item: Item, field: str) -> float | None:
    """A number of seconds or a moment; None when it is absent or null.

    Raises:
        UnreadableItem: it is something else, or more than a float can be.
    """
    value = item.get(field)
    if value is None:
        return None
    if not is_number(value) or not abs(value) <= sys.float_info.max:
        raise UnreadableItem(
            f"the item's {field} is {short_repr(value)}, which is not a number of seconds"
        )
    return value


def read_count(item: Item, field: str, default: int) -> int:
    """A whole number; `default` when it is absent or null.

    Raises:
        UnreadableItem: it is something else.
    """
    value = item.get(field)
    if value is None:
        return default
    if value.__class__ is not int and not is_whole_number(value):  # each job reads several
        raise UnreadableItem(
            f"the item's {field} is {short_repr(value)}, which is not a whole number"
        )
    return value


# Delays.


def set_delay(item: Item, seconds: float, now: float, max_seconds: float) -> None:
    """Have `item`, which must be the caller's own, become due `seconds` from `now`.

    Args:
        seconds: 0 for at once.
        max_seconds: the longest delay that the queue itself takes.
    """
    if seconds <= 0:
        item.pop("due_time", None)
        item["delay"] = 0
    else:
        item["due_time"] = now + seconds
        item["delay"] = min(seconds, max_seconds)


def seconds_until_due(item: Item, now: float) -> float:
    """How long `item` must still wait; 0 if it is due.

    Raises:
        UnreadableItem: its ``due_time`` is no number.
    """
    due_time = read_seconds(item, "due_time")
    return 0.0 if due_time is None else max(0.0, due_time - now)


# Times to live.


def add_ttl(item: Item, ttl_seconds: float, now: float) -> None:
    """Note in a new item that it expires `ttl_seconds` from `now`."""
    item["ttl_seconds"] = ttl_seconds
    item["item_queued_timestamp"] = now


def expiry_time(item: Item) -> float | None:
    """The last moment at which the item may start, or None if it never expires.

    Raises:
        UnreadableItem: the fields are no numbers.
    """
    ttl_seconds, queued_time = item.get("ttl_seconds"), item.get("item_queued_timestamp")
    if ttl_seconds is not None or queued_time is not None:
        ttl_seconds = read_seconds(item, "ttl_seconds")
        queued_time = read_seconds(item, "item_queued_timestamp")
    if not ttl_seconds or queued_time is None:
        return None
    return queued_time + ttl_seconds


def is_expired(item: Item, now: float) -> bool:
    """Whether the item must not be run any more.

    Raises:
        UnreadableItem: the fields are no numbers.
    """
    expiry = expiry_time(item)
    return expiry is not None and now > expiry


# The wait before a retry.


def backoff_seconds(attempts: int, draw: float | None = None) -> float:
    """The wait before the next attempt: 4, 6, 10, 18, ... up to 900 seconds.

    Args:
        attempts: how many attempts have finished, the one that just failed included.
        draw: a number from 0 to 1 that places the wait between half of it and all of it; None:
            all of it.
    """
    exponent = min(max(attempts, 0), _LARGEST_EXPONENT)
    seconds = min(_CONSTANT_SECONDS + 2.0**exponent, MAX_BACKOFF_SECONDS)
    return seconds if draw is None else jittered(seconds, draw)


# What is decided.


@dataclass(frozen=True, slots=True)
class Hop:
    """It is not due: send `item` on for the rest."""

    item: Item


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Push `item`, a copy that is due in `seconds`."""

    item: Item
    seconds: float


@dataclass(frozen=True, slots=True)
class Bury:
    """Push `item`, a copy with its ``error``, onto the error queue.

    Attributes:
        reason: why it is not retried; empty where its error says so.
        is_exhausted: it had all its attempts.
    """

    item: Item
    reason: str = ""
    is_exhausted: bool = False


Verdict: TypeAlias = RetryLater | Bury


class TooManyDeliveries(Exception):
    """Recorded with an item that was delivered again and again, and never settled."""

    def __init__(self, deliveries: int, max_redeliveries: float) -> None:
        super().__init__(
            f"delivered {deliveries} times and never settled: its consumers crashed, or lost their "
            f"leases; max_redeliveries is {max_redeliveries}"
        )


def before_run(
    item: Item, now: float, max_delay_seconds: float, *, is_due: bool = False
) -> Hop | None:
    """A hop for an item that was popped before its time, or None if it is due.

    Args:
        is_due: its queue has kept the whole delay. The writer of its ``due_time`` may have had a
            wrong clock, so nothing is compared with it.

    Raises:
        UnreadableItem: its ``due_time`` is no number.
    """
    if item.get("due_time") is None:
        return None
    seconds = seconds_until_due(item, now)
    if is_due or seconds <= 0:
        return None
    copy = copy_item(item)
    copy["delay"] = min(seconds, max_delay_seconds)
    return Hop(copy)


def counted(item: Item, attempts: int) -> Item:
    """`item` with so many attempts more: those that ended since it was pushed.

    Raises:
        UnreadableItem: its own number is no whole number.
    """
    return {**item, "attempts": read_count(item, "attempts", 0) + attempts}


def after_error(
    item: Item,
    error: BaseException,
    *,
    is_retriable: bool,
    now: float,
    draw: Callable[[], float],
    max_delay_seconds: float,
    hostname: str,
    hides_early: bool = False,
    is_last: bool = False,
    retry_names: Collection[str] = (),
) -> Verdict:
    """Decide what happens to an item whose job raised `error`.

    It is retried if the job asked for it, or if the error is of the classes that the item names,
    while attempts remain and its ttl leaves time for another start. Else it is buried.

    Args:
        is_retriable: the error is of the classes that the item names.
        draw: gives a number from 0 to 1, for items with a jittered backoff.
        max_delay_seconds: the longest delay of the queue; 0 for one that cannot delay.
        hostname: recorded with the error.
        hides_early: who pops an item before its time can hide it for the rest, so that a retry
            waits also where the queue cannot delay; else it is available at once there.
        is_last: the broker will not deliver it again.
        retry_names: of the classes that the item names, for the reason why it is not retried.

    Raises:
        UnreadableItem: fields that decide are of the wrong kind.
    """
    asked = error if isinstance(error, Retry) else None
    if asked is None and not is_retriable:
        return bury(item, error, now, hostname, _not_retriable(error, retry_names))
    counts = asked is None or asked.count
    finished = read_count(item, "attempts", 0) + 1
    attempts = finished if counts else finished - 1
    max_attempts = read_count(item, "max_attempts", 1)
    if counts and (attempts >= max_attempts or is_last):
        reason = f"no attempt left ({attempts} of {max_attempts})"
        if is_last:
            reason += f", and {finished} deliveries are the most that its queue allows"
        buried = bury(item, _cause_of(error), now, hostname, reason)
        return Bury(buried.item, reason, is_exhausted=True)
    can_wait = hides_early or max_delay_seconds > 0
    seconds = _retry_seconds(item, asked, finished, draw) if can_wait else 0.0
    expiry = expiry_time(item)
    if expiry is not None and now + seconds > expiry:
        reason = (
            f"its ttl would end before the next attempt, {seconds:.1f} s from now "
            f"(ttl_seconds is {item['ttl_seconds']})"
        )
        return bury(item, _cause_of(error), now, hostname, reason)
    copy = copy_item(item)
    copy.pop("error", None)  # of an earlier failure, after which it was moved back
    copy["attempts"] = attempts
    # A response time measured from here does not count the wait.
    copy["last_push_time"] = now + seconds
    set_delay(copy, seconds, now, max_delay_seconds)
    if not copy["delay"]:
        del copy["delay"]
    return RetryLater(copy, seconds)


def kept_whole(item: Item) -> Item:
    """`item` if it is one of a call; else an item that has it as text in ``raw``.

    What somebody else wrote may have fields that are called as ours are, such as ``error``. Ours
    must not replace them, because the error queue is the only place that still has it.
    """
    return item if item.keys() >= CALL_FIELDS or stands_for_text(item) else {"raw": dump(item)}


def bury(item: Item, error: BaseException, now: float, hostname: str, reason: str = "") -> Bury:
    """Have a copy of `item`, with a record of `error`, go to the error queue."""
    copy = with_error(item, error, now, hostname, reason)
    copy["last_push_time"] = now
    copy.pop("delay", None)
    copy.pop("due_time", None)
    return Bury(copy, reason)


def with_error(
    item: Item, error: BaseException, now: float, hostname: str, reason: str = ""
) -> Item:
    """A copy of `item` with a record of `error`, and else as it was, so that it stays signed."""
    return {**copy_item(item), "error": error_record(error, now, hostname, reason)}


def shortened(item: Item, excess_bytes: int) -> Item:
    """`item` with a shorter record of its error, so that it is fewer bytes; the call stays whole.

    The end of the traceback stays, because it shows the error.

    Args:
        excess_bytes: how many fewer; 0: none. There may be less to take away than that.
    """
    error = item.get("error")
    if not excess_bytes or not isinstance(error, dict):
        return item
    error = dict(error)
    for field in ("traceback", "error_text"):
        text = error[field]
        start = excess_bytes + len(_SHORTENED)
        error[field] = f"{_SHORTENED}{text[start:]}" if start < len(text) else ""
        # A character is a byte or more.
        excess_bytes -= len(text) - len(error[field])
        if excess_bytes <= 0:
            break
    return {**item, "error": error}


def requeued(item: Item, now: float) -> Item:
    """A copy of an item of the error queue, to be run again as if it were new.

    Its attempts and its ttl start again; its id stays.
    """
    copy = copy_item(item)
    for field in ("error", "delay", "due_time"):
        copy.pop(field, None)
    copy["attempts"] = 0
    copy["last_push_time"] = now
    if "item_queued_timestamp" in copy:
        copy["item_queued_timestamp"] = now
    return copy


def error_record(
    error: BaseException, now: float, hostname: str, reason: str = ""
) -> dict[str, Any]:
    """What an item's ``error`` field holds: the fields of the old library, all encodable.

    A ``reason`` says why the item was not retried; it is absent where the error says so.
    """
    record = {
        "error_type": _encodable(type(error).__name__),
        "error_text": _encodable(_text_of(error)),
        "traceback": _encodable(_traceback_of(error)),
        "hostname": hostname,
        "ts": now,
        "id": new_id(),
    }
    return {**record, "reason": _encodable(reason)} if reason else record


def _not_retriable(error: BaseException, retry_names: Collection[str]) -> str:
    names = sorted({name.rpartition(":")[2][:100] for name in retry_names})
    if len(names) > _MOST_NAMES:
        names[_MOST_NAMES:] = ["..."]
    return f"{type(error).__name__} is not among its error_classes ({', '.join(names) or 'none'})"


def _retry_seconds(
    item: Item, asked: Retry | None, finished: int, draw: Callable[[], float]
) -> float:
    after = None if asked is None else optional_seconds_of("after_seconds", asked.after_seconds)
    if after is not None:
        return after
    if not item.get("use_exponential_backoff"):
        return 0.0
    return backoff_seconds(finished, draw() if item.get("backoff_jitter") else None)


def _cause_of(error: BaseException) -> BaseException:
    if isinstance(error, Retry) and error.__cause__ is not None:
        return error.__cause__
    return error


def _text_of(error: BaseException) -> str:
    try:
        return limited_text(str(error))
    except KeyboardInterrupt:
        raise
    except BaseException as second:
        return f"<the __str__ of this error raised {type(second).__name__}>"


def _traceback_of(error: BaseException) -> str:
    try:
        return traceback_text(error)
    except KeyboardInterrupt:
        raise
    except BaseException as second:
        return f"<formatting the traceback of this error raised {type(second).__name__}>"


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
