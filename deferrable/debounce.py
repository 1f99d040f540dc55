"""Debounce: which of many equal calls becomes an item, and when.

Owns the decision, what is remembered of a window between two calls, and which calls share a
window. It has no I/O and no clock: `now` is an argument, and the store that keeps windows makes
each step atomic.

Three laws hold for every sequence of calls. Each call is followed by a run that starts at or after
it and within one window. At most one run becomes available per window. A call is skipped only if a
run is pending.

The one rule: when not all three can hold (a producer died, a push failed), the first one holds. A
reservation that nobody confirms ends after a while, so it silences calls for that long only.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from deferrable._codec.canonical import digest
from deferrable.item import Item

__all__ = [
    "RESERVATION_SECONDS",
    "Decision",
    "PushDelayed",
    "PushNow",
    "Skip",
    "Window",
    "classic_keys",
    "confirm",
    "decide",
    "identity",
    "identity_of_key",
    "life_seconds",
    "reserve",
    "restore",
    "withdraw",
]

RESERVATION_SECONDS = 10.0
"""How long a producer may take from its decision to the end of its push."""


@dataclass(frozen=True, slots=True)
class PushNow:
    """Push the item; it is available at once."""


@dataclass(frozen=True, slots=True)
class PushDelayed:
    """Push the item, to be available `delay_seconds` from now."""

    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Skip:
    """Push nothing: an item that becomes available at `pending_time` covers this call, too."""

    pending_time: float


Decision: TypeAlias = PushNow | PushDelayed | Skip


def decide(
    available_time: float | None, now: float, window_seconds: float, always_delay: bool
) -> Decision:
    """Decide on a call made at `now`.

    Args:
        available_time: when the item pushed last became or becomes available; None: there is none.
        window_seconds: the window, over 0; it may be fractional.
        always_delay: the first call waits a whole window, too.
    """
    if available_time is not None and available_time > now:
        return Skip(available_time)
    if always_delay:
        return PushDelayed(window_seconds)
    if available_time is None or now - available_time > window_seconds:
        return PushNow()
    # Rounded up to whole seconds, as brokers count them, which must not lead beyond the window.
    rest_seconds = math.ceil(window_seconds - (now - available_time))
    return PushDelayed(min(float(rest_seconds), window_seconds))


@dataclass(frozen=True, slots=True)
class Window:
    """The state that a store keeps for one identity.

    Attributes:
        available_time: when the item pushed last became or becomes available.
        token: of the producer that is still pushing it; None: it was pushed.
        reserved_until_time: after this moment that producer counts as dead.
        previous_time: the `available_time` to go back to, then, when the push fails, or when the
            item is cancelled.
        item_id: the token of the producer that pushed it, which is the item's id.
    """

    available_time: float
    token: str | None = None
    reserved_until_time: float | None = None
    previous_time: float | None = None
    item_id: str | None = None

    @property
    def pending_id(self) -> str | None:
        """The id of the item that is pushed, or being pushed."""
        return self.item_id if self.token is None else self.token


def reserve(
    window: Window | None, now: float, window_seconds: float, always_delay: bool, token: str
) -> tuple[Decision, Window | None]:
    """Decide on a call. Return the decision and the window to keep from now on.

    A decision to push is a reservation: it counts as a push for every other producer, for
    `RESERVATION_SECONDS` at most. A second call with the same token, as after a lost answer, is the
    same push; it returns the rest of the delay.

    Args:
        window: the kept window; None: there is none.
        token: a new token. It names the reservation.
    """
    current = _standing(window, now)
    if current is not None and current.token == token:
        return _again(current.available_time, now), current
    available_time = None if current is None else current.available_time
    decision = decide(available_time, now, window_seconds, always_delay)
    match decision:
        case Skip():
            return decision, current
        case PushNow():
            next_time = now
        case PushDelayed(delay_seconds):
            next_time = now + delay_seconds
    return decision, Window(next_time, token, now + RESERVATION_SECONDS, available_time)


def _again(available_time: float, now: float) -> Decision:
    return PushDelayed(available_time - now) if available_time > now else PushNow()


def confirm(window: Window | None, now: float, token: str) -> Window | None:
    """The window once the push of `token` has worked.

    It is unchanged if the reservation has another token by now, or is past: another producer may
    have decided without it, so it must not come back.
    """
    current = _standing(window, now)
    if current is None or current.token != token:
        return current
    return Window(current.available_time, previous_time=current.previous_time, item_id=token)


def restore(window: Window | None, now: float, token: str) -> Window | None:
    """The window after the push of `token` has failed: as it was before the decision.

    It is unchanged if the reservation has another token by now, or is past.
    """
    current = _standing(window, now)
    if current is None or current.token != token:
        return current
    return None if current.previous_time is None else Window(current.previous_time)


def withdraw(window: Window | None, now: float, item_id: str) -> Window | None:
    """The window after its item was cancelled: as it was before the decision to push it.

    It is unchanged if another item was pushed since.
    """
    current = _standing(window, now)
    if current is None or current.pending_id != item_id:
        return current
    return None if current.previous_time is None else Window(current.previous_time)


def _standing(window: Window | None, now: float) -> Window | None:
    """`window` without a reservation that is past."""
    if window is None or window.reserved_until_time is None or now < window.reserved_until_time:
        return window
    return None if window.previous_time is None else Window(window.previous_time)


def life_seconds(window_seconds: float) -> float:
    """How long after a reservation its window may still matter to a call.

    The item is available within one window, and one window after that a call is the first again.
    A reservation lives at least as long as it may be confirmed.
    """
    return max(2 * window_seconds, RESERVATION_SECONDS)


# Which calls share a window.


def identity(group: str | None, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """A text that two calls share when they have the same group, function and equal arguments.

        The order of keywords, dicts and sets makes no difference. It also makes no difference
        whether two equal values are one object or two, in any process and version of Python. 1, 1.0
        and True differ, and so do ``str`` and ``bytes``. A positional argument differs from the
        same one passed by keyword.

    Args:
        group: None and empty are the nameless group.
        name: of the function, as in an item.

    Raises:
        UnserializableCall: pickle cannot write one of the arguments, either.
    """
    return _hash(group, name, "call", (tuple(args), dict(kwargs)))


def identity_of_key(group: str | None, name: str, key: object) -> str:
    """The `identity` of calls whose arguments ``debounce_key=`` replaced by `key`.

    Raises:
        UnserializableCall: pickle cannot write `key`.
    """
    return _hash(group, name, "key", key)


def _hash(group: str | None, name: str, kind: str, value: object) -> str:
    # The number changes with the rules of equality, so that two versions never share a window
    # whose arguments they see differently.
    return digest(("deferrable 1", group or "", name, kind, value)).hex()


def classic_keys(item: Item) -> tuple[str, str]:
    """The keys under which the old library keeps the window of a classic item.

    Returns:
        the key of the pending mark, and the key of the time of the last push. They do not contain
        the group, so groups share windows, as in the old library.
    """
    call = f"{item['method']}.{item['args']}.{item['kwargs']}"
    return f"debounce.{call}", f"last_push.{call}"
