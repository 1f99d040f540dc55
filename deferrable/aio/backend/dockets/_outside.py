"""Items of consumers that are not in the set of workers, such as those of Python 2.

Owns the search for their working lists. Redis has no index of them, so the search looks at the
keys of the server. A look at all of them would cost a large Redis too much, so `find` looks at
some and continues at the next call.

The one rule: nothing is moved here. Such a list may belong to a live consumer.
"""

from collections.abc import Collection

from deferrable.aio.backend.dockets._commands import Commands
from deferrable.errors import BackendError, BackendUnavailable

__all__ = ["Outside"]

_MOST_LOOKS = 5
_START = b"0"


class Outside:
    """Looks for the working lists of one queue whose consumers are not in the set of workers."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._cursor = _START
        self._found: set[str] = set()

    async def find(
        self, members: Collection[str] | None = None, *, is_whole: bool = False
    ) -> dict[str, int]:
        """Ids of such consumers, and how many items each holds.

        Args:
            members: the ids of the workers; None: ask Redis.
            is_whole: look at all keys, not only at the next few thousand.
        """
        looks_left = _MOST_LOOKS
        if is_whole:
            self._cursor = _START
        while is_whole or looks_left:
            looks_left -= 1
            self._cursor, ids = await self._commands.look_for_consumers(self._cursor)
            self._found.update(ids)
            if self._cursor == _START:
                break
        # Asked after the search: one that has joined meanwhile is among them.
        known = set(await self._commands.workers() if members is None else members)
        outside = sorted(self._found - known)
        counts = await self._commands.counts_in_flight(outside)
        self._found = {each for each, count in counts.items() if count}
        return {each: count for each, count in counts.items() if count}

    async def known(self, members: Collection[str]) -> Collection[str]:
        """The ids of such consumers, as far as they are known by now."""
        try:
            return await self.find(members)
        except BackendUnavailable:
            raise
        except BackendError:
            # The user may not use SCAN: these items stay unknown, the others are known.
            return ()

    async def all(self, members: Collection[str]) -> Collection[str]:
        """The ids of all such consumers: looks at all keys of the server."""
        try:
            return await self.find(members, is_whole=True)
        except BackendUnavailable:
            raise
        except BackendError:
            # The user may not use SCAN.
            return ()

    async def count(self, members: Collection[str]) -> int:
        """How many items they hold, as far as this is known by now."""
        try:
            return sum((await self.find(members)).values())
        except BackendUnavailable:
            raise
        except BackendError:
            # The user may not use SCAN: these items stay unknown, the others are known.
            return 0
