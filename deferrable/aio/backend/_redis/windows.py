"""Arguments and answers of the debounce scripts.

Owns the keys of a window, how long it is kept, and how an answer is read.

The one rule: the scripts may be sent twice. A token names a call, and the same token is the same
call. So a command whose answer was lost is sent again.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from deferrable.aio.backend._redis.link import RedisLink, Script
from deferrable.aio.clock import Clock
from deferrable.aio.debounce import (
    DebounceKey,
    Decision,
    PushDelayed,
    PushNow,
    Reservation,
    Skip,
)
from deferrable.debounce import RESERVATION_SECONDS, life_seconds
from deferrable.errors import BackendUnavailable

__all__ = [
    "CLASSIC_LIFE_IN_WINDOWS",
    "DebouncedCall",
    "now_text",
    "read_reservation",
    "run_repeatable",
    "window_keys",
]

CLASSIC_LIFE_IN_WINDOWS: Final = 2
"""How long the old library keeps the time of the last push (its
``px=int(2*debounce_seconds*1000)``, and the same in its script).
"""

_PREFIX: Final = "deferrable.debounce."

_LEAST_LIFE_SECONDS: Final = 3600.0
"""Keys expire by the server's clock, so a window decided on by a clock that a test moves, or lets
stand still, is kept for so long at least."""

_NO_REPEAT_AFTER_SECONDS: Final = 1.0
"""A silent server is not asked twice, because ``later`` runs in users' requests."""


@dataclass(frozen=True, slots=True)
class DebouncedCall:
    """A call that needs a decision.

    Attributes:
        is_classic: its window is shared with the old library.
        clock: the source of time if it was injected; None: the server.
    """

    token: str
    window_seconds: float
    always_delay: bool
    is_classic: bool
    clock: Clock | None

    def args(self) -> tuple[str, ...]:
        """The first arguments of every script that decides."""
        return (
            self.token,
            repr(self.window_seconds),
            "1" if self.always_delay else "",
            repr(RESERVATION_SECONDS),
            repr(self._life_seconds()),
            now_text(self.clock),
        )

    def _life_seconds(self) -> float:
        if self.is_classic:
            return CLASSIC_LIFE_IN_WINDOWS * self.window_seconds
        least = 0.0 if self.clock is None else _LEAST_LIFE_SECONDS
        return max(life_seconds(self.window_seconds), least)


def window_keys(key: DebounceKey, *, is_classic: bool) -> Sequence[str]:
    """The Redis keys of a window: ours, or the old library's two and that of the reservation."""
    if not is_classic or key.classic is None:
        return (_PREFIX + key.text,)
    mark, last_push = key.classic
    # Without the group, like those two: the reservation is for them.
    return mark, last_push, _PREFIX + last_push


def now_text(clock: Clock | None) -> str:
    """The moment for scripts; empty: the server's own."""
    return "" if clock is None else repr(clock.time())


async def run_repeatable(
    link: RedisLink, script: Script, keys: Sequence[str], args: Sequence[str]
) -> Any:
    """The answer of a script that may be sent twice.

    Raises:
        BackendError: see `RedisLink.call`.
    """
    start_time = time.monotonic()
    try:
        return await link.run(script, keys, args)
    except BackendUnavailable:
        if time.monotonic() - start_time > _NO_REPEAT_AFTER_SECONDS:
            raise
    return await link.run(script, keys, args)


def read_reservation(answer: Sequence[bytes]) -> Reservation:
    """The answer of a script that decides: the decision, the delay, when it is available, and of
    a call to skip the id of the pending item, if it is known, and whether it is still being pushed.
    """
    name, delay, available, pending_id, *under_way = answer
    available_time = float(available)
    decision = _decision(name, float(delay), available_time)
    return Reservation(decision, available_time, pending_id.decode() or None, not any(under_way))


def _decision(name: bytes, delay_seconds: float, available_time: float) -> Decision:
    match name:
        case b"skip":
            return Skip(available_time)
        case b"now":
            return PushNow()
        case _:
            return PushDelayed(delay_seconds)
