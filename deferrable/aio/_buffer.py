"""The items that a worker holds and has no slot for yet.

Owns their order, their leases while they wait, and how they are given back. It may not know
attempts, nor when a worker pops or stops.

The one rule: whatever is added is taken out to be started, or given back, or lost to its lease; and
is kept until one of these. What was prefetched for quick jobs does not wait behind long ones for
longer than `LONGEST_WAIT_SECONDS`, as another worker may be idle.
"""

import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from deferrable.aio._slots import Slots
from deferrable.aio._worker_door import Surroundings
from deferrable.aio.clock import Timer
from deferrable.aio.envelope import Envelope
from deferrable.aio.instance import Instance
from deferrable.aio.queue import Queue
from deferrable.item import Item

__all__ = ["Buffer", "Buffered"]

_logger = logging.getLogger("deferrable")

LONGEST_WAIT_SECONDS = 1.0
"""Quick jobs do not reach it, but for a pause of the process; and others wait no longer."""


@dataclass(eq=False, slots=True)
class Buffered:
    """An item that waits for a slot."""

    instance: Instance
    queue: Queue
    envelope: Envelope
    item: Item


class Buffer:
    """First in, first out; how many there are, the slots count.

    Args:
        slots: where they are counted.
        surroundings: whose keeper keeps them.
        on_room: called when there may be room for more.
        do_besides: does something in a task that the worker waits for at its end.
    """

    def __init__(
        self,
        slots: Slots,
        surroundings: Surroundings,
        on_room: Callable[[], None],
        do_besides: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._slots = slots
        self._surroundings = surroundings
        self._keeper = surroundings.keeper
        self._on_room = on_room
        self._do_besides = do_besides
        self._timer: Timer | None = None
        self._waiting: deque[Buffered] = deque()

    def add(self, instance: Instance, queue: Queue, envelope: Envelope, item: Item) -> None:
        buffered = Buffered(instance, queue, envelope, item)
        self._keeper.keep(queue, envelope, partial(self._drop, buffered))
        self._waiting.append(buffered)
        self._slots.buffered += 1

    def take_out(self) -> Buffered:
        """The one that has waited longest, to be started. Its lease is kept until it is let go."""
        self._slots.buffered -= 1
        return self._waiting.popleft()

    def watch(self) -> None:
        """Have what is there be given back if it is not started in time."""
        if self._timer is None and self._surroundings.is_open:
            self._look()

    def close(self) -> None:
        """Give nothing back any more unless asked to."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        first = next((each for each in self._waiting if _may_go_back(each)), None)
        if first is None:
            return
        clock = first.queue.clock
        rest_seconds = first.envelope.pop_time + LONGEST_WAIT_SECONDS - clock.monotonic()
        if rest_seconds > 0 and not self._slots.has_stalled:
            self._timer = clock.call_later(rest_seconds, self._look)
        else:
            self._slots.has_stalled = True
            self._do_besides(self.give_back(_may_go_back))

    async def give_back(self, which: "Callable[[Buffered], bool]" = lambda _: True) -> None:
        """Release what is there, in its old order, while the worker has patience.

        It counts as being settled meanwhile. What was not released when this is cancelled is there
        again.
        """
        given = [each for each in self._waiting if which(each)]
        self._waiting = deque(each for each in self._waiting if not which(each))
        self._slots.buffered -= len(given)
        self._slots.settling += len(given)
        try:
            await self._release(given)
        except BaseException:
            kept = [each for each in given if _is_to_be_returned(each)]
            self._waiting.extendleft(reversed(kept))
            self._slots.buffered += len(kept)
            raise
        finally:
            self._slots.settling -= len(given)
            self._on_room()

    async def _release(self, waiting: list[Buffered]) -> None:
        failures, patience, refused = 0, self._surroundings.patience, waiting
        try:
            while waiting:
                for queue, envelopes in _by_queue(waiting).items():
                    await self._release_once(queue, envelopes)
                for each in waiting:
                    if each.envelope.settlement != "open":
                        self._keeper.let_go(each.queue, each.envelope)
                waiting = [each for each in waiting if _is_to_be_returned(each)]
                if waiting and patience.is_over:
                    _logger.warning("%d items come back only after their leases", len(waiting))
                    return
                if waiting:
                    failures += 1
                    await patience.pause(waiting[0].queue.clock, failures)
        finally:
            for each in refused:
                patience.forget(each.queue, each.envelope)

    async def _release_once(self, queue: Queue, envelopes: Sequence[Envelope]) -> None:
        outcomes: Sequence[Exception | None]
        try:
            outcomes = await queue.release_each(envelopes)
        except Exception as error:  # an adapter's own mistake must not end it either
            outcomes = [error] * len(envelopes)
        for envelope, outcome in zip(envelopes, outcomes, strict=True):
            if outcome is not None and envelope.settlement == "open":
                self._surroundings.patience.note_refusal(queue, envelope, outcome)

    def _drop(self, buffered: Buffered) -> None:
        """Its lease was lost while it waited."""
        if buffered in self._waiting:
            self._waiting.remove(buffered)
            self._slots.buffered -= 1
            self._on_room()


def _may_go_back(each: Buffered) -> bool:
    return not each.queue.COUNTS_RELEASES


def _by_queue(waiting: Iterable[Buffered]) -> dict[Queue, list[Envelope]]:
    envelopes: dict[Queue, list[Envelope]] = {}
    for each in waiting:
        envelopes.setdefault(each.queue, []).append(each.envelope)
    return envelopes


def _is_to_be_returned(each: Buffered) -> bool:
    is_ours = each.queue.clock.monotonic() < each.envelope.lease_end_time
    return is_ours and each.envelope.settlement == "open"
