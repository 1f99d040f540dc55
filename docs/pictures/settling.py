"""What an attempt does to settle its item, in its order, seen from the broker's side.

Owns which endings are tried. Each is run for real, with the hooks of a queue and of a store of
results watched. The queue has no atomic step, so each step is seen alone.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from deferrable.aio import Deferrable, InMemoryResults, backend, current_attempt
from deferrable.aio.queue import Queue
from deferrable.events import EVENTS
from deferrable.testing import MovingClock

__all__ = ["ENDINGS", "Step", "one_step_backends", "settle"]

TTL_SECONDS = 60


class Fault(Exception):
    """What the job raises."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done.

    Attributes:
        name: of it.
        kind: "result", "copy", "end" or "events".
        originals: how many items are still in flight after it.
        copies: how many other items there are after it, in both queues.
    """

    name: str
    kind: str
    originals: int
    copies: int


class Watch:
    """Notes what is done to the queues and the store of an instance."""

    def __init__(self, instance: Deferrable, results: InMemoryResults) -> None:
        self.steps: list[Step] = []
        self.queue, self.errors = instance.backend.queue, instance.backend.error_queue
        queue: Any = self.queue
        queue._replace = lambda *args: Queue._replace(queue, *args)  # in two steps
        self._watch(self.queue, "_push_batch", "push the copy", "copy")
        self._watch(self.errors, "_push_batch", "push to errors", "copy")
        self._watch(self.queue, "_complete_batch", "complete the item", "end")
        self._watch(self.queue, "_release_batch", "release the item", "end")
        self._watch(results, "put", "store the result", "result")
        for event in sorted(EVENTS):
            setattr(self, f"on_{event}", self._consumer_of(event))

    def _watch(self, owner: Any, hook: str, name: str, kind: str) -> None:
        real = getattr(owner, hook)

        async def watched(*args: Any) -> Any:
            done = await real(*args)
            await self._note(name, kind)
            return done

        setattr(owner, hook, watched)

    def _consumer_of(self, event: str) -> Callable[[Any], Awaitable[None]]:
        async def consume(item: Any) -> None:
            await self._note(event, "events")

        return consume

    async def _note(self, name: str, kind: str) -> None:
        main, errors = await self.queue.stats(), await self.errors.stats()
        waiting = ("available", "delayed")
        copies = sum(each[key] for each in (main, errors) for key in waiting)
        self.steps.append(Step(name, kind, int(main["in_flight"]), int(copies)))


async def _return() -> None: ...


async def _raise() -> None:
    raise Fault


async def _be_cancelled() -> None:
    current_attempt()._envelope.stop_job()  # as the keeper does
    await asyncio.sleep(0)


async def _exit() -> None:
    raise SystemExit  # such an item goes back, as those of a worker that stops


ENDINGS: dict[str, tuple[Callable[[], Awaitable[None]], dict[str, Any], float]] = {
    "completed": (_return, {}, 0),
    "retried": (_raise, {"max_attempts": 2, "error_classes": [Fault]}, 0),
    "errored": (_raise, {}, 0),
    "expired": (_return, {}, TTL_SECONDS + 1),
    "cancelled": (_be_cancelled, {}, 0),
    "released": (_exit, {}, 0),
}
"""By outcome: what the job does, its options, and how much time passes before it is popped."""


def settle(ending: str) -> list[Step]:
    """What was done after the job of such an ending, in its order.

    Raises:
        LookupError: it has ended otherwise.
    """
    silent = logging.NullHandler()
    logging.getLogger("deferrable").addHandler(silent)
    try:
        return asyncio.run(_settle(ending))
    finally:
        logging.getLogger("deferrable").removeHandler(silent)


async def _settle(ending: str) -> list[Step]:
    act, options, wait_seconds = ENDINGS[ending]
    clock = MovingClock()
    results = InMemoryResults(clock=clock)
    made = backend.InMemoryBackendFactory(clock=clock).create_backend_for_group("mail")
    async with Deferrable(made, results=results) as instance:
        watch = Watch(instance, results)

        @instance.deferrable(
            name="send", keep_results_seconds=60, ttl_seconds=TTL_SECONDS, **options
        )
        async def send() -> None:
            await act()

        receipt = await send.later_async()
        clock.advance(wait_seconds)
        watch.steps.clear()
        instance.register_event_consumer(watch)
        try:
            outcome = await instance.run_once()
        except SystemExit:
            status = "released"
        else:
            status = "nothing" if outcome is None else outcome.status
        if status != ending:
            raise LookupError(f"call {receipt.id} was to be {ending}, and is {status}")
        return [each for each in watch.steps if each.name != "pop"]


def one_step_backends() -> Sequence[str]:
    """The backends that push a copy and complete its original in one step."""
    factories = {
        "memory": backend.InMemoryBackendFactory(),
        "SQLite": backend.SQLiteBackendFactory("jobs.db"),
        "Redis": backend.DocketsBackendFactory("redis://localhost"),
        "SQS": backend.SQSBackendFactory(),
    }
    queues = {name: each.create_backend_for_group(None).queue for name, each in factories.items()}
    return [name for name, queue in queues.items() if type(queue)._replace is not Queue._replace]
