"""Several processes of one worker.

Owns the children: they run the command line of their parent, get the signals that it gets, and are
restarted when they die, with a growing delay. Each reports over a pipe that it is live. One that is
stuck is killed, and restarted like one that died.

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
from deferrable.cli.beats import PARENT_PIPE, ParentPipe, systemd_of
from deferrable.cli.command_error import ERROR, FORCED, USAGE
from deferrable.cli.shutdown import CLEANUP_SECONDS, RELEASE_SECONDS
from deferrable.cli.signals import Signals

__all__ = ["Beats", "child_index", "code_of", "restart_seconds", "supervise", "watch_parent"]

_logger = logging.getLogger("deferrable.cli")

_INDEX = "DEFERRABLE_WORKER_PROCESS"
_LOOK_SECONDS = 0.1
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_STABLE_SECONDS = 60.0
"""If a child lived for this long, its start was not the reason of its death."""
_MARGIN_SECONDS = 5.0
_MOST_SECONDS_OF_A_LOOK = 1.0


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


class Beats:
    """What a child has reported, and for how long it has been silent.

    The rule: only the time in which the supervisor itself works counts as silence. Both may have
    been stopped together, with their machine.
    """

    def __init__(self) -> None:
        self._has_begun = False
        self._is_stuck = False
        self._silent_seconds = 0.0

    def note(self, data: bytes, seconds: float) -> None:
        """Note what was read after `seconds`, perhaps nothing."""
        if data:
            self._has_begun, self._silent_seconds = True, 0.0
            self._is_stuck = data.endswith(ParentPipe.STUCK)
        else:
            self._silent_seconds += min(seconds, _MOST_SECONDS_OF_A_LOOK)

    def fault(self, stuck_seconds: float) -> str | None:
        """Why the child must be replaced; None: it need not. A child may start for any time."""
        if self._is_stuck:
            return "its event loop does not turn"
        if self._has_begun and self._silent_seconds >= stuck_seconds + _MARGIN_SECONDS:
            return f"it has been silent for {self._silent_seconds:.0f} s"
        return None


class _Child:
    def __init__(self, index: int) -> None:
        self.index = index
        self.deaths = 0
        self.start()

    def start(self) -> None:
        self.start_time = self.look_time = time.monotonic()
        self.restart_time: float | None = None
        self.is_killed = False
        self.beats = Beats()
        self._pipe, end = os.pipe()
        os.set_blocking(self._pipe, False)
        os.set_blocking(end, False)
        try:
            # The command line that started us.
            self.process = subprocess.Popen(  # noqa: S603
                [sys.executable, *sys.orig_argv[1:]],
                stdin=subprocess.PIPE,
                env={
                    **_without_systemd(os.environ),
                    _INDEX: str(self.index),
                    PARENT_PIPE: f"{os.getpid()}:{end}",
                },
                process_group=0,
                pass_fds=[end],
            )
        finally:
            os.close(end)

    def close(self) -> None:
        """Wait for the end of the process, which was killed or has died."""
        self.process.communicate()
        os.close(self._pipe)

    def look(self, stuck_seconds: float) -> None:
        """Kill it if it is stuck.

        No stop in order: that would give the item back as if it had not been tried, and the job
        that holds the loop would hold the next one for ever. A kill counts as a delivery.
        """
        now = time.monotonic()
        self.beats.note(self._read(), now - self.look_time)
        self.look_time = now
        fault = self.beats.fault(stuck_seconds)
        if fault is not None and not self.is_killed:
            _logger.error("process %d is stuck: %s; it is replaced", self.process.pid, fault)
            self.process.kill()
            self.is_killed = True

    def _read(self) -> bytes:
        try:
            return os.read(self._pipe, 4096)
        except BlockingIOError:
            return b""

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


def supervise(count: int, grace_seconds: float, stuck_seconds: float) -> int:
    """Keep `count` children working until a signal comes. Called in the main thread.

    Args:
        stuck_seconds: a child that is silent for longer is replaced.

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
                for child in children:
                    if child.process.poll() is None:
                        child.look(stuck_seconds)
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
                child.close()


def _restart_the_dead(children: Sequence[_Child]) -> None:
    for child in children:
        code = child.process.poll()
        if code is None:
            continue
        if child.restart_time is None:
            child.note_death(code)
        elif time.monotonic() >= child.restart_time:
            child.close()
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
