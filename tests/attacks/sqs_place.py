"""SQS as a place: a moto of this process whose time an attack moves.

Owns that server, its time, and how consumers of one queue are made there. What it shows is true of
a server that finds all that is there at once; SQS itself may answer with less. What moto needs is
imported late, as it takes a second.
"""

import math
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from redis_server import unique_group
from sqs_server import KEYS, SQSServer, moto

from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.sqs import SQSBackendFactory
from deferrable.testing import MovingClock

__all__ = ["MovedSQS", "SQSPlace", "start_moved_sqs"]

MOST_RECEIVES = 1000
"""As many as can be set: what is delivered again and again is not the matter here."""


class MovedSQS:
    """A server, and its time: that of `clock`, but never the same twice.

    moto has what is hidden for 0 seconds come back only after that very moment.
    """

    def __init__(self, server: SQSServer) -> None:
        self.server = server
        self.stand_at(MovingClock())

    def stand_at(self, clock: MovingClock) -> None:
        self._clock = clock
        self._last = 0.0

    def milliseconds(self) -> float:
        self._last = max(self._clock.time() * 1000, math.nextafter(self._last, math.inf))
        return self._last


@contextmanager
def start_moved_sqs() -> Iterator[MovedSQS]:
    """A server of this process; until the end of the block there is one time for all of them."""
    with moto() as url, closing(SQSServer(url, KEYS)) as server:
        from moto.sqs import models

        moved = MovedSQS(server)
        before: Any = models.unix_time_millis
        models.unix_time_millis = moved.milliseconds  # type: ignore[assignment]
        try:
            yield moved
        finally:
            models.unix_time_millis = before


class SQSPlace:
    """Its own group; the server uses the time of the place that was made last."""

    wait_seconds = 1.0
    pause_seconds = 0.0
    late_seconds = 1.0
    has_atomic_replace = False
    fences_stale_holders = False
    flushes_at_will = False
    refuses_pushes = False

    def __init__(self, sqs: MovedSQS, lease_seconds: float) -> None:
        self.clock = MovingClock(time.time())  # moto forgets what it takes for days old
        sqs.stand_at(self.clock)
        self._connection = sqs.server.client()
        self._group = unique_group("attacked-")
        self._lease_seconds = lease_seconds

    def consumer(self) -> Backend:
        factory = SQSBackendFactory(
            self._connection,
            visibility_timeout=self._lease_seconds,
            wait_time=0,
            max_receive_count=MOST_RECEIVES,
            clock=self.clock,
        )
        return factory.create_backend_for_group(self._group)

    def set_wait(self, consumer: Backend, seconds: float) -> None:
        consumer.queue._receiver._wait_seconds = int(seconds)  # type: ignore[attr-defined]

    def begin_trouble(self) -> None:
        """Nothing but the strikes happens to it."""

    def end_trouble(self) -> None:
        """There was none."""
