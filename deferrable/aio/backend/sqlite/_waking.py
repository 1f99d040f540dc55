"""Who waits for items of a file, in this process and in others, and how they are woken.

Owns the waiting pops of this process, a datagram socket through which other processes wake them,
and a thread that listens to it. The sockets of a file are in one directory beside it.

The one rule: a waiter is noted before its pop looks for items, and woken after a commit. So either
the pop sees the item, or the waiter is woken. What is lost (a full socket, a program without this
code) is found by the thread, which asks SQLite every 50 ms whether somebody has committed.
"""

import asyncio
import os
import secrets
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final
from weakref import finalize

from deferrable._fork import on_fork, set_aside
from deferrable.aio.backend.sqlite._place import Place
from deferrable.aio.backend.sqlite._tickets import LoopTicket
from deferrable.aio.clock import Clock

__all__ = ["Waiter", "Waking"]

_POLL_SECONDS: Final = 0.05
_LINGER_SECONDS: Final = 5.0
"""How long the thread goes on after the last waiter has left."""

_LONGEST_PATH: Final = 100
"""The kernel takes 107 bytes for the path of a socket, and macOS 103."""

_TRUST_SECONDS: Final = 0.01
"""For so long the list of the other sockets is good. A newer one misses a knock, and polls."""


class Waiter:
    """A pop that waits on its loop.

    Args:
        name: of its queue.
        owner: the queue object that waits.
    """

    def __init__(self, name: str, owner: object) -> None:
        self.name = name
        self.owner = owner
        self.loop = asyncio.get_running_loop()
        self.is_interrupted = False
        self._woken = asyncio.Event()
        self._is_woken = False
        self._armed: list[LoopTicket[Any]] = []

    @property
    def is_woken(self) -> bool:
        """Whether it is about to look by itself."""
        return self._is_woken

    def wake(self) -> None:
        """Let it look again. Any thread may call this."""
        if self._is_woken:
            return
        self._is_woken = True
        try:
            self.loop.call_soon_threadsafe(self._woken.set)
        except RuntimeError:
            if not self.loop.is_closed():
                raise

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

    async def wait(self, clock: Clock, end_time: float) -> None:
        """Return when it is woken, or at `end_time` on the clock's monotonic scale."""
        timer = clock.call_later(end_time - clock.monotonic(), self._woken.set)
        if clock.monotonic() >= end_time:
            # It was moved in another thread just now, and the timer counts from that moment.
            self._woken.set()
        try:
            await self._woken.wait()
        finally:
            timer.cancel()


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
        self._bell: _Bell | None = None
        self._doors = _Doors(place.path + "-wake")
        on_fork(self._reset_after_fork)

    def add(self, waiter: Waiter) -> None:
        """Note that `waiter` is about to look, and then to wait."""
        with self._lock:
            self._waiters.add(waiter)
            if self._thread is None:
                self._start()

    def _start(self) -> None:
        bell = self._bell = _Bell()
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

    def _watch(self, bell: "_Bell") -> None:
        me = threading.current_thread()
        try:
            poll = select.poll()
            poll.register(bell, select.POLLIN)
            if self._doors.own is not None:
                poll.register(self._doors.own, select.POLLIN)
            version, last_time = self._seen_version(), time.monotonic()
            while self._thread is me:
                is_quiet = not poll.poll(_POLL_SECONDS * 1000)
                now = time.monotonic()
                if self._waiters:
                    last_time = now
                elif now - last_time > _LINGER_SECONDS and self._may_end(me):
                    return
                if self._thread is not me:
                    return
                if not is_quiet:
                    self._look_for(self._doors.heard())
                    continue
                seen = self._seen_version()
                if seen is not None and seen != version:
                    version = seen
                    self._look_for(None)
        finally:
            bell.close()

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
        self._doors.abandon()


class _Bell:
    """Ends the thread's wait in `poll`."""

    def __init__(self) -> None:
        self._ear, self._clapper = socket.socketpair()
        self._ear.setblocking(False)
        self._clapper.setblocking(False)

    def fileno(self) -> int:
        return self._ear.fileno()

    def ring(self) -> None:
        with suppress(BlockingIOError):
            self._clapper.send(b"!")

    def close(self) -> None:
        self._ear.close()
        self._clapper.close()


class _Doors:
    """The sockets of a file, one for each process with a waiting pop, in one directory."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._is_usable = hasattr(socket, "AF_UNIX") and (
            len(os.fsencode(directory)) + 20 <= _LONGEST_PATH
        )
        self._seen: Sequence[str] = ()
        self._next_look_time = 0.0
        self.own: socket.socket | None = None
        self._own_path = ""
        self._sender: socket.socket | None = None
        self._removal: finalize[..., object] | None = None

    def open(self) -> None:
        """Have an own socket. Without one, the thread's polling is all there is."""
        if not self._is_usable:
            return
        door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        door.setblocking(False)
        path = os.path.join(self._directory, secrets.token_hex(6))
        for _ in range(3):
            try:
                with suppress(FileExistsError):
                    os.mkdir(self._directory)
                door.bind(path)
            except FileNotFoundError:  # somebody has just removed the empty directory
                continue
            except OSError:
                break
            self.own, self._own_path = door, path
            self._removal = finalize(self, _remove, path, os.getpid())
            return
        door.close()

    def close(self) -> None:
        own, self.own = self.own, None
        if own is not None:
            own.close()
        if self._removal is not None:
            self._removal()
            self._removal = None
        self._close_sender()

    def _close_sender(self) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()

    def abandon(self) -> None:
        """Forget the parent's socket. It stays its own; this process's handle of it goes."""
        if self._removal is not None:
            self._removal.detach()
            self._removal = None
        if self.own is not None:
            self.own.close()
            self.own = None
        self._close_sender()

    def heard(self) -> set[str] | None:
        """The names in all datagrams that have come; None: it is not known which."""
        names: set[str] = set()
        own = self.own
        if own is None:
            return None
        with suppress(BlockingIOError, OSError):
            while True:
                names.update(own.recv(4096).decode(errors="replace").split("\n"))
        return names or None

    def knock(self, message: bytes) -> None:
        """Send `message` to every other process. It never waits."""
        for path in self._others():
            try:
                self._sending().sendto(message, path)
            except (ConnectionRefusedError, FileNotFoundError):
                # Its process has ended. Names are drawn, so nobody else has this one.
                with suppress(OSError):
                    os.unlink(path)
            except OSError:
                pass  # It is full, so its process is about to look anyhow.

    def _sending(self) -> socket.socket:
        if self._sender is None:
            self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sender.setblocking(False)
            finalize(self, self._sender.close).atexit = False
        return self._sender

    def _others(self) -> Sequence[str]:
        """The paths of the other processes' sockets, as they were a moment ago."""
        now = time.monotonic()
        if now >= self._next_look_time:
            self._next_look_time = now + _TRUST_SECONDS
            self._seen = self._look() if self._is_usable else ()
        return self._seen

    def _look(self) -> Sequence[str]:
        try:
            names = os.listdir(self._directory)
        except OSError:
            return ()
        paths = [os.path.join(self._directory, name) for name in names]
        return [path for path in paths if path != self._own_path]


def _remove(path: str, process_id: int) -> None:
    if os.getpid() != process_id:
        return
    with suppress(OSError):
        os.unlink(path)
        os.rmdir(os.path.dirname(path))  # the last one does this; for others it is not empty
