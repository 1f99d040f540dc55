"""One open connection: how it is opened, how it waits for a lock, and when it is no longer good.

Owns the settings of the connection, and the checks before each transaction: same process, same
file.

The one rule: a connection is used in the process that opened it, and nowhere else. SQLite keeps
lock states in memory, so even a new connection in a forked child goes wrong while the parent's
lives on there. So a connection is closed before a fork.
"""

import ctypes
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar
from weakref import finalize

from deferrable.aio.backend.sqlite import _schema
from deferrable.aio.backend.sqlite._errors import is_busy, is_for_want_of_room, translated
from deferrable.aio.backend.sqlite._place import FileId, Place, boot_id
from deferrable.aio.backend.sqlite._schema import HELD
from deferrable.aio.backend.sqlite._store import Store
from deferrable.errors import BackendError, BackendUnavailable

__all__ = ["Connection", "patiently", "refuse_inherited"]

T = TypeVar("T")

_PATIENCE_SECONDS: Final = 60.0
"""How long a lock of other programs is waited for."""

_SLICE_SECONDS: Final = 1.0
"""SQLite itself waits for a lock for so long. A thread that waits in SQLite sees no Ctrl-C."""

_TRUST_SECONDS: Final = 0.02
"""For so long the file is taken to be where it was."""

_PAUSE_SECONDS: Final = 0.005
_CHECKPOINT_PAGES: Final = 4_000
_CACHE_KIB: Final = 16_384
_MOST_FREE_PAGES: Final = 1_000
"""More free pages than these 4 MB are given back, a part in each idle second. Others are reused."""

_FREED_AT_ONCE: Final = 4_000
_MOST_WAL_BYTES: Final = 67_108_864
"""To this size the -wal file is cut when it starts again, if a long reader made it grow."""


def patiently(path: str, step: Callable[[], T]) -> T:
    """Do `step` again until no other connection's lock is in its way.

    Raises:
        BackendUnavailable: a lock did not go away.
        BackendError: the step failed for another reason.
    """
    start_time = time.monotonic()
    while True:
        try:
            return step()
        except sqlite3.Error as error:
            waited = time.monotonic() - start_time
            if not is_busy(error) or waited >= _PATIENCE_SECONDS:
                raise translated(error, path, waited) from error
        # Some locks are refused at once, without SQLite's own wait.
        time.sleep(_PAUSE_SECONDS)


class Connection:
    """A connection to the file at `place`, with its tables.

    Args:
        synchronous: ``"FULL"`` or ``"NORMAL"``.

    Raises:
        BackendError: the file cannot be used; the message says why.
    """

    def __init__(self, place: Place, synchronous: str) -> None:
        place.check()
        self._place = place
        self._process_id = os.getpid()
        self.connection = patiently(place.shown, lambda: _opened(place, synchronous))
        self._execute = self.connection.execute
        self._has_made_room = False
        self._next_check_time = 0.0
        self.store = Store(self.connection)
        self._file_id: FileId | None = place.file_id()
        self._closing = finalize(self, self.connection.close)
        # Not when the process ends: another thread may be using it then, and SQLite would crash.
        self._closing.atexit = False

    def check(self) -> None:
        """Refuse to go on with a file that is not there any more, or not there under its name.

        Raises:
            BackendUnavailable: what is written now would be lost.
        """
        now = time.monotonic()
        if now < self._next_check_time:
            return
        if self._place.file_id() != self._file_id:
            raise BackendUnavailable(
                f"{self._place.shown} was deleted or replaced while it was open, so items in the "
                "old file are gone; stop all its programs before you move it. The next call uses "
                "the file that is there then"
            )
        self._next_check_time = now + _TRUST_SECONDS

    @property
    def is_of_this_process(self) -> bool:
        return os.getpid() == self._process_id

    def begin(self) -> None:
        """Begin a transaction that writes.

        Raises:
            BackendUnavailable: another program holds the lock for too long.
            sqlite3.Error: SQLite refuses.
        """
        self.store.woken.clear()
        try:
            self._execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            if not is_busy(error):
                raise
            patiently(self._place.shown, lambda: self._execute("BEGIN IMMEDIATE"))

    def commit(self) -> None:
        self._execute("COMMIT")

    def roll_back(self) -> None:
        """End the transaction without effect, if one is open."""
        self.store.forget()
        if self.connection.in_transaction:
            with suppress(sqlite3.Error):  # SQLite has ended it already
                self._execute("ROLLBACK")

    @property
    def is_in_transaction(self) -> bool:
        return self.connection.in_transaction

    def makes_room_after(self, error: BackendError) -> bool:
        """Whether `error` was a full disk, and there may be room now.

        The -wal file may hold old versions of pages, which can go.
        """
        if self._has_made_room or not is_for_want_of_room(error):
            self._has_made_room = False
            return False
        self._has_made_room = True
        try:
            ((_, _, moved),) = self._execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error:
            return False
        return bool(moved == 0)  # after it was truncated there is nothing left to move

    def version(self) -> int:
        """A number that changes when another connection has committed."""
        ((number,),) = self._execute("PRAGMA data_version").fetchall()
        return int(number)

    def shrink(self) -> None:
        """Give some free pages at the end of the file back to the disk, if there are many."""
        with suppress(sqlite3.Error):  # it is locked, say; the next time will do
            ((free,),) = self._execute("PRAGMA freelist_count").fetchall()
            if free > _MOST_FREE_PAGES:
                # It returns a row without columns for each page. Python 3.11 takes the first one
                # for the end, and would free that page only. No transaction is open here.
                self.connection.executescript(f"PRAGMA incremental_vacuum({_FREED_AT_ONCE})")

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._closing()

    def abandon(self) -> None:
        """Never close it: it belongs to the parent of this process."""
        self._closing.detach()
        _keep_for_ever(self.connection)


def _opened(place: Place, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        place.path, timeout=_SLICE_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        # Bytes: a text that is not UTF-8, written by another program, must not stop every pop.
        connection.text_factory = bytes
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {_MOST_WAL_BYTES}")
        _schema.prepare(connection, place.shown)
        _end_leases_after_reboot(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _end_leases_after_reboot(connection: sqlite3.Connection) -> None:
    """End all leases if the machine has started again since: their holders are gone.

    The ends of leases are counted from the start of the machine, so that nobody who sets the clock
    ends or prolongs one. A file from another machine is a case of this, too.
    """
    boot = boot_id()
    if boot is None:
        return
    query = "SELECT value FROM deferrable_meta WHERE name = 'boot'"
    if connection.execute(query).fetchall() == [(boot.encode(),)]:
        return
    connection.execute("BEGIN IMMEDIATE")
    if connection.execute(query).fetchall() != [(boot.encode(),)]:
        connection.execute("UPDATE deferrable_items SET at = 0 WHERE state = ?", (HELD,))
        connection.execute("INSERT OR REPLACE INTO deferrable_meta VALUES ('boot', ?)", (boot,))
    connection.execute("COMMIT")


def _keep_for_ever(connection: sqlite3.Connection) -> None:
    # A reference in a module would be dropped, and the connection closed, when Python ends.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def refuse_inherited(place: Place) -> BackendError:
    return BackendError(
        f"this process was forked while {place.shown} was open, by a program that does not run "
        "Python's fork hooks; use the queue only after the fork, or turn the hooks on (uWSGI: "
        "--py-call-uwsgi-fork-hooks, or --lazy-apps)"
    )
