"""A tick pushed to a Dockets queue whose Redis also keeps the schedules.

Owns when one script can admit and push, and the arguments of that script.

The one rule: admission and push are one step. No worker can die in between.
"""

from dataclasses import dataclass

from deferrable.aio.backend._redis.link import RedisSettings
from deferrable.aio.backend._redis.ticks import ADMIT, admit_args, read_admission, schedules_key
from deferrable.aio.backend._redis.windows import run_repeatable
from deferrable.aio.backend.dockets._base import DocketsBase
from deferrable.aio.backend.dockets._wire import envelope_around
from deferrable.aio.clock import Clock
from deferrable.aio.queue import Push, Queue
from deferrable.aio.schedules import Admission, Proposal
from deferrable.item import new_id

__all__ = ["join"]


def join(settings: RedisSettings, clock: Clock | None, queue: Queue) -> "_JoinedTick | None":
    """What admits and pushes in one step, or None if that needs two steps.

    Args:
        settings: of the Redis that keeps the schedules.
        clock: the source of the schedules' time; None: the server.
    """
    if not isinstance(queue, DocketsBase) or queue.IS_FOR_ERRORS:
        return None
    if queue._commands.links.settings.address != settings.address:
        return None
    # The delayed items' time must be the schedules' time.
    return _JoinedTick(queue) if queue._injected_clock is clock else None


@dataclass(frozen=True, slots=True)
class _JoinedTick:
    """A `JoinedTick` onto `queue`."""

    queue: DocketsBase

    async def __call__(self, name: str, proposal: Proposal, push: Push) -> Admission:
        queue, commands = self.queue, self.queue._commands
        keys = commands.keys
        before, after = envelope_around(queue.clock.time())
        args = (
            *admit_args(queue._injected_clock, proposal, ""),
            repr(push.delay_seconds),
            new_id(),
            f"{before}{push.text}{after}",
        )
        names = (schedules_key(name), keys.queue, keys.delayed, keys.payload)
        return read_admission(await run_repeatable(commands.link, ADMIT, names, args))
