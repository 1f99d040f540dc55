"""Run an item alone that may kill its process.

An item that was redelivered more than once may have killed the processes that ran it. So it runs
while its worker holds nothing else: no queue of the worker is popped, and it starts when
everything else has ended and is settled. If it kills this process, too, no other item is
redelivered because of it.

The one rule: neither waits for the other for ever. If the worker is not empty within its patience,
the item goes back, hidden for as long as the worker could not pop, and the patience doubles. So it
becomes longer than any job that ends, and the others get at least half of the time.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from deferrable.aio.clock import Clock, Timer
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Queue
from deferrable.aio.worker._buffer import Buffer, Buffered
from deferrable.aio.worker._slots import Slots

__all__ = ["Alone", "is_suspect"]

_FIRST_PATIENCE_SECONDS = 30.0
_LONGEST_PATIENCE_SECONDS = 3600.0


def is_suspect(queue: Queue, envelope: Envelope) -> bool:
    """Whether an item runs alone: it was redelivered more than once, or has its last delivery."""
    redeliveries = envelope.redeliveries
    if not redeliveries or not queue.SUPPORTS_RELEASE_DELAY:
        return False
    return redeliveries > 1 or redeliveries >= queue.max_redeliveries


class Alone:
    """The item of one worker that runs alone, if there is one.

    Args:
        slots: are paused while it waits and runs.
        buffer: where it waits.
        clock: the worker's.
        start: starts an item; returns whether it could.
        on_pause: called when running polls should end soon.
        on_room: called when others may be popped again.
        run_in_background: runs something in a task that the worker waits for at its end.
    """

    def __init__(
        self,
        slots: Slots,
        buffer: Buffer,
        clock: Clock,
        start: Callable[[Buffered], bool],
        on_pause: Callable[[], None],
        on_room: Callable[[], None],
        run_in_background: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._slots = slots
        self._buffer = buffer
        self._clock = clock
        self._start = start
        self._on_pause = on_pause
        self._on_room = on_room
        self._run_in_background = run_in_background
        self._waiting: Buffered | None = None
        self._is_running = False
        self._timer: Timer | None = None
        self._patience_seconds = _FIRST_PATIENCE_SECONDS
        self._resume_time = -float("inf")

    def add(self, each: Buffered) -> None:
        """Let an item run alone, here or elsewhere."""
        self._buffer.add_aside(each)
        rest_seconds = max(0.0, self._resume_time - self._clock.monotonic())
        if rest_seconds or self._waiting is not None or self._is_running:
            self._run_in_background(self._buffer.give_back({each}.__contains__, rest_seconds))
            return
        self._waiting = each
        self._slots.is_paused = True
        self._timer = self._clock.call_later(self._patience_seconds, self._lose_patience)
        self._on_pause()

    def close(self) -> None:
        """The worker stops: this item is given back together with the buffer."""
        if self._timer is not None:
            self._timer.cancel()

    def note_change(self) -> None:
        """The worker holds fewer items, or no longer this item."""
        waiting = self._waiting
        if not self._slots.is_paused:
            return
        if self._is_running:
            if not self._slots.running and not self._slots.settling:
                self._end(is_careful=True)
        elif waiting is None or not self._buffer.is_aside(waiting):
            self._end(is_careful=False)
        elif self._slots.is_idle and self._buffer.aside_count == 1:
            if self._slots.blocked:
                # Behind this very item, in its group.
                self._run_in_background(
                    self._buffer.give_back({*self._buffer.blocked()}.__contains__)
                )
            else:
                self._run(waiting)

    def _run(self, waiting: Buffered) -> None:
        self.close()
        self._waiting = None
        self._patience_seconds = _FIRST_PATIENCE_SECONDS
        self._is_running = True
        self._buffer.take_aside(waiting)
        if not self._start(waiting):
            self._end(is_careful=True)

    def _end(self, *, is_careful: bool) -> None:
        self.close()
        self._waiting = None
        self._is_running = False
        self._slots.is_paused = False
        # Others of its batch were given back, and are likely to be popped next.
        self._slots.is_careful = is_careful
        self._on_room()

    def _lose_patience(self) -> None:
        waiting, seconds = self._waiting, self._patience_seconds
        if waiting is None:
            return
        self._resume_time = self._clock.monotonic() + seconds
        self._patience_seconds = min(2 * seconds, _LONGEST_PATIENCE_SECONDS)
        self._run_in_background(self._buffer.give_back({waiting}.__contains__, seconds))
        self._end(is_careful=False)
