"""Whether a worker can do its work.

Owns the moments of the last answered poll and touch of each queue, and the health that follows
from them. Owns also whether the worker has started, or has begun to stop. No poll waits longer than
`LONGEST_POLL_SECONDS`, so a longer silence is a fault.

The one rule: a worker that does not get answers is not healthy. The age of the last answer counts,
not that a task runs.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Literal

from deferrable._codec.refusals import short_repr
from deferrable.aio.queue import Queue
from deferrable.pause import Pause

__all__ = ["LONGEST_POLL_SECONDS", "SILENCE_SECONDS", "Health", "QueueHealth"]

LONGEST_POLL_SECONDS = 25.0
"""No poll waits longer for a first item. SQS waits for 20 s at most."""
SILENCE_SECONDS = 2 * LONGEST_POLL_SECONDS
"""After this time without an answer, a poll counts as failed."""


@dataclass(frozen=True, slots=True)
class QueueHealth:
    """The health of one queue.

    Attributes:
        is_healthy: the broker answers.
        poll_age_seconds: how long a poll has waited for an answer; 0 while every slot is taken,
            because no poll runs then.
        touch_age_seconds: since the held items were renewed, or there were none to renew.
        error: the error of the last poll or touch, if it failed.
        pause: the pause of the queue that the last poll has seen; None: it was not paused. A
            worker of a paused queue is healthy.
    """

    is_healthy: bool
    poll_age_seconds: float
    touch_age_seconds: float
    error: str | None
    pause: Pause | None = None


class _Record:
    __slots__ = (
        "has_answered",
        "is_polled",
        "poll_error",
        "poll_time",
        "touch_error",
        "touch_time",
    )

    def __init__(self, now: float) -> None:
        self.is_polled = True
        self.has_answered = False
        self.poll_time = self.touch_time = now
        self.poll_error: str | None = None
        self.touch_error: str | None = None


class Health:
    """The health of one worker. Any thread may read it."""

    def __init__(self, queues: Iterable[Queue]) -> None:
        self._records = {queue: _Record(queue.clock.monotonic()) for queue in queues}
        self._lock = threading.Lock()
        self._state: Literal["starting", "working", "stopping"] = "starting"

    def note_start(self) -> None:
        """The worker has entered its lifespans, and polls."""
        if self._state == "starting":
            self._state = "working"

    def note_stop(self) -> None:
        """The worker was asked to stop."""
        self._state = "stopping"

    def note_pause(self, queue: Queue) -> None:
        """There is no room for items of `queue`, so it is not polled."""
        with self._lock:
            self._records[queue].is_polled = False

    def note_poll_start(self, queue: Queue) -> None:
        """The queue is polled."""
        now, record = queue.clock.monotonic(), self._records[queue]
        with self._lock:
            if not record.is_polled:
                record.is_polled, record.poll_time = True, now

    def note_poll(self, queue: Queue, error: Exception | None) -> None:
        """A poll was answered, or failed with `error`."""
        now, record = queue.clock.monotonic(), self._records[queue]
        with self._lock:
            record.poll_error = _text_of(error)
            if error is None:
                record.poll_time, record.has_answered = now, True

    def note_touch(self, queue: Queue, error: Exception | None) -> None:
        """Every held item was renewed, or there was none; or none could be, because of `error`."""
        now, record = queue.clock.monotonic(), self._records[queue]
        with self._lock:
            record.touch_error = _text_of(error)
            if error is None:
                record.touch_time = now

    @property
    def is_healthy(self) -> bool:
        """Whether every queue is healthy."""
        return all(each.is_healthy for each in self.queues().values())

    @property
    def is_stopping(self) -> bool:
        """Whether the worker was asked to stop; also after its end."""
        return self._state == "stopping"

    @property
    def is_ready(self) -> bool:
        """Whether the worker takes items; see `obstacles`."""
        return not self.obstacles()

    def obstacles(self) -> list[str]:
        """Why the worker takes no items: one line for each reason; empty: it takes them.

        It has not started, or it stops, a broker does not answer, or a queue is paused. A worker
        whose slots are all taken is ready.
        """
        if self._state != "working":
            return [f"the worker is {self._state}"]
        found = []
        with self._lock:
            for name, queue, record in self._named():
                seen = _of(queue, record)
                if not seen.is_healthy:
                    found.append(f"{name}: {seen.error or 'the broker does not answer'}")
                elif record.is_polled and not record.has_answered:
                    found.append(f"{name}: the first poll is not answered yet")
                elif seen.pause is not None:
                    reason = (
                        short_repr(seen.pause.reason) if seen.pause.reason else "no reason given"
                    )
                    found.append(f"{name}: paused ({reason})")
        return found

    def queues(self) -> Mapping[str, QueueHealth]:
        """The health of each queue, by its description; a second one of the same gets a number."""
        with self._lock:
            return {name: _of(queue, record) for name, queue, record in self._named()}

    def _named(self) -> Iterator[tuple[str, Queue, _Record]]:
        names: set[str] = set()
        for queue, record in self._records.items():
            name = repr(queue)
            places = count(2)
            while name in names:
                name = f"{queue!r} ({next(places)})"
            names.add(name)
            yield name, queue, record


def _of(queue: Queue, record: _Record) -> QueueHealth:
    now = queue.clock.monotonic()
    poll_age_seconds = now - record.poll_time if record.is_polled else 0.0
    touch_age_seconds = now - record.touch_time
    error = record.poll_error or record.touch_error
    is_heard = poll_age_seconds < SILENCE_SECONDS and touch_age_seconds < queue.lease_seconds
    is_healthy = error is None and is_heard
    return QueueHealth(is_healthy, poll_age_seconds, touch_age_seconds, error, queue.seen_pause)


def _text_of(error: Exception | None) -> str | None:
    return None if error is None else str(error) or type(error).__name__
