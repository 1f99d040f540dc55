"""The repeated touch that keeps a lease while a job runs.

Owns when an item is touched and what a failed touch means. It may not know what the job is, or how
it is stopped: it calls back when the lease is lost. A heartbeat runs as a task beside the job, on a
loop that its door chooses.

The one rule: a broker that cannot be reached does not end a lease. Only the broker's word, or the
moment at which the lease ends unrenewed, does.
"""

import asyncio
import logging
from collections.abc import Callable

from deferrable.aio.clock import sleep
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Queue
from deferrable.errors import LeaseLost

__all__ = ["TOUCHES_PER_LEASE", "Heartbeat", "has_run_out", "touch_seconds"]

_logger = logging.getLogger("deferrable")

TOUCHES_PER_LEASE = 3
_MOST_TOUCHES_PER_LEASE = 30  # while the broker cannot be reached


class Heartbeat:
    """Keeps one popped item.

    Args:
        queue: where it was popped.
        envelope: of the item.
        on_lost: called once, on the heartbeat's loop, when the lease is found lost.
    """

    def __init__(self, queue: Queue, envelope: Envelope, on_lost: Callable[[], None]) -> None:
        self.queue = queue
        self.envelope = envelope
        self.on_lost = on_lost
        self._task: asyncio.Task[None] | None = None
        self._is_touching = False
        self._is_stopped = False

    def start(self) -> None:
        """Begin on the running loop. The first touch comes after a third of the lease."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """Touch no more; called on the heartbeat's own loop. A touch under way may end first."""
        self._is_stopped = True
        if self._task is not None and not self._is_touching:
            self._task.cancel()

    async def _run(self) -> None:
        while not self._is_stopped:
            await sleep(self.queue.clock, self._pause_seconds())
            if self.envelope.settlement != "open":
                return
            if has_run_out(self.queue, self.envelope):
                await self._wait_for_the_end()
                return
            self._is_touching = True
            is_kept = await self._touch()
            self._is_touching = False
            if not is_kept and not self._is_stopped and self.envelope.settlement == "open":
                self._tell_lost()
                return

    def _pause_seconds(self) -> float:
        """A third of the lease; less once touches have failed, while there is some of it left."""
        lease_seconds = self.queue.lease_seconds
        rest_seconds = self.envelope.lease_end_time - self.queue.clock.monotonic()
        soon_seconds = max(rest_seconds / 2, lease_seconds / _MOST_TOUCHES_PER_LEASE)
        return min(lease_seconds / TOUCHES_PER_LEASE, soon_seconds)

    async def _wait_for_the_end(self) -> None:
        rest_seconds = self.envelope.lease_end_time - self.queue.clock.monotonic()
        await sleep(self.queue.clock, rest_seconds)
        if self.envelope.settlement == "open":
            self._tell_lost()

    def _tell_lost(self) -> None:
        _logger.warning(
            "lost the lease of %r while its job runs; the job is not completed here",
            self.envelope,
        )
        self.on_lost()

    async def _touch(self) -> bool:
        try:
            seconds = touch_seconds(
                self.envelope,
                self.queue.clock.monotonic(),
                self.queue.lease_seconds,
                self.queue.max_lease_seconds,
            )
            await self.queue.touch(self.envelope, seconds)
        except LeaseLost:
            return False
        except Exception as error:  # an adapter's own mistake must not end the heartbeat either
            _logger.warning("cannot touch %r for now: %s", self.envelope, error)
        return self.queue.clock.monotonic() <= self.envelope.lease_end_time


def touch_seconds(
    envelope: Envelope, now: float, lease_seconds: float, max_lease_seconds: float | None
) -> float:
    """For how long an item is kept: a lease, but not beyond the maximum after its pop."""
    if max_lease_seconds is None:
        return lease_seconds
    return min(lease_seconds, envelope.pop_time + max_lease_seconds - now)


def has_run_out(queue: Queue, envelope: Envelope) -> bool:
    """Whether an item was held for as long as its queue lets a lease be kept; logs it if so."""
    maximum = queue.max_lease_seconds
    if maximum is None:
        return False
    held_seconds = queue.clock.monotonic() - envelope.pop_time
    if held_seconds < maximum:
        return False
    _logger.warning(
        "%r has been held for %.0f s (max_lease_seconds is %.0f): its lease is kept no longer",
        envelope,
        held_seconds,
        maximum,
    )
    return True
