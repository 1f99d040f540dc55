"""The items that a worker holds, from their pop until they are settled.

Owns which of them starts when, the running attempts, and how these are given back. The items that
wait are in `_buffer`.

The one rule: each popped item is started, or given back, or lost to its lease. It is kept until
one of these happens.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, TypeAlias

from deferrable._codec.refusals import describe
from deferrable._ended import Raised
from deferrable._error_log import log_error
from deferrable.aio._contract.popping import Popped
from deferrable.aio._contract.tasks import start_task
from deferrable.aio._engine.attempt import Attempt
from deferrable.aio._engine.instance import Instance
from deferrable.aio.clock import Clock
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Queue
from deferrable.aio.worker._alone import Alone, is_suspect
from deferrable.aio.worker._buffer import Buffer, Buffered
from deferrable.aio.worker._completing import Completer
from deferrable.aio.worker._door import WorkerDoor, WorkerResources
from deferrable.aio.worker._groups import key_of
from deferrable.aio.worker._kinds import Kinds
from deferrable.aio.worker._slots import Slots
from deferrable.aio.worker._watchdog import (
    JOB_ADVICE,
    OTHER_ADVICE,
    OWN_ADVICE,
    Blocker,
    is_own,
)
from deferrable.item import Item
from deferrable.outcome import Outcome

__all__ = ["Attempts"]

_logger = logging.getLogger("deferrable")

_PASS_SECONDS = 0.01
"""One pass of the loop starts more jobs than there are slots only while it is this short."""

_MOST_NAMED = 20
"""So many jobs are named in the log when the process ends although they run."""

_ENDS = frozenset({"completed", "retried", "errored", "expired", "cancelled"})
"""The ends of an attempt after which its item is not run again unchanged."""

_Task: TypeAlias = "asyncio.Task[Outcome | Raised | None]"


class Attempts:
    """Starts its items as slots allow, and reports their outcomes.

    Args:
        slots: are counted here, but for the polls.
        resources: of every attempt.
        states: the values of the lifespans.
        on_room: called when there may be room for more.
        tell: gets each outcome.
        clock: the worker's.
        on_pause: called when running polls should end soon.
    """

    def __init__(
        self,
        slots: Slots,
        resources: WorkerResources,
        states: Mapping[Instance, object],
        on_room: Callable[[], None],
        tell: Callable[[Outcome], None],
        clock: Clock,
        on_pause: Callable[[], None],
    ) -> None:
        self._slots = slots
        self._notes_ends = slots.notes_ends
        self._clock = clock
        self._resources = resources
        self._keeper = resources.keeper
        self._states = states
        self._on_room = on_room
        self._tell = tell
        self._buffer = Buffer(slots, resources, on_room, self._run_in_background)
        self._alone = Alone(
            slots, self._buffer, clock, self._start_held, on_pause, on_room, self._run_in_background
        )
        self._kinds: dict[Queue, Kinds] = {}
        resources.on_plain = self._note_plain
        resources.has_room = lambda: slots.may_rest
        self._running: dict[Attempt, _Task | None] = {}
        self._beginning: Attempt | None = None  # whose task makes its first step right now
        self._is_start_due = False
        self._completers: dict[Queue, Completer[Attempt]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._idle: asyncio.Future[None] | None = None
        # Each job starts in this context; else it would see variables of the job that made room for
        # it.
        self._context = copy_context()
        self._loop = asyncio.get_running_loop()

    def take(self, instance: Instance, queue: Queue, popped: Sequence[Popped]) -> None:
        """Start popped items, or keep them until they can start."""
        slots, kinds = self._slots, self.kinds_of(instance)
        begin_time = self._loop.time()
        if slots.is_careful:
            slots.is_careful = all(is_suspect(queue, envelope) for envelope, _ in popped)
        for count, (envelope, item) in enumerate(popped):
            is_plain = kinds.is_plain(item)
            if (
                not slots.buffered
                and envelope.order_key is None
                and not envelope.redeliveries
                and (not is_plain or (slots.has_thread and not slots.thread_waiting))
                and self._may_start(count, begin_time)
            ):
                self._start(instance, queue, envelope, item, is_plain)
            else:
                held = Buffered(instance, queue, envelope, item, is_plain)
                if self._buffer.enter_group(held):
                    self._add(held)
        if slots.thread_waiting and not queue.COUNTS_RELEASES:
            self._return_surplus(queue, kinds, len(popped))
        self._go_on()
        if slots.prefetch or slots.thread_waiting:
            self._buffer.watch()

    def _add(self, held: Buffered) -> None:
        if is_suspect(held.queue, held.envelope):
            self._alone.add(held)
            self._loop.call_soon(self._alone.note_change)  # after the rest of its batch
        else:
            self._buffer.add(held)

    def _return_surplus(self, queue: Queue, kinds: Kinds, popped: int) -> None:
        """Give plain items back that will not get a thread within a second."""
        now = self._clock.monotonic()
        count = -self._slots.thread_room(now)
        surplus = self._buffer.newest_plain(queue, count) if count > 0 else []
        if surplus:
            pause_seconds = kinds.begin_return(now, popped, len(surplus))
            self._run_in_background(self._return_plain(surplus, kinds, pause_seconds))

    async def _return_plain(
        self, surplus: Sequence[Buffered], kinds: Kinds, pause_seconds: float
    ) -> None:
        try:
            await self._buffer.give_back({*surplus}.__contains__)
        finally:
            kinds.end_return()
            self._on_room()
        if pause_seconds:
            self._clock.call_later(pause_seconds, self._on_room)

    def kinds_of(self, instance: Instance) -> Kinds:
        """The known kinds of the items of an instance's queue."""
        queue, registry = instance.backend.queue, instance.registry
        kinds = self._kinds.get(queue)
        if kinds is None:

            def find(name: str) -> bool | None:
                job = registry.get(name)
                return None if job is None else not job.is_async

            kinds = self._kinds[queue] = Kinds(
                find,
                is_mixed=not all(job.is_async for job in registry.values()),
                depth=self._slots.concurrency,
            )
        return kinds

    def _note_plain(self, queue: Queue, item: Item) -> None:
        """An item that was started has turned out to be a plain job."""
        self._slots.threaded += 1
        self._kinds[queue].learn(item)

    def note_poll_end(self) -> None:
        """A poll is over; its items are taken before any effect of this call."""
        if self._slots.is_paused:
            self._loop.call_soon(self._alone.note_change)

    @property
    def are_idle(self) -> bool:
        """Whether nothing is running."""
        is_working = self._running or self._background
        return not is_working and all(each.is_idle for each in self._completers.values())

    def jobs_on(self, queue: Queue) -> Counter[str]:
        """The names of the jobs of a queue that run now, and how many of each."""
        return Counter(
            each.control.job_name or "a job"
            for each in self._running
            if each.queue is queue and each.has_started
        )

    def close(self) -> None:
        """Start no more."""
        self._resources.is_open = False
        self._buffer.close()
        self._alone.close()
        for completer in self._completers.values():
            completer.hurry()

    def find(self, task: asyncio.Task[Any]) -> Blocker:
        """The name of a task that blocks the loop, the advice, and what emits its `overrun`.

        May be called from any thread; the event is emitted on the worker's loop.
        """
        attempt = self._attempt_in(task)
        if attempt is None:
            advice = OWN_ADVICE if is_own(task) else OTHER_ADVICE
            return task.get_name(), advice, lambda: None
        return attempt.name, JOB_ADVICE, lambda: self._run_in_background(attempt.tell_overrun())

    def _attempt_in(self, task: "asyncio.Task[Any] | None") -> Attempt | None:
        # A copy, made in one step.
        of_tasks = {its_task: attempt for attempt, its_task in list(self._running.items())}
        return self._beginning if task is None else of_tasks.get(task, self._beginning)

    # Giving back.

    async def return_buffered(self) -> None:
        """Release the items that wait for a slot, in their old order, while the worker has
        patience.
        """
        await self._buffer.give_back()

    async def return_unstarted(self) -> None:
        """Make attempts whose jobs have not begun release their items, in their old order."""
        unstarted = [each for each in self._running.items() if not each[0].has_started]
        for attempt, task in reversed(unstarted):
            # One by one, the last one first: each goes to the front.
            if task is not None and not attempt.has_started:
                attempt.control.stop("cancelled")
                await asyncio.wait([task])

    def cancel(self) -> None:
        """Cancel all async jobs once; their items are released."""
        for attempt in list(self._running):
            attempt.control.stop("cancelled")

    async def release_running(self, *, keeps_holder: bool) -> None:
        """Release the items of running jobs, from any loop; only for a process that ends now."""
        holder = self._attempt_in(asyncio.current_task(self._loop)) if keeps_holder else None
        if holder is not None:
            _logger.error(
                "%s holds the event loop: its item is not given back, and comes back after its "
                "lease with one more failed delivery",
                holder.name,
            )
        running = [each for each in list(self._running) if each is not holder]
        _log_unfinished([each for each in running if each.envelope.settlement == "open"])
        await asyncio.gather(*(each.give_back() for each in running), return_exceptions=True)

    async def wait_until_idle(self) -> None:
        """Return when nothing is running; cancelling the wait changes nothing."""
        while not self.are_idle:
            if self._idle is None or self._idle.done():
                self._idle = asyncio.get_running_loop().create_future()
            await self._idle

    # Running.

    def _start_soon(self) -> None:
        if not self._is_start_due:
            self._is_start_due = True
            self._loop.call_soon(self._start_what_fits, context=self._context)

    def _start_what_fits(self) -> None:
        self._is_start_due = False
        begin_time, count = self._loop.time(), 0
        while self._buffer.is_ready and self._may_start(count, begin_time):
            self._start_held(self._buffer.take_out())
            count += 1
        self._go_on()

    def _may_start(self, count: int, begin_time: float) -> bool:
        """Whether another job may start in a pass of the loop in which `count` have started.

        Jobs that never wait end right there, and all other due work waits for them.
        """
        slots = self._slots
        if count >= slots.concurrency and self._loop.time() - begin_time >= _PASS_SECONDS:
            return False
        return slots.running < slots.concurrency and self._resources.is_open

    def _go_on(self) -> None:
        if self._buffer.is_ready and self._slots.is_free and self._resources.is_open:
            self._start_soon()
        self._on_room()

    def _start_held(self, held: Buffered) -> bool:
        is_started = self._start(held.instance, held.queue, held.envelope, held.item, held.is_plain)
        if not is_started:
            self._leave_group(key_of(held), goes_on=False, item_id=held.item.get("id"))
        return is_started

    def _leave_group(self, key: Hashable, *, goes_on: bool, item_id: object = None) -> None:
        following = self._buffer.leave_group(key, goes_on=goes_on, item_id=item_id)
        if following is not None:
            self._add(following)
            self._go_on()

    def _start(
        self,
        instance: Instance,
        queue: Queue,
        envelope: Envelope,
        item: Item,
        is_plain: bool,
    ) -> bool:
        """Start an attempt. False: its lease has ended meanwhile."""
        if queue.clock.monotonic() >= envelope.lease_end_time:
            # Another consumer has it by now, for example after a pause of the process.
            self._keeper.let_go(queue, envelope)
            _logger.warning("the lease of %r ended before it started", envelope)
            return False
        self._slots.running += 1
        if is_plain:
            self._slots.threaded += 1
        context = self._context.copy()
        door = WorkerDoor(queue, envelope, self._resources, context, self._end_job, is_plain)
        attempt = Attempt(instance, door, envelope, item, context, self._states[instance])
        # Kept from here on, as a task's first step may come late.
        self._keeper.keep(queue, envelope, attempt.lose)
        self._begin(attempt, attempt.run_job(), door.end_job)
        return True

    def _begin(
        self,
        attempt: Attempt,
        doing: Coroutine[Any, Any, Outcome | Raised | None],
        end_job: Callable[[], None] | None = None,
    ) -> None:
        self._running[attempt] = None
        self._beginning = attempt
        task = start_task(self._loop, doing, attempt.context)
        self._beginning = None
        try:
            if task.done():
                self._note_end(attempt, end_job, task)
            else:
                self._running[attempt] = task
                task.add_done_callback(partial(self._note_end, attempt, end_job))
        finally:
            del task  # the traceback of its job's error holds this frame

    def _end_job(self, is_plain: bool) -> None:
        self._slots.running -= 1
        self._slots.settling += 1
        if self._notes_ends:
            self._slots.note_end(self._clock.monotonic())
        if is_plain:
            self._slots.threaded -= 1
            self._slots.thread_end_times.append(self._clock.monotonic())
        if self._buffer.is_ready:
            self._start_soon()
        else:
            self._on_room()

    def _note_end(self, attempt: Attempt, end_job: Callable[[], None] | None, task: _Task) -> None:
        if end_job is not None:
            end_job()  # as it may not have begun
        del self._running[attempt]
        ended = Raised(asyncio.CancelledError()) if task.cancelled() else task.result()
        if ended is None:
            # No other running job will end soon to fill the batch, and another item waits for this
            # one.
            is_urgent = not self._slots.running and self._buffer.has_more(key_of(attempt))
            self._completer_of(attempt.queue).add(attempt, is_urgent=is_urgent)
        elif isinstance(ended, Raised):
            self._note_failure(attempt, ended.error)
        else:
            self._conclude(attempt, ended)

    def _note_completion(self, attempt: Attempt, error: BaseException | None) -> None:
        if error is not None:
            # The ordinary way detects a lost lease, and retries what the broker did not take, or
            # what a loop that is being shut down has cancelled: its job has run.
            self._begin(attempt, attempt.complete())
        elif attempt.has_listeners:
            self._begin(attempt, attempt.tell_completed())
        else:
            self._conclude(attempt, attempt.note_completed())

    def _note_failure(self, attempt: Attempt, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            # By a loop that is being shut down, perhaps before the attempt's first step.
            self._run_in_background(attempt.give_back())
            self._conclude(attempt, attempt.told(attempt.outcome("released", error)))
        else:
            _logger.error("%s could not be settled: %s", attempt.name, error)
            self._conclude(attempt, attempt.told(attempt.outcome("lost", error)))

    def _conclude(self, attempt: Attempt, outcome: Outcome) -> None:
        self._slots.settling -= 1
        self._tell(outcome)
        if attempt.envelope.order_key is not None:
            in_place = attempt.envelope.in_place
            if in_place is not None and in_place.rest_end_time is not None:
                self._rest(attempt, in_place.rest_end_time)
            else:
                comes_back = in_place is not None and in_place.comes_back
                is_over = outcome.status in _ENDS and not comes_back
                # A broker may deliver it again before its answer to the release arrives.
                item_id = attempt.popped_item.get("id")
                self._leave_group(key_of(attempt), goes_on=is_over, item_id=item_id)
        if self._slots.is_paused:
            self._loop.call_soon(self._alone.note_change)
        self._on_room()
        if self._idle is not None:
            self._note_idle()

    def _rest(self, attempt: Attempt, end_time: float) -> None:
        """Keep an item, and its group, until its retry."""
        envelope, queue = attempt.envelope, attempt.queue
        envelope.has_started = False
        held = Buffered(attempt.instance, queue, envelope, attempt.popped_item)
        seconds = max(0.0, end_time - queue.clock.monotonic())
        self._buffer.rest(held, seconds, self._add_rested)
        if not self._resources.is_open:  # the others were given back already
            self._run_in_background(self._buffer.give_back({held}.__contains__))

    def _add_rested(self, held: Buffered) -> None:
        held.is_plain = self.kinds_of(held.instance).is_plain(held.item)
        self._buffer.add(held)
        self._go_on()

    def _completer_of(self, queue: Queue) -> Completer[Attempt]:
        completer = self._completers.get(queue)
        if completer is None:
            completer = self._completers[queue] = Completer(queue, self._note_completion)
        return completer

    def _run_in_background(self, doing: Any) -> None:
        task = asyncio.get_running_loop().create_task(doing)
        self._background.add(task)
        task.add_done_callback(self._end_background)

    def _end_background(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if self._slots.is_paused:
            self._alone.note_change()
        if not task.cancelled() and (error := task.exception()) is not None:
            # Without the task's repr, which holds the whole text of the error.
            log_error(_logger, error, "a task of the worker failed: %s", describe(error))
        self._note_idle()

    def _note_idle(self) -> None:
        if self.are_idle and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)


def _log_unfinished(attempts: Sequence[Attempt]) -> None:
    """Say which jobs the end of the process interrupts."""
    for each in attempts[:_MOST_NAMED]:
        seconds = each.instance.clock.time() - each.start_time
        _logger.warning("%s has not ended after %.1f s; its item is given back", each.name, seconds)
    if len(attempts) > _MOST_NAMED:
        _logger.warning("%d more jobs have not ended", len(attempts) - _MOST_NAMED)
