"""The queue of a simulation: in memory, with the faults that strike its calls.

Owns the faults between a job and the broker: of deliveries, pushes and settlements.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from deferrable._codec.json import dump
from deferrable.aio._contract.popping import Popped
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Push, Queue, Release
from deferrable.errors import BackendUnavailable
from deferrable.testing.faults import FaultyQueue
from deferrable.testing.simulation._attempts import Attempts

__all__ = ["WatchedQueue"]

_LATE_SECONDS = 60.0
"""A late delivery comes after everything else that is due."""

_UNAVAILABLE = "simulated: the broker did not answer"


class WatchedQueue(FaultyQueue):
    """The queue of an instance in memory, with the faults of the run."""

    def __init__(self, queue: Queue, attempts: Attempts) -> None:
        super().__init__(queue)
        self._attempts = attempts

    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        while True:
            popped = await super()._pop_batch(count)
            number = len(self._attempts)
            if not popped or not self._attempts.take("late delivery", number):
                break
            late = [Release(envelope, _LATE_SECONDS) for envelope, _ in popped]
            await self._queue._release_batch(late)
        if popped and self._attempts.take("second delivery", number):
            for _, item in popped:
                await self._queue._push_batch([Push(item, dump(item), 0)])
        return popped

    async def _push_batch(self, pushes: Sequence[Push]) -> Sequence[Exception | None]:
        outcomes: list[Exception | None] = []
        for push in pushes:
            attempt = self._attempts.running
            fault = None if attempt is None else attempt.choose_for_push()
            answer: Exception | None = BackendUnavailable(_UNAVAILABLE)
            if fault != "refused push":
                (pushed,) = await super()._push_batch([push])
                answer = pushed if fault is None else answer
            outcomes.append(answer)
        return outcomes

    async def _complete_batch(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        complete = super()._complete_batch  # outside of a comprehension, where Python 3.11 has none
        return [await self._settle(each, complete, [each]) for each in envelopes]

    async def _release_batch(self, releases: Sequence[Release]) -> Sequence[Exception | None]:
        release = super()._release_batch
        return [await self._settle(each.envelope, release, [each]) for each in releases]

    async def _replace(self, envelope: Envelope, push: Push, to: Queue) -> None:
        async def replace(entries: Sequence[Push]) -> Sequence[Exception | None]:
            await super(WatchedQueue, self)._replace(envelope, push, to)
            return [None]

        error = await self._settle(envelope, replace, [push])
        if error is not None:
            raise error

    async def _settle(
        self,
        envelope: Envelope,
        settle: Callable[[Sequence[Any]], Awaitable[Sequence[Exception | None]]],
        entries: Sequence[Any],
    ) -> Exception | None:
        attempt = self._attempts.attempt_at(envelope)
        fault = None if attempt is None else attempt.choose_for_settlement()
        if fault == "refused settlement":
            self._attempts.lose(envelope)
            return BackendUnavailable(_UNAVAILABLE)
        (answer,) = await settle(entries)
        return BackendUnavailable(_UNAVAILABLE) if fault == "lost answer" else answer
