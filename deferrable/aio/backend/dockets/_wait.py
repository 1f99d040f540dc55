"""How long a pop waits, and what ends its wait early.

Owns one pop's deadline, and how a command that waits on the server is ended.

The one rule: the command is never cancelled, because its answer may already hold an item. Instead
the server is asked to answer it now, with nothing (CLIENT UNBLOCK). It does so unless it has just
answered with an item.
"""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from deferrable.aio.backend._redis.link import BlockingLine
from deferrable.aio.clock import Clock
from deferrable.errors import BackendError

__all__ = ["Wait"]

_LONGEST_PAUSE_SECONDS = 0.1


class Wait:
    """The wait of one pop on one event loop.

    Args:
        seconds: how long it lasts; 0: it does not wait.
        clock: an injected clock, which also ends the wait; None: there is none.
        was_paused: whether the queue was paused, as far as was known, when the pop began.
    """

    def __init__(self, seconds: float, clock: Clock | None, *, was_paused: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._end_time = self._loop.time() + seconds
        self._clock = clock
        self._clock_end_time = math.inf if clock is None else clock.monotonic() + seconds
        self.was_paused = was_paused
        self._is_interrupted = False
        self._sleeping: asyncio.Future[None] | None = None
        self._line: BlockingLine | None = None
        self._interrupted_line: BlockingLine | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def rest_seconds(self) -> float:
        """How long it may still last; 0 or less: it is over."""
        if self._is_interrupted:
            return 0.0
        rest = self._end_time - self._loop.time()
        if self._clock is None:
            return rest
        return min(rest, self._clock_end_time - self._clock.monotonic())

    @property
    def has_command(self) -> bool:
        """Whether a command waits on the server."""
        return self._line is not None

    def interrupt(self) -> None:
        """End the wait; called on its own loop."""
        self._is_interrupted = True
        if self._sleeping is not None and not self._sleeping.done():
            self._sleeping.set_result(None)
        self.end_command()

    async def sleep(self, seconds: float) -> None:
        """Return after some seconds, or when the wait is interrupted."""
        if not self._is_interrupted:
            self._sleeping = self._loop.create_future()
            await asyncio.wait([self._sleeping], timeout=seconds)

    @contextmanager
    def on(self, line: BlockingLine, event_time: float) -> Iterator[None]:
        """A command waits on `line` inside the block.

        Args:
            event_time: the monotonic moment of the injected clock at which the command ends, if not
                before.
        """
        self._line = line
        timer = None
        if self._clock is not None:
            end_time = min(event_time, self._clock_end_time)
            timer = self._clock.call_later(end_time - self._clock.monotonic(), self.end_command)
            if self._clock.monotonic() >= end_time:
                # It was moved in another thread just now, and the timer counts from that moment.
                self.end_command()
        if self._is_interrupted:
            self.end_command()
        try:
            yield
        finally:
            self._line = None
            if timer is not None:
                timer.cancel()

    def end_command(self) -> None:
        """End the waiting command, if there is one; the wait may go on with another command."""
        if self._line is not None and self._line is not self._interrupted_line:
            self._interrupted_line = self._line
            task = asyncio.ensure_future(self._keep_ending(self._line))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _keep_ending(self, line: BlockingLine) -> None:
        # Repeatedly: the command may not have arrived yet when the server is asked to end it.
        pause_seconds = 0.002
        while self._line is line:
            with suppress(BackendError):
                if await line.end_wait():
                    return
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)
