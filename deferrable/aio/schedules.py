"""Stores of schedules: the contract, and the store in memory.

Owns what a store promises to the workers that propose ticks. The decisions are in
`deferrable._ticks`.

The one rule: to read what is kept of a schedule, decide and write it back is one step, by the
store's own clock. Of a hundred workers that propose one tick, one is admitted. Where the store can
also push to the queue, admission and push are one step.
"""

import threading
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from deferrable._fork import on_fork
from deferrable._ticks import (
    Plan,
    Proposal,
    Record,
    Verdict,
    admit,
    confirm,
    is_fresh,
    is_superseded,
    renew,
)
from deferrable.aio._contract.closing import Closing
from deferrable.aio.clock import Clock, SystemClock
from deferrable.aio.queue import Push, Queue

__all__ = [
    "Admission",
    "InMemoryScheduleStore",
    "JoinedTick",
    "Plan",
    "Proposal",
    "ScheduleStore",
    "Standing",
]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a schedule is.

    Attributes:
        last_time: its last tick that was admitted, or the moment since which it is known.
        is_superseded: newer workers have another version of it.
        now: the store's moment.
    """

    last_time: float
    is_superseded: bool
    now: float


@dataclass(frozen=True, slots=True)
class Admission:
    """The answer to a proposal.

    Attributes:
        verdict: ``admitted``, or why not; see `deferrable._ticks.Verdict`.
        last_time: the last tick that was admitted, this one included.
        now: the store's moment.
    """

    verdict: Verdict
    last_time: float
    now: float


class JoinedTick(Protocol):
    """Admits a tick and pushes its item in one atomic step; see `ScheduleStore.joined_with`."""

    async def __call__(self, name: str, proposal: Proposal, push: Push) -> Admission:
        """Push if the tick is admitted. Do not confirm afterwards.

        Args:
            name: of the queue.

        Raises:
            BackendError: it was not pushed. `BackendUnavailable`: it may or may not have been
                admitted and pushed, both or neither.
        """
        ...


class ScheduleStore(Closing):
    """Keeps the last tick of each schedule. Implement it to keep them elsewhere.

    An implementation that can run Python under a lock calls the functions of the same names in
    `deferrable._ticks`. The methods may be called from several event loops at once.
    """

    @abstractmethod
    async def renew(self, name: str, plans: Sequence[Plan], *, is_start: bool) -> list[Standing]:
        """Note that a worker has these schedules, and return where each is.

        Forget those that no worker has had for `KEPT_SECONDS`.

        Args:
            name: of the queue.
            is_start: the worker has just started, so its versions replace others.

        Raises:
            BackendError: the store could not be reached.
        """

    @abstractmethod
    async def reserve(self, name: str, proposal: Proposal, token: str) -> Admission:
        """Admit a tick if only its push is missing, and reserve it for `RESERVED_SECONDS`.

        Asked again with the same token it must give the same answer.

        Args:
            name: of the queue.
            token: names the reservation.

        Raises:
            BackendError: it may or may not be reserved.
        """

    @abstractmethod
    async def confirm(self, name: str, proposal: Proposal, token: str) -> None:
        """The reserved tick was pushed: it is the last one now.

        It must do nothing if another worker has reserved it meanwhile.

        Raises:
            BackendError: the reservation may end, and the tick may be pushed again.
        """

    def joined_with(self, queue: Queue) -> JoinedTick | None:
        """What admits and pushes to `queue` in one step; None: that takes two steps."""
        return None

    async def close(self) -> None:
        """Close what the store has opened. May be called twice."""
        return


class InMemoryScheduleStore(ScheduleStore):
    """Keeps schedules in this process, for tests and for one worker alone.

    Args:
        clock: the source of time; None: the machine's.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock: Clock = SystemClock() if clock is None else clock
        self._records: dict[tuple[str, str], Record] = {}
        self._lock = threading.Lock()
        on_fork(self._reset_after_fork)

    def __repr__(self) -> str:
        return "<InMemoryScheduleStore>"

    def _reset_after_fork(self) -> None:
        self._lock = threading.Lock()

    async def renew(self, name: str, plans: Sequence[Plan], *, is_start: bool) -> list[Standing]:
        standings = list[Standing]()
        with self._lock:
            now = self._clock.time()
            for plan in plans:
                old = self._records.get((name, plan.name))
                record = renew(old, now, plan.version, is_start=is_start)
                self._records[name, plan.name] = record
                gone = is_superseded(record, plan.version)
                standings.append(Standing(record.last_time, gone, now))
            self._records = {
                key: each for key, each in self._records.items() if is_fresh(each, now)
            }
        return standings

    async def reserve(self, name: str, proposal: Proposal, token: str) -> Admission:
        with self._lock:
            return self._admit(name, proposal, token)

    async def confirm(self, name: str, proposal: Proposal, token: str) -> None:
        key = name, proposal.name
        with self._lock:
            record = confirm(self._records.get(key), proposal.tick_time, token)
            if record is not None:
                self._records[key] = record

    def _admit(self, name: str, proposal: Proposal, token: str | None) -> Admission:
        key, now = (name, proposal.name), self._clock.time()
        verdict, record = admit(self._records.get(key), now, proposal, token)
        self._records[key] = record
        return Admission(verdict, record.last_time, now)
