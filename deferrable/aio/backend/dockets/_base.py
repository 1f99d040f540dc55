"""The common part of the main queue and the error queue of one name.

Owns their place: the keys, the link, and whether another queue is in the same Redis under the same
name, so that one script can change both.
"""

from abc import abstractmethod
from collections.abc import Hashable, MutableSequence, Sequence
from typing import ClassVar

from deferrable.aio._contract.settlement import LOST_ADVICE
from deferrable.aio.backend._redis.link import RedisLinks
from deferrable.aio.backend.dockets._commands import Commands
from deferrable.aio.backend.dockets._moves import Where
from deferrable.aio.backend.dockets._wire import Keys
from deferrable.aio.clock import Clock
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Push, Queue
from deferrable.errors import BackendError, BackendUnavailable, LeaseLost

__all__ = ["DocketsBase", "fail", "lost"]


class DocketsBase(Queue):
    """A queue that lives under the keys of one name.

    Args:
        name: as in ``queue.NAME``.
        links: to the Redis; shared, and closed when the last queue that uses them is.
        clock: the source of time; None: the server tells it where it matters to others.
    """

    IS_FOR_ERRORS: ClassVar[bool]

    def __init__(
        self,
        name: str,
        links: RedisLinks,
        lease_seconds: float,
        max_lease_seconds: float | None,
        clock: Clock | None,
    ) -> None:
        super().__init__(lease_seconds, max_lease_seconds=max_lease_seconds, clock=clock)
        self._name = name
        self._injected_clock = clock
        self._commands = Commands(links, Keys(name), clock)
        self._view: DocketsBase | None = None
        links.join(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name}>"

    @property
    def identity(self) -> Hashable:
        commands = self._commands
        return commands.links.settings.address, commands.keys.queue, self.IS_FOR_ERRORS

    async def locate(self) -> Hashable:
        commands = self._commands
        try:
            server = await commands.server_id()
        except BackendUnavailable:
            raise
        except BackendError:  # a server that hides it
            server = ""
        if not server:
            return self.identity
        return server, commands.links.settings.database, commands.keys.queue, self.IS_FOR_ERRORS

    def _without_loop(self) -> Queue | None:
        if self._view is None and self._commands.links.threads is not None:
            view = self._copy_without_loop()
            view._use(self._commands.of_threads())
            self._view = view  # complete by now: other threads may use it at once
        return self._view

    def _use(self, commands: Commands) -> None:
        """Send pushes by these commands from now on."""
        self._commands = commands

    def _shares_redis_with(self, other: Queue) -> bool:
        """Whether one script can act on both: same Redis, same name."""
        if not isinstance(other, DocketsBase):
            return False
        here, there = self._commands, other._commands
        return (
            here.keys.queue == there.keys.queue
            and here.links.settings.address == there.links.settings.address
        )

    @abstractmethod
    def _entry(self, push: Push, now: float) -> tuple[str, str]:
        """An id for what is pushed here, and its text as it is stored here."""

    def _place_of(self, push: Push) -> Where:
        """Where in Redis the item of a push goes."""
        if self.IS_FOR_ERRORS:
            return "errors"
        return "delayed" if push.delay_seconds else "back"

    async def _close(self) -> None:
        await self._commands.links.leave(self)


def fail(
    outcomes: MutableSequence[Exception | None], indexes: Sequence[int], error: Exception
) -> None:
    """Note that the entries at `indexes` failed with `error`."""
    for index in indexes:
        outcomes[index] = error


def lost(envelope: Envelope) -> LeaseLost:
    return LeaseLost(
        f"{envelope!r} no longer belongs to this consumer: it was settled or flushed, or its "
        f"lease ended and it was taken back; {LOST_ADVICE}"
    )
