"""Signals, received in a thread.

Owns how SIGTERM and SIGINT reach the code that waits for them, also while a job blocks the main
thread. Python writes each signal's number to a socket when it arrives; a handler would wait until
the main thread runs Python code again. Before there is anything to stop in order, a signal is an
exception in the main thread, as Ctrl-C is everywhere.
"""

import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

__all__ = ["STOP_SIGNALS", "Signals", "Stopped"]

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_WAKE = 0


class Stopped(KeyboardInterrupt):
    """A signal to stop arrived, and there was nothing to stop in order."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.name = signal.Signals(number).name


class Signals:
    """Entered and left in the main thread; read in any one thread."""

    def __init__(self) -> None:
        self._is_raising = False

    def __enter__(self) -> Self:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._old_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._old_handlers = {each: signal.signal(each, self._handle) for each in STOP_SIGNALS}
        return self

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Within the block, a signal raises `Stopped` in the main thread.

        Code that swallows it does not hide it: the next `wait` reports it, too.
        """
        self._is_raising = True
        try:
            yield
        finally:
            self._is_raising = False

    def wait(self, seconds: float | None = None) -> int | None:
        """The number of the next signal to stop; None when `seconds` passed, or after `wake`."""
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if end is None else max(0.0, end - time.monotonic())
            if not select.select([self._reader], [], [], left)[0]:
                return None
            number = self._reader.recv(1)[0]
            if number == _WAKE:
                return None
            if number in STOP_SIGNALS:
                return number

    def wake(self) -> None:
        """End a `wait`, now or when it begins; from any thread."""
        self._writer.send(bytes([_WAKE]))

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_fd)
        self._reader.close()
        self._writer.close()

    def _handle(self, number: int, frame: object) -> None:
        """Make Python catch the signal; the socket reports it."""
        if self._is_raising:
            raise Stopped(number)
