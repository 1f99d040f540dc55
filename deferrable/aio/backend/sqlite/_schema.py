"""The tables in the file, and how an older file becomes a current one.

Owns the layout. All names begin with ``deferrable_``, because the application's own tables may be
in the same file; for the same reason the version is kept in a table and not in the file's
``user_version``, which belongs to the application.

The one rule: an upgrade is one transaction, and a file of a newer version is never touched.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from deferrable.errors import BackendError

__all__ = ["AVAILABLE", "DELAYED", "HELD", "UPGRADES", "is_current", "prepare", "upgrade"]

Executor: TypeAlias = sqlite3.Connection | sqlite3.Cursor

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
    text TEXT NOT NULL,
    stop INTEGER NOT NULL DEFAULT 0,
    unique_key TEXT
) STRICT;
CREATE INDEX deferrable_order ON deferrable_items (queue, state, at);
CREATE UNIQUE INDEX deferrable_keys ON deferrable_items (queue, unique_key)
WHERE unique_key IS NOT NULL;
CREATE TABLE deferrable_windows (
    key TEXT PRIMARY KEY,
    available_time REAL NOT NULL,
    token TEXT,
    reserved_until REAL,
    previous_time REAL,
    item_id TEXT,
    end_time REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX deferrable_window_ends ON deferrable_windows (end_time);
CREATE TABLE deferrable_schedules (
    queue TEXT NOT NULL,
    name TEXT NOT NULL,
    last_time REAL NOT NULL,
    version TEXT NOT NULL,
    seen_time REAL NOT NULL,
    tick_time REAL,
    token TEXT,
    reserved_until REAL,
    PRIMARY KEY (queue, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE deferrable_cancelled (
    queue INTEGER NOT NULL,
    id TEXT NOT NULL,
    end_time REAL NOT NULL,
    PRIMARY KEY (queue, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX deferrable_cancelled_ends ON deferrable_cancelled (end_time);
CREATE TABLE deferrable_pauses (
    queue INTEGER PRIMARY KEY,
    since_time REAL NOT NULL,
    until_time REAL,
    reason TEXT NOT NULL
) STRICT;
CREATE TABLE deferrable_workers (
    queue INTEGER NOT NULL,
    id TEXT NOT NULL,
    seen_time REAL NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (queue, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE deferrable_results (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    text TEXT NOT NULL,
    end_time REAL NOT NULL
) STRICT;
CREATE INDEX deferrable_result_ends ON deferrable_results (end_time);
"""
"""An item's id is its place in the order. `at` is 0 for an available item, the due moment of a
delayed one, and the end of the lease of one that is held. Each delivery draws a new token. `stop`
is 1 if the job of a held item is to be stopped. A row holds its unique key as long as it lives."""


def _run(script: str) -> Callable[[Executor], None]:
    def run(connection: Executor) -> None:
        # Not `executescript`: that would commit first.
        for statement in script.split(";\n"):
            if statement.strip():
                connection.execute(statement)

    return run


UPGRADES: Sequence[Callable[[Executor], None]] = [_run(_FIRST)]
"""The step at index N makes version N + 1 of version N. A file without our tables has version 0."""


def _version_of(connection: Executor) -> int:
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


def is_current(connection: Executor, path: str) -> bool:
    """Whether the file has the tables of this version.

    Raises:
        BackendError: it has newer ones.
    """
    version = _version_of(connection)
    _refuse_newer(version, path)
    return version == len(UPGRADES)


def prepare(connection: sqlite3.Connection, path: str) -> None:
    """Make the file a current one that is in WAL mode.

    Raises:
        sqlite3.Error: it is locked, damaged, or cannot be written. It may be called again.
        BackendError: it has a newer layout, or cannot be in WAL mode.
    """
    if connection.execute("PRAGMA page_count").fetchall() == [(0,)]:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    has_tables = is_current(connection, path)
    ((mode,),) = connection.execute("PRAGMA journal_mode").fetchall()
    if mode not in ("wal", b"wal"):
        ((mode,),) = connection.execute("PRAGMA journal_mode = WAL").fetchall()
        if mode not in ("wal", b"wal"):
            raise BackendError(
                f"{path} cannot be switched to SQLite's WAL mode (it stays {mode!r}), which needs "
                "shared memory; put the file on a local disk"
            )
    if not has_tables:
        connection.execute("BEGIN IMMEDIATE")
        try:
            upgrade(connection, path)
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def upgrade(connection: Executor, path: str) -> None:
    """Bring the layout up to date, in the transaction that is open."""
    version = _version_of(connection)  # another process may have been quicker
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
