"""How all callers of this process share the one connection to a file.

Owns the work that waits, the lock of the connection, and who does the work. The thread that holds
the lock takes all the work that has piled up, has it done in one transaction, and hands out the
answers. A blocking caller that finds the lock free does that itself; for event loops the writer's
thread does it.

The one rule: whatever interrupts the holder of the lock, no piece of work is lost or done twice,
and somebody else goes on.
"""

import asyncio
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from weakref import WeakSet

from deferrable._fork import on_fork, set_aside
from deferrable.aio.backend.sqlite._place import Place
from deferrable.aio.backend.sqlite._tickets import LoopTicket, ThreadTicket, Ticket, Work
from deferrable.aio.backend.sqlite._transactions import Transactions
from deferrable.aio.backend.sqlite._waking import Waking
from deferrable.errors import BackendUnavailable

__all__ = ["Writer"]

T = TypeVar("T")

_MOST_TICKETS = 500
_TIDY_SECONDS = 1.0
_IDLE_SECONDS = 30.0
"""After this much silence the thread ends; the next call starts another."""

_FORK_PATIENCE_SECONDS = 5.0


class Writer:
    """Does the work of all callers of this process on one file.

    Args:
        place: the file.
        synchronous: see `Connection`.
    """

    def __init__(self, place: Place, synchronous: str) -> None:
        self.place = place
        self._users: WeakSet[object] = WeakSet()
        self._transactions = Transactions(place, synchronous)
        self._is_forking = False
        self.waking = Waking(place, self._seen_version, self._do_now)
        self._start_empty()
        on_fork(self._reset_after_fork)

    def _start_empty(self) -> None:
        self._is_held = threading.Lock()
        self._waiting: deque[Ticket[Any]] = deque()
        self._batch: Sequence[Ticket[Any]] = ()
        self._bell: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._thread_lock = threading.Lock()

    # For callers.

    def call(
        self,
        work: Work[T],
        look: Work[T | None] | None = None,
    ) -> T:
        """Do `work` in a transaction, and return its answer; the calling thread waits.

        Raises:
            BackendError: it was not done. `BackendUnavailable`: it may have been done.
        """
        ticket = ThreadTicket(work, look)
        self._waiting.append(ticket)
        try:
            self._attend(ticket)
        except BaseException:
            with suppress(ValueError):
                self._waiting.remove(ticket)  # It was not done, and will not be.
                raise
            self._attend(ticket)
            raise
        return ticket.result()

    def _attend(self, ticket: ThreadTicket[Any]) -> None:
        """Return once `ticket` has its answer, from this thread or from another one."""
        is_interruptible = threading.get_ident() == threading.main_thread().ident
        while not ticket.has_ended:
            if is_interruptible and not self._is_held.locked():
                # No interrupt (Ctrl-C) comes between taking this lock and the block.
                with self._is_held:
                    woken = set() if ticket.has_ended else self._serve()
                self._go_on(woken)
            elif not is_interruptible and self._is_held.acquire(blocking=False):
                self._serve_and_free()
            else:
                ticket.wait()

    async def perform(
        self,
        work: Work[T],
        look: Work[T | None] | None = None,
        undo: Callable[[T], Work[Any] | None] | None = None,
    ) -> T:
        """Do `work` in a transaction, and return its answer. See `Ticket` for the arguments.

        If the caller is cancelled before the work has begun, it is not done.
        """
        ticket = LoopTicket(work, look, undo)
        self.submit(ticket)
        return await ticket.future

    def join(self, user: object) -> None:
        """Note that `user` needs the connection until it leaves, or is gone."""
        self._users.add(user)

    def leave(self, user: object) -> None:
        """Note that `user` needs it no longer. It is closed when nobody does."""
        self._users.discard(user)
        if not self._users:
            self.close()

    def close(self) -> None:
        """Close the connection, after running work. The next call opens it again."""
        with self._is_held:
            self._transactions.drop()
        self.waking.close()
        if self._waiting:
            self._ring()

    def end(self) -> None:
        """Close the connection because the process ends, unless a call takes long."""
        if self._is_held.acquire(timeout=_FORK_PATIENCE_SECONDS):
            try:
                self._transactions.drop()
            finally:
                self._is_held.release()

    # The thread.

    def submit(self, ticket: Ticket[Any]) -> None:
        """Have the writer's thread do the work of `ticket`."""
        self._waiting.append(ticket)
        self._ring()

    def forget(self, ticket: LoopTicket[Any]) -> None:
        """Take back what `ticket` has done or may do: its caller, on this loop, has gone."""
        if not ticket.future.cancel() and not ticket.future.cancelled():
            self._take_back([ticket])

    def _do_now(self, ticket: Ticket[Any]) -> None:
        self._waiting.append(ticket)
        if self._is_held.acquire(blocking=False):
            self._serve_and_free()
        else:
            self._ring()

    def _ring(self) -> None:
        self._bell.put(True)
        if self._thread is None or not self._thread.is_alive():
            self._start_thread()

    def _start_thread(self) -> None:
        with self._thread_lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name=f"deferrable {self.place.shown}", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        bell, idle_seconds = self._bell, 0.0
        while True:
            try:
                bell.get(timeout=_TIDY_SECONDS)
                idle_seconds = 0.0
            except queue.Empty:
                idle_seconds += _TIDY_SECONDS
                if not self._waiting:  # an interrupt may have cost a ring
                    if idle_seconds < _IDLE_SECONDS:
                        self._tidy()
                        continue
                    self._thread = None
                    # Somebody may have rung just before, and have seen this thread.
                    if not self._waiting:
                        return
                    self._thread = threading.current_thread()
            while not bell.empty():
                bell.get()
            while self._waiting or self._batch:
                self._is_held.acquire()
                self._serve_and_free()

    def _tidy(self) -> None:
        """Give the disk back some room, if nobody needs the connection now."""
        if not self._is_held.acquire(blocking=False):
            return
        try:
            if self._transactions.connection is not None:
                self._transactions.connection.shrink()
        finally:
            self._is_held.release()
            if self._waiting:
                self._ring()

    # Serving.

    def _serve_and_free(self) -> None:
        """Do what has piled up, then free the connection, which the caller holds."""
        try:
            woken = self._serve()
        finally:
            self._is_held.release()
        self._go_on(woken)

    def _go_on(self, woken: set[str]) -> None:
        if self._waiting or self._batch:
            self._ring()
        if woken:
            self.waking.announce(woken)

    def _serve(self) -> set[str]:
        """Do what has piled up; the caller holds the connection.

        Returns:
            the names of queues where waiting consumers are to look.
        """
        woken: set[str] = set()
        try:
            self._give_up(self._batch)
            batch: list[Ticket[Any]] = []
            self._batch = batch
            while self._waiting and len(batch) < _MOST_TICKETS:
                batch.append(self._waiting[0])
                self._waiting.popleft()
            wanted = [ticket for ticket in batch if ticket.is_wanted]
            if wanted:
                woken = self._transactions.do(wanted)
            self._hand_out(wanted)
            self._batch = ()
        except BaseException:
            self._settle_interrupted()
            raise
        return woken

    def _give_up(self, batch: Sequence[Ticket[Any]]) -> None:
        """Fail what an interrupt has left without an answer."""
        for ticket in batch:
            if not ticket.has_ended:
                ticket.fail(
                    BackendUnavailable(
                        f"a call on {self.place.shown} was interrupted; whether it took effect is "
                        "unknown"
                    )
                )
        self._hand_out(batch)

    def _hand_out(self, batch: Sequence[Ticket[Any]]) -> None:
        of_loops: dict[asyncio.AbstractEventLoop, list[LoopTicket[Any]]] = {}
        for ticket in batch:
            if isinstance(ticket, LoopTicket):
                of_loops.setdefault(ticket.loop, []).append(ticket)
            elif isinstance(ticket, ThreadTicket):
                ticket.wake()
        for loop, tickets in of_loops.items():
            try:
                loop.call_soon_threadsafe(self._hand_over, tickets)
            except RuntimeError:  # the loop is closed
                self._take_back(tickets)

    def _hand_over(self, tickets: Sequence[LoopTicket[Any]]) -> None:
        self._take_back([ticket for ticket in tickets if not ticket.hand_over()])

    def _take_back(self, tickets: Sequence[LoopTicket[Any]]) -> None:
        for ticket in tickets:
            if ticket.undo is not None and ticket.error is None:
                work = ticket.undo(ticket.answer)
                if work is not None:
                    self.submit(Ticket(work))

    def _settle_interrupted(self) -> None:
        """An interrupt (Ctrl-C) came between any two steps: find out what has happened."""
        self._transactions.settle()
        batch = self._batch
        self._batch = [ticket for ticket in batch if ticket.has_ended]
        # Nothing was done for these, and one of them may be waiting still.
        undone = [ticket for ticket in batch if not ticket.has_ended]
        self._waiting.extendleft(
            ticket for ticket in reversed(undone) if ticket not in self._waiting
        )

    def _seen_version(self) -> int | None:
        """See `Connection.version`; None: there is no connection, or it is in use."""
        if not self._is_held.acquire(timeout=0.01):
            return None
        try:
            connection = self._transactions.connection
            return None if connection is None else connection.version()
        except sqlite3.Error:
            return None
        finally:
            self._is_held.release()

    # Forks.

    def prepare_fork(self) -> None:
        """Close the connection, and keep it closed until the fork is over."""
        # Not for ever: a signal handler that forks may have interrupted the holder.
        self._is_forking = self._is_held.acquire(timeout=_FORK_PATIENCE_SECONDS)
        if self._is_forking:
            self._transactions.drop()

    def end_fork(self) -> None:
        """Go on in the parent."""
        if self._is_forking:
            self._is_forking = False
            self._is_held.release()
        if self._waiting:
            self._ring()

    def _reset_after_fork(self) -> None:
        self._transactions.abandon()
        set_aside((self._waiting, self._batch, self._bell, self._thread))
        self._start_empty()
