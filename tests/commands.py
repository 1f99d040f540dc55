"""The command line, and other programs with commands, run as processes.

Owns how a test starts a command, reads what it says, and makes sure that it ends. A test waits
for a line or a state, never for a time.
"""

import importlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from click.testing import CliRunner
from processes import DEADLINE_SECONDS, ROOT
from warm_python import run_python, start_python

from deferrable.cli.app import cli

TESTS = Path(__file__).parent


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
"""Variables that make the standard streams of a program accept ASCII only."""


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    known = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    return {**known, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **variables}


def run_command(
    *arguments: str, variables: Mapping[str, str], folder: Path = TESTS, answer: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    return run_python(
        ["-m", "deferrable", *arguments],
        env=environment(variables),
        cwd=folder,
        answer=answer,
        timeout=DEADLINE_SECONDS,
    )


def call_command(
    *arguments: str, variables: Mapping[str, str], folder: Path = TESTS, answer: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end as `run_command` does, but in this process, ten times as fast.

    Not for running workers, nor for what happens before the command line is read.
    """
    with as_in_a_process_of_its_own(folder):
        environ = {"COLUMNS": None, **variables}
        runner = CliRunner(env=environ)
        result = runner.invoke(cli, arguments, input=answer, prog_name="deferrable")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


@contextmanager
def as_in_a_process_of_its_own(folder: Path) -> Iterator[None]:
    """Import users' modules from `folder`, and take back what a command changes here."""
    root, modules, here = logging.getLogger(), set(sys.modules), Path.cwd()
    handlers, level = list(root.handlers), root.level
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        os.chdir(here)
        root.handlers[:], root.level = handlers, level
        for name in set(sys.modules) - modules:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
                del sys.modules[name]


class PythonProcess:
    """A running Python; it is killed at the end of the ``with`` block if it still runs."""

    def __init__(
        self, arguments: Sequence[str], *, variables: Mapping[str, str], folder: Path
    ) -> None:
        self.process = start_python(
            list(arguments),
            env=environment(variables),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self._lines.extend(iter(self.process.stdout.readline, ""))

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return "".join(list(self._lines))

    def wait_for(self, text: str, count: int = 1) -> None:
        """Return once it has printed `text` so many times."""
        self.wait_until(lambda: self.text.count(text) >= count, f"it says {text!r}")

    def wait_until(self, condition: Callable[[], object], description: str) -> None:
        deadline_time = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            if time.monotonic() > deadline_time:
                raise AssertionError(f"gave up waiting until {description}:\n{self.text}")
            time.sleep(0.005)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Its exit code, once it has ended."""
        self.process.wait(DEADLINE_SECONDS)
        self._reader.join()
        return self.process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Command(PythonProcess):
    """A command of this library's that runs."""

    def __init__(self, *arguments: str, variables: Mapping[str, str], folder: Path = TESTS) -> None:
        super().__init__(["-m", "deferrable", *arguments], variables=variables, folder=folder)
