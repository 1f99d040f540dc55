"""The Redis backend, which uses the protocol of Dockets.

Owns what each verb of the contract does to the queue of jobs: Redis lists, a sorted set and a
hash, shared with Dockets 0.4.2 of Python 2. The errors hash has its own queue, see
`DocketsErrorQueue`.

The one rule: an entry is found again by its bytes, in this consumer's own working list. If it is
not there any more, somebody else has settled it, and nothing is settled here.
"""

import hashlib
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from deferrable.aio._contract.inspecting import Found
from deferrable.aio._contract.popping import Popped
from deferrable.aio.backend._redis.link import RedisLinks
from deferrable.aio.backend.dockets._base import DocketsBase, fail, lost
from deferrable.aio.backend.dockets._commands import in_chunks, repeating
from deferrable.aio.backend.dockets._consumer import Consumer, Held
from deferrable.aio.backend.dockets._finding import Finder
from deferrable.aio.backend.dockets._moves import Move, Where, as_redelivery
from deferrable.aio.backend.dockets._outside import Outside
from deferrable.aio.backend.dockets._pausing import Pauses
from deferrable.aio.backend.dockets._popping import ConsumerPopper
from deferrable.aio.backend.dockets._reporting import Reports
from deferrable.aio.backend.dockets._unique import Candidate, UniqueKeys
from deferrable.aio.backend.dockets._upkeep import Upkeep
from deferrable.aio.backend.dockets._wire import Key, envelope_around, push_time_in
from deferrable.aio.clock import Clock, SystemClock
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Push, Queue, Release, Touch
from deferrable.errors import BackendError, InvalidOptions, ItemTooLarge
from deferrable.item import new_id
from deferrable.pause import Pause
from deferrable.worker_reports import WorkerReport

__all__ = ["DocketsQueue"]


class DocketsQueue(DocketsBase):
    """A producer and consumer of one queue in Redis. Made by `DocketsBackendFactory`.

    One such object in one process is one consumer, whatever threads and event loops use it.
    """

    IS_FOR_ERRORS = False
    KEEPS_DELAYS = True
    SUPPORTS_CANCEL = True
    SUPPORTS_INSPECTION = True
    SUPPORTS_UNIQUE = True
    SUPPORTS_PAUSE = True
    SUPPORTS_WORKERS = True

    def __init__(
        self,
        name: str,
        links: RedisLinks,
        wait_time: float,
        timeout: float,
        max_redeliveries: int,
        max_lease_seconds: float | None,
        max_item_bytes: int,
        clock: Clock | None,
    ) -> None:
        super().__init__(name, links, timeout, max_lease_seconds, clock)
        self.max_redeliveries = max_redeliveries
        self.MAX_ITEM_BYTES = max_item_bytes
        self._consumer = Consumer()
        self._outside = Outside(self._commands)
        self._finder = Finder(self._commands, self._outside, self.clock)
        self._unique = UniqueKeys(self._commands, self.clock)
        self._upkeep = Upkeep(self._consumer, self._commands, self.clock, max_redeliveries, timeout)
        self._pauses = Pauses(self._commands, self.clock, is_injected=clock is not None)
        self._reports = Reports(self._commands, self.clock, is_injected=clock is not None)
        self._popper = ConsumerPopper(
            self._consumer,
            self._commands,
            self._upkeep,
            self._pauses,
            wait_seconds=wait_time,
            lease_seconds=timeout,
            max_lease_seconds=math.inf if max_lease_seconds is None else max_lease_seconds,
            clock=self.clock,
            injected_clock=clock,
        )

    def _without_loop(self) -> Queue | None:
        is_new = self._view is None
        view = super()._without_loop()
        if is_new and isinstance(view, DocketsQueue):
            view._unique = UniqueKeys(view._commands, view.clock)
        return view

    # Push.

    def _travelling_bytes(self, text: str, *, is_new: bool) -> int:
        return len(text) if is_new else 0  # The limit is for new items.

    def _too_large(self, size: int) -> ItemTooLarge:
        return ItemTooLarge(
            f"the item is {size} bytes, {self!r} takes at most {self._most_item_bytes()}; pass a "
            "reference to the data instead of the data, or raise max_item_bytes"
        )

    async def _push_batch(self, pushes: Sequence[Push]) -> Sequence[Exception | None]:
        if [push for push in pushes if push.unique_key is not None]:
            return [each for chunk in in_chunks(pushes) for each in await self._push_unique(chunk)]
        if len(pushes) == 1:
            return [await self._push_one(pushes)]
        outcomes: list[Exception | None] = [None] * len(pushes)
        at_once = [index for index, push in enumerate(pushes) if not push.delay_seconds]
        delayed = [index for index, push in enumerate(pushes) if push.delay_seconds]
        for indexes in (at_once, delayed):
            for chunk in in_chunks(indexes):
                await self._push_chunk(pushes, chunk, outcomes)
        return outcomes

    async def _push_chunk(
        self, pushes: Sequence[Push], chunk: Sequence[int], outcomes: list[Exception | None]
    ) -> None:
        """Push those at the indexes of `chunk`, all at once or all delayed.

        Redis has read nothing of a command with an item that is too large for it. Halves are pushed
        then, in their order, until that item is alone.
        """
        try:
            await self._store([pushes[index] for index in chunk])
        except ItemTooLarge as error:
            if len(chunk) == 1:
                outcomes[chunk[0]] = _too_large_for_redis(pushes[chunk[0]], error)
                return
            middle = len(chunk) // 2
            await self._push_chunk(pushes, chunk[:middle], outcomes)
            await self._push_chunk(pushes, chunk[middle:], outcomes)
        except BackendError as error:
            fail(outcomes, chunk, error)

    async def _push_unique(self, pushes: Sequence[Push]) -> Sequence[Exception | None]:
        """Push items of which some have a unique key, in their order; see `_push_chunk`."""
        now = self.clock.time()
        entries = [(push, *self._entry(push, now)) for push in pushes]
        candidates = [
            Candidate(unique_key_in(push), delayed_id, push.delay_seconds, text)
            for push, delayed_id, text in entries
        ]
        try:
            return await self._unique.push(candidates)
        except ItemTooLarge as error:
            if len(pushes) == 1:
                return [_too_large_for_redis(pushes[0], error)]
            middle = len(pushes) // 2
            halves = pushes[:middle], pushes[middle:]
            return [each for half in halves for each in await self._push_unique(half)]
        except BackendError as error:
            return [error] * len(pushes)

    async def _push_one(self, pushes: Sequence[Push]) -> BackendError | None:
        try:
            await self._store(pushes)
        except ItemTooLarge as error:
            return _too_large_for_redis(pushes[0], error)
        except BackendError as error:
            return error
        return None

    async def _store(self, pushes: Sequence[Push]) -> None:
        if pushes[0].delay_seconds:
            await self._push_delayed(pushes)
        else:
            await self._push_now(pushes)

    async def _push_now(self, pushes: Sequence[Push]) -> None:
        before, after = envelope_around(self.clock.time())
        await self._commands.push([f"{before}{push.text}{after}" for push in pushes])

    async def _push_delayed(self, pushes: Sequence[Push]) -> None:
        before, after = envelope_around(self.clock.time())
        await self._commands.push_delayed(
            [(new_id(), push.delay_seconds, f"{before}{push.text}{after}") for push in pushes]
        )

    # Pop and touch.

    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        popped = await self._popper.pop(count)
        self.seen_pause = self._pauses.seen
        return popped

    def _interrupt_pop(self) -> None:
        self._popper.interrupt()

    async def _touch_batch(self, touches: Sequence[Touch]) -> Sequence[Exception | None]:
        now = self.clock.monotonic()
        kept: set[Envelope] = set()
        for touch in touches:
            held = self._held(touch.envelope)
            if held is not None and now < held.last_time:
                self._consumer.prolong(held, now + touch.seconds)
                kept.add(touch.envelope)
        consumer_id = self._consumer.id
        if kept and consumer_id is not None:
            stops = await self._renew(consumer_id)
            if stops is None:
                self._consumer.lose(consumer_id)
                kept.clear()
            elif stops:
                self._note_stops(kept, stops)
        await self._upkeep.run_in_passing()
        return [None if each.envelope in kept else lost(each.envelope) for each in touches]

    async def _renew(self, consumer_id: str) -> list[str] | None:
        seconds = self._popper.heartbeat_seconds()
        return await repeating(lambda _: self._commands.touch(consumer_id, seconds))

    def _note_stops(self, envelopes: Iterable[Envelope], digests: Sequence[str]) -> None:
        wanted = set(digests)
        for envelope in envelopes:
            held = self._held(envelope)
            if held is not None and _digest(held.raw) in wanted:
                envelope.is_stop_wanted = True

    # Look.

    async def _find(self, item_id: str) -> Found | None:
        return await self._finder.find(item_id)

    async def _inspect(self, cursor: str, count: int) -> tuple[Sequence[Found], str]:
        return await self._finder.inspect(cursor, count)

    async def _cancel(self, found: Found, *, is_remembered: bool) -> bool:
        return await self._finder.cancel(found, is_remembered=is_remembered)

    async def _hasten(self, found: Found, push: Push) -> bool:
        _, text = self._entry(push, self.clock.time())
        return await self._finder.hasten(found, text)

    async def _ask_to_stop(self, found: Found) -> bool:
        return await self._finder.ask_to_stop(found, self.lease_seconds)

    async def _note_cancelled(self, item_id: str) -> None:
        await self._finder.note_cancelled(item_id)

    # Pause.

    async def _pause(self, pause: Pause) -> None:
        await self._pauses.pause(pause)

    async def _resume(self) -> bool:
        return await self._pauses.resume()

    async def _find_pause(self) -> Pause | None:
        return await self._pauses.find()

    # Workers.

    async def _report_worker(self, report: WorkerReport) -> None:
        await self._reports.keep(replace(report, holder=self._consumer.id))

    async def _forget_worker(self, worker_id: str) -> None:
        await self._reports.drop(worker_id)

    async def _find_workers(self) -> Sequence[WorkerReport]:
        return await self._reports.find()

    # Settlement.

    async def _free_key(self, envelope: Envelope) -> None:
        held = self._held(envelope)
        if held is None:
            raise lost(envelope)
        key = held.unique_key
        if key is not None and not await self._unique.free(held.consumer_id, held.raw, key):
            raise lost(envelope)

    async def _complete_batch(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        async def remove(claimed: Sequence[Held]) -> tuple[bool, list[bool]]:
            if [held for held in claimed if held.unique_key is not None]:
                entries = [(held.raw, held.unique_key) for held in claimed]
                return await self._commands.remove_unique(claimed[0].consumer_id, entries)
            raws = [held.raw for held in claimed]
            return await self._commands.remove(claimed[0].consumer_id, raws)

        return await self._settle(envelopes, remove)

    async def _release_batch(self, releases: Sequence[Release]) -> Sequence[Exception | None]:
        now = self.clock.time()
        moves = {
            held: self._move(release, held, now)
            for release in releases
            if (held := self._held(release.envelope)) is not None
        }
        to_front = [each.envelope for each in releases if not each.envelope.has_started]
        to_back = [each.envelope for each in releases if each.envelope.has_started]

        async def move(claimed: Sequence[Held]) -> tuple[bool, list[bool]]:
            return await self._move_own([moves[held] for held in claimed], claimed)

        # The last one first: an item that is put to the front later is popped earlier.
        ordered = [*to_back, *reversed(to_front)]
        outcomes = dict(zip(ordered, await self._settle(ordered, move), strict=True))
        return [outcomes[release.envelope] for release in releases]

    def _move(self, release: Release, held: Held, now: float) -> Move:
        raw, key = held.raw, held.unique_key
        where: Where = "back" if release.envelope.has_started else "front"
        if release.delay_seconds:
            where = "delayed"
        if release.is_counted:
            return as_redelivery(raw, now, self.max_redeliveries, where, release.delay_seconds)
        delayed_id = new_id() if key is None else key.item_id
        return Move(raw, where, raw, delayed_id, release.delay_seconds, key)

    async def _replace(self, envelope: Envelope, push: Push, to: Queue) -> None:
        if not (isinstance(to, DocketsBase) and self._shares_redis_with(to)):
            await super()._replace(envelope, push, to)
            return
        key, text = to._entry(push, self.clock.time())
        where: Where = "delayed" if push.delay_seconds else "back"
        if to.IS_FOR_ERRORS:
            where = "errors"

        async def move(claimed: Sequence[Held]) -> tuple[bool, list[bool]]:
            moves = [
                Move(held.raw, where, text, key, push.delay_seconds, held.unique_key)
                for held in claimed
            ]
            return await self._move_own(moves, claimed)

        (outcome,) = await self._settle([envelope], move)
        if outcome is not None:
            raise outcome

    def _entry(self, push: Push, now: float) -> tuple[str, str]:
        before, after = envelope_around(now)
        key = unique_key_in(push)
        delayed_id = new_id() if key is None else key.item_id
        return delayed_id, f"{before}{push.text}{after}"

    async def _move_own(
        self, moves: Sequence[Move], claimed: Sequence[Held]
    ) -> tuple[bool, list[bool]]:
        outcome = await self._commands.move(claimed[0].consumer_id, moves)
        return (False, [False] * len(moves)) if outcome is None else outcome

    async def _settle(
        self,
        envelopes: Sequence[Envelope],
        perform: Callable[[Sequence[Held]], Awaitable[tuple[bool, list[bool]]]],
    ) -> list[Exception | None]:
        """Settle what is held of `envelopes`, in their order: for each None, or why not.

        What is missing was settled by somebody else, unless an earlier try of ours may have done
        it and this consumer is still one of the workers: nobody else touches a worker's list.

        Args:
            perform: takes what is settled; returns whether this consumer is one of the workers, and
                for each entry whether it was still in the working list.
        """
        claimed = self._consumer.claim([envelope.handle for envelope in envelopes])
        entries = [held for held in claimed if held is not None]
        if not entries:
            return [lost(envelope) for envelope in envelopes]

        async def attempt(is_repeat: bool) -> tuple[bool, bool, list[bool]]:
            return is_repeat, *await perform(entries)

        try:
            is_repeat, is_member, was_there = await repeating(attempt)
        except BaseException:
            self._consumer.unclaim(entries, may_be_settled=True)
            raise
        self._consumer.drop(entries)
        settled = {
            held
            for held, is_settled_now in zip(entries, was_there, strict=True)
            if is_settled_now or (is_member and (is_repeat or held.may_be_settled))
        }
        return [
            None if held in settled else lost(envelope)
            for envelope, held in zip(envelopes, claimed, strict=True)
        ]

    def _held(self, envelope: Envelope) -> Held | None:
        held = envelope.handle
        return held if isinstance(held, Held) and self._consumer.holds(held) else None

    # The rest.

    async def _flush(self) -> None:
        await self._commands.empty()
        self._consumer.drop_all()

    async def _stats(self) -> Mapping[str, float]:
        waiting = await self._commands.waiting()
        held_outside = await self._outside.count(waiting.consumer_ids)
        counts: dict[str, float] = {
            "available": waiting.available,
            "in_flight": await self._commands.in_flight(waiting.consumer_ids) + held_outside,
            "delayed": waiting.delayed,
        }
        if held_outside:
            counts["held_by_old_consumers"] = held_outside
        push_time = None if waiting.oldest is None else push_time_in(waiting.oldest)
        if push_time is not None:
            counts["oldest_age_seconds"] = max(self.clock.time() - push_time, 0.0)
        pause = self._pauses.read(waiting.pause_text)
        if pause is not None:
            counts["paused_seconds"] = max(self.clock.time() - pause.since_time, 0.0)
        return counts

    async def server_memory(self) -> dict[str, int]:
        return await self._commands.server_memory()

    async def old_consumers(self) -> dict[str, int]:
        return await self._outside.find(is_whole=True)

    async def take_back(self, consumer_id: str) -> int:
        if consumer_id in await self._commands.workers():
            raise InvalidOptions(
                f"consumer {consumer_id!r} belongs to this library; its items come back when "
                "its lease ends"
            )
        seconds = (await self._commands.heartbeats([consumer_id]))[consumer_id]
        if seconds > 0:
            raise InvalidOptions(
                f"consumer {consumer_id!r} has a heartbeat that lasts for {seconds:.0f} s, so it "
                "may be alive; try again when it has ended"
            )
        return await self._upkeep.reclaim_outside(consumer_id)

    async def _close(self) -> None:
        self._popper.interrupt_all()
        if self._commands.link.is_connected:
            consumer_id = self._consumer.resign(SystemClock.monotonic())
            if consumer_id is not None:
                with suppress(BackendError):
                    await self._commands.leave(consumer_id)
        await super()._close()


def _digest(raw: bytes) -> str:
    return hashlib.sha1(raw, usedforsecurity=False).hexdigest()


def unique_key_in(push: Push) -> Key | None:
    return None if push.unique_key is None else Key(push.unique_key, push.item["id"])


def _too_large_for_redis(push: Push, error: ItemTooLarge) -> ItemTooLarge:
    explained = ItemTooLarge(f"the item is {len(push.text)} bytes: {error}")
    explained.__cause__ = error.__cause__
    return explained
