"""How a worker process ends.

Owns the steps from the first signal to the exit: stop, the grace period, a moment for cancelled
jobs to clean up, and then the end, even if jobs still run. It works in a separate thread, because
a job may block the worker's loop.

The one rule: the item of a job that still runs is given back only just before the process ends.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Protocol

from deferrable.cli.command_error import FORCED
from deferrable.cli.signals import Signals
from deferrable.contrib._last_words import flush_all

__all__ = ["CLEANUP_SECONDS", "RELEASE_SECONDS", "Shutdown", "Stoppable"]

_logger = logging.getLogger("deferrable.cli")

CLEANUP_SECONDS = 3.0
"""How long async jobs may take to clean up after their cancellation."""
RELEASE_SECONDS = 3.0
"""How long the broker may take to answer the releases at the end, and exporters to send what they
have."""


class Stoppable(Protocol):
    """The state of the worker."""

    def note_stop(self) -> None:
        """It will be stopped; called in another thread, because a job may hold its loop."""
        ...

    def stop(self) -> None: ...
    async def release_running(self) -> None: ...


class Shutdown:
    """Watches for signals from `start` to `end`.

    Attributes:
        is_forced: a second signal came.
        reason: why it stops, if not by a signal.
    """

    def __init__(self, signals: Signals, worker: Stoppable, grace_seconds: float) -> None:
        self._signals = signals
        self._worker = worker
        self._grace_seconds = grace_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_ended = threading.Event()
        self._is_requested = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deferrable-signals", daemon=True)
        self.is_forced = False
        self.reason: str | None = None

    def start(self) -> None:
        """Begin to watch; called on the worker's loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def request(self, reason: str) -> None:
        """Stop as if a signal had come; from any thread."""
        self.reason = reason
        self._is_requested.set()
        self._signals.wake()

    def end(self) -> None:
        """Watch no more: the worker has stopped by itself."""
        self._has_ended.set()
        self._signals.wake()
        self._thread.join()

    def _run(self) -> None:
        number = None
        while number is None and not self._is_requested.is_set():
            number = self._signals.wait()
            if self._has_ended.is_set():
                return
        cause = self.reason if number is None else signal.Signals(number).name
        _logger.info(
            "stopping (%s): running jobs have %g s; a second signal ends the grace period",
            cause,
            self._grace_seconds,
        )
        self._worker.note_stop()
        self._call(self._worker.stop)
        second = self._signals.wait(self._grace_seconds)
        if self._has_ended.is_set():
            return
        if second is not None:
            self.is_forced = True
            _logger.warning("the grace period ends now (%s again)", signal.Signals(second).name)
        self._call(self._worker.stop)
        self._signals.wait(CLEANUP_SECONDS)
        if not self._has_ended.is_set():
            self._leave()

    def _call(self, function: Callable[[], None]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:  # The loop has ended by itself.
            self._has_ended.set()

    def _leave(self) -> None:
        _logger.warning("jobs still run; their items are given back, and the process ends")
        # The process ends even if something hangs from here on, such as a lock of a stream.
        last = threading.Timer(RELEASE_SECONDS + 1, os._exit, [FORCED])
        last.daemon = True
        last.start()
        asyncio.run(self._release_and_exit())

    async def _release_and_exit(self) -> None:
        releasing = asyncio.ensure_future(self._worker.release_running())
        # `os._exit` calls no exit handlers, with which exporters send what they have.
        flushing = asyncio.ensure_future(asyncio.to_thread(flush_all, RELEASE_SECONDS))
        await asyncio.wait([releasing, flushing], timeout=RELEASE_SECONDS)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(FORCED)
