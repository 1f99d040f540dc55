"""The state of queues over time, for exporters, autoscalers and dashboards.

Owns one reading of a queue, and the rates of the last minute over several queues. What a dashboard
keeps of one queue for an hour is in `deferrable.contrib.dashboard._history`. The rule: what is not
known is None. An unreachable broker is an error, never an empty queue, or an autoscaler would stop
the workers during an outage.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from deferrable import BackendError, Clock
from deferrable.item import queue_name
from deferrable.pause import Pause

__all__ = [
    "LastMinute",
    "QueueReading",
    "ReadableInstance",
    "WorkerCounts",
    "read_queue",
    "read_queues",
]

READ_SECONDS = 10.0
"""A queue that does not answer within this time is not known."""


class _Queue(Protocol):
    SUPPORTS_PAUSE: ClassVar[bool]

    def find_pause(self) -> Awaitable[Pause | None]: ...
    def stats(self) -> Awaitable[Mapping[str, float]]: ...
    def server_memory(self) -> Awaitable[Mapping[str, int]]: ...


class _Backend(Protocol):
    @property
    def group(self) -> str | None: ...
    @property
    def queue(self) -> _Queue: ...
    @property
    def error_queue(self) -> _Queue: ...


class ReadableInstance(Protocol):
    """What is needed of an instance of `deferrable.aio`."""

    @property
    def backend(self) -> _Backend: ...
    @property
    def clock(self) -> Clock: ...


@dataclass(frozen=True, slots=True)
class QueueReading:
    """The state of one queue at one moment.

    Attributes:
        name: of the queue.
        time: when it was read, in epoch seconds.
        items: how many are ``available``, ``in_flight``, ``delayed`` and in ``errors``; a number
            that the broker does not know is absent.
        oldest_age_seconds: how long ago the item that is popped next was pushed; 0 if nothing is
            available; None: the broker does not know.
        requests: what this process has asked of a broker that is paid by requests; None: others.
        memory: ``used_bytes`` and ``max_bytes`` of the server; empty if it does not say.
        old_held: how many items consumers of the Python 2 library hold.
        error: why nothing is known.
        is_paused: None: the broker does not know pauses.
        pause_reason: why it is paused; empty if it is not.
    """

    name: str
    time: float
    items: Mapping[str, int] = field(default_factory=dict)
    oldest_age_seconds: float | None = None
    requests: int | None = None
    memory: Mapping[str, int] = field(default_factory=dict)
    old_held: int = 0
    error: str | None = None
    is_paused: bool | None = None
    pause_reason: str = ""

    @property
    def is_paid(self) -> bool:
        """Whether the broker takes money for each request."""
        return self.requests is not None

    @property
    def size(self) -> int | None:
        """All items that are not failed; None: unknown."""
        names = ("available", "in_flight", "delayed")
        known = [self.items[name] for name in names if name in self.items]
        return sum(known) if known else None


async def read_queue(instance: ReadableInstance, *, with_memory: bool = True) -> QueueReading:
    """Read the queue of an instance; an error of the broker is a part of the reading."""
    backend, now = instance.backend, instance.clock.time()
    name = queue_name(backend.group)
    try:
        async with asyncio.timeout(READ_SECONDS):
            waiting, failed = await asyncio.gather(
                backend.queue.stats(), backend.error_queue.stats()
            )
            reason = await _why_paused(backend.queue) if "paused_seconds" in waiting else None
            memory = await _memory(backend.queue) if with_memory else {}
    except TimeoutError:
        return QueueReading(name, now, error=f"no answer within {READ_SECONDS:g} s")
    except BackendError as error:
        return QueueReading(name, now, error=str(error))
    states = ("available", "in_flight", "delayed")
    items = {state: int(waiting[state]) for state in states if state in waiting}
    items["errors"] = sum(int(failed.get(state, 0)) for state in states)
    oldest = waiting.get("oldest_age_seconds", None if items.get("available") else 0.0)
    requests = waiting.get("requests")
    return QueueReading(
        name,
        now,
        items,
        oldest,
        None if requests is None else int(requests),
        memory,
        int(waiting.get("held_by_old_consumers", 0)),
        is_paused=reason is not None if backend.queue.SUPPORTS_PAUSE else None,
        pause_reason=reason or "",
    )


async def _why_paused(queue: _Queue) -> str | None:
    """Why a queue is paused; None: the pause has just ended."""
    try:
        pause = await queue.find_pause()
    except BackendError:  # the counts are known, and say that it is paused
        return "its reason cannot be read"
    return None if pause is None else pause.reason or "no reason given"


async def _memory(queue: _Queue) -> Mapping[str, int]:
    try:
        return await queue.server_memory()
    except BackendError:  # a user of Redis may be denied to ask
        return {}


async def read_queues(instances: Iterable[ReadableInstance]) -> list[QueueReading]:
    """Read many queues at once."""
    return list(await asyncio.gather(*map(read_queue, instances)))


@dataclass(frozen=True, slots=True)
class WorkerCounts:
    """What all asked workers report together.

    Attributes:
        ended: how many calls they have ended; it only grows.
        slots: how many jobs they can run at once.
        running: how many run.
    """

    ended: float
    slots: float
    running: float


@dataclass(frozen=True, slots=True)
class _Moment:
    time: float
    size: int | None
    ended: float | None


class LastMinute:
    """Readings of a minute, and the rates that follow.

    Args:
        window_seconds: how far back the rates look.
    """

    def __init__(self, window_seconds: float = 60.0) -> None:
        self._window_seconds = window_seconds
        self._moments: deque[_Moment] = deque()

    def add(self, readings: Sequence[QueueReading], workers: WorkerCounts | None) -> None:
        """Note what was read together."""
        sizes = [each.size for each in readings]
        known = [size for size in sizes if size is not None]
        now = max((each.time for each in readings), default=0.0)
        size = sum(known) if len(known) == len(sizes) else None
        self._moments.append(_Moment(now, size, None if workers is None else workers.ended))
        # One moment before the window stays, so that the rates cover all of it.
        while len(self._moments) > 2 and self._moments[1].time <= now - self._window_seconds:
            self._moments.popleft()

    @property
    def change_per_second(self) -> float | None:
        """How fast the number of items grows; negative: it shrinks; None: unknown."""
        first, last = self._ends("size")
        if first is None or last is None or first.size is None or last.size is None:
            return None
        return (last.size - first.size) / (last.time - first.time)

    @property
    def completions_per_second(self) -> float | None:
        """How many calls end each second; None: no worker was asked."""
        first, last = self._ends("ended")
        if first is None or last is None or first.ended is None or last.ended is None:
            return None
        return max(0.0, last.ended - first.ended) / (last.time - first.time)

    @property
    def arrivals_per_second(self) -> float | None:
        """How many calls are pushed each second: what ended, and what was added; None: unknown."""
        change, ended = self.change_per_second, self.completions_per_second
        return None if change is None or ended is None else max(0.0, change + ended)

    def _ends(self, name: str) -> tuple[_Moment | None, _Moment | None]:
        """The first and the last moment at which a number was known, if they differ."""
        known = [each for each in self._moments if getattr(each, name) is not None]
        if len(known) < 2 or known[-1].time <= known[0].time:
            return None, None
        return known[0], known[-1]
