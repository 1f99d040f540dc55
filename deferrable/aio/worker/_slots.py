"""How many items a worker may take, and who waits for that number to change.

Owns the counting: running jobs, items that wait for a slot, settlements that the broker has not
answered, outcomes that nobody has read. Owns what follows from the counts: how many items a poller
asks for, the outcomes that wait for their reader, and the bell that wakes pollers and readers.

The one rule: a slot is free when its job ends. Unanswered settlements and unread outcomes have
their own limit, so that a slow broker or a slow reader slows the popping and does not fill the
memory. This limit is the largest of `concurrency`, `prefetch` and a small minimum. While a queue
that pops ahead by itself has a backlog, outcomes may be two of its batches.
"""

import asyncio
import sys
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from deferrable.aio.clock import Clock
from deferrable.aio.queue import Queue
from deferrable.aio.worker._kinds import Kinds
from deferrable.aio.worker._order import Turn
from deferrable.outcome import Outcome

__all__ = ["FEW_SETTLEMENTS", "Bell", "Outcomes", "PollSlots", "Slots"]

FEW_SETTLEMENTS = 20
"""This many may be unanswered with any concurrency: at least two batches of the broker whose
batches are smallest, or one job at a time would wait for each of its completes to be gathered.
"""


_MOST_BLOCKED = 10
"""How many items may wait for others of their groups, for each slot: a batch of SQS holds ten."""

_MOST_AHEAD = 10
_AHEAD_SECONDS = 1.0
"""How long an item that is popped ahead of its slot may wait: others might have run it."""

_QUICK_SECONDS = 0.02
"""The same for one that is prefetched. Many round trips to a broker, and short for others."""
_MOST_QUICK = 10_000
"""No process ends more jobs than this in that time: 2 µs for each."""


@dataclass(slots=True)
class Slots:
    """The counts of one worker.

    Attributes:
        concurrency: how many jobs may run at once.
        pollers: how many queues are polled.
        running: jobs that run.
        buffered: items that are popped and wait for a slot; plain ones are counted apart.
        asked: items that running polls are expected to bring.
        polling: running polls.
        settling: jobs that ended and whose settlement is not answered yet.
        unread: outcomes that nobody has read yet.
        threads: how many plain jobs may run at once.
        threaded: plain jobs that run.
        thread_waiting: plain ones that are popped and wait for a slot and a thread.
        blocked: items that wait until an earlier one of their group is settled, or for their own
            retry. They take no slot.
        is_paused: nothing is popped, because one item must run alone.
        is_careful: the next items may have to run alone, so one item is popped at a time.
        prefetch: how many items of a backlogged queue may be popped before there are slots for
            them, while jobs end quickly.
        pops_ahead: whether any queue pops ahead by itself.
        has_stalled: items were given back because no slot came, and no job has ended since.
        end_times: when the last jobs ended, on the worker's monotonic clock, if anything is popped
            ahead.
        thread_end_times: the same of plain jobs.
    """

    concurrency: int
    pollers: int = 1
    running: int = 0
    buffered: int = 0
    asked: int = 0
    polling: int = 0
    settling: int = 0
    unread: int = 0
    threads: int = sys.maxsize
    threaded: int = 0
    thread_waiting: int = 0
    blocked: int = 0
    is_paused: bool = False
    is_careful: bool = False
    prefetch: int = 0
    pops_ahead: bool = True
    has_stalled: bool = False
    end_times: deque[float] = field(init=False)
    thread_end_times: deque[float] = field(init=False)

    def __post_init__(self) -> None:
        most = min(self.concurrency + self.prefetch, _MOST_QUICK) if self.prefetch else 0
        self.end_times = deque(maxlen=max(most, _MOST_AHEAD))
        most = min(self.threads + self.concurrency + self.prefetch, _MOST_QUICK)
        self.thread_end_times = deque(maxlen=most)

    @property
    def is_free(self) -> bool:
        """Whether another job may start."""
        return self.running < self.concurrency

    @property
    def holds_nothing(self) -> bool:
        """Whether the worker has no item."""
        held = self.running + self.buffered + self.thread_waiting + self.blocked + self.settling
        return not held

    @property
    def is_idle(self) -> bool:
        """Whether no item runs or may start soon, and no poll may bring one."""
        busy = self.running + self.buffered + self.thread_waiting + self.settling + self.polling
        return not busy

    @property
    def may_rest(self) -> bool:
        """Whether another item may wait here for its retry. Some room stays for other groups."""
        return self.blocked < _MOST_BLOCKED * self.concurrency // 2

    @property
    def has_thread(self) -> bool:
        """Whether another plain job may start, if there is a slot."""
        return self.threaded < self.threads

    @property
    def notes_ends(self) -> bool:
        """Whether anybody asks when jobs ended."""
        return self.pops_ahead or self.prefetch > 0

    def to_ask(
        self,
        batch_size: int = 1,
        *,
        ahead: int = 0,
        is_backlogged: bool = True,
        now: float = 0.0,
    ) -> int:
        """How many items an idle poller may ask for; 0: none now.

        The idle pollers share the free slots. Each may ask for one item even when the other polls
        could fill all slots; otherwise one empty queue would make another wait. Surplus items wait
        in the buffer.

        Args:
            batch_size: the most that one native pop brings.
            ahead: how many items may be requested beyond the free slots, where pops cost money. Not
                more than jobs that ended lately; and while the buffer holds some, a full batch or
                none.
            is_backlogged: the last poll of that queue found as many items as it asked for. Only
                then are items popped ahead. Prefetched items also come in batches: a full one, or
                half of the number that may be held.
            now: on the worker's monotonic clock.
        """
        if self.is_paused or self.blocked >= _MOST_BLOCKED * self.concurrency:
            return 0
        free = self.concurrency - self.running - self._waiting
        bound, beyond, least = max(self.concurrency, self.prefetch), 0, 0
        if is_backlogged and self.notes_ends:
            beyond = self._beyond(ahead, now)
            least = batch_size if ahead else self.asked + min(batch_size, (beyond + 1) // 2)
            bound = max(bound, 2 * batch_size) if ahead else bound
        unsettled = max(self.concurrency, self.prefetch, FEW_SETTLEMENTS) - self.settling
        spare = min(free + beyond, min(bound, unsettled) - self.unread)
        if spare <= 0 or (spare < least and free <= 0):
            return 0
        idle_pollers = max(1, self.pollers - self.polling)
        count = 1 if self.is_careful else max(1, (spare - self.asked) // idle_pollers)
        return count if count < batch_size else count - count % batch_size

    @property
    def _waiting(self) -> int:
        """Items that wait for a slot. Items that only wait for a thread do not delay async jobs."""
        return self.buffered + min(self.thread_waiting, max(0, self.threads - self.threaded))

    def thread_room(self, now: float) -> int:
        """How many plain items more could start within a second; it may be negative.

        As many as there are free threads. More only if more plain jobs ended in the last second
        than there are threads, because such jobs are short.
        """
        ends = self.thread_end_times
        quick = len(ends) - bisect_right(ends, now - _AHEAD_SECONDS) - self.threads
        return self.threads + max(0, quick) - self.threaded - self.thread_waiting

    def _beyond(self, ahead: int, now: float) -> int:
        """How many items without a slot may be held."""
        beyond = min(ahead, self._ended_since(now - _AHEAD_SECONDS)) if ahead else 0
        if self.prefetch:
            # More ends than slots in such a short time: these jobs were shorter than that.
            quick = self._ended_since(now - _QUICK_SECONDS) - self.concurrency
            beyond = max(beyond, min(self.prefetch, quick))
        return beyond

    def _ended_since(self, time: float) -> int:
        return len(self.end_times) - bisect_right(self.end_times, time)

    def note_end(self, now: float) -> None:
        """A job has ended."""
        self.has_stalled = False
        self.end_times.append(now)

    def begin_poll(self, count: int, *, is_quiet: bool) -> int:
        """A poll asks for `count` items. Return how many it is expected to bring, for `end_poll`.

        Args:
            is_quiet: the last poll of that queue found nothing. It is expected to bring one item.
                Otherwise a queue without work would halve the batches of a full queue.
        """
        expected = 1 if is_quiet else count
        self.asked += expected
        self.polling += 1
        return expected

    def end_poll(self, expected: int) -> None:
        """The poll is over; its items count as buffered."""
        self.asked -= expected
        self.polling -= 1


class Bell:
    """Wakes all waiters for a change, on one event loop.

    A woken waiter checks its condition again, and may wait again. It is like an event that is
    cleared before each wait, but a ring that nobody waits for costs nothing, and that happens
    several times for each job.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def ring(self) -> None:
        """Wake all current waiters."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    async def wait(self) -> None:
        """Return at the next ring. Check right before, without an await, whether you need it."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future


class Outcomes:
    """The outcomes of a worker, in order, from its attempts to its reader.

    Args:
        slots: counts unread outcomes.
        on_room: called when an outcome was read.
    """

    def __init__(self, slots: Slots, on_room: Callable[[], None]) -> None:
        self._slots = slots
        self._on_room = on_room
        self._unread: deque[Outcome] = deque()
        self._readable = Bell()
        self._has_ended = False

    def add(self, outcome: Outcome) -> None:
        self._unread.append(outcome)
        self._slots.unread += 1
        self._readable.ring()

    def end(self) -> None:
        """There will be no more outcomes."""
        self._has_ended = True
        self._readable.ring()

    def next_unread(self) -> Outcome | None:
        """The next outcome, if there is one already."""
        if not self._unread:
            return None
        self._slots.unread -= 1
        self._on_room()
        return self._unread.popleft()

    async def next(self) -> Outcome | None:
        """The next one, each for one reader; None: there will be no more.

        Cancelling it loses none.
        """
        while (outcome := self.next_unread()) is None and not self._has_ended:
            await self._readable.wait()
        return outcome


class PollSlots:
    """The slots as one poller sees them: a `deferrable.aio.worker._polling.Room`.

    Args:
        slots: of the worker.
        bell: rings when there may be room for more.
        queue: the queue of the poller.
        clock: of the worker.
        kinds: how many of the queue's items are plain jobs.
        on_poll_end: called when a poll is over.
        turn: when this queue may be polled at all; None: there is no order between queues.
    """

    def __init__(
        self,
        slots: Slots,
        bell: Bell,
        queue: Queue,
        clock: Clock,
        kinds: Kinds,
        on_poll_end: Callable[[], None],
        turn: Turn | None = None,
    ) -> None:
        self._slots = slots
        self._bell = bell
        self._queue = queue
        self._clock = clock
        self._kinds = kinds
        self._on_poll_end = on_poll_end
        self._turn = turn
        self._expected = 0

    def try_take(self, *, is_quiet: bool, is_backlogged: bool) -> int:
        if self._turn is not None and not self._turn.may_ask():
            return 0
        now = self._clock.monotonic()
        count = self._slots.to_ask(
            self._queue.MAX_POP_BATCH_SIZE,
            ahead=self._queue.POPS_AHEAD,
            is_backlogged=is_backlogged,
            now=now,
        )
        if count and self._kinds.share:
            count = self._kinds.to_ask(
                count,
                self._slots.thread_room(now),
                now,
                held=self._slots.thread_waiting,
                takes_back=not self._queue.COUNTS_RELEASES,
            )
            if not count and self._turn is not None:
                self._turn.pass_on()  # it waits for threads, which other queues may not need
        if count:
            self._expected = self._slots.begin_poll(count, is_quiet=is_quiet)
            if self._turn is not None:
                self._turn.begin()
        return count

    async def wait(self) -> None:
        await self._bell.wait()

    def give_up(self) -> None:
        self._slots.end_poll(self._expected)
        if self._turn is not None:
            self._turn.end()
        self._on_poll_end()
