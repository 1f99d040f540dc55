"""Run an item once more, without any effect on its queues.

Owns the replay: a real attempt by the engine at a copy of the item, on a backend that is thrown
away. So the job sees its metadata, its middleware and `current_attempt`, and the end of the attempt
is decided as in a worker.

The one rule: the item, its queue, the results and the listeners of the instance learn nothing of
it. What the job itself does is real.
"""

import asyncio
import copy
from contextvars import copy_context

from deferrable.aio._contract.tasks import start_task, until_done
from deferrable.aio._engine.attempt import Attempt, outcome_of
from deferrable.aio._engine.instance import Instance
from deferrable.aio._engine.task_door import TaskDoor
from deferrable.aio.backend.base import Backend
from deferrable.aio.middleware import Registered
from deferrable.item import Item
from deferrable.lifecycle import requeued
from deferrable.outcome import Outcome

__all__ = ["replay"]


async def replay(instance: Instance, backend: Backend, item: Item, state: object) -> Outcome:
    """Make the attempt that failed last once more.

    Args:
        backend: an empty one in memory, of the same group, which nobody else uses.
        item: as it is in the error queue.
        state: the value of the instance's lifespan.

    Raises:
        UnreadableItem: the instance must not read it.
        asyncio.CancelledError: the caller was cancelled; the job was told to stop.
    """
    instance.protection.check(item, backend.group)
    shown = {**requeued(item, instance.clock.time()), "attempts": item.get("attempts", 0)}
    for name in ("unique_key", "deduplication_id"):
        shown.pop(name, None)
    await backend.queue.push(instance.protection.signed(shown, backend.group))
    envelope, popped = await backend.queue.pop()
    assert envelope is not None
    assert popped is not None
    context = copy_context()
    door = _Door(context, bool)
    attempt = Attempt(_deaf(instance, backend), door, envelope, popped, context, state)
    running = start_task(asyncio.get_running_loop(), attempt.run_job(completes=True), context)
    try:
        if not running.done():
            await asyncio.wait([running])
    except asyncio.CancelledError:
        attempt.control.stop("cancelled")
        await until_done(running)
        raise
    try:
        return outcome_of(running.result())
    finally:
        del running  # an error's traceback holds this frame


class _Door(TaskDoor):
    __slots__ = ()
    exits_are_failures = True


def _deaf(instance: Instance, backend: Backend) -> Instance:
    """The same jobs on another backend, with nobody who listens."""
    deaf = copy.copy(instance)
    deaf.backend = backend
    deaf.event_consumers = ()
    deaf._results = None
    if instance.around is not None:
        deaf.around = Registered(instance.around.all)
        deaf.around.ends = ()
    return deaf
