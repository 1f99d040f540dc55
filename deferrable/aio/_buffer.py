"""The items that a worker holds and has no slot for yet.

Owns their order, their leases while they wait, and how they are given back. It may not know
attempts, nor when a worker pops or stops.

The one rule: whatever is added is taken out to be started, or given back, or lost to its lease; and
is kept until one of these.
"""

import logging
import random
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from deferrable.aio._polling import reconnect_seconds
from deferrable.aio._slots import Slots
from deferrable.aio._worker_door import Surroundings
from deferrable.aio.clock import sleep
from deferrable.aio.envelope import Envelope
from deferrable.aio.instance import Instance
from deferrable.aio.queue import Queue
from deferrable.item import Item

__all__ = ["Buffer", "Buffered"]

_logger = logging.getLogger("deferrable")


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
        on_room: called when one was lost.
    """

    def __init__(
        self, slots: Slots, surroundings: Surroundings, on_room: Callable[[], None]
    ) -> None:
        self._slots = slots
        self._surroundings = surroundings
        self._keeper = surroundings.keeper
        self._on_room = on_room
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

    async def give_back(self) -> None:
        """Release what is there, in its old order, while the worker has patience."""
        waiting = list(self._waiting)
        self._waiting.clear()
        self._slots.buffered = 0
        failures = 0
        while waiting:
            for queue, envelopes in _by_queue(waiting).items():
                with suppress(Exception):  # the queue has logged it, or it shows below
                    await queue.release_batch(envelopes)
            for each in waiting:
                if each.envelope.settlement != "open":
                    self._keeper.let_go(each.queue, each.envelope)
            waiting = [each for each in waiting if _is_to_be_returned(each)]
            if waiting and not self._surroundings.is_patient:
                _logger.warning("%d items come back only after their leases", len(waiting))
                return
            if waiting:
                failures += 1
                clock = waiting[0].queue.clock
                await sleep(clock, reconnect_seconds(failures, random.random()))

    def _drop(self, buffered: Buffered) -> None:
        """Its lease was lost while it waited."""
        if buffered in self._waiting:
            self._waiting.remove(buffered)
            self._slots.buffered -= 1
            self._on_room()


def _by_queue(waiting: Iterable[Buffered]) -> dict[Queue, list[Envelope]]:
    envelopes: dict[Queue, list[Envelope]] = {}
    for each in waiting:
        envelopes.setdefault(each.queue, []).append(each.envelope)
    return envelopes


def _is_to_be_returned(each: Buffered) -> bool:
    is_ours = each.queue.clock.time() < each.envelope.lease_end_time
    return is_ours and each.envelope.settlement == "open"
