"""One run of one scenario, struck at one point, and what has to hold after it.

Owns the run, the look afterwards, the recovery, and the figures of all runs. After a strike each
item is exactly one of: queued, delayed, in flight under a lease that ends, completed, in the error
queue; then everything is run to its end, and nothing is lost.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from attacks.faulting import Moment
from attacks.places import Place
from attacks.scenarios import SCENARIOS, Scenario
from attacks.stepping import Points
from attacks.world import WINDOW_SECONDS, World
from deferrable.testing import MovingClock

__all__ = ["STRIKES", "Figures", "Strike", "strike_everywhere"]

Way = Literal["the caller", "the task itself", "all tasks"]


@dataclass(frozen=True)
class Strike:
    """How one point is struck.

    Attributes:
        way: who is cancelled there: the caller, the very task that stands there (then, a
            moment later, the caller), or every task, as when a loop is shut down; None: nobody.
        moment: of the broker's call that fails; None: none does.
        is_atomic: a replace is one step.
    """

    way: Way | None = None
    moment: Moment | None = None
    is_atomic: bool = True

    def __str__(self) -> str:
        what = f"cancelling {self.way}" if self.way else f"a call {self.moment}"
        return what if self.is_atomic else f"{what}, replace in two steps"


STRIKES = [
    *(Strike(way=way) for way in ("the caller", "the task itself", "all tasks")),
    *(Strike(moment=moment) for moment in ("refused", "lost before", "lost after")),
    *(Strike(moment=moment, is_atomic=False) for moment in ("lost before", "lost after")),
    Strike(way="the task itself", is_atomic=False),
]


@dataclass
class Figures:
    """The results of all runs.

    Attributes:
        again: what was struck -> how many jobs ran more often than they would have without.
    """

    runs: int = 0
    pushed: int = 0
    completed: int = 0
    buried: int = 0
    expired: int = 0
    lost: int = 0
    again: Counter[str] = field(default_factory=Counter)

    def lines(self) -> Iterator[str]:
        yield (
            f"{self.runs} runs; pushed {self.pushed}, completed {self.completed}, in the error "
            f"queue {self.buried}, expired {self.expired}, lost {self.lost}, "
            f"run more than once {sum(self.again.values())}"
        )
        for cause, count in self.again.most_common():
            yield f"  {count:5} again: {cause}"


RUNS = {"fails_once": 2, "hangs_once": 2, "overruns": 2}
"""How often a job begins if nothing is struck; else once."""


def strike_everywhere(
    make_place: Callable[[], Place],
    name: str,
    strike: Strike,
    figures: Figures,
    *,
    first: int = 0,
    stride: int = 1,
) -> int:
    """Strike one scenario at point `first`, then every `stride`; how many points it has.

    Raises:
        AssertionError: something was lost, or is in two places; the message names the point.
    """
    target = first
    while True:
        where = _Run(make_place(), SCENARIOS[name], strike, target, figures).run(name)
        if where is None:
            return target
        target += stride


class _Run:
    def __init__(
        self, place: Place, scenario: Scenario, strike: Strike, target: int, figures: Figures
    ) -> None:
        self.scenario, self.strike, self.target = scenario, strike, target
        self.figures = figures
        self.world = World(
            place,
            target if strike.moment else None,
            strike.moment or "refused",
            is_atomic=strike.is_atomic,
            waits=scenario.waits,
        )
        self.before = 0

    def run(self, name: str) -> str | None:
        """Where it was struck; None if it ended before that point."""
        asyncio.run(self._prepare())
        self.world.place.begin_trouble()
        try:
            where = self._act()
        finally:
            self.world.place.end_trouble()
        told = f"{name}: {self.strike} at point {self.target}, {where}"
        try:
            asyncio.run(self._look(where))
        except Exception as error:
            error.add_note(told)
            raise
        return where

    async def _prepare(self) -> None:
        self.world.faults.is_on = False
        await self.scenario.prepare(self.world)
        self.before = await self.world.count()

    def _act(self) -> str | None:
        self.world.faults.is_on = True
        target = self.target if self.strike.way else None
        caller: asyncio.Task[Any] | None = None
        to_end = asyncio.Event()

        def hit(task: "asyncio.Task[Any]") -> None:
            is_the_caller = self.strike.way == "the caller" or task is caller
            if self.strike.way == "all tasks":
                to_end.set()
            elif is_the_caller or caller is None or not _is_ours(task):
                (caller or task).cancel()
            else:
                task.cancel()
                _after_passes(100, caller.cancel)

        points = Points(target, hit)

        async def act() -> None:
            with suppress(Exception):  # what a strike brings is the caller's to see
                await self.scenario.act(self.world)

        async def main() -> None:
            nonlocal caller
            loop = asyncio.get_running_loop()
            ticking: asyncio.Task[None] | None = None
            ended = loop.create_task(to_end.wait())
            points.watch(loop)
            caller = loop.create_task(act())
            if self.strike.moment and self.scenario.waits:
                ticking = loop.create_task(_tick(self.world.clock, caller))
            await asyncio.wait([caller, ended], return_when=asyncio.FIRST_COMPLETED)
            points.end()
            if ticking is not None:
                ticking.cancel()

        asyncio.run(main())
        self.world.faults.is_on = False
        return points.where or self.world.faults.where

    async def _look(self, where: str | None) -> None:
        world, kept = self.world, self.world.ids
        after = await world.count()
        finished = sum(world.is_finished(key) for key in kept)
        new = len(self.scenario.deferred)
        is_atomic = self.strike.is_atomic and world.place.has_atomic_replace
        copies = 1 if is_atomic else 2
        assert len(kept) - finished <= after, "an item is nowhere"
        assert after <= copies * len(kept) + new, "an item is in two places"
        # A push that is refused is one fault; with the strike on its window they would be two.
        if "debounced" in self.scenario.deferred and not world.place.refuses_pushes:
            await self._call_again()
        await world.recover()
        buried = await world.buried()
        self._enter(where, buried)
        await world.close()

    async def _call_again(self) -> None:
        """A later call must be followed by a run that starts after it, within a window."""
        world = self.world
        world.faults.clear()
        runs = world.begun["debounced"]
        await world.debounced.later_async("debounced")
        for _ in range(2):
            while await world.instance.run_once() is not None:
                pass
            world.clock.advance(WINDOW_SECONDS)
        while await world.instance.run_once() is not None:
            pass
        assert world.begun["debounced"] > runs, "an update is lost"

    def _enter(self, where: str | None, buried: list[str]) -> None:
        world, figures = self.world, self.figures
        lost = [
            key
            for key, item_id in world.ids.items()
            if not world.is_finished(key) and item_id not in buried
        ]
        figures.runs += 1
        figures.pushed += world.events["push"]
        figures.completed += sum(world.returned.values())
        figures.buried += len(buried)
        figures.expired += world.events["expire"]
        figures.lost += len(lost)
        assert not lost, f"lost {lost}"
        for key, count in world.begun.items():
            if key == "debounced":
                continue
            more = count - RUNS.get(key.split("-")[0], 1)
            if more > 0:
                assert where is not None, (
                    f"{key} ran {more} times too often, and nothing was struck"
                )
                figures.again[f"{self.strike} ({where})"] += more


async def _tick(clock: MovingClock, until: "asyncio.Task[Any]") -> None:
    """Let time pass: a worker waits before it tries again."""
    while not until.done():
        await asyncio.sleep(0.002)
        clock.advance(0.25)


def _is_ours(task: "asyncio.Task[Any]") -> bool:
    """Whether a task is the library's: nobody but a broker's client can cancel that client's own.

    (aiohttp waits, until it times out, for an answer to what such a task has not written.)
    """
    frame = getattr(task.get_coro(), "cr_frame", None)
    return frame is None or frame.f_globals["__name__"].startswith(("deferrable.", "attacks."))


def _after_passes(count: int, callback: Callable[[], object]) -> None:
    """Call it after so many passes of the running loop."""
    loop = asyncio.get_running_loop()
    if count:
        loop.call_soon(_after_passes, count - 1, callback)
    else:
        callback()
