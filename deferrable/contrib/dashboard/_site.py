"""The instances that a dashboard shows, and how it reads their queues.

Owns the names of the instances, one task that reads all queues again and again, and the histories.
However many people look, each queue is read once for all of them.

The rule: a broker that is paid by requests is read at most once in `paid_interval_seconds`.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from deferrable import BackendError
from deferrable.aio import Deferrable
from deferrable.contrib._queues import read_queue
from deferrable.contrib.dashboard._counting import Counter
from deferrable.contrib.dashboard._history import History
from deferrable.item import queue_name
from deferrable.worker_reports import FORGOTTEN_SECONDS, REPORT_SECONDS, WorkerReport

__all__ = ["Settings", "Shown", "Site", "shown_instances"]

_logger = logging.getLogger("deferrable.dashboard")

_UNWATCHED_SECONDS = 10.0
"""How often queues are read while nobody looks: once for each slot of the history."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user wants.

    Attributes:
        allow_actions: pages may change queues.
        token: what a visitor must know; None: the user's own authentication decides.
        allowed_hosts: the names by which it may be addressed; None: any.
        interval_seconds: between two readings while somebody looks.
        paid_interval_seconds: the same, of a broker that is paid by requests.
        user_of: who made a request, for the log of actions; None: the address.
    """

    allow_actions: bool = False
    token: str | None = None
    allowed_hosts: tuple[str, ...] | None = None
    interval_seconds: float = 3.0
    paid_interval_seconds: float = 60.0
    user_of: Callable[[Any], str] | None = None


class Shown:
    """One instance, its name on pages, and what is known of its queue."""

    def __init__(self, name: str, instance: Deferrable, counter: Counter | None) -> None:
        self.name = name
        self.instance = instance
        self.history = History()
        self.counter = counter
        self.next_read_time = 0.0
        self.reports: Sequence[WorkerReport] = ()
        self.next_reports_time = 0.0
        self._reports_time = 0.0

    @property
    def can_look(self) -> bool:
        """Whether calls can be shown without taking them."""
        return self.instance.backend.queue.SUPPORTS_INSPECTION

    @property
    def can_look_at_errors(self) -> bool:
        """Whether errors can be shown without taking them."""
        return self.instance.backend.error_queue.SUPPORTS_PEEK

    @property
    def can_pause(self) -> bool:
        """Whether the queue can be paused."""
        return self.instance.backend.queue.SUPPORTS_PAUSE

    @property
    def workers(self) -> Sequence[WorkerReport]:
        """The workers that have reported a short time ago, by the clock of the broker.

        Nothing here depends on the clock of this machine, which may be another one.
        """
        is_old = time.monotonic() >= self._reports_time + FORGOTTEN_SECONDS
        return () if is_old else self.reports

    async def read_reports(self) -> None:
        """Ask the broker which workers have reported, unless it was asked a short time ago."""
        now = time.monotonic()
        if not self.knows_workers or now < self.next_reports_time:
            return
        self.next_reports_time = now + REPORT_SECONDS / 2
        with suppress(BackendError):
            self.reports = await self.instance.backend.queue.find_workers()
            self._reports_time = now

    @property
    def knows_workers(self) -> bool:
        """Whether workers report to the queue's store."""
        return self.instance.backend.queue.SUPPORTS_WORKERS

    @property
    def job_names(self) -> list[str]:
        """The registered jobs, and those that were counted."""
        counted = () if self.counter is None else self.counter.jobs
        return sorted({*self.instance.registry, *counted})


class Site:
    """All instances of a dashboard, and the task that reads their queues."""

    def __init__(self, shown: Iterable[Shown], settings: Settings) -> None:
        self.shown = {each.name: each for each in shown}
        self.settings = settings
        self.watchers = 0
        self._reading: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._woken = asyncio.Event()

    def now(self) -> float:
        """The moment, by the clock of the instances."""
        return next(iter(self.shown.values())).instance.clock.time()

    async def start(self) -> None:
        """Have the queues read from now on, on this loop. The first readings are there then."""
        loop = asyncio.get_running_loop()
        if self._loop is loop and self._reading is not None and not self._reading.done():
            return
        # A mounted application is not told when the server starts, so any request may be first.
        self._loop, self._changed, self._woken = loop, asyncio.Event(), asyncio.Event()
        self._reading = loop.create_task(self._read_forever(), name="deferrable dashboard")
        await self.next_reading()

    async def stop(self) -> None:
        """Read no more."""
        task, self._reading = self._reading, None
        if task is not None and self._loop is asyncio.get_running_loop():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def next_reading(self) -> None:
        """Wait until queues were read again."""
        await self._changed.wait()

    def wake(self) -> None:
        """Read the free queues soon: somebody has come, or has changed something."""
        self._woken.set()

    async def _read_forever(self) -> None:
        while True:
            try:
                await self.read_due()
            except Exception:
                _logger.exception("reading the queues failed; it goes on")
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
            pause = self.settings.interval_seconds if self.watchers else _UNWATCHED_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._woken.wait()
                # Many wishes in a row are one.
                await asyncio.sleep(min(0.2, self.settings.interval_seconds))
            self._woken.clear()

    async def read_due(self) -> None:
        """Read each queue that may be read now."""
        now = time.monotonic()
        due = [each for each in self.shown.values() if each.next_read_time <= now]
        await asyncio.gather(*map(self._read, due))

    async def refresh(self, shown: Shown) -> None:
        """Read a queue now that was changed from here, unless it is paid by requests."""
        if shown.next_read_time <= time.monotonic():
            await self._read(shown)
            self.wake()

    async def _read(self, shown: Shown) -> None:
        history, counter = shown.history, shown.counter
        reading = await read_queue(shown.instance, with_memory=False)
        is_paid = reading.is_paid or (history.last is not None and history.last.is_paid)
        pause = self.settings.paid_interval_seconds if is_paid else 0.0
        shown.next_read_time = time.monotonic() + pause
        await shown.read_reports()  # workers report more rarely than queues are read
        if counter is None:
            history.add(reading)
        else:
            history.add(reading, counter.counts)


def shown_instances(
    instances: "Mapping[str, Any] | Sequence[Any] | Any",
    *,
    counts_calls: bool,
) -> list[Shown]:
    """The instances with their names.

    Raises:
        TypeError: one of them is no instance.
        ValueError: two have the same name, or there is none.
    """
    if isinstance(instances, Mapping):
        pairs = [(str(name), _core_of(each)) for name, each in instances.items()]
    else:
        several = instances if isinstance(instances, list | tuple) else [instances]
        cores = [_core_of(each) for each in several]
        pairs = [(queue_name(each.backend.group), each) for each in cores]
    names = [name for name, _ in pairs]
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"the dashboard needs one or more instances with different names, got {names}; give a "
            "dict: app({'shop': shop, 'mails': mails})"
        )
    return [_shown(name, core, counts_calls) for name, core in pairs]


def _shown(name: str, core: Deferrable, counts_calls: bool) -> Shown:
    if not counts_calls:
        return Shown(name, core, None)
    counter = Counter(core.clock.time)
    core.register_event_consumer(counter)
    core.register_middleware(counter)
    return Shown(name, core, counter)


def _core_of(instance: Any) -> Deferrable:
    """The instance for code that awaits, of an instance of either API."""
    core = getattr(instance, "_core", instance)
    if not isinstance(core, Deferrable):
        raise TypeError(
            f"the dashboard shows instances of Deferrable, got {type(instance).__name__}; write "
            "app({'shop': shop})"
        )
    return core
