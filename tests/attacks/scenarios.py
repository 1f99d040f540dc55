"""What is attacked at every point: one thing that a user has the library do.

Owns the scenarios: what is there at first, what is done under attack, and what has to hold for it.
A new scenario is a function in `SCENARIOS`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from attacks.world import WINDOW_SECONDS, World

__all__ = ["SCENARIOS", "Scenario"]

Step = Callable[[World], Awaitable[object]]


@dataclass(frozen=True)
class Scenario:
    """One thing that is done.

    Attributes:
        prepare: what is there before, not under attack; it enters the items that have to be kept.
        act: what is attacked.
        deferred: the keys of the calls that `act` defers, which may or may not arrive.
        waits: pops wait, as workers have it.
        is_long: of hundreds of points; the short version tries a few of them.
    """

    prepare: Step
    act: Step
    deferred: tuple[str, ...] = ()
    waits: bool = False
    is_long: bool = False


async def nothing(world: World) -> None:
    return


def there_is(*jobs: str) -> Step:
    """There is an item of each of these jobs."""

    async def prepare(world: World) -> None:
        for index, name in enumerate(jobs):
            await world.defer(name, f"{name}-{index}")

    return prepare


async def run_once(world: World) -> None:
    await world.instance.run_once()


async def there_is_one_that_expired(world: World) -> None:
    await world.defer("expires", "expires")
    world.may_expire.add("expires")
    world.clock.advance(6)


async def there_is_one_popped_too_early(world: World) -> None:
    # As a broker with a shorter maximum would hand it out.
    world.backend.queue.KEEPS_DELAYS = False  # type: ignore[misc] # this one object's
    await world.defer("works", "works")
    envelope, item = await world.broker.queue.pop()
    assert envelope is not None
    assert item is not None
    early = {**item, "due_time": world.clock.time() + 50}
    await world.broker.queue.replace(envelope, early)


async def there_is_a_failed_one(world: World) -> None:
    await world.defer("works", "works")
    await world.bury()


async def later(world: World) -> None:
    await world.works.later_async("new")


async def later_many(world: World) -> None:
    await world.works.later_many_async([("a",), ("b",), ("c",)])


async def later_debounced(world: World) -> None:
    await world.debounced.later_async("debounced")


async def a_window_is_open(world: World) -> None:
    """The first call has run; the next one is delayed."""
    await world.defer("debounced", "debounced")
    await world.instance.run_once()
    world.clock.advance(WINDOW_SECONDS / 4)


async def one_is_pending(world: World) -> None:
    """The next call is skipped."""
    await a_window_is_open(world)
    await world.defer("debounced", "debounced")


async def requeue(world: World) -> None:
    async for entry in world.instance.errors():
        await entry.requeue()


async def look_at_errors(world: World) -> None:
    async for _ in world.instance.errors():
        pass


def work(concurrency: int, outcomes: int) -> Step:
    """A worker makes so many attempts, and is left."""

    async def act(world: World) -> None:
        async with world.instance.worker(concurrency=concurrency, grace_seconds=0) as worker:
            for _ in range(outcomes):
                await worker.next_outcome()

    return act


async def work_and_leave_in_the_midst(world: World) -> None:
    async with world.instance.worker(concurrency=3, grace_seconds=0):
        await world.has_begun.wait()


async def prefetch_and_give_back(world: World) -> None:
    """What was prefetched for quick jobs waits behind one that hangs."""
    async with world.instance.worker(concurrency=1, prefetch=20, grace_seconds=0):
        await world.has_begun.wait()
        world.clock.advance(1)
        for _ in range(10):
            await asyncio.sleep(0)


SCENARIOS: dict[str, Scenario] = {
    "run": Scenario(there_is("works"), run_once),
    "run plain": Scenario(there_is("plain"), run_once),
    "retry": Scenario(there_is("fails_once"), run_once),
    "error": Scenario(there_is("fails"), run_once),
    "time out": Scenario(there_is("overruns"), run_once),
    "expire": Scenario(there_is_one_that_expired, run_once),
    "hop": Scenario(there_is_one_popped_too_early, run_once),
    "run of nothing": Scenario(nothing, run_once),
    "requeue": Scenario(there_is_a_failed_one, requeue),
    "look at errors": Scenario(there_is_a_failed_one, look_at_errors),
    "later": Scenario(nothing, later, deferred=("new",)),
    "later many": Scenario(nothing, later_many, deferred=("a", "b", "c")),
    "debounce, first": Scenario(nothing, later_debounced, deferred=("debounced",)),
    "debounce, delayed": Scenario(a_window_is_open, later_debounced, deferred=("debounced",)),
    "debounce, pending": Scenario(one_is_pending, later_debounced, deferred=("debounced",)),
    "worker": Scenario(
        there_is("works", "plain", "fails_once", "fails", "works"),
        work(concurrency=2, outcomes=5),
        waits=True,
        is_long=True,
    ),
    "shutdown": Scenario(
        there_is("hangs_once", "works", "works"),
        work_and_leave_in_the_midst,
        waits=True,
    ),
    "prefetch": Scenario(
        there_is(*["works"] * 4, "hangs_once", *["works"] * 3),
        prefetch_and_give_back,
        waits=True,
    ),
}
