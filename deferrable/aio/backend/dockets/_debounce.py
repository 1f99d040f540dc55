"""A debounced push to a Dockets queue whose Redis also keeps the debounce windows.

Owns the combination of the two: when one script can decide, push and keep the window, and the
arguments of that script.

The one rule: decision and push are one step. There is no reservation, so no producer can die in
between, and a failed push leaves no window behind.
"""

from dataclasses import dataclass

from deferrable._codec.json import dump
from deferrable.aio.backend._redis.link import RedisSettings, script
from deferrable.aio.backend._redis.windows import (
    DebouncedCall,
    read_reservation,
    run_repeatable,
    window_keys,
)
from deferrable.aio.backend.dockets._base import DocketsBase
from deferrable.aio.backend.dockets._wire import envelope_around
from deferrable.aio.clock import Clock
from deferrable.aio.debounce import DebounceKey, Reservation
from deferrable.aio.queue import Queue
from deferrable.item import Item, new_id

__all__ = ["join"]

_PUSH = script("debounce_decide", "debounce_window", "debounced_window", "debounced_push")
_CLASSIC_PUSH = script(
    "debounce_decide", "debounce_classic_window", "debounced_classic_window", "debounced_push"
)

_DECIDED_FIELDS = frozenset({"delay", "original_delay", "due_time"})
"""The fields that the script writes into the item, because they depend on the decision."""


def join(settings: RedisSettings, clock: Clock | None, queue: Queue) -> "_JoinedPush | None":
    """The push that decides and pushes in one step, or None if that needs two steps.

    Args:
        settings: of the Redis that keeps the windows.
        clock: the source of the windows' time; None: the server.
    """
    if not isinstance(queue, DocketsBase) or queue.IS_FOR_ERRORS or settings.is_cluster:
        return None
    if queue._commands.links.settings.address != settings.address:
        return None
    # The delayed items' time must be the windows' time.
    return _JoinedPush(queue) if queue._injected_clock is clock else None


@dataclass(frozen=True, slots=True)
class _JoinedPush:
    """A `JoinedPush` onto `queue`."""

    queue: DocketsBase

    async def __call__(
        self,
        item: Item,
        key: DebounceKey,
        window_seconds: float,
        always_delay: bool,
        token: str,
    ) -> Reservation:
        queue, is_classic = self.queue, key.classic is not None
        call = DebouncedCall(token, window_seconds, always_delay, is_classic, queue._injected_clock)
        commands = queue._commands
        keys = (
            *window_keys(key, is_classic=is_classic),
            commands.keys.queue,
            commands.keys.delayed,
            commands.keys.payload,
        )
        before, after = _envelope_around(item, queue.clock.time())
        args = (*call.args(), new_id(), before, after)
        push = _CLASSIC_PUSH if is_classic else _PUSH
        return read_reservation(await run_repeatable(commands.link, push, keys, args))


def _envelope_around(item: Item, now: float) -> tuple[str, str]:
    """The texts before and after what the script writes: the item's last fields and their brace."""
    kept = {name: value for name, value in item.items() if name not in _DECIDED_FIELDS}
    before, after = envelope_around(now)
    return before + dump(kept).removesuffix("}"), after
