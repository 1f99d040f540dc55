"""The transactions of this process on one file.

Owns the connection, and what happens to each piece of work in a batch. The caller holds the lock
that makes it the only one.

The one rule: work is answered after its commit. If a transaction fails, it is rolled back as a
whole, and each piece is done again in its own.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any

from deferrable.aio.backend.sqlite._connection import Connection, refuse_inherited
from deferrable.aio.backend.sqlite._errors import needs_new_connection, translated
from deferrable.aio.backend.sqlite._place import Place
from deferrable.aio.backend.sqlite._tickets import Ticket
from deferrable.errors import BackendError

__all__ = ["Transactions"]


class Transactions:
    """Does batches of work, each in one transaction.

    Args:
        place: the file. It is opened with the first batch.
        synchronous: see `Connection`.
    """

    def __init__(self, place: Place, synchronous: str) -> None:
        self._place = place
        self._synchronous = synchronous
        self._connection: Connection | None = None
        self._inherited: Connection | None = None
        self._committing: tuple[Sequence[Ticket[Any]], list[Any]] | None = None

    @property
    def connection(self) -> Connection | None:
        """The open connection of this process; None: there is none."""
        connection = self._connection
        return connection if connection is not None and connection.is_of_this_process else None

    def do(self, batch: list[Ticket[Any]]) -> set[str]:
        """Give every ticket its answer. Return the names of queues where somebody is to look."""
        try:
            connection = self._open()
            if self._look(connection, batch):
                return set()
            unanswered = [ticket for ticket in batch if not ticket.has_ended]
            return self._transact(connection, unanswered)
        except sqlite3.Error as error:
            self._fail(batch, self._note(error))
        except Exception as error:
            self._fail(batch, error)
        return set()

    def _open(self) -> Connection:
        connection = self._connection
        if connection is not None:
            if not connection.is_of_this_process:
                self.abandon()
                raise refuse_inherited(self._place)
            try:
                connection.check()
            except BackendError:
                self.drop()
                raise
            return connection
        if self._inherited is not None:
            raise refuse_inherited(self._place)
        connection = self._connection = Connection(self._place, self._synchronous)
        return connection

    def _look(self, connection: Connection, batch: Sequence[Ticket[Any]]) -> bool:
        """Answer what needs no transaction that writes; True: that was all."""
        if any(ticket.look is None for ticket in batch):
            return False  # There will be a transaction, and it costs the others nothing.
        for ticket in batch:
            assert ticket.look is not None
            answer = ticket.look(connection.store)
            if answer is not None:
                ticket.answer = answer
        return all(ticket.has_ended for ticket in batch)

    def _transact(self, connection: Connection, batch: Sequence[Ticket[Any]]) -> set[str]:
        connection.begin()
        try:
            answers = [ticket.work(connection.store) for ticket in batch]
            self._committing = batch, answers
            connection.commit()
        except Exception as error:
            self._committing = None
            connection.roll_back()
            return self._transact_again(connection, batch, error)
        self._answer(batch, answers)
        self._committing = None
        return set(connection.store.woken)

    def _transact_again(
        self, connection: Connection, batch: Sequence[Ticket[Any]], error: Exception
    ) -> set[str]:
        """After a transaction has failed: do each piece in its own, or fail the only one."""
        shown = self._note(error) if isinstance(error, sqlite3.Error) else error
        has_more_room = isinstance(shown, BackendError) and connection.makes_room_after(shown)
        is_usable = self._connection is connection
        if not is_usable or (len(batch) == 1 and not has_more_room):
            self._fail(batch, shown)
            return set()
        woken: set[str] = set()
        for ticket in batch:
            woken |= self._transact(connection, [ticket])
        return woken

    def _answer(self, batch: Sequence[Ticket[Any]], answers: Sequence[Any]) -> None:
        for ticket, answer in zip(batch, answers, strict=True):
            ticket.answer = answer

    def settle(self) -> None:
        """Find out what has happened, after an interrupt between any two steps."""
        connection, committing = self._connection, self._committing
        self._committing = None
        if connection is None:
            return
        if committing is not None and not connection.is_in_transaction:
            self._answer(*committing)
        else:
            connection.roll_back()

    def abandon(self) -> None:
        """Set aside the connection of the parent of this process, without closing it."""
        self._committing = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()
            self._inherited = connection

    def _note(self, error: sqlite3.Error) -> BackendError:
        if needs_new_connection(error):
            self.drop()
        return translated(error, self._place.shown)

    def _fail(self, batch: Sequence[Ticket[Any]], error: Exception) -> None:
        """Each caller gets its own error: one error raised twice would hold both tracebacks."""
        for ticket in batch:
            if not ticket.has_ended:
                ticket.fail(_copy_of(error))

    def drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _copy_of(error: Exception) -> Exception:
    try:
        copy = type(error)(*error.args)
    except Exception:  # its class is made in another way
        return error
    copy.__cause__ = error.__cause__
    return copy
