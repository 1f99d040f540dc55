"""Propose a tick of a schedule, and push its item if it is admitted.

Owns the order: the item is made first, which may fail without I/O. Then come admission and push, in
one step where the store can do both. Otherwise the tick is reserved, pushed and confirmed.

The one rule: the item's id is made from the tick, so the same tick is the same item whatever worker
pushes it. A reservation that is not confirmed ends, and another worker pushes.
"""

import logging
import uuid

from deferrable._error_log import log_error
from deferrable._ticks import Proposal
from deferrable.aio._engine.instance import Instance
from deferrable.aio._engine.new_items import template_of
from deferrable.aio._engine.pushing import emit_event, ready_to_push
from deferrable.aio._engine.running import AwaitingDoor
from deferrable.aio._engine.scheduled import Scheduled
from deferrable.aio.middleware import Deferral
from deferrable.aio.queue import Push
from deferrable.aio.schedules import Admission, ScheduleStore
from deferrable.item import Item, queue_name
from deferrable.outcome import Receipt

__all__ = ["propose", "store_of"]

_logger = logging.getLogger("deferrable")

_door = AwaitingDoor()
_NAMESPACE = uuid.UUID("5b1d0c3e-6a0f-4f0e-9d5c-0c8f2a7e4b91")


def store_of(instance: Instance) -> tuple[ScheduleStore | None, str]:
    """The store of the instance's schedules, and the name of the queue there."""
    return instance.schedule_store, queue_name(instance.backend.group)


async def propose(
    instance: Instance,
    store: ScheduleStore,
    name: str,
    scheduled: Scheduled,
    proposal: Proposal,
    token: str,
) -> Admission:
    """Push the item of a tick, if the store admits the tick.

    Args:
        name: of the queue.
        token: of the worker, which may try again what it has reserved.

    Raises:
        InvalidOptions, UnserializableCall, BackendError: see `deferrable.aio.Job.later`.
    """
    item = _make_item(instance, name, scheduled, proposal)
    item, push = await ready_to_push(instance, _door, item)
    joined = store.joined_with(instance.backend.queue)
    if joined is not None:
        admission = await joined(name, proposal, push)
    else:
        admission = await _push_reserved(instance, store, name, proposal, push, token)
    if admission.verdict == "admitted":
        await emit_event(instance, _door, "push", item)
        _tell_pushed(instance, scheduled, item)
    return admission


def _tell_pushed(instance: Instance, scheduled: Scheduled, item: Item) -> None:
    """Let the middleware know of a tick. Only one of many proposals is pushed, so not before."""
    if instance.around is None:
        return
    deferral = Deferral(scheduled.job.name)
    try:
        with instance.around.around_later(deferral):
            deferral.receipts = [Receipt(item["id"], "pushed", item["last_push_time"])]
    except Exception as error:
        log_error(_logger, error, "middleware failed after a tick was pushed")


def _make_item(instance: Instance, name: str, scheduled: Scheduled, proposal: Proposal) -> Item:
    template = template_of(instance, scheduled.job, scheduled.options)
    now = instance.clock.time()
    _, item = template.make_item(scheduled.args, scheduled.kwargs, now)
    tick = f"{name}\n{proposal.name}\n{proposal.tick_time!r}"
    # The next tick is its own call, also while this one is pending.
    item.pop("unique_key", None)
    item["id"] = str(uuid.uuid5(_NAMESPACE, tick))
    item["schedule"] = proposal.name
    item["tick_time"] = proposal.tick_time
    return item


async def _push_reserved(
    instance: Instance,
    store: ScheduleStore,
    name: str,
    proposal: Proposal,
    push: Push,
    token: str,
) -> Admission:
    reservation = await store.reserve(name, proposal, token)
    if reservation.verdict != "admitted":
        return reservation
    await instance.backend.queue.push(push)
    try:
        await store.confirm(name, proposal, token)
    except Exception as error:
        _logger.warning(
            "a tick of %s was pushed but not confirmed, so it may be pushed again under the same "
            "id: %s",
            proposal.name,
            error,
        )
        return reservation
    return Admission("admitted", proposal.tick_time, reservation.now)
