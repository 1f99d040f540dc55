"""Starts worker programs, reads what they print, and makes sure that they end.

Owns the processes. Each is ended by its own process id.
"""

import os
import signal
import subprocess
import threading
import time
from types import TracebackType
from typing import Self

from processes import DEADLINE_SECONDS, ROOT
from warm_python import start_python

__all__ = ["WorkerProcess"]


class WorkerProcess:
    """A running ``worker_app.py``; it is killed at the end of the ``with`` block if it still runs.

    Attributes:
        lines: what it has printed, with the moment (monotonic) of each.
        errors: its standard error, whole once it has ended.
    """

    def __init__(
        self, url: str, group: str, lease_seconds: float, grace_seconds: float = 10
    ) -> None:
        self._process = start_python(
            [
                *[str(ROOT / "tests" / "worker_app.py"), url, group],
                *[str(lease_seconds), str(grace_seconds)],
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.lines: list[tuple[float, str]] = []
        self.errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_lines),
            threading.Thread(target=self._read_errors),
        ]
        for reader in self._readers:
            reader.start()

    def _read_lines(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append((time.monotonic(), line.rstrip("\n")))

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self.errors.extend(self._process.stderr)

    def count(self, line: str) -> int:
        """How often it has printed `line`."""
        return sum(each == line for _, each in self.lines)

    def wait_for(
        self, line: str, times: int = 1, deadline_seconds: float = DEADLINE_SECONDS
    ) -> None:
        """Return once it has printed `line` so often."""
        deadline_time = time.monotonic() + deadline_seconds
        while self.count(line) < times:
            if time.monotonic() > deadline_time:
                raise TimeoutError(
                    f"waited {deadline_seconds} s for {times} x {line!r}, got "
                    f"{[each for _, each in self.lines]}\n{''.join(self.errors)}"
                )
            time.sleep(0.001)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self, deadline_seconds: float = DEADLINE_SECONDS) -> int:
        """Wait for its end; its exit code."""
        code = self._process.wait(deadline_seconds)
        for reader in self._readers:
            reader.join()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
