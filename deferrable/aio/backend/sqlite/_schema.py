"""The tables in the file, and how an older file becomes a current one.

Owns the layout. All names begin with ``deferrable_``, because the application's own tables may be
in the same file; for the same reason the version is kept in a table and not in the file's
``user_version``, which belongs to the application.

The one rule: an upgrade is one transaction, and a file of a newer version is never touched.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Final

from deferrable.errors import BackendError

__all__ = ["AVAILABLE", "DELAYED", "HELD", "UPGRADES", "prepare", "version_of"]

AVAILABLE: Final = 1
DELAYED: Final = 2
HELD: Final = 3

_FIRST = """
CREATE TABLE deferrable_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE deferrable_queues (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE deferrable_items (
    id INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    state INTEGER NOT NULL,
    at REAL NOT NULL,
    token INTEGER NOT NULL,
    redeliveries INTEGER NOT NULL,
    pushed REAL NOT NULL,
    text TEXT NOT NULL
) STRICT;
CREATE INDEX deferrable_order ON deferrable_items (queue, state, at);
CREATE TABLE deferrable_windows (
    key TEXT PRIMARY KEY,
    available_time REAL NOT NULL,
    token TEXT,
    reserved_until REAL,
    previous_time REAL,
    end_time REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX deferrable_window_ends ON deferrable_windows (end_time);
"""
"""An item's id is its place in the order. `at` is 0 for an available item, the due moment of a
delayed one, and the end of the lease of one that is held. Each delivery draws a new token."""


def _run(script: str) -> Callable[[sqlite3.Connection], None]:
    def run(connection: sqlite3.Connection) -> None:
        # Not `executescript`: that would commit first.
        for statement in script.split(";\n"):
            if statement.strip():
                connection.execute(statement)

    return run


UPGRADES: Sequence[Callable[[sqlite3.Connection], None]] = [_run(_FIRST)]
"""The step at index N makes version N + 1 of version N. A file without our tables has version 0."""


def version_of(connection: sqlite3.Connection) -> int:
    """The version of the file's layout; 0: it has none of our tables."""
    found = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'deferrable_meta'"
    ).fetchall()
    if not found:
        return 0
    ((value,),) = connection.execute(
        "SELECT value FROM deferrable_meta WHERE name = 'version'"
    ).fetchall()
    return int(value)


def prepare(connection: sqlite3.Connection, path: str) -> None:
    """Make the file a current one that is in WAL mode.

    Raises:
        sqlite3.Error: it is locked, damaged, or cannot be written. It may be called again.
        BackendError: it has a newer layout, or cannot be in WAL mode.
    """
    if connection.execute("PRAGMA page_count").fetchall() == [(0,)]:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    version = version_of(connection)
    _refuse_newer(version, path)
    ((mode,),) = connection.execute("PRAGMA journal_mode").fetchall()
    if mode not in ("wal", b"wal"):
        ((mode,),) = connection.execute("PRAGMA journal_mode = WAL").fetchall()
        if mode not in ("wal", b"wal"):
            raise BackendError(
                f"{path} cannot be switched to SQLite's WAL mode (it stays {mode!r}), which needs "
                "shared memory; put the file on a local disk"
            )
    if version < len(UPGRADES):
        connection.execute("BEGIN IMMEDIATE")
        try:
            upgrade(connection, path)
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def upgrade(connection: sqlite3.Connection, path: str) -> None:
    """Bring the layout up to date, in the transaction that is open."""
    version = version_of(connection)  # another process may have been quicker
    _refuse_newer(version, path)
    for step in UPGRADES[version:]:
        step(connection)
    connection.execute(
        "INSERT OR REPLACE INTO deferrable_meta VALUES ('version', ?)", (str(len(UPGRADES)),)
    )


def _refuse_newer(version: int, path: str) -> None:
    if version > len(UPGRADES):
        raise BackendError(
            f"{path} was written by a newer version of deferrable: its layout is {version}, this "
            f"one knows {len(UPGRADES)}; upgrade deferrable here, or give another file"
        )
