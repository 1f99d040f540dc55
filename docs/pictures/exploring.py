"""What can happen to an item, found by trying everything in every state.

Owns what is tried. The states are those that a handle shows. Everything runs in memory, on a clock
that is moved, from the first push on.

The one rule: nothing about the states is written down here. An action is tried in each state that
was reached, and what it changes is seen through the handle.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import get_args

from deferrable.aio import Deferrable, InMemoryResults, Receipt, backend, current_attempt
from deferrable.handles import CallStatus
from deferrable.testing import MovingClock

__all__ = ["explore"]

START = "start"
UNKNOWN = "unknown"
LEASE_SECONDS, TTL_SECONDS = 30, 3600


class Fault(Exception):
    """What the job raises."""


class Stage:
    """One call, and what was seen of it."""

    def __init__(self, instance: Deferrable, clock: MovingClock) -> None:
        self.instance = instance
        self.queue = instance.backend.queue
        self.clock = clock
        self.receipt: Receipt | None = None
        self.status = START
        self.attempt: int | None = None
        self.waits = False
        self.seen: list[tuple[str, str, str]] = []
        self.act: Callable[[], Awaitable[None]] = self._return
        self.job = instance.deferrable(
            name="send",
            error_classes=[Fault],
            max_attempts=2,
            ttl_seconds=TTL_SECONDS,
            keep_results_seconds=TTL_SECONDS,
        )(self._job)

    async def _job(self) -> None:
        await self.see("pop")
        await self.act()

    async def _return(self) -> None: ...

    async def see(self, action: str) -> None:
        """Note what `action` has changed."""
        assert self.receipt is not None
        state = await self.receipt.state_async()
        if state.status != self.status:
            self.seen.append((self.status, state.status, action))
        self.status, self.attempt = state.status, state.attempt
        self.waits = (state.available_time or 0.0) > self.clock.time()

    # What may happen.

    async def defer(self) -> None:
        self.receipt = await self.job.later_async()
        await self.see("later()")

    async def defer_with_delay(self) -> None:
        self.receipt = await self.job.options(delay_seconds=60).later_async()
        await self.see("with a delay")

    async def reach_its_time(self) -> None:
        self.clock.advance(60)
        await self.see("time comes")

    async def hasten(self) -> None:
        if self.receipt is not None and await self.receipt.run_now_async():
            await self.see("run_now()")

    async def succeed(self) -> None:
        self.act = self._return
        await self.instance.run_once()
        await self.see("returns")

    async def fail(self) -> None:
        async def act() -> None:
            raise Fault

        self.act = act
        outcome = await self.instance.run_once()
        is_retried = outcome is not None and outcome.status == "retried"
        await self.see("raises, attempts left" if is_retried else "fails for good")

    async def expire(self) -> None:
        self.clock.advance(TTL_SECONDS + 1)
        await self.instance.run_once()
        await self.see("ttl ends")

    async def be_silent(self) -> None:
        if (await self.queue.pop())[0] is not None:
            await self.see("pop")
            self.clock.advance(LEASE_SECONDS)
            await self.see("lease ends")

    async def be_silent_too_often(self) -> None:
        while (await self.queue.pop())[0] is not None:
            await self.see("pop")
            self.clock.advance(LEASE_SECONDS)
        await self.see("leases end")

    async def give_back(self) -> None:
        envelope, _ = await self.queue.pop()
        if envelope is not None:
            await self.see("pop")
            await self.queue.release(envelope)
            await self.see("release")

    async def cancel(self) -> None:
        if self.receipt is not None and await self.receipt.cancel_async() == "cancelled":
            await self.see("cancel()")

    async def stop(self) -> None:
        async def act() -> None:
            assert self.receipt is not None
            await self.receipt.cancel_async(stop=True)
            current_attempt()._envelope.stop_job()  # as the keeper does at its next touch
            await asyncio.sleep(0)
            raise Fault("was not stopped")

        self.act = act
        await self.instance.run_once()
        await self.see("cancel(stop)")

    async def requeue(self) -> None:
        async for failed in self.instance.errors():
            await failed.requeue()
            await self.see("requeue()")


ACTIONS: Sequence[Callable[[Stage], Awaitable[None]]] = (
    Stage.defer,
    Stage.defer_with_delay,
    Stage.reach_its_time,
    Stage.hasten,
    Stage.succeed,
    Stage.fail,
    Stage.be_silent,
    Stage.give_back,
    Stage.be_silent_too_often,
    Stage.cancel,
    Stage.stop,
    Stage.expire,
    Stage.requeue,
)


def explore() -> dict[tuple[str, str], list[str]]:
    """What leads from each state to each other one.

    Raises:
        LookupError: there is a state that no action reaches.
    """
    silent = logging.NullHandler()
    logging.getLogger("deferrable").addHandler(silent)
    try:
        found = asyncio.run(_explore())
    finally:
        logging.getLogger("deferrable").removeHandler(silent)
    unreached = set(get_args(CallStatus)) - {target for _, target in found} - {UNKNOWN}
    if unreached:
        raise LookupError(f"no action reaches {', '.join(unreached)}; add one to ACTIONS")
    return found


async def _explore() -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], dict[str, None]] = {}
    known: set[tuple[str, int | None, bool]] = set()
    ways: deque[list[Callable[[Stage], Awaitable[None]]]] = deque([[]])
    while ways:
        way = ways.popleft()
        for action in ACTIONS:
            if (action in (Stage.defer, Stage.defer_with_delay)) != (not way):
                continue
            stage = await _tried([*way, action])
            for source, target, name in stage.seen:
                if UNKNOWN not in (source, target):
                    found.setdefault((source, target), {})[name] = None
            place = (stage.status, stage.attempt, stage.waits)
            if place not in known:
                known.add(place)
                ways.append([*way, action])
    return {edge: list(names) for edge, names in found.items()}


async def _tried(way: Sequence[Callable[[Stage], Awaitable[None]]]) -> Stage:
    clock = MovingClock()
    factory = backend.InMemoryBackendFactory(
        visibility_timeout=LEASE_SECONDS, max_redeliveries=1, clock=clock
    )
    made = factory.create_backend_for_group("mail")
    async with Deferrable(made, results=InMemoryResults(clock=clock)) as instance:
        stage = Stage(instance, clock)
        for action in way:
            await action(stage)
    return stage
