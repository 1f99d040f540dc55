"""Heartbeats for supervisors that ask no HTTP: a file, systemd, and the parent of ``--processes``.

Owns how each is written. The rule: while the process is stuck, nothing says that it is live.
"""

import logging
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from deferrable.aio.worker import Health
from deferrable.cli.command_error import CommandError

__all__ = ["PARENT_PIPE", "HeartbeatFile", "ParentPipe", "Systemd", "parent_pipe_of", "systemd_of"]

PARENT_PIPE = "DEFERRABLE_WORKER_PIPE"

_logger = logging.getLogger("deferrable.cli")


class HeartbeatFile:
    """A file whose time of change is the last moment at which the process was live.

    It holds ``ready`` or ``not ready``.

    Raises:
        CommandError: it cannot be written.
    """

    def __init__(self, path: Path, health: Health) -> None:
        self._path = path
        self._health = health
        self._text = ""
        self._has_failed = False
        try:
            if path.exists() and not path.is_file():
                # Each write would replace it, and the end delete it, even /dev/null.
                raise CommandError(
                    f"cannot write {path}: it is no ordinary file; choose another "
                    "--heartbeat-file, or leave it out"
                )
            self._write()
        except OSError as error:
            raise CommandError(
                f"cannot write {path}: {error.strerror or error}; choose another --heartbeat-file"
            ) from error

    def beat(self, is_live: bool) -> None:
        """Note that the process is live."""
        if not is_live:
            return
        try:
            self._write()
        except OSError as error:
            if not self._has_failed:
                _logger.error("cannot write the heartbeat file %s: %s", self._path, error)
            self._has_failed = True
        else:
            self._has_failed = False

    def _write(self) -> None:
        text = "not ready\n" if self._health.obstacles() else "ready\n"
        if text == self._text and self._path.exists():
            os.utime(self._path)
            return
        # Replaced in one step, so that no reader sees a half of it.
        new = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        new.write_text(text)
        new.replace(self._path)
        self._text = text

    def remove(self) -> None:
        """The process ends in order."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            _logger.warning("cannot delete the heartbeat file %s: %s", self._path, error)


class Systemd:
    """The service manager that started this process.

    Source: sd_notify(3) and sd_watchdog_enabled(3) of systemd.

    Args:
        address: of its socket, from ``NOTIFY_SOCKET``.
        watches: it wants to hear regularly that the process is live.

    Attributes:
        watches: as given.
    """

    def __init__(self, address: str, *, watches: bool) -> None:
        # A leading @ stands for the abstract namespace.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watches = watches
        self._has_failed = False

    def tell_ready(self) -> None:
        """The worker has started."""
        self._send("READY=1\nSTATUS=working")

    def tell_stopping(self) -> None:
        """The worker has begun to stop."""
        self._send("STOPPING=1\nSTATUS=stopping")

    def beat(self, is_live: bool) -> None:
        """Note that the process is live."""
        if is_live:
            self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(1)
                sender.sendto(text.encode(), self._address)
        except OSError as error:
            if not self._has_failed:
                _logger.warning("systemd does not hear this process: %s", error)
            self._has_failed = True


def systemd_of(environment: Mapping[str, str]) -> Systemd | None:
    """The service manager, if it wants to hear of this process."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return None
    process = environment.get("WATCHDOG_PID")
    is_meant = process is None or process == str(os.getpid())
    return Systemd(address, watches=is_meant and bool(environment.get("WATCHDOG_USEC")))


class ParentPipe:
    """The pipe on which a child of ``--processes`` reports each second how it is."""

    LIVE, STUCK = b"+", b"-"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def beat(self, is_live: bool) -> None:
        """Note whether the process is live."""
        # A parent that is gone or does not read needs nothing; its child ends by another way.
        with suppress(OSError):
            os.write(self._descriptor, self.LIVE if is_live else self.STUCK)


def parent_pipe_of(environment: Mapping[str, str]) -> ParentPipe | None:
    """The pipe to the supervisor that started this process; None: there is none."""
    parent, _, descriptor = environment.get(PARENT_PIPE, "").partition(":")
    # A program that a job starts inherits the variable, and has something else under that number.
    return ParentPipe(int(descriptor)) if parent == str(os.getppid()) else None
