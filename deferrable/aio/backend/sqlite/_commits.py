"""Whether other connections have committed to the file, asked no more often than is needed.

Owns when SQLite is asked: every 50 ms, and once a second while the system reports no write.

The one rule: a write is told before its commit can be seen, by as long as the disk takes. So after
a write SQLite is asked every 50 ms for a while, and a telling that ever missed a commit is not
trusted again.
"""

import math
import select
from collections.abc import Callable
from typing import Final

from deferrable.aio.backend.sqlite._writes import Writes

__all__ = ["Commits"]

_POLL_SECONDS: Final = 0.05
_FIRST_POLL_SECONDS: Final = 0.005
"""A write that is not committed yet is looked at again so soon, and then every 50 ms."""

_QUIET_POLL_SECONDS: Final = 1.0
_ALERT_SECONDS: Final = 2.0
"""For so long after a write it may be committed; a slower commit is seen within a second."""


class Commits:
    """The commits of others, as one thread looks for them.

    Args:
        seen_version: returns a number that changes when another connection has committed; None:
            it cannot be known now.
        wal_path: of the file that each commit writes to.
        now: the moment, on the monotonic clock, as everywhere here.
    """

    def __init__(self, seen_version: Callable[[], int | None], wal_path: str, now: float) -> None:
        self._seen_version = seen_version
        self._wal_path = wal_path
        self._version = seen_version()
        self._next_time = now
        self._quiet_time = -math.inf
        """From then on nothing is expected, until a write is told."""
        self._was_told = False
        self._writes: Writes | None = None
        self._is_telling = True

    def wait(self, poll: select.poll, now: float) -> bool:
        """Wait until it is time to look, or `poll` has something else; True: it has."""
        writes = self._writes
        if writes is None or now < self._next_time:
            # Not for each write: a busy process makes thousands itself.
            return bool(poll.poll(1000 * max(self._next_time - now, 0.001)))
        is_quiet = now >= self._quiet_time
        poll.register(writes, select.POLLIN)
        try:
            found = poll.poll(1000 * (_QUIET_POLL_SECONDS if is_quiet else _POLL_SECONDS))
        finally:
            poll.unregister(writes)
        return any(descriptor != writes.fileno() for descriptor, _ in found)

    def has_new(self, now: float) -> bool:
        """Whether somebody else has committed since the last look."""
        if now < self._next_time:
            return False
        is_told, was_quiet = self._is_told(), now >= self._quiet_time
        if is_told or self._writes is None:
            self._next_time = now + _POLL_SECONDS
        if is_told:
            self._quiet_time = now + _ALERT_SECONDS
        seen = self._seen_version()
        if seen is None:
            return False
        is_new, self._version = seen != self._version, seen
        if is_told and not is_new and not self._was_told:
            self._next_time = now + _FIRST_POLL_SECONDS
        self._was_told = is_told
        if self._writes is None:
            self._watch(now)
        elif is_new and was_quiet and not is_told and not self._is_told():
            self._is_telling = False  # a commit without a write: another file, say
            self.close()
        return is_new

    def _is_told(self) -> bool:
        """Whether somebody has written since the last time this was asked."""
        return self._writes is not None and self._writes.forget()

    def _watch(self, now: float) -> None:
        if self._is_telling:
            self._writes = Writes.watch(self._wal_path)
            self._is_telling = self._writes is not None
            self._quiet_time = now + _ALERT_SECONDS

    def close(self) -> None:
        """Stop watching."""
        if self._writes is not None:
            self._writes.close()
            self._writes = None
