"""Who waits for items of a file, in this process and in others, and how they are woken.

Owns the waiting pops of this process, a datagram socket through which other processes wake them,
and a thread that listens to it. The sockets of a file are in one directory beside it.

The one rule: a waiter is noted before its pop looks for items, and woken after a commit. So either
the pop sees the item, or the waiter is woken. What is lost (a full socket, a program without this
code) is found by the thread, which asks SQLite every 50 ms whether somebody has committed. Where
the system reports writes to the file, it sleeps while there are none.
"""

import asyncio
import select
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from deferrable._fork import on_fork, set_aside
from deferrable.aio._contract.loop_waiter import LoopWaiter
from deferrable.aio.backend.sqlite._commits import Commits
from deferrable.aio.backend.sqlite._doors import Bell, Doors
from deferrable.aio.backend.sqlite._place import Place
from deferrable.aio.backend.sqlite._tickets import LoopTicket

__all__ = ["Waiter", "Waking"]

_LINGER_SECONDS: Final = 5.0
"""How long the thread goes on after the last waiter has left."""


class Waiter(LoopWaiter):
    """A pop that waits on its loop.

    Args:
        name: of its queue.
        owner: the queue object that waits.
    """

    def __init__(self, name: str, owner: object) -> None:
        super().__init__()
        self.name = name
        self.owner = owner
        self.is_interrupted = False
        self._armed: list[LoopTicket[Any]] = []

    @property
    def is_woken(self) -> bool:
        """Whether it is about to look by itself."""
        return self._is_woken

    def arm(self, ticket: LoopTicket[Any]) -> None:
        """Have `ticket` done by the thread that hears of an item; its answer wakes the waiter."""
        ticket.future.add_done_callback(self._note_answer)
        self._armed.append(ticket)

    def _note_answer(self, future: asyncio.Future[Any]) -> None:
        self._woken.set()

    def disarm(self) -> LoopTicket[Any] | None:
        """Take the ticket away; None: somebody else has. Any thread may call this."""
        try:
            return self._armed.pop()
        except IndexError:
            return None

    def take_over(self, ticket: LoopTicket[Any]) -> None:
        """Have the answer of `ticket`, which was disarmed on this loop, wake nobody."""
        ticket.future.remove_done_callback(self._note_answer)

    def note_taken(self) -> None:
        """Wait again after an answer has woken it, unless it was woken once more since."""
        if not self._is_woken:
            self._woken.clear()

    def rearm(self) -> None:
        """Wait again from now on; called before it looks."""
        self._is_woken = False
        self._woken.clear()


class Waking:
    """Wakes the waiting pops of one file.

    Args:
        place: the file.
        seen_version: returns a number that changes when another process has committed; None: it
            cannot be known now.
        do_now: does the work of a ticket, in the calling thread if the connection is free.
    """

    def __init__(
        self,
        place: Place,
        seen_version: Callable[[], int | None],
        do_now: Callable[[LoopTicket[Any]], None],
    ) -> None:
        self._seen_version = seen_version
        self._do_now = do_now
        self._waiters: set[Waiter] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._bell: Bell | None = None
        self._doors = Doors(place.path + "-wake")
        self._wal_path = place.path + "-wal"
        self._commits: Commits | None = None
        on_fork(self._reset_after_fork)

    def add(self, waiter: Waiter) -> None:
        """Note that `waiter` is about to look, and then to wait."""
        with self._lock:
            self._waiters.add(waiter)
            if self._thread is None:
                self._start()

    def _start(self) -> None:
        bell = self._bell = Bell()
        self._doors.open()
        self._thread = threading.Thread(
            target=self._watch, args=(bell,), name="deferrable waking", daemon=True
        )
        self._thread.start()

    def remove(self, waiter: Waiter) -> None:
        with self._lock:
            self._waiters.discard(waiter)

    def announce(self, names: Iterable[str]) -> None:
        """Wake those who wait for one of these queues, here and in other processes."""
        self._wake(set(names))
        self._doors.knock("\n".join(names).encode())

    def interrupt(self, owner: object, loop: asyncio.AbstractEventLoop | None) -> None:
        """End the waits of `owner` on `loop`; None: on all loops."""
        with self._lock:
            for waiter in self._waiters:
                if waiter.owner is owner and loop in (None, waiter.loop):
                    waiter.is_interrupted = True
                    waiter.wake()

    def close(self) -> None:
        """End the thread, and remove the socket. The next waiter starts again."""
        with self._lock:
            if self._waiters:
                return
            self._doors.close()
            if self._bell is not None:
                self._bell.ring()
            self._thread = self._bell = None

    def _wake(self, names: set[str] | None) -> None:
        """Wake those who wait for one of these queues; None: all."""
        for waiter in self._waiting_for(names):
            waiter.wake()

    def _look_for(self, names: set[str] | None) -> None:
        """Look for items in this thread, for those who wait for one of these queues; None: all."""
        for waiter in self._waiting_for(names):
            ticket = None if waiter.is_woken else waiter.disarm()
            if ticket is None:
                waiter.wake()
            else:
                self._do_now(ticket)

    def _waiting_for(self, names: set[str] | None) -> list[Waiter]:
        if not self._waiters:
            return []
        with self._lock:
            return [each for each in self._waiters if names is None or each.name in names]

    # The thread.

    def _watch(self, bell: Bell) -> None:
        me = threading.current_thread()
        last_time = time.monotonic()
        commits = self._commits = Commits(self._seen_version, self._wal_path, last_time)
        try:
            poll = select.poll()
            poll.register(bell, select.POLLIN)
            if self._doors.own is not None:
                poll.register(self._doors.own, select.POLLIN)
            while self._thread is me:
                has_sound = commits.wait(poll, time.monotonic())
                now = time.monotonic()
                if self._waiters:
                    last_time = now
                elif now - last_time > _LINGER_SECONDS and self._may_end(me):
                    return
                if self._thread is not me:
                    return
                if has_sound:
                    self._look_for(self._doors.heard())
                if commits.has_new(now):
                    self._look_for(None)
        finally:
            bell.close()
            commits.close()

    def _may_end(self, me: threading.Thread) -> bool:
        with self._lock:
            if self._waiters or self._thread is not me:
                return False
            self._thread = self._bell = None
            self._doors.close()
            return True

    def _reset_after_fork(self) -> None:
        set_aside((self._waiters, self._thread))
        self._waiters = set()
        self._lock = threading.Lock()
        self._thread = None
        if self._bell is not None:
            self._bell.close()
            self._bell = None
        if self._commits is not None:
            self._commits.close()
            self._commits = None
        self._doors.abandon()
