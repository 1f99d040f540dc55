"""Push a new item: its metadata, its signature, the push, and the events and receipt of it.

Owns what every new item passes on its way to a queue: that of a ``later``, of a tick of a schedule,
and of a message of others.
"""

from collections.abc import Mapping
from typing import Any

from deferrable._ended import Raised
from deferrable.aio._engine.emitting import emit, log_or_raise
from deferrable.aio._engine.instance import Instance
from deferrable.aio._engine.new_items import template_of
from deferrable.aio._engine.registry import RegisteredJob
from deferrable.aio._engine.running import Door
from deferrable.aio.queue import Push
from deferrable.errors import DuplicateCall, InvalidOptions, UnserializableCall
from deferrable.item import Item
from deferrable.metadata import metadata_field
from deferrable.options import JobOptions
from deferrable.outcome import Receipt

__all__ = [
    "add_metadata",
    "emit_event",
    "item_for",
    "push_item",
    "ready_to_push",
    "receipt_of",
    "signed",
    "tell_duplicate",
]


async def tell_duplicate(
    instance: Instance, door: Door, item: Item, duplicate: DuplicateCall, now: float
) -> Receipt:
    """Emit that a call was not pushed, because an equal one is pending."""
    await emit_event(instance, door, "duplicate", item)
    return Receipt(None, "duplicate", now, duplicate.holder_id, source=instance)


async def push_item(instance: Instance, door: Door, item: Item, now: float) -> Receipt:
    """Push a new item, and emit it. If another call holds its unique key, say so."""
    if instance.metadata_producer_consumers:
        await add_metadata(instance, door, item)
    queue = door.here(instance.backend.queue)
    if instance.protection.signs:
        item = signed(instance, item)
    push = queue.prepare(item, is_plain=True)
    try:
        await door.wait(queue.push(push), needs_loop=queue.needs_loop)
    except DuplicateCall as duplicate:
        return await tell_duplicate(instance, door, item, duplicate, now)
    if instance.event_consumers:
        await emit_event(instance, door, "push", item)
    return receipt_of(instance, item, now)


async def ready_to_push(instance: Instance, door: Door, item: Item) -> tuple[Item, Push]:
    """A new item with its metadata and signature, and the push of it, for another step.

    `push_item` does the same in place: one more coroutine would cost each ``later`` time.
    """
    if instance.metadata_producer_consumers:
        await add_metadata(instance, door, item)
    if instance.protection.signs:
        item = signed(instance, item)
    return item, door.here(instance.backend.queue).prepare(item, is_plain=True)


def item_for(
    instance: Instance,
    job: RegisteredJob,
    options: JobOptions,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    now: float,
    fields: Item,
) -> Item:
    """The item for a call that somebody else has caused, and that nobody pushes; signed.

    Args:
        fields: more of its fields; where the options give an attribute or a group, they win.

    Raises:
        InvalidOptions: the call is debounced, and an option to ``later`` decides nothing here.
        UnserializableCall, ArgumentMismatch: see `defer`.
    """
    resolved, item = template_of(instance, job, options).make_item(args, kwargs, now)
    if resolved.debounce_seconds:
        raise InvalidOptions(
            f"{job.name} has debounce_seconds={resolved.debounce_seconds!r}, and only later() "
            "debounces; give the call of a message of others job.options(debounce_seconds=0)"
        )
    attributes = {**fields.get("attributes", {}), **item.get("attributes", {})}
    item = {**fields, **item, "id": fields["id"]}
    if attributes:
        item["attributes"] = attributes
    return signed(instance, item)


def signed(instance: Instance, item: Item) -> Item:
    """The item with its signature, if the instance signs."""
    return instance.protection.signed(item, instance.backend.group)


async def add_metadata(instance: Instance, door: Door, item: Item) -> None:
    """Add to an item what the producers of metadata return.

    Raises:
        UnserializableCall: the serializer cannot write it.
    """
    field = metadata_field(item)
    if field in item:
        return  # It was asked for before a step that was then replaced by another.
    for producer in instance.metadata_producer_consumers:
        ended = await door.call(None, producer.produce_metadata)
        if isinstance(ended, Raised):
            log_or_raise(door, f"{type(producer).__qualname__}.produce_metadata", ended.error)
            continue
        try:
            encoded = instance.serializer.dump_value(ended.value)
        except UnserializableCall as error:
            raise UnserializableCall(
                f"what {type(producer).__qualname__}.produce_metadata returned cannot be sent: "
                f"{error}"
            ) from error
        item.setdefault(field, {})[producer.NAMESPACE] = encoded


async def emit_event(instance: Instance, door: Door, event: str, item: Item) -> None:
    """Tell the event consumers of an item that was not popped."""
    if instance.event_consumers:
        await emit(door, instance.event_consumers, event, item, None)


def receipt_of(instance: Instance, item: Item, now: float) -> Receipt:
    """What a caller of ``later`` gets for an item that was pushed."""
    due_time = item.get("due_time")
    if due_time is None:
        return Receipt(item["id"], "pushed", now, source=instance)
    return Receipt(item["id"], "delayed", due_time, source=instance)
