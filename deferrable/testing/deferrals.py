"""An instance in a test: what it deferred, and what happens later, at once.

Owns the swap of an instance's backend and stores for ones in memory, and the order in which time
passes: what is due runs before the clock moves to the next moment at which something is due.

The one rule: whatever a test does, the instance has its own backend and stores again at the end.
"""

import inspect
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from deferrable._durations import Duration, seconds_of
from deferrable.aio import deferrable as awaiting
from deferrable.aio._contract.inspecting import each_found
from deferrable.aio._engine.registry import RegisteredJob, job_of
from deferrable.aio._engine.rehearsing import Rehearsal, SecondRun, rehearsing
from deferrable.aio.backend.memory import InMemoryBackendFactory
from deferrable.aio.clock import SystemClock
from deferrable.aio.job import Job
from deferrable.aio.peeked import PeekedCall
from deferrable.aio.queue import Queue
from deferrable.aio.worker._proposing import Proposer
from deferrable.errors import WrongApi
from deferrable.outcome import Outcome
from deferrable.sync import deferrable as blocking
from deferrable.sync._portal import portal
from deferrable.testing.clock import MovingClock

__all__ = ["Deferrals", "deferrals_of", "moments_of", "result_of"]

T = TypeVar("T")

_MOST_RUNS = 10_000
"""More runs at one moment are taken for jobs that defer each other for ever."""


class Deferrals:
    """What one instance deferred in a test. Made by `deferrals_of`, or by the fixture `deferrals`.

    Args:
        instance: of one API or the other.
        clock: of its backend.

    Attributes:
        clock: stands still until `advance`.
        outcomes: of all attempts so far, in their order.
    """

    def __init__(
        self,
        instance: "blocking.Deferrable | awaiting.Deferrable",
        clock: MovingClock,
    ) -> None:
        self._instance = instance
        self._core = instance._core if isinstance(instance, blocking.Deferrable) else instance
        self._proposer: Proposer | None = None
        self.clock = clock
        self.outcomes: list[Outcome] = []
        self._runs_under_way = 0

    # Looking.

    def deferred(self, job: object = None) -> list[PeekedCall]:
        """The calls that have not ended, of all jobs or of one, with their decoded arguments.

        Args:
            job: the job, or its name; None: all.
        """
        calls = result_of(self._core.peek(_MOST_RUNS, job=job))
        return sorted(calls, key=lambda each: each.state.available_time or 0.0)

    def assert_deferred(self, job: Job[..., Any], /, *args: Any, **kwargs: Any) -> PeekedCall:
        """Assert that exactly one call of `job` with these arguments has not ended. Return it.

        Arguments that the function takes by position or by name are equal both ways.

        Raises:
            AssertionError: there is none, or more than one; it lists the calls of the job.
            TypeError: `job` is no job.
        """
        __tracebackhide__ = True  # pytest shows the line of the test
        found = job_of(job)
        wanted = _bound(found, args, kwargs)
        calls = self.deferred(job)
        bound = [_bound(found, each.call.args, each.call.kwargs) for each in calls]
        equal = [each for each, given in zip(calls, bound, strict=True) if given == wanted]
        if len(equal) != 1:
            shown = "".join(
                f"\n  {_shown(found.name, each.call.args, each.call.kwargs)}, {each.state.status}"
                for each in calls
            )
            raise AssertionError(
                f"{_shown(found.name, args, kwargs)} is deferred {len(equal)} times, not once; "
                f"calls of the job that have not ended: {shown or 'none'}"
            )
        return equal[0]

    # Running.

    def run_all(self) -> list[Outcome]:
        """Run what is due now, and what that defers, one after the other, in this thread.

        Returns:
            the outcome of each attempt.

        Raises:
            WrongApi: the instance is of `deferrable.aio`; await `run_all_async`.
            AssertionError: jobs defer each other for ever.
        """
        shop = self._blocking("run_all")
        first = len(self.outcomes)
        with self._running():
            portal().run(self.propose())
            while (outcome := shop.run_once()) is not None:
                self._note(outcome, first)
        return self.outcomes[first:]

    async def run_all_async(self) -> list[Outcome]:
        """`run_all` of an instance of `deferrable.aio`."""
        first = len(self.outcomes)
        with self._running():
            await self.propose()
            while (outcome := await self._core.run_once()) is not None:
                self._note(outcome, first)
        return self.outcomes[first:]

    def run_twice(self) -> list[SecondRun]:
        """`run_all`, but each job that returns runs twice, as after a second delivery.

        Returns:
            the second runs that raised, or returned something else than the first.
        """
        reports: list[SecondRun] = []
        with rehearsing(self._core, Rehearsal(1, reports.append)):
            self.run_all()
        return reports

    async def run_twice_async(self) -> list[SecondRun]:
        """`run_twice` of an instance of `deferrable.aio`."""
        reports: list[SecondRun] = []
        with rehearsing(self._core, Rehearsal(1, reports.append)):
            await self.run_all_async()
        return reports

    def advance(self, seconds: Duration) -> list[Outcome]:
        """Let time pass, and run each delayed call, retry, debounced call and tick at its moment.

        Returns:
            the outcome of each attempt, in the order of their moments.
        """
        self._blocking("advance")
        first, end_time = len(self.outcomes), self._end_time(seconds)
        with self._running():
            self.run_all()
            while (moment := portal().run(self._next_moment(end_time))) is not None:
                self.clock.advance(moment - self.clock.time())
                self.run_all()
        return self.outcomes[first:]

    async def advance_async(self, seconds: Duration) -> list[Outcome]:
        """`advance` of an instance of `deferrable.aio`."""
        first, end_time = len(self.outcomes), self._end_time(seconds)
        with self._running():
            await self.run_all_async()
            while (moment := await self._next_moment(end_time)) is not None:
                self.clock.advance(moment - self.clock.time())
                await self.run_all_async()
        return self.outcomes[first:]

    # An event consumer, if calls run when they are deferred.

    def on_push(self, item: object) -> Any:
        """Run what was just pushed, unless calls run already: they run it in its turn."""
        if self._runs_under_way:
            return None
        if isinstance(self._instance, blocking.Deferrable):
            self.run_all()
            return None
        return self.run_all_async()

    @contextmanager
    def _running(self) -> Iterator[None]:
        self._runs_under_way += 1
        try:
            yield
        finally:
            self._runs_under_way -= 1

    def _note(self, outcome: Outcome, first: int) -> None:
        self.outcomes.append(outcome)
        if len(self.outcomes) - first > _MOST_RUNS:
            raise AssertionError(
                f"{_MOST_RUNS} attempts ran at one moment, the last of {outcome.item.get('method')}"
                "; do your jobs defer each other for ever?"
            )

    def _blocking(self, verb: str) -> "blocking.Deferrable":
        if not isinstance(self._instance, blocking.Deferrable):
            raise WrongApi(
                f"the instance is of deferrable.aio, so its jobs run on your event loop: write "
                f"await {verb}_async(...)"
            )
        return self._instance

    # Time.

    def _end_time(self, seconds: Duration) -> float:
        return self.clock.time() + seconds_of("seconds", seconds)

    async def _next_moment(self, end_time: float) -> float | None:
        """When something is due next, at the latest at `end_time`; None: it is that moment."""
        now = self.clock.time()
        if now >= end_time:
            return None
        moments = [end_time, now + await self.propose()]
        pause = await self._core.backend.queue.find_pause()
        if pause is not None and pause.until_time is not None:
            moments.append(pause.until_time)
        moments += await moments_of(self._core.backend.queue)
        return min(each for each in moments if each > now)

    async def propose(self) -> float:
        """Push the ticks that are due. Return the seconds to the next one, at most some."""
        if not self._core.scheduled:
            return float("inf")
        if self._proposer is None:
            self._proposer = Proposer(self._core)
        return await self._proposer.propose_due()


@contextmanager
def deferrals_of(
    instance: "blocking.Deferrable | awaiting.Deferrable",
    *,
    clock: MovingClock | None = None,
    inline: bool = False,
) -> Iterator[Deferrals]:
    """Have an instance defer to memory in the block, by a clock that stands still.

    Calls are serialized as always, so what another process could not read fails here, too. The
    backend, the stores and the clock of the instance are its own again after the block.

    Args:
        clock: of the backend; None: a new one.
        inline: whether each call that is due runs before ``later`` returns.
    """
    core = instance._core if isinstance(instance, blocking.Deferrable) else instance
    clock = MovingClock() if clock is None else clock
    backend = InMemoryBackendFactory(clock=clock).create_backend_for_group(core.backend.group)
    kept = instance.backend, core._debounce_store, core._results, core._schedule_store, core._clock
    waiting_clock = core.waiting_clock
    consumers = core.event_consumers
    deferrals = Deferrals(instance, clock)
    _swap(instance, core, (backend, None, None, None, None))
    core.waiting_clock = SystemClock()  # or a wait for a result would never end
    if inline:
        core.event_consumers = (*consumers, deferrals)
    try:
        yield deferrals
    finally:
        core.event_consumers = consumers
        core.waiting_clock = waiting_clock
        _swap(instance, core, kept)


def _swap(instance: Any, core: awaiting.Deferrable, parts: tuple[Any, ...]) -> None:
    instance.backend, core._debounce_store, core._results, core._schedule_store, core._clock = parts


async def moments_of(queue: Queue) -> list[float]:
    """When something happens to an item by itself: it becomes due, or its lease ends."""
    return [
        moment
        async for found in each_found(queue)
        for moment in (found.available_time, found.lease_until)
        if moment is not None
    ]


def result_of(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that only uses items in memory, and so waits for nothing."""
    __tracebackhide__ = True
    try:
        coroutine.send(None)
    except StopIteration as ended:
        return cast(T, ended.value)
    coroutine.close()
    raise RuntimeError("what only uses items in memory has waited for something")


def _bound(job: RegisteredJob, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    try:
        bound = inspect.signature(job.function).bind(*args, **kwargs)
    except (TypeError, ValueError):  # other arguments than it takes, or it does not show them
        return args, kwargs
    bound.apply_defaults()
    return bound.args, bound.kwargs


def _shown(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    arguments = [*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())]
    return f"{name}({', '.join(arguments)})"
