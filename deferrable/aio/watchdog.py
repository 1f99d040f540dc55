"""The watchdog: who holds the worker's event loop.

Owns the question, asked from a thread of its own, whether the loop still turns, and the report when
it does not: which task, for how long, at which line. It may not know jobs: what the task is called
is all that it tells. Leases are kept meanwhile by the keeper.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress

__all__ = ["HELD_SECONDS", "Watchdog"]

_logger = logging.getLogger("deferrable")

HELD_SECONDS = 1.0
"""A loop that did not turn for so long is reported."""


class Watchdog:
    """Watches the loop on which it is started.

    Args:
        on_held: called on that loop, once it turns again, with the name of the task that held it.
    """

    def __init__(self, on_held: Callable[[str], None]) -> None:
        self._on_held = on_held
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch the running loop."""
        loop, thread_id = asyncio.get_running_loop(), threading.get_ident()
        self._thread = threading.Thread(
            target=self._watch, args=(loop, thread_id), name="deferrable-watchdog", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()

    def _watch(self, loop: asyncio.AbstractEventLoop, thread_id: int) -> None:
        while not self._stopped.is_set():
            turned = threading.Event()
            asked = time.monotonic()
            try:
                loop.call_soon_threadsafe(turned.set)
            except RuntimeError:
                return
            if not turned.wait(HELD_SECONDS) and not self._stopped.is_set():
                name = self._report(loop, thread_id, time.monotonic() - asked)
                turned.wait()
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(self._on_held, name)
            self._stopped.wait(HELD_SECONDS)

    def _report(self, loop: asyncio.AbstractEventLoop, thread_id: int, seconds: float) -> str:
        task = asyncio.current_task(loop)
        name = "unknown" if task is None else task.get_name()
        frame = sys._current_frames().get(thread_id)
        where = "unknown" if frame is None else traceback.extract_stack(frame)[-1]
        _logger.warning(
            "the event loop has been held for %.1f s by %s at %s; await something, or make it a "
            "plain function",
            seconds,
            name,
            where,
        )
        return name
