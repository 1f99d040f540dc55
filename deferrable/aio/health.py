"""Whether a worker can do its work.

Owns the moments of the last successful poll and touch of each queue, and what they come to. It may
not know how polls are made. A worker that is alive but deaf is not healthy: what counts is the age
of the last answer.
"""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deferrable.aio.queue import Queue

__all__ = ["Health", "QueueHealth"]

SILENT_LEASES = 1.0
"""After so many leases without an answer, what is held is lost: the worker is not healthy."""
LEAST_SILENCE_SECONDS = 30.0
"""A poll may wait for so long on an empty queue (20 s on SQS) without telling anything."""


@dataclass(frozen=True, slots=True)
class QueueHealth:
    """One queue's.

    Attributes:
        is_healthy: the broker answered recently.
        poll_age_seconds: since a poll was answered, or is under way on a connection that works.
        touch_age_seconds: since a touch was answered; None: there was nothing to touch yet.
        error: what the last poll failed with, if it did.
    """

    is_healthy: bool
    poll_age_seconds: float
    touch_age_seconds: float | None
    error: str | None


class _Record:
    __slots__ = ("error", "poll_time", "touch_time")

    def __init__(self, now: float) -> None:
        self.poll_time = now
        self.touch_time: float | None = None
        self.error: str | None = None


class Health:
    """The health of one worker; it may be asked from any thread."""

    def __init__(self, queues: Iterable[Queue]) -> None:
        self._records = {queue: _Record(queue.clock.time()) for queue in queues}
        self._lock = threading.Lock()

    def note_poll(self, queue: Queue) -> None:
        """A poll was answered."""
        record = self._records[queue]
        record.poll_time, record.error = queue.clock.time(), None

    def note_failure(self, queue: Queue, error: Exception) -> None:
        """A poll failed."""
        self._records[queue].error = str(error)

    def note_touch(self, queue: Queue) -> None:
        """A touch was answered."""
        self._records[queue].touch_time = queue.clock.time()

    @property
    def is_healthy(self) -> bool:
        """Whether every queue is."""
        return all(each.is_healthy for each in self.queues().values())

    def queues(self) -> Mapping[str, QueueHealth]:
        """The health of each queue, by its description."""
        return {repr(queue): self._of(queue, record) for queue, record in self._records.items()}

    def _of(self, queue: Queue, record: _Record) -> QueueHealth:
        now = queue.clock.time()
        silence_seconds = max(LEAST_SILENCE_SECONDS, SILENT_LEASES * queue.lease_seconds)
        poll_age_seconds = now - record.poll_time
        touch_age_seconds = None if record.touch_time is None else now - record.touch_time
        is_healthy = record.error is None and poll_age_seconds < silence_seconds
        return QueueHealth(is_healthy, poll_age_seconds, touch_age_seconds, record.error)
