"""SQLite's errors as this library's errors.

Owns which of them mean "try again later" (a lock, a full disk), which need somebody's help (a
corrupt or foreign file, missing permissions), and what each message says.
"""

import sqlite3

from deferrable.errors import BackendError, BackendUnavailable, ItemTooLarge

__all__ = ["is_busy", "is_for_want_of_room", "needs_new_connection", "translated"]

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_WANT_OF_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_TOOBIG}
_BROKEN = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
}

_REASONS = {
    sqlite3.SQLITE_FULL: (
        BackendUnavailable,
        "has no room left (the disk, a quota or max_page_count is full); free some space",
    ),
    sqlite3.SQLITE_IOERR: (
        BackendUnavailable,
        "cannot be read or written; is the disk full or broken, or the file on a network?",
    ),
    sqlite3.SQLITE_CORRUPT: (
        BackendError,
        "is damaged; stop its programs, and restore a backup or use `sqlite3 FILE .recover`",
    ),
    sqlite3.SQLITE_NOTADB: (
        BackendError,
        "is not a SQLite database, or is encrypted; give the path of a new file",
    ),
    sqlite3.SQLITE_READONLY: (
        BackendError,
        "cannot be written; this user must be able to write the file and its directory",
    ),
    sqlite3.SQLITE_PERM: (BackendError, "must not be accessed by this user"),
    sqlite3.SQLITE_CANTOPEN: (
        BackendError,
        "cannot be opened; does its directory exist, and may this user write there?",
    ),
    sqlite3.SQLITE_AUTH: (BackendError, "refuses this statement"),
    sqlite3.SQLITE_NOMEM: (BackendUnavailable, "cannot be used: there is no memory left"),
}


def _code(error: sqlite3.Error) -> int:
    """The primary code; SQLite's extended codes have it in their lowest byte."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else -1


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection holds a lock, so that the same step may work a moment later."""
    return _code(error) in _BUSY


def is_for_want_of_room(error: BackendError) -> bool:
    """Whether nothing was stored because it was too much, so that less may fit."""
    cause = error.__cause__
    return isinstance(cause, sqlite3.Error) and _code(cause) in _WANT_OF_ROOM


def needs_new_connection(error: sqlite3.Error) -> bool:
    """Whether the connection should be opened again before it is used further."""
    return _code(error) in _BROKEN or isinstance(error, sqlite3.ProgrammingError)


def translated(
    error: sqlite3.Error, path: str, waited_seconds: float | None = None
) -> BackendError:
    """`error`, which SQLite raised for the file at `path`, as an error of this library.

    Args:
        waited_seconds: how long a lock was waited for.
    """
    if is_busy(error):
        waited = "" if waited_seconds is None else f" for {waited_seconds:.0f} s"
        return _caused(
            BackendUnavailable(
                f"{path} was locked by another program{waited}; is a transaction left open, in a "
                f"shell or in an application? ({error})"
            ),
            error,
        )
    if _code(error) == sqlite3.SQLITE_TOOBIG:
        return _caused(ItemTooLarge(f"an item is too large for {path}: {error}"), error)
    kind, advice = _REASONS.get(_code(error), (BackendError, "refused a statement"))
    return _caused(kind(f"{path} {advice} ({error})"), error)


def _caused(told: BackendError, error: sqlite3.Error) -> BackendError:
    told.__cause__ = error
    return told
