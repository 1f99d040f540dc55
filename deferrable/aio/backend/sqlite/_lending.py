"""Pushes through a connection of the user, in the user's transaction.

Owns which connection is used in this context, how the sqlite3 connection is found in what the user
holds (a Django or SQLAlchemy connection), and whether it is a connection to the queue's file.

The one rule: it neither commits nor rolls back what the user has begun. What was pushed is there
if and only if the user commits.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from deferrable._codec.refusals import short_repr
from deferrable.aio.backend.sqlite import _schema
from deferrable.aio.backend.sqlite._errors import is_busy, translated
from deferrable.aio.backend.sqlite._place import Place
from deferrable.aio.backend.sqlite._store import Store
from deferrable.aio.backend.sqlite._tickets import Work
from deferrable.aio.backend.sqlite._writer import Writer
from deferrable.errors import BackendUnavailable, InvalidOptions

__all__ = ["Loan", "lending", "loan_of", "refuse_inside"]

T = TypeVar("T")

_INNER: Final = ("driver_connection", "dbapi_connection", "connection")
"""What leads from a connection of SQLAlchemy or Django to that of sqlite3."""

_MOST_LAYERS: Final = 5


class Loan:
    """A connection of the user, for the time of a block.

    Args:
        given: the connection, or what holds it.
    """

    def __init__(self, place: Place, given: object) -> None:
        self.place = place
        self.is_over = False
        self._given = given
        self.use(_connection_in(given))

    def use(self, connection: sqlite3.Connection) -> None:
        """Push through this connection from now on."""
        _check_file(connection, self.place)
        self.connection = connection
        self._cursor = connection.cursor()
        self._cursor.row_factory = None
        self.store = Store(self._cursor)
        self.store.is_lent = True

    def find_connection(self) -> None:
        """Find the connection again in what was given.

        A session of SQLAlchemy begins a nested transaction only when it is asked for its
        connection, and has another one after a commit.
        """
        connection = _connection_in(self._given)
        if connection is not self.connection:
            self.use(connection)

    @property
    def holds_the_lock(self) -> bool:
        """Whether the open transaction has written, so that no other one can."""
        if self.is_over or not self.store.woken:
            return False
        try:
            return self.connection.in_transaction
        except sqlite3.ProgrammingError:  # it was closed
            return False

    @property
    def commits_by_itself(self) -> bool:
        """Whether no transaction is open, and the connection opens none by itself."""
        connection = self.connection
        if connection.in_transaction:
            return False
        try:
            autocommit: Any = getattr(connection, "autocommit", -1)  # Python 3.12
        except sqlite3.ProgrammingError:  # in another thread, or closed; `run` says so
            return False
        return autocommit is True or (autocommit == -1 and connection.isolation_level is None)

    def run(self, work: Work[T]) -> T:
        """Do `work` as a part of the user's transaction, as a whole or not at all.

        Raises:
            InvalidOptions: the block has ended.
            BackendError: SQLite refuses; the user's transaction is as it was before.
        """
        if self.is_over:
            raise InvalidOptions(
                "a call was deferred in a `using` block that has ended, perhaps by a task that was "
                "started there; await it inside the block. It was not pushed"
            )
        try:
            if not self.connection.in_transaction:
                self._cursor.execute("BEGIN IMMEDIATE")
            self._cursor.execute("SAVEPOINT deferrable_push")
            try:
                # The user may have rolled back what was written here before.
                self.store.forget_ids()
                if not _schema.is_current(self._cursor, self.place.shown):
                    _schema.upgrade(self._cursor, self.place.shown)
                answer = work(self.store)
            except BaseException:
                self.store.forget()
                if self.connection.in_transaction:
                    self._cursor.execute("ROLLBACK TO deferrable_push")
                    self._cursor.execute("RELEASE deferrable_push")
                raise
            self._cursor.execute("RELEASE deferrable_push")
        except sqlite3.Error as error:
            raise self._told(error) from error
        return answer

    def _told(self, error: sqlite3.Error) -> Exception:
        if is_busy(error):
            return BackendUnavailable(
                f"your transaction cannot write to {self.place.shown} now: another program writes, "
                "or has written since your transaction began with a read. Begin it with BEGIN "
                f"IMMEDIATE, and give the connection a timeout ({error})"
            )
        if isinstance(error, sqlite3.ProgrammingError):
            return InvalidOptions(
                "the connection given to `using` cannot be used here; defer in the thread that "
                f"opened it, and before it is closed ({error})"
            )
        return translated(error, self.place.shown)

    def end(self) -> set[str]:
        """End the loan. Return the queues in which something was pushed and is committed."""
        self.is_over = True
        try:
            is_open = self.connection.in_transaction
        except sqlite3.ProgrammingError:  # it was closed meanwhile
            return set()
        return set() if is_open else self.store.woken


_loans: ContextVar[tuple[Loan, ...]] = ContextVar("deferrable_sqlite_loans", default=())


def loan_of(place: Place) -> Loan | None:
    """The connection to use in this context for the file at `place`; None: the writer's own."""
    loans = _loans.get()
    for loan in reversed(loans):
        if loan.place.path == place.path:
            if not loan.is_over:
                loan.find_connection()
            return None if not loan.is_over and loan.commits_by_itself else loan
    return None


def refuse_inside(place: Place) -> None:
    """Refuse what would wait for the transaction that is open in this context.

    Raises:
        InvalidOptions: a call was pushed in a transaction, which was not ended since.
    """
    for loan in _loans.get():
        if loan.place.path == place.path and loan.holds_the_lock:
            raise InvalidOptions(
                f"your transaction on {place.shown} is open in this `using` block, and holds the "
                "file's lock; only `later` goes through it. Commit it before you do anything else "
                "with the queue"
            )


@contextmanager
def lending(writer: Writer, given: object) -> Iterator[None]:
    """Have pushes in the block go through the connection `given`."""
    loan = Loan(writer.place, given)
    _check_tables(loan.connection, writer)
    token = _loans.set((*_loans.get(), loan))
    try:
        yield
    finally:
        _loans.reset(token)
        woken = loan.end()
        if woken:
            writer.waking.announce(woken)


def _connection_in(given: object) -> sqlite3.Connection:
    """The sqlite3 connection in what the user holds."""
    found: Any = given
    for _ in range(_MOST_LAYERS):
        if isinstance(found, sqlite3.Connection):
            return found
        ensure = getattr(found, "ensure_connection", None)  # Django opens it late
        if callable(ensure):
            ensure()
        try:
            inner = next((each for name in _INNER if (each := getattr(found, name, None))), None)
            found = inner() if callable(inner) and not hasattr(inner, "cursor") else inner
        except Exception as error:  # the user's object may raise anything
            raise _refused(given) from error
    raise _refused(given)


def _refused(given: object) -> InvalidOptions:
    advice = ""
    if type(given).__name__.startswith("Async") or type(given).__module__.startswith("aiosqlite"):
        advice = (
            "; an async driver has its connection in another thread, where nothing can be pushed: "
            "use a plain connection"
        )
    return InvalidOptions(
        "using() takes a sqlite3.Connection, or a Django or SQLAlchemy connection over one, got "
        f"{short_repr(given)}{advice}"
    )


def _check_file(connection: sqlite3.Connection, place: Place) -> None:
    cursor = connection.cursor()
    cursor.row_factory = None
    try:
        # As hexadecimal digits: the name need not be UTF-8.
        rows = cursor.execute(
            "SELECT hex(file) FROM pragma_database_list WHERE name = 'main'"
        ).fetchall()
    except sqlite3.Error as error:
        raise InvalidOptions(f"the connection given to `using` cannot be used: {error}") from error
    digits = rows[0][0] if rows else ""
    text = digits.decode() if isinstance(digits, bytes) else digits
    path = os.fsdecode(bytes.fromhex(text))
    if path and os.path.exists(path) and os.path.exists(place.path):
        if os.path.samefile(path, place.path):
            return
    elif path and os.path.realpath(path) == place.path:
        return
    raise InvalidOptions(
        f"the connection given to `using` is to {path or 'a database in memory'}, but the queue "
        f"is in {place.shown}; one transaction is in one file"
    )


def _check_tables(connection: sqlite3.Connection, writer: Writer) -> None:
    """See to it that our tables are there, without waiting for the user's own transaction."""
    cursor = connection.cursor()
    cursor.row_factory = None
    if _schema.is_current(cursor, writer.place.shown):
        return
    if connection.in_transaction:
        _schema.upgrade(cursor, writer.place.shown)
    else:
        writer.call(lambda store: None)
