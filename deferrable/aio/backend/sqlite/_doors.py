"""How a process that waits is woken by another: a datagram socket for each, in one directory.

Owns the sockets of a file, which are beside it in a directory that the last one removes, and the
knocks on them. The rule: a knock never waits, and a lost one does no harm, because those who wait
also poll.
"""

import os
import secrets
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final
from weakref import finalize

__all__ = ["Bell", "Doors"]

_LONGEST_PATH: Final = 100
"""The kernel takes 107 bytes for the path of a socket, and macOS 103."""

_TRUST_SECONDS: Final = 0.01
"""For so long the list of the other sockets is good. A newer one misses a knock, and polls."""


class Bell:
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


class Doors:
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
