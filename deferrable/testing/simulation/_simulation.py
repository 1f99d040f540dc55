"""Find out whether jobs may run at least once: `simulate`.

Owns the runs: an instance defers to memory, its jobs meet the faults of one seed until nothing is
left to run, and the user's check says whether the world is as it should be.

The one rule: a run is told apart from the next only by its seed. Time is virtual, one attempt runs
at a time, and nothing but the user's own code can make two runs of one seed differ.
"""

import asyncio
import inspect
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from deferrable.aio import deferrable as awaiting
from deferrable.errors import InvalidOptions, WrongApi
from deferrable.sync import deferrable as blocking
from deferrable.testing.clock import MovingClock
from deferrable.testing.deferrals import deferrals_of, result_of
from deferrable.testing.simulation._run import SimulatedRun
from deferrable.testing.simulation._strikes import (
    FAULTS,
    FaultName,
    Strike,
    every_strike,
    strikes_of,
)

__all__ = ["Simulated", "SimulationFailed", "simulate", "simulate_async"]

Step = Callable[[], object]


def _hides_failures(raised: Any) -> bool:
    """Whether pytest leaves a frame out: a failure names its seed, and needs no lines of ours."""
    return isinstance(raised.value, SimulationFailed)


class SimulationFailed(AssertionError):
    """A check did not hold after a run.

    Attributes:
        seed: of the run; None: it had no faults.
    """

    def __init__(self, message: str, seed: int | None) -> None:
        super().__init__(message)
        self.seed = seed


@dataclass(slots=True)
class Simulated:
    """What a simulation did.

    Attributes:
        runs: how many there were with faults.
        attempts: of all runs.
        single_faults: how many seeds from 0 on have one fault each, at each place where it can
            strike; later seeds have several.
        struck: how often each fault met an attempt.
    """

    runs: int = 0
    attempts: int = 0
    single_faults: int = 0
    struck: Counter[str] = field(default_factory=Counter)


def simulate(
    instance: "blocking.Deferrable | awaiting.Deferrable",
    start: Step,
    check: Step,
    *,
    seeds: int | Iterable[int] = 1000,
    faults: Iterable[FaultName] = FAULTS,
    crash_in: Iterable[ModuleType] = (),
    seconds: float = 7 * 86_400.0,
    ticks: bool = False,
) -> Simulated:
    """Run jobs under every fault that a queue may have, and check the world after each run.

    The instance defers to memory meanwhile, by a virtual clock. A run calls `start`, runs what is
    deferred until nothing is left, with the faults of its seed, and calls `check`.

    Args:
        instance: whose jobs run; of either API. One of `deferrable.aio` runs on a loop of its own
            here; in an async test await `simulate_async`.
        start: makes the world new, and defers calls. It may be async with `deferrable.aio`.
        check: raises an AssertionError, or returns False, if the world is not as it should be.
        seeds: how many, from 0 on; or which ones.
        faults: the kinds of faults to use.
        crash_in: modules whose lines are points of a crash, too; not only the lines of the jobs.
        seconds: how much virtual time a run has. Delays, retries and lost leases take place in it.
        ticks: whether the schedules of the instance tick in that time. Each tick is one more
            attempt, so pass few seconds.

    Raises:
        SimulationFailed: a check did not hold. It tells the seed and what happened in its run.
        InvalidOptions: a seed or a fault is none, or `start` has deferred nothing.
        WrongApi: an event loop runs here, and the instance is of `deferrable.aio`.
    """
    __tracebackhide__ = _hides_failures
    simulation = _Simulation(instance, start, check, seeds, faults, crash_in, seconds, ticks)
    if isinstance(instance, blocking.Deferrable):
        return result_of(simulation.run())
    if _is_on_loop():
        raise WrongApi("an event loop runs here: write await simulate_async(...)")
    return asyncio.run(simulation.run())


async def simulate_async(
    instance: awaiting.Deferrable,
    start: Step,
    check: Step,
    *,
    seeds: int | Iterable[int] = 1000,
    faults: Iterable[FaultName] = FAULTS,
    crash_in: Iterable[ModuleType] = (),
    seconds: float = 7 * 86_400.0,
    ticks: bool = False,
) -> Simulated:
    """`simulate` of an instance of `deferrable.aio`, on the running loop.

    Raises:
        SimulationFailed: a check did not hold.
        WrongApi: the instance is of the blocking API; call `simulate`.
        InvalidOptions: a seed or a fault is none, or `start` has deferred nothing.
    """
    if isinstance(instance, blocking.Deferrable):
        raise WrongApi("the instance is of the blocking API; call simulate(...), without await")
    __tracebackhide__ = _hides_failures
    simulation = _Simulation(instance, start, check, seeds, faults, crash_in, seconds, ticks)
    return await simulation.run()


class _Simulation:
    """All runs."""

    def __init__(
        self,
        instance: "blocking.Deferrable | awaiting.Deferrable",
        start: Step,
        check: Step,
        seeds: int | Iterable[int],
        faults: Iterable[FaultName],
        crash_in: Iterable[ModuleType],
        seconds: float,
        ticks: bool,
    ) -> None:
        self._instance = instance
        self._start = start
        self._check = check
        self._seeds = _seeds_of(seeds)
        self._faults = _checked(faults)
        self._files = {_file_of(each) for each in crash_in}
        self._seconds = seconds
        self._ticks = ticks

    async def run(self) -> Simulated:
        __tracebackhide__ = _hides_failures
        with _quiet_log():
            first = await self._run_one([], None)
            if not first.passed:
                raise InvalidOptions(self._why_nothing_ran())
            singles = every_strike(first.passed, self._faults)
            simulated = Simulated(single_faults=len(singles))
            for seed in self._seeds:
                _check_seed("a seed", seed)
                strikes = strikes_of(seed, singles, first.passed, self._faults)
                run = await self._run_one(strikes, seed)
                simulated.runs += 1
                simulated.attempts += len(run.passed)
                simulated.struck.update(run.struck)
        return simulated

    def _why_nothing_ran(self) -> str:
        why = "does it defer with another instance, or miss an await?"
        core = self._instance
        core = core._core if isinstance(core, blocking.Deferrable) else core
        if core.scheduled and not self._ticks:
            why = "pass ticks=True if the schedules of the instance shall tick"
        return (
            f"start deferred nothing with this instance that is due within {self._seconds:g} "
            f"seconds, so no job ran; {why}"
        )

    async def _run_one(self, strikes: Sequence[Strike], seed: int | None) -> SimulatedRun:
        __tracebackhide__ = _hides_failures
        clock = MovingClock()
        with deferrals_of(self._instance, clock=clock) as calls:
            with SimulatedRun(
                self._instance, calls, strikes, self._files, ticks=self._ticks
            ) as run:
                await self._call("start", self._start)
                await run.drain(clock.time() + self._seconds)
            try:
                if await self._call("check", self._check) is False:
                    raise AssertionError("the check returned False")
            except AssertionError as error:
                raise SimulationFailed(_report(error, seed, run.history()), seed) from error
        return run

    async def _call(self, name: str, function: Step) -> object:
        returned = function()
        if not inspect.isawaitable(returned):
            return returned
        if isinstance(self._instance, blocking.Deferrable):
            if inspect.iscoroutine(returned):
                returned.close()
            raise InvalidOptions(
                f"{name} is async, but the instance is of the blocking API; write it as a plain "
                "function"
            )
        return await returned


def _is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _seeds_of(seeds: int | Iterable[int]) -> Iterable[int]:
    if isinstance(seeds, Iterable):
        return seeds
    _check_seed("seeds", seeds)
    return range(seeds)


def _check_seed(name: str, value: object) -> None:
    if not isinstance(value, int) or value < 0:
        raise InvalidOptions(f"{name} is {value!r:.80}; it must be a whole number from 0 on")


def _file_of(module: ModuleType) -> str:
    path: str | None = getattr(module, "__file__", None)
    if not path:
        raise InvalidOptions(f"crash_in has {module!r:.80}; it takes modules with a source file")
    return os.path.realpath(path)


def _checked(faults: Iterable[FaultName]) -> tuple[FaultName, ...]:
    chosen = tuple(faults)
    unknown = [each for each in chosen if each not in FAULTS]
    if unknown:
        raise InvalidOptions(f"there is no fault {unknown[0]!r:.80}; there are {', '.join(FAULTS)}")
    return chosen


@contextmanager
def _quiet_log() -> Iterator[None]:
    """The faults are meant, and would be logged by the thousand."""
    logger = logging.getLogger("deferrable")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _report(error: AssertionError, seed: int | None, history: Sequence[str]) -> str:
    what = str(error) or "the check raised an AssertionError"
    lines = [f"  {number}. {each}" for number, each in enumerate(history, 1)]
    if seed is None:
        first, last = f"without any fault: {what}", "Correct the check or the jobs first."
    else:
        first, last = f"seed {seed}: {what}", f"To run only this again, pass seeds=[{seed}]."
    return "\n".join([first, *lines, last])
