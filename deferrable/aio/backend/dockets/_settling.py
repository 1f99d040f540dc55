"""How the items that a consumer of a Dockets queue holds are kept and settled.

Owns the claim of each settlement, and what the answer means: an entry that is missing may have been
settled by an earlier try of ours. `Consumer` knows what is held, `Commands` has the scripts.

The one rule: an entry is found again by its bytes, in this consumer's own working list. If it is
not there any more, somebody else has settled it, and nothing is settled here.
"""

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeAlias

from deferrable.aio.backend.dockets._base import lost
from deferrable.aio.backend.dockets._commands import Commands, repeating
from deferrable.aio.backend.dockets._consumer import Consumer, Held
from deferrable.aio.backend.dockets._moves import Move, Where, as_redelivery
from deferrable.aio.backend.dockets._unique import UniqueKeys
from deferrable.aio.clock import Clock
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Release, Touch
from deferrable.item import new_id

__all__ = ["Settler"]

Perform: TypeAlias = Callable[[Sequence[Held]], Awaitable[tuple[bool, list[bool]]]]
"""Takes what is settled; returns whether this consumer is one of the workers, and for each entry
whether it was still in the working list."""


class Settler:
    """Settles what one consumer holds.

    Args:
        heartbeat_seconds: how long Redis must treat the consumer as alive from now.
        max_redeliveries: an item that was delivered more often goes to the errors.
    """

    def __init__(
        self,
        consumer: Consumer,
        commands: Commands,
        unique: UniqueKeys,
        clock: Clock,
        max_redeliveries: int,
        heartbeat_seconds: Callable[[], float],
    ) -> None:
        self._consumer = consumer
        self._commands = commands
        self._unique = unique
        self._clock = clock
        self._max_redeliveries = max_redeliveries
        self._heartbeat_seconds = heartbeat_seconds

    async def touch(self, touches: Sequence[Touch]) -> list[Exception | None]:
        """Prolong leases, with one heartbeat of the consumer; None, or `LeaseLost`, for each."""
        now = self._clock.monotonic()
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
        return [None if each.envelope in kept else lost(each.envelope) for each in touches]

    async def _renew(self, consumer_id: str) -> list[str] | None:
        seconds = self._heartbeat_seconds()
        return await repeating(lambda _: self._commands.touch(consumer_id, seconds))

    def _note_stops(self, envelopes: Iterable[Envelope], digests: Sequence[str]) -> None:
        wanted = set(digests)
        for envelope in envelopes:
            held = self._held(envelope)
            if held is not None and _digest(held.raw) in wanted:
                envelope.is_stop_wanted = True

    async def free_key(self, envelope: Envelope) -> None:
        """Let go of the unique key that its item names.

        Raises:
            LeaseLost: it is not held here, or another item has the key.
        """
        held = self._held(envelope)
        if held is None:
            raise lost(envelope)
        key = held.unique_key
        if key is not None and not await self._unique.free(held.consumer_id, held.raw, key):
            raise lost(envelope)

    async def complete(self, envelopes: Sequence[Envelope]) -> list[Exception | None]:
        """Remove their entries; for each None, or why not."""

        async def remove(claimed: Sequence[Held]) -> tuple[bool, list[bool]]:
            if [held for held in claimed if held.unique_key is not None]:
                entries = [(held.raw, held.unique_key) for held in claimed]
                return await self._commands.remove_unique(claimed[0].consumer_id, entries)
            raws = [held.raw for held in claimed]
            return await self._commands.remove(claimed[0].consumer_id, raws)

        return await self._settle(envelopes, remove)

    async def release(self, releases: Sequence[Release]) -> list[Exception | None]:
        """Put their entries back; for each None, or why not."""
        now = self._clock.time()
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
            return as_redelivery(raw, now, self._max_redeliveries, where, release.delay_seconds)
        delayed_id = new_id() if key is None else key.item_id
        return Move(raw, where, raw, delayed_id, release.delay_seconds, key)

    async def replace(
        self, envelope: Envelope, where: Where, key: str, text: str, delay_seconds: float
    ) -> None:
        """Put something else in the place of its entry, in one atomic step; see `Move`.

        Raises:
            LeaseLost: it is not held here; nothing has changed.
        """

        async def move(claimed: Sequence[Held]) -> tuple[bool, list[bool]]:
            moves = [
                Move(held.raw, where, text, key, delay_seconds, held.unique_key) for held in claimed
            ]
            return await self._move_own(moves, claimed)

        (outcome,) = await self._settle([envelope], move)
        if outcome is not None:
            raise outcome

    async def _move_own(
        self, moves: Sequence[Move], claimed: Sequence[Held]
    ) -> tuple[bool, list[bool]]:
        outcome = await self._commands.move(claimed[0].consumer_id, moves)
        return (False, [False] * len(moves)) if outcome is None else outcome

    async def _settle(
        self,
        envelopes: Sequence[Envelope],
        perform: Perform,
    ) -> list[Exception | None]:
        """Settle what is held of `envelopes`, in their order: for each None, or why not.

        What is missing was settled by somebody else, unless an earlier try of ours may have done
        it and this consumer is still one of the workers: nobody else touches a worker's list.
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


def _digest(raw: bytes) -> str:
    return hashlib.sha1(raw, usedforsecurity=False).hexdigest()
