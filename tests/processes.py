"""Programs that tests start: for what happens at exit, after a fork, and on a signal.

Owns how a test starts one, talks to it, and makes sure that it ends. A program prints where it is;
the test waits for that line, not for a time.
"""

import os
import signal
import subprocess
import textwrap
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from warm_python import start_python

ROOT = Path(__file__).parent.parent
DEADLINE_SECONDS = 120.0
"""How long a test waits for a program: only one that hangs gets there, on a busy machine too."""

MOST_LOOKS = 500
"""After so many, a program that is to be interrupted computes, and is not about to wait."""

STILL_ASLEEP = 3
"""How often in a row a main thread must be found asleep: it may have waited for another thread."""

WITH_WARNINGS = ("-W", "always")
"""Not the development mode: there, asyncio reports whatever is slow on a busy machine."""


class Program:
    """A running program; it is killed at the end of the ``with`` block if it still runs."""

    def __init__(
        self, source: str, *options: str, has_input: bool = False, is_warm: bool = True
    ) -> None:
        self._process = start_python(
            [*options, "-c", textwrap.dedent(source)],
            is_warm=is_warm,
            stdin=subprocess.PIPE if has_input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def wait_for(self, line: str) -> None:
        """Return once the program has printed `line`; it must not print another before."""
        assert self._process.stdout is not None
        read = self._process.stdout.readline().rstrip("\n")
        if read != line:
            _, errors = self._process.communicate(timeout=DEADLINE_SECONDS)
            raise AssertionError(f"expected {line!r}, got {read!r}\n{errors}")

    def say(self, line: str = "") -> None:
        """Write a line to a program that has an input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def interrupt(self) -> None:
        """What Ctrl-C in its terminal would do, once the program's main thread waits.

        A signal that comes just before Python's main thread begins to wait is seen only when the
        wait ends: of `asyncio.run`, 13 in 8,000 hung. Somebody at a terminal would press again.
        """
        self._wait_until_it_sleeps()
        self._process.send_signal(signal.SIGINT)

    def _wait_until_it_sleeps(self) -> None:
        # The state is the first word after the name, which stands in parentheses.
        path = Path(f"/proc/{self._process.pid}/stat")
        asleep = 0
        for _ in range(MOST_LOOKS):
            if asleep == STILL_ASLEEP or not path.exists():
                break
            state = path.read_text().rpartition(")")[2].split()[0]
            asleep = asleep + 1 if state == "S" else 0
            time.sleep(0.002)

    def end(self) -> tuple[list[str], str]:
        """Wait for the end. The lines that it still printed, and its standard error.

        Raises:
            AssertionError: it failed.
        """
        output, errors = self._process.communicate(timeout=DEADLINE_SECONDS)
        assert self._process.returncode == 0, f"{self._process.returncode}\n{output}\n{errors}"
        return output.splitlines(), errors

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
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


def run_program(source: str, *options: str, is_warm: bool = True) -> list[str]:
    """Run a program that must succeed and leave its standard error empty; the lines it printed.

    Warnings count, of every kind and each time. `is_warm`: see `warm_python.py`.
    """
    with Program(source, *WITH_WARNINGS, *options, is_warm=is_warm) as program:
        lines, errors = program.end()
    assert errors == ""
    return lines
