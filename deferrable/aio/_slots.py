"""How many items a worker may take.

Owns the counting: jobs that run, items that wait for a slot, settlements that the broker has not
answered, outcomes that nobody has read. It may not know tasks, queues or clocks.

The one rule: a slot is free when its job ends; what is left behind the job is bounded apart, so
that a slow broker or a slow reader slows the popping instead of filling the memory.
"""

from dataclasses import dataclass

__all__ = ["FEW_SETTLEMENTS", "Slots"]

FEW_SETTLEMENTS = 20
"""So many may be unanswered whatever the concurrency is: at least two batches of the broker whose
batches are smallest, or one job at a time would wait for each of its completes to be gathered."""


@dataclass(slots=True)
class Slots:
    """The counts of one worker.

    Attributes:
        concurrency: how many jobs may run at once.
        pollers: how many queues are polled.
        running: jobs that run.
        buffered: items that are popped and wait for a slot.
        asked: items that polls under way are expected to bring.
        polling: polls under way.
        settling: jobs that ended and whose settlement is not answered yet.
        unread: outcomes that nobody has read yet.
    """

    concurrency: int
    pollers: int = 1
    running: int = 0
    buffered: int = 0
    asked: int = 0
    polling: int = 0
    settling: int = 0
    unread: int = 0

    @property
    def is_free(self) -> bool:
        """Whether another job may start."""
        return self.running < self.concurrency

    def to_ask(self) -> int:
        """How many items a poller that is idle may ask for; 0 for none now.

        The free slots are shared out among the pollers that are idle. Each may ask for one even
        when the others' polls could fill all slots, or one empty queue would keep another waiting;
        what comes too much waits in the buffer.
        """
        free = self.concurrency - self.running - self.buffered
        unsettled = max(self.concurrency, FEW_SETTLEMENTS) - self.settling
        room = min(self.concurrency, unsettled) - self.unread
        if free <= 0 or room <= 0:
            return 0
        idle_pollers = max(1, self.pollers - self.polling)
        return max(1, (min(free, room) - self.asked) // idle_pollers)

    def begin_poll(self, count: int, *, is_quiet: bool) -> int:
        """A poll asks for `count` items; what it is expected to bring, for `end_poll`.

        Args:
            is_quiet: the last poll of that queue found nothing. It is expected to bring one item,
                or a queue without work would halve the batches of one with plenty.
        """
        expected = 1 if is_quiet else count
        self.asked += expected
        self.polling += 1
        return expected

    def end_poll(self, expected: int) -> None:
        """The poll is over; what it brought is counted as buffered."""
        self.asked -= expected
        self.polling -= 1
