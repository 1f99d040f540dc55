"""The watchdog: it reports what blocks the worker's event loop.

Owns the check, made from a separate thread, whether the loop still runs, and the report when it
does not: which task, for how long, at which line. The keeper keeps the leases meanwhile.
"""

import asyncio
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from deferrable._portal import NO_THREADS, is_out_of_threads

__all__ = [
    "HELD_SECONDS",
    "JOB_ADVICE",
    "OTHER_ADVICE",
    "OWN_ADVICE",
    "Blocker",
    "Watchdog",
    "is_own",
]

_logger = logging.getLogger("deferrable")

HELD_SECONDS = 1.0
"""A loop that did not run for this long is reported."""

Blocker: TypeAlias = tuple[str, str, Callable[[], None]]
"""The name of what blocks the loop, the advice, and what to call when the loop runs again."""

JOB_ADVICE = (
    "await something that does not block, or make the job a plain function; event handlers must be "
    "short"
)
OTHER_ADVICE = (
    "this is not a job: in the body of an `async for` over the worker, and in other code that "
    "runs on its loop, await something that does not block, or await asyncio.to_thread(...)"
)
OWN_ADVICE = (
    "this is a task of deferrable itself, and not your code: at the start it loads the client of "
    "the broker; later, look whether the machine has enough CPU"
)
_NO_TASK: Blocker = ("a callback", OTHER_ADVICE, lambda: None)

_PACKAGE = f"{Path(__file__).parents[2]}{os.sep}"


def is_own(task: asyncio.Task[Any]) -> bool:
    """Whether a task that is not a job runs code of this package."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and code.co_filename.startswith(_PACKAGE)


class Watchdog:
    """Watches the loop on which it is started.

    Args:
        find: returns, in the watchdog's thread and while the task blocks the loop, its name, what
            to do about it, and what is to be called on that loop as soon as it turns again.
        held_seconds: how long the loop may be blocked.
    """

    def __init__(
        self,
        find: Callable[[asyncio.Task[Any]], Blocker],
        held_seconds: float = HELD_SECONDS,
    ) -> None:
        self._find = find
        self._held_seconds = held_seconds
        self._stopped = threading.Event()
        self._turned = threading.Event()

    def start(self) -> None:
        """Start to watch the running loop.

        Raises:
            RuntimeError: no thread can be started.
        """
        loop, thread_id = asyncio.get_running_loop(), threading.get_ident()
        thread = threading.Thread(
            target=self._watch, args=(loop, thread_id), name="deferrable-watchdog", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            if is_out_of_threads(error):
                raise RuntimeError(f"a worker cannot start here: {NO_THREADS}") from error
            raise

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()
        self._turned.set()

    def _watch(self, loop: asyncio.AbstractEventLoop, thread_id: int) -> None:
        with suppress(RuntimeError):  # the loop was closed without a stop
            while not self._stopped.is_set():
                self._turned.clear()
                start = time.monotonic()
                loop.call_soon_threadsafe(self._turned.set)
                if not self._turned.wait(self._held_seconds):
                    task = asyncio.current_task(loop)
                    name, advice, on_turn = _NO_TASK if task is None else self._find(task)
                    _report(name, advice, thread_id, time.monotonic() - start)
                    # At once, so that it comes before the effects of the job's end.
                    loop.call_soon_threadsafe(on_turn)
                    self._wait_for_the_turn(loop)
                    _logger.warning(
                        "the event loop runs again; %s blocked it for %.1f s",
                        name,
                        time.monotonic() - start,
                    )
                self._stopped.wait(self._held_seconds)

    def _wait_for_the_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._turned.wait(self._held_seconds) and not loop.is_closed():
            pass


def _report(name: str, advice: str, thread_id: int, seconds: float) -> None:
    frame = sys._current_frames().get(thread_id)
    where = "an unknown line"
    if frame is not None:
        line = traceback.extract_stack(frame)[-1]
        where = f'File "{line.filename}", line {line.lineno}, in {line.name}: {line.line}'
    _logger.warning(
        "the event loop has been blocked for %.1f s by %s at %s; %s", seconds, name, where, advice
    )
