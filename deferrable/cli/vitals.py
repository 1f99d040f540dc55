"""Whether this process still works: its worker's event loop turns, and so does its keeper.

Owns the thread that asks both once a second, and that passes the answer on to listeners: a
heartbeat file, systemd. It never asks a broker.

The rule: the time that counts is how long an unanswered question waits. A process that was stopped
for an hour and goes on is not stuck.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TypeAlias

from deferrable.aio._engine.keeper import Keeper

__all__ = ["BEAT_SECONDS", "KEEPER_SECONDS", "Listener", "Vitals"]

_logger = logging.getLogger("deferrable.cli")

BEAT_SECONDS = 1.0
KEEPER_SECONDS = 60.0
"""No job holds the keeper's loop. A longer silence means that leases are lost."""

Listener: TypeAlias = Callable[[bool], None]
"""Called once a second with whether the process is live; it must not wait for long."""


class _Question:
    """A question to one event loop, asked again and again.

    Args:
        ask: has a callable run on the loop; it returns False if there is no loop to ask.
    """

    def __init__(self, ask: Callable[[Callable[[], None]], bool]) -> None:
        self._ask = ask
        self._ask_time = time.monotonic()
        self._is_open = False

    def ask(self) -> None:
        """Ask, unless the last question is not answered yet."""
        if not self._is_open:
            self._ask_time, self._is_open = time.monotonic(), True
            if not self._ask(self._note_answer):
                self._is_open = False

    def _note_answer(self) -> None:
        self._is_open = False

    @property
    def held_seconds(self) -> float:
        """How long the question has waited; also how long nobody has asked."""
        return max(0.0, time.monotonic() - self._ask_time - (0 if self._is_open else BEAT_SECONDS))


class Vitals:
    """Asks from the beginning of the ``with`` block to its end.

    Args:
        loop: the worker's.
        keeper: of this process.
        stuck_seconds: how long a job may hold the worker's loop.
        listeners: get the answers.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        keeper: Keeper,
        stuck_seconds: float,
        listeners: Sequence[Listener] = (),
    ) -> None:
        def ask_loop(answer: Callable[[], None]) -> bool:
            try:
                loop.call_soon_threadsafe(answer)
            except RuntimeError:  # it was closed: the worker has ended
                return False
            return True

        self._loop = _Question(ask_loop)
        self._keeper = _Question(keeper.call_soon)
        self._stuck_seconds = stuck_seconds
        self._listeners = listeners
        self._has_ended = threading.Event()
        self._was_live = True
        self._thread = threading.Thread(target=self._run, name="deferrable-vitals", daemon=True)

    @property
    def held_seconds(self) -> float:
        """For how long the worker's loop or the keeper has not answered."""
        return max(self._loop.held_seconds, self._keeper.held_seconds)

    @property
    def is_live(self) -> bool:
        """Whether a restart would not help. Any thread may ask."""
        keeper_seconds = min(self._stuck_seconds, KEEPER_SECONDS)
        return (
            self._loop.held_seconds < self._stuck_seconds
            and self._keeper.held_seconds < keeper_seconds
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._has_ended.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._loop.ask()
            self._keeper.ask()
            self._tell(self.is_live)
            if self._has_ended.wait(BEAT_SECONDS):
                return

    def _tell(self, is_live: bool) -> None:
        if is_live != self._was_live:
            self._was_live = is_live
            if is_live:
                _logger.warning("this process works again")
            else:
                _logger.error(
                    "this process is stuck: %s has not answered for %.0f s; /live says so now",
                    "the keeper of leases"
                    if self._loop.held_seconds < BEAT_SECONDS * 2
                    else "the event loop",
                    self.held_seconds,
                )
        for listener in self._listeners:
            listener(is_live)
