"""Defer a call: from ``later`` to the queue.

Owns the order of a ``later``. Steps that can fail without I/O come first. Then comes the debounce
decision, which reserves its window, then metadata and the push, then the confirmation of the
window. A door waits and calls on behalf of this module.

If windows and queue are in one place, decision and push are one step, and metadata comes first.

The one rule: if anything fails after a window was reserved, the window is restored, even if the
push may have arrived. A duplicate is allowed; a lost update is not.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from deferrable._fork import notice_fork
from deferrable._option_conflicts import NO_DEBOUNCE_STORE
from deferrable._pauses import growing_seconds
from deferrable.aio._engine.instance import Instance
from deferrable.aio._engine.new_items import set_first_delay, template_of
from deferrable.aio._engine.pushing import (
    add_metadata,
    emit_event,
    push_item,
    receipt_of,
    signed,
    tell_duplicate,
)
from deferrable.aio._engine.registry import RegisteredJob
from deferrable.aio._engine.running import Door
from deferrable.aio.debounce import DebounceKey, DebounceStore, JoinedPush, Reservation
from deferrable.aio.middleware import Deferral
from deferrable.aio.queue import Push, Queue
from deferrable.debounce import (
    RESERVATION_SECONDS,
    PushDelayed,
    Skip,
    classic_keys,
    identity,
    identity_of_key,
)
from deferrable.errors import (
    BackendError,
    BackendUnavailable,
    DeferrableError,
    DuplicateCall,
    InvalidOptions,
)
from deferrable.item import Item
from deferrable.options import (
    JobOptions,
    ResolvedOptions,
)
from deferrable.outcome import Receipt

__all__ = ["defer", "defer_many"]

_logger = logging.getLogger("deferrable")


class _Debounced:
    """A debounced call, with its options."""

    # No dataclass: a field that is a job would be a method to type checkers.
    __slots__ = ("args", "job", "kwargs", "options")

    def __init__(
        self,
        job: RegisteredJob,
        options: JobOptions,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.job = job
        self.options = options
        self.args = args
        self.kwargs = kwargs


async def defer(
    instance: Instance,
    door: Door,
    job: RegisteredJob,
    options: JobOptions,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    is_inside: bool = False,
) -> Receipt:
    """Push one call, or skip it if it is debounced and an equal one is pending.

    Args:
        is_inside: the middleware was entered.

    Raises:
        InvalidOptions: an option that is a callable returned a value out of range.
        UnserializableCall: no other process could run the call.
        ArgumentMismatch: the function would reject the call.
        BackendError: the push failed; see `Queue.push`.
    """
    if instance.around is not None and not is_inside:
        deferral = Deferral(job.name)
        with instance.around.around_later(deferral):
            receipt = await defer(instance, door, job, options, args, kwargs, is_inside=True)
            deferral.receipts = [receipt]
        return receipt
    notice_fork()
    now = instance.clock.time()
    resolved, item = template_of(instance, job, options).make_item(args, kwargs, now)
    if resolved.debounce_seconds or instance.metadata_producer_consumers:
        # Before a window is reserved or metadata is produced; otherwise the push checks it as
        # early.
        instance.backend.queue.prepare(item, is_plain=True)
    if not resolved.debounce_seconds:
        return await push_item(instance, door, item, now)
    call = _Debounced(job, options, args, kwargs)
    return await _debounce(instance, door, call, resolved, item)


async def defer_many(
    instance: Instance,
    door: Door,
    job: RegisteredJob,
    options: JobOptions,
    calls: Iterable[tuple[tuple[Any, ...], dict[str, Any]]],
) -> list[Receipt]:
    """Push many calls in native batches, inside of the middleware.

    Args:
        calls: the positional and the keyword arguments of each.

    Raises:
        InvalidOptions: the options have an id, which is for one call.
        BackendError: some calls were not pushed; its ``receipts`` has None for those.
    """
    if options.call_id is not None:
        raise InvalidOptions(
            f"call_id={options.call_id!r} is the id of one call; use later, or leave it out"
        )
    if instance.around is None:
        return await _defer_many(instance, door, job, options, calls)
    deferral = Deferral(job.name, is_batch=True)
    with instance.around.around_later(deferral):
        receipts = await _defer_many(instance, door, job, options, calls)
        deferral.receipts = receipts
    return receipts


async def _defer_many(
    instance: Instance,
    door: Door,
    job: RegisteredJob,
    options: JobOptions,
    calls: Iterable[tuple[tuple[Any, ...], dict[str, Any]]],
) -> list[Receipt]:
    """Push many calls in native batches; each is resolved and serialized before any is pushed.

    Args:
        calls: the positional and the keyword arguments of each.

    Raises:
        BackendError: some calls were not pushed; its ``receipts`` has None for those.
    """
    notice_fork()
    now, queue = instance.clock.time(), door.here(instance.backend.queue)
    receipts: list[Receipt | None] = []
    debounced: list[tuple[int, _Debounced, ResolvedOptions, Item]] = []
    # Little is kept for each: the garbage collector looks at everything that stays.
    indexes: list[int] = []
    pushes: list[Push] = []
    template = template_of(instance, job, options)
    for index, (args, kwargs) in enumerate(calls):
        resolved, item = template.make_item(args, kwargs, now)
        push = queue.prepare(item, is_plain=True)
        receipts.append(None)
        if resolved.debounce_seconds:
            call = _Debounced(job, options, args, kwargs)
            debounced.append((index, call, resolved, item))
        else:
            indexes.append(index)
            pushes.append(push)
    entries: Sequence[Item | Push] = pushes
    if instance.metadata_producer_consumers or instance.protection.signs:
        for push in pushes:
            await add_metadata(instance, door, push.item)
        entries = [signed(instance, push.item) for push in pushes]
    failures: list[Exception] = []
    for index, call, resolved, item in debounced:
        try:
            receipts[index] = await _debounce(instance, door, call, resolved, item)
        except DeferrableError as error:
            failures.append(error)
    outcomes = await door.wait(queue.push_each(entries), needs_loop=queue.needs_loop)
    for index, entry, outcome in zip(indexes, entries, outcomes, strict=True):
        if outcome is None:
            item = entry.item if isinstance(entry, Push) else entry
            if instance.event_consumers:
                await emit_event(instance, door, "push", item)
            receipts[index] = receipt_of(instance, item, now)
        elif isinstance(outcome, DuplicateCall):
            item = entry.item if isinstance(entry, Push) else entry
            receipts[index] = await tell_duplicate(instance, door, item, outcome, now)
        else:
            failures.append(outcome)
    return _all_or_raise(receipts, failures)


def _all_or_raise(receipts: list[Receipt | None], failures: list[Exception]) -> list[Receipt]:
    pushed = [receipt for receipt in receipts if receipt is not None]
    if len(pushed) == len(receipts):
        return pushed
    missing = [index for index, receipt in enumerate(receipts) if receipt is None]
    error = BackendError(
        f"{len(missing)} of {len(receipts)} calls were not pushed, the first at index "
        f"{missing[0]}: {failures[0]}; see this error's receipts, which has None for each of them"
    )
    error.receipts = receipts
    raise error from failures[0]


async def _debounce(
    instance: Instance,
    door: Door,
    call: _Debounced,
    resolved: ResolvedOptions,
    item: Item,
) -> Receipt:
    store = instance.debounce_store
    if store is None:  # the instance was given another backend after the options were checked
        raise InvalidOptions(NO_DEBOUNCE_STORE)
    key, token = _debounce_key(instance, call, item), item["id"]
    item["debounce_window"] = key.text  # a cancellation finds the window by it
    always_delay = call.options.debounce_always_delay
    queue = door.here(instance.backend.queue)
    joined = _joined_push(instance, store, queue, item)
    if joined is not None:
        await add_metadata(instance, door, item)
        pushing = joined(item, key, resolved.debounce_seconds, always_delay, token)
        return await _push_joined(instance, door, call, item, pushing)
    try:
        reserved = await door.wait(
            _reserve(store, key, resolved.debounce_seconds, always_delay, token)
        )
    except BaseException as error:
        # It may have been reserved all the same.
        await _put_back(door, store, key, token)
        if not isinstance(error, Exception):
            raise
        return await _push_anyway(instance, door, call, item, error)
    if reserved is None:
        return await push_item(instance, door, item, instance.clock.time())
    if isinstance(reserved.decision, Skip):
        return await _tell_skipped(instance, door, item, reserved)
    try:
        receipt = await _push_reserved(instance, door, item, reserved)
    except BaseException:
        await _put_back(door, store, key, token)
        raise
    if receipt.status == "duplicate":
        await _put_back(door, store, key, token)
    else:
        await _confirm(door, store, key, token)
    return receipt


async def _push_joined(
    instance: Instance,
    door: Door,
    call: _Debounced,
    item: Item,
    pushing: Coroutine[Any, Any, Reservation],
) -> Receipt:
    needs_loop = door.here(instance.backend.queue).needs_loop
    try:
        reservation = await door.wait(pushing, needs_loop=needs_loop)
    except DuplicateCall as duplicate:
        return await tell_duplicate(instance, door, item, duplicate, instance.clock.time())
    except BackendUnavailable:
        raise  # It may have been pushed, and its window kept, as after any push.
    except BackendError as error:
        return await _push_anyway(instance, door, call, item, error)
    return await _tell_joined(instance, door, item, reservation)


def _joined_push(
    instance: Instance, store: DebounceStore, queue: Queue, item: Item
) -> JoinedPush | None:
    """The one step that decides and pushes; None: it takes two for this item."""
    if instance.protection.signs:
        return None  # The one step changes the item in the store, where nobody can sign it.
    joined = store.joined_with(queue)
    return joined if "unique_key" not in item or getattr(joined, "keeps_keys", False) else None


async def _reserve(
    store: DebounceStore, key: DebounceKey, window_seconds: float, always_delay: bool, token: str
) -> Reservation | None:
    """The store's decision, which relies on no push that may still fail.

    Returns:
        None: a push was under way for longer than any reservation lasts. A duplicate is allowed.
    """
    waited_seconds, looks = 0.0, 0
    while waited_seconds <= RESERVATION_SECONDS:
        reservation = await store.reserve(key, window_seconds, always_delay, token)
        if reservation.is_pushed:
            return reservation
        looks += 1
        pause_seconds = growing_seconds(looks, _FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        await asyncio.sleep(pause_seconds)
        waited_seconds += pause_seconds
    return None


_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.005, 0.2


async def _push_anyway(
    instance: Instance, door: Door, call: _Debounced, item: Item, error: Exception
) -> Receipt:
    """A broken store never stops work."""
    _logger.error("cannot debounce %s, it is pushed at once: %s", call.job.name, error)
    await emit_event(instance, door, "debounce_error", item)
    return await push_item(instance, door, item, instance.clock.time())


async def _tell_skipped(
    instance: Instance, door: Door, item: Item, reservation: Reservation
) -> Receipt:
    await emit_event(instance, door, "debounce_hit", item)
    available_time, pending_id = reservation.available_time, reservation.pending_id
    return Receipt(None, "skipped", available_time, pending_id, source=instance)


async def _tell_joined(
    instance: Instance, door: Door, item: Item, reservation: Reservation
) -> Receipt:
    """Emit and return what the one step has decided and done."""
    if isinstance(reservation.decision, Skip):
        return await _tell_skipped(instance, door, item, reservation)
    _set_decided_delay(instance, item, reservation)
    for event in ("debounce_miss", "push"):
        await emit_event(instance, door, event, item)
    return receipt_of(instance, item, reservation.available_time)


async def _push_reserved(
    instance: Instance, door: Door, item: Item, reservation: Reservation
) -> Receipt:
    now = _set_decided_delay(instance, item, reservation)
    await emit_event(instance, door, "debounce_miss", item)
    return await push_item(instance, door, item, now)


def _set_decided_delay(instance: Instance, item: Item, reservation: Reservation) -> float:
    """Delay the item as decided, until a moment of the store's clock; returns now."""
    now, decision = instance.clock.time(), reservation.decision
    if isinstance(decision, PushDelayed):
        set_first_delay(instance, item, decision.delay_seconds, now)
        if decision.delay_seconds > 0:
            item["due_time"] = reservation.available_time
    return now


async def _put_back(door: Door, store: DebounceStore, key: DebounceKey, token: str) -> None:
    try:
        await door.finish(lambda: store.restore(key, token))
    except Exception as error:
        _logger.warning("a debounce window is restored only when its reservation ends: %s", error)


async def _confirm(door: Door, store: DebounceStore, key: DebounceKey, token: str) -> None:
    try:
        await door.finish(lambda: store.confirm(key, token))
    except Exception as error:
        _logger.warning("a debounce window ends with its reservation: %s", error)


def _debounce_key(instance: Instance, call: _Debounced, item: Item) -> DebounceKey:
    make, group, name = call.options.debounce_key, instance.backend.group, call.job.name
    if make is not None:
        return DebounceKey(identity_of_key(group, name, make(*call.args, **call.kwargs)))
    classic = classic_keys(item) if instance.serializer.name == "classic" else None
    return DebounceKey(identity(group, name, call.args, call.kwargs), classic)
