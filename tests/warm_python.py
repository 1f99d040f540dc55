"""Starts Python programs from a process that has imported the libraries of others already.

Owns that process and the one decision which programs can be started so. Most of the time that a
short program needs is spent on imports of asyncio, redis and rich; a forked process has them. It
imports this library, and the test's modules, itself. It is a process of its own with its own
signals, streams, environment and end. What depends on the start of Python itself is started as
usual.
"""

import atexit
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warm_start import IMPORTED

__all__ = ["start_python"]

SET_CHILD_SUBREAPER = 36
"""Of Linux's prctl: a process whose parent ends becomes a child of the one that called it."""

OWN_VARIABLES = {
    *("PYTHONPATH", "PYTHONWARNINGS", "PYTHONDONTWRITEBYTECODE", "PYTHONIOENCODING"),
}
"""What `warm_start.py` does for a program that Python reads as it starts."""


def start_python(
    arguments: list[str],
    *,
    is_warm: bool = True,
    cwd: Path | None = None,
    env: Mapping[str, str],
    **options: Any,
) -> "subprocess.Popen[str]":
    """Start a Python with these arguments, forked where that makes no difference."""
    kind = _WarmProcess if is_warm and _is_possible(arguments, cwd, env) else subprocess.Popen
    return kind([sys.executable, *arguments], cwd=cwd, env=env, **options)


def _is_possible(arguments: list[str], folder: Path | None, env: Mapping[str, str]) -> bool:
    first = arguments[2] if arguments[:1] == ["-W"] else arguments[0]
    is_known = first in {"-c", "-m"} or not first.startswith("-")
    looks_at_imports = any("sys.modules" in each for each in arguments)
    is_like_this = _read_at_start(env) == _read_at_start(os.environ)
    # A program's own module of that name would come first.
    stems = {path.stem for path in (folder or Path.cwd()).iterdir()}
    is_hidden = any(name.partition(".")[0] in stems for name in IMPORTED)
    is_usual = is_known and not looks_at_imports and not is_hidden
    return sys.platform == "linux" and is_usual and is_like_this


def _read_at_start(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that make a Python another one from its start."""
    return {
        name: value
        for name, value in env.items()
        if name.startswith(("PYTHON", "LC_", "LANG")) and name not in OWN_VARIABLES
    }


def run_python(
    arguments: list[str],
    *,
    timeout: float,
    answer: str | None = None,
    is_warm: bool = True,
    **options: Any,
) -> "subprocess.CompletedProcess[str]":
    """Run a Python to its end, and capture what it prints, as `subprocess.run` would."""
    pipe, none = subprocess.PIPE, subprocess.DEVNULL
    stdin = none if answer is None else pipe
    streams = {"stdin": stdin, "stdout": pipe, "stderr": pipe}
    with start_python(arguments, is_warm=is_warm, text=True, **streams, **options) as process:
        try:
            output, errors = process.communicate(answer, timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


class _Source:
    """The process that is forked."""

    def __init__(self) -> None:
        self._orders, its_end = socket.socketpair()
        plain = {name: each for name, each in os.environ.items() if name not in OWN_VARIABLES}
        self.variables = _read_at_start(os.environ)
        self.owner = os.getpid()
        with its_end:
            self._process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("warm_start.py"), str(its_end.fileno())],
                env=plain,
                pass_fds=[its_end.fileno()],
                # As most programs here have them: Python looks once whether it can seek in them.
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        self._lock = threading.Lock()
        atexit.register(self.end)

    def end(self) -> None:
        if os.getpid() == self.owner:
            self._orders.close()
            self._process.communicate()

    def start(self, order: Mapping[str, Any], streams: list[int]) -> int:
        """The id of a new process, which is a child of this one."""
        text = json.dumps(order).encode()
        with self._lock:
            # Only for so long: else the children of a program that was killed came here too.
            _adopt(True)
            try:
                socket.send_fds(self._orders, [len(text).to_bytes(8, "big")], streams)
                self._orders.sendall(text)
                answer = self._orders.recv(8)
                assert answer, self._process.communicate()[1].decode()
                return int.from_bytes(answer, "big")
            finally:
                _adopt(False)


def _adopt(is_on: bool) -> None:
    ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, int(is_on), 0, 0, 0)


_source: _Source | None = None


def _the_source() -> _Source:
    global _source
    wanted = (os.getpid(), _read_at_start(os.environ))
    if _source is None or (_source.owner, _source.variables) != wanted:
        if _source is not None:
            _source.end()
        _source = _Source()
    return _source


class _WarmProcess(subprocess.Popen[str]):
    """A process of `warm_start.py`, with the streams and the end of any other."""

    def _execute_child(
        self,
        args: list[str],
        executable: Any,
        preexec_fn: Any,
        close_fds: Any,
        pass_fds: Any,
        cwd: Any,
        env: Any,
        startupinfo: Any,
        creationflags: Any,
        shell: Any,
        *pipes: Any,
    ) -> None:
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite = pipes[:6]
        _, *arguments = args
        options = []
        if arguments[0] == "-W":
            options, arguments = [arguments[1]], arguments[2:]
        order = {
            "folder": str(cwd or Path.cwd()),
            "environment": dict(env),
            "options": options,
            "arguments": arguments,
        }
        ends = (p2cread, c2pwrite, errwrite)
        streams = [number if end == -1 else end for number, end in enumerate(ends)]
        try:
            self.pid = _the_source().start(order, streams)
            self._child_created = True
        finally:
            self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)
