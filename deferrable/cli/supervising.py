"""Several processes of one worker.

Owns the children: they run the command line of their parent, get the signals that it gets, and are
restarted when they die, with a growing delay.

A child has its own process group, so that Ctrl-C in a terminal reaches it once, through its
parent. When the parent is killed, the child sees the end of its standard input, and stops as well.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence

from deferrable._pauses import growing_seconds
from deferrable.cli.beats import systemd_of
from deferrable.cli.command_error import ERROR, FORCED, USAGE
from deferrable.cli.shutdown import CLEANUP_SECONDS, RELEASE_SECONDS
from deferrable.cli.signals import Signals

__all__ = ["child_index", "code_of", "restart_seconds", "supervise", "watch_parent"]

_logger = logging.getLogger("deferrable.cli")

_INDEX = "DEFERRABLE_WORKER_PROCESS"
_LOOK_SECONDS = 0.1
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_STABLE_SECONDS = 60.0
"""If a child lived for this long, its start was not the reason of its death."""


def restart_seconds(deaths: int) -> float:
    """The wait before a restart of a child that died this many times in a row (at least once)."""
    return growing_seconds(deaths, _FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)


def code_of(codes: Iterable[int]) -> int:
    """The exit code of the supervisor: the worst of its children's.

    A child that SIGTERM ended had only begun to start: it handles the signal from its imports on.
    """
    in_order = {0, -signal.SIGTERM}
    known = {
        0 if code in in_order else code if code in (USAGE, FORCED) else ERROR for code in codes
    }
    return next((code for code in (USAGE, ERROR, FORCED) if code in known), 0)


def child_index() -> int | None:
    """Which child this process is, counted from 0; None if it is not a child."""
    index = os.environ.get(_INDEX)
    return int(index) if index is not None else None


def watch_parent() -> None:
    """Stop this child when its parent is gone."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="deferrable-parent", daemon=True).start()


def _without_systemd(environment: Mapping[str, str]) -> dict[str, str]:
    # It listens to its own child only, which is the supervisor.
    return {name: value for name, value in environment.items() if name != "NOTIFY_SOCKET"}


class _Child:
    def __init__(self, index: int) -> None:
        self.index = index
        self.deaths = 0
        self.start()

    def start(self) -> None:
        self.start_time = time.monotonic()
        self.restart_time: float | None = None
        # The command line that started us.
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, *sys.orig_argv[1:]],
            stdin=subprocess.PIPE,
            env={**_without_systemd(os.environ), _INDEX: str(self.index)},
            process_group=0,
        )

    def note_death(self, code: int) -> None:
        now = time.monotonic()
        self.deaths = 1 if now - self.start_time > _STABLE_SECONDS else self.deaths + 1
        seconds = restart_seconds(self.deaths)
        self.restart_time = now + seconds
        _logger.error(
            "process %d died (%s); it is restarted in %g s",
            self.process.pid,
            f"exit code {code}" if code >= 0 else signal.Signals(-code).name,
            seconds,
        )


def supervise(count: int, grace_seconds: float) -> int:
    """Keep `count` children working until a signal comes. Called in the main thread.

    Returns:
        the exit code.
    """
    with Signals() as signals:
        noun = "process" if count == 1 else "processes"
        _logger.info("supervising %d %s (process %d)", count, noun, os.getpid())
        systemd = systemd_of(os.environ)
        children = [_Child(index) for index in range(count)]
        try:
            if systemd is not None:
                systemd.tell_ready()
            number: int | None = None
            while number is None:
                if any(child.process.poll() == USAGE for child in children):
                    break
                _restart_the_dead(children)
                if systemd is not None and systemd.watches:
                    systemd.beat(True)
                number = signals.wait(_LOOK_SECONDS)
            if systemd is not None:
                systemd.tell_stopping()
            _forward(children)
            most_seconds = grace_seconds + CLEANUP_SECONDS + RELEASE_SECONDS + 5
            return _wait_for_end(children, signals, time.monotonic() + most_seconds)
        finally:
            for child in children:
                child.process.kill()
                child.process.communicate()


def _restart_the_dead(children: Sequence[_Child]) -> None:
    for child in children:
        code = child.process.poll()
        if code is None:
            continue
        if child.restart_time is None:
            child.note_death(code)
        elif time.monotonic() >= child.restart_time:
            child.process.communicate()
            child.start()


def _forward(children: Sequence[_Child]) -> None:
    # For every signal: SIGINT would end a child that has just begun to start with a traceback.
    for child in children:
        if child.process.poll() is None:
            child.process.terminate()


def _wait_for_end(children: Sequence[_Child], signals: Signals, end_time: float) -> int:
    while any(child.process.poll() is None for child in children):
        number = signals.wait(_LOOK_SECONDS)
        if number is not None:
            _forward(children)
        if time.monotonic() > end_time:
            _logger.error("processes that did not stop are killed")
            return FORCED
    return code_of(child.process.poll() or 0 for child in children if child.restart_time is None)
