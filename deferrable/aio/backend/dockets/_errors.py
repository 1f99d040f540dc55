"""The error queue of a Dockets queue: a hash from error id to item.

Owns what each verb of the contract does to that hash, and the leases of its items. Dockets had no
such leases: there, two consumers got the same errors.

The one rule: the end of a lease proves who holds it. The holder sets it, nobody else sets the same
value again, and every step checks whether it is still there.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias
from weakref import WeakSet

from deferrable._codec.json import dump, dump_value, load_item
from deferrable._fork import on_fork
from deferrable.aio._contract.inspecting import Found
from deferrable.aio._contract.popping import Popped
from deferrable.aio.backend._redis.link import RedisLinks, script
from deferrable.aio.backend.dockets._base import DocketsBase, fail, lost
from deferrable.aio.backend.dockets._commands import MOST_AT_ONCE, in_chunks, repeating
from deferrable.aio.backend.dockets._finding import Page, look, look_through
from deferrable.aio.backend.dockets._unique import UniqueKeys, unique_key_in
from deferrable.aio.backend.dockets._wire import TRUSTED_SECONDS, Key, error_item
from deferrable.aio.clock import Clock
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Peeked, Push, Queue, Release, Touch
from deferrable.errors import BackendError, DuplicateCall, UnreadableItem
from deferrable.item import Item, new_id

__all__ = ["DocketsErrorQueue"]

_MOST_LOOKED_AT = 2000
"""How many errors one script looks at; a pop goes on with another script."""


_SETTLE = script("dockets_unique", "dockets_errors_settle")

_Reply: TypeAlias = int | list[int | bytes]


class _KeyHeld(BackendError):
    """Another item may hold the unique key of one that is to go back."""

    def __init__(self, answer: list[int | bytes]) -> None:
        super().__init__(answer)
        self.answer = answer


@dataclass(eq=False, slots=True, weakref_slot=True)
class _Leased:
    """A lease on one error.

    Attributes:
        ends: the ends that Redis may have stored, with which the lease is proved: one, and after
            touches whose answers were lost, also the ends of those touches.
        may_be_settled: a settlement was sent, and its answer was lost.
    """

    error_id: bytes
    ends: list[str]
    may_be_settled: bool = False


@dataclass(frozen=True, slots=True)
class _Step:
    """What to do with one error; the words are the script's."""

    leased: _Leased
    verb: str
    text: str | bytes = ""
    key: str = ""
    number: str | float = 0.0
    unique_key: Key | None = None
    gone: str = ""

    def args(self) -> tuple[bytes | str | float, ...]:
        leased = self.leased
        unique, item_id = ("", "") if self.unique_key is None else self.unique_key
        return (
            leased.error_id,
            ",".join(leased.ends),
            self.verb,
            self.text,
            self.key,
            self.number,
            unique,
            self.gone,
            item_id,
        )


class DocketsErrorQueue(DocketsBase):
    """Errors in Redis, in no order. Made by `DocketsBackendFactory`."""

    FIFO = False
    SUPPORTS_DELAY = False
    RECLAIMS_TO_BACK_OF_QUEUE = False
    SUPPORTS_INSPECTION = True
    SUPPORTS_PEEK = True
    IS_FOR_ERRORS = True

    def __init__(
        self,
        name: str,
        links: RedisLinks,
        timeout: float,
        max_lease_seconds: float | None,
        clock: Clock | None,
    ) -> None:
        super().__init__(name, links, timeout, max_lease_seconds, clock)
        self._cursor = "0"
        # The server's clock minus this process's monotonic clock, never too small.
        self._server_offset = 0.0
        self._reset_after_fork()
        on_fork(self._reset_after_fork)

    def _reset_after_fork(self) -> None:
        self._leases: WeakSet[_Leased] = WeakSet()

    # Push.

    async def _push_batch(self, pushes: Sequence[Push]) -> Sequence[Exception | None]:
        outcomes: list[Exception | None] = [None] * len(pushes)
        now = self.clock.time()
        for chunk in in_chunks(range(len(pushes))):
            try:
                await self._commands.bury([self._entry(pushes[index], now) for index in chunk])
            except BackendError as error:
                fail(outcomes, chunk, error)
        return outcomes

    def _entry(self, push: Push, now: float) -> tuple[str, str]:
        error = push.item.get("error", {})
        if not isinstance(error, dict):
            return new_id(), push.text
        error_id = error.get("id")
        if isinstance(error_id, str) and error_id:
            return error_id, push.text
        error_id = new_id()
        return error_id, dump({**push.item, "error": {**error, "id": error_id}})

    # Pop.

    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        wanted = min(count, MOST_AT_ONCE)
        popped: list[Popped] = []
        # A whole round without any error to lease, from any start, means that there is none.
        rounds_left = 1 if self._cursor == "0" else 2
        while not popped and rounds_left:
            popped = await self._look_on(wanted)
            if self._cursor == "0":
                rounds_left -= 1
        return sorted(popped, key=lambda each: _error_time(each[1]))

    async def _look_on(self, count: int) -> list[Popped]:
        keys, lease_seconds = self._commands.keys, self.lease_seconds
        pop_time = self.clock.monotonic()
        reply = await self._commands.link.run(
            script("dockets_errors_pop"),
            (keys.errors, keys.error_leases),
            (self._commands.now(), lease_seconds, count, self._cursor, _MOST_LOOKED_AT),
        )
        cursor, server_time, end, *pairs = reply
        self._cursor = cursor.decode()
        self._server_offset = float(server_time) - pop_time
        return [
            await self._leased_now(error_id, value, end, pop_time)
            for error_id, value in zip(pairs[::2], pairs[1::2], strict=True)
        ]

    async def _leased_now(
        self, error_id: bytes, value: bytes, end: bytes, pop_time: float
    ) -> Popped:
        leased = _Leased(error_id, [end.decode()])
        self._leases.add(leased)
        envelope = Envelope(leased, pop_time, pop_time + self.lease_seconds)
        return envelope, await self._read(leased, value, self.clock.time())

    async def _peek(self, cursor: str, count: int) -> tuple[Sequence[Peeked], str]:
        errors, now = self._commands.keys.errors, self.clock.time()
        ((next_cursor, pairs),) = await self._commands.link.call(
            ("HSCAN", errors, cursor or "0", "COUNT", count)
        )
        peeked = [
            Peeked(error_id.decode(errors="surrogateescape"), _item_of(error_id, value, now))
            for error_id, value in zip(pairs[::2], pairs[1::2], strict=True)
        ]
        return peeked, "" if next_cursor == b"0" else next_cursor.decode()

    async def _find(self, item_id: str) -> Found | None:
        keys = (self._commands.keys.errors, self._commands.keys.error_leases)
        async for page in look_through(self._commands, "hash", keys, dump_value(item_id)):
            for found in self._shown(page):
                if found.item.get("id") == item_id:
                    return found
        return None

    async def _inspect(self, cursor: str, count: int) -> tuple[Sequence[Found], str]:
        keys = (self._commands.keys.errors, self._commands.keys.error_leases)
        page = await look(self._commands, "hash", keys, cursor, count)
        return list(self._shown(page)), page.cursor.decode()

    def _shown(self, page: Page) -> Iterator[Found]:
        now = self.clock.time()
        for error_id, end, value in page.entries:
            item = _item_of(error_id, value, now)
            if end and float(end) > page.now:
                yield Found(item, "in flight", error_id, lease_until=float(end))
            else:
                yield Found(item, "queued", error_id)

    async def _pop_keys(self, keys: Sequence[str]) -> Sequence[Popped | None]:
        popped: list[Popped | None] = []
        for chunk in in_chunks([key.encode(errors="surrogateescape") for key in keys]):
            popped += await self._take(chunk)
        return popped

    async def _take(self, error_ids: Sequence[bytes]) -> list[Popped | None]:
        names = (self._commands.keys.errors, self._commands.keys.error_leases)
        pop_time = self.clock.monotonic()
        reply = await self._commands.link.run(
            script("dockets_errors_take"),
            names,
            (self._commands.now(), self.lease_seconds, *error_ids),
        )
        server_time, end, *values = reply
        self._server_offset = float(server_time) - pop_time
        return [
            None if value is None else await self._leased_now(error_id, value, end, pop_time)
            for error_id, value in zip(error_ids, values, strict=True)
        ]

    async def _read(self, leased: _Leased, value: bytes, now: float) -> Item:
        try:
            return load_item(value)
        except UnreadableItem as error:
            text = error_item(value, str(error), now, leased.error_id.decode(errors="replace"))
            await self._perform([_Step(leased, "mend", text)])
            return load_item(text)

    # Touch and settlement.

    async def _touch_batch(self, touches: Sequence[Touch]) -> Sequence[Exception | None]:
        steps: list[_Step | None] = []
        for touch in touches:
            leased = self._leased(touch.envelope)
            if leased is None:
                steps.append(None)
                continue
            seconds = self._server_time() + touch.seconds
            new_end = f"{max(seconds, *map(float, leased.ends)):.6f}"
            leased.ends.append(new_end)
            steps.append(_Step(leased, "lease", number=new_end))
        outcomes = await self._settle([each.envelope for each in touches], steps)
        for step, outcome in zip(steps, outcomes, strict=True):
            if step is not None and outcome is None:
                step.leased.ends[:] = [str(step.number)]
        return outcomes

    async def _complete_batch(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        held = [self._leased(envelope) for envelope in envelopes]
        return await self._settle(
            envelopes, [_Step(leased, "remove") if leased else None for leased in held]
        )

    async def _release_batch(self, releases: Sequence[Release]) -> Sequence[Exception | None]:
        # Errors have no order, so there is no front and no back of the queue.
        steps = [
            _Step(leased, "free", number=release.delay_seconds) if leased else None
            for release in releases
            for leased in [self._leased(release.envelope)]
        ]
        return await self._settle([release.envelope for release in releases], steps)

    async def _replace(self, envelope: Envelope, push: Push, to: Queue) -> None:
        if not (isinstance(to, DocketsBase) and self._shares_redis_with(to)):
            await super()._replace(envelope, push, to)
            return
        leased = self._leased(envelope)
        key, text = to._entry(push, self.clock.time())
        if leased is None:
            raise lost(envelope)
        unique_key = unique_key_in(push)
        step = _Step(leased, to._place_of(push), text, key, push.delay_seconds, unique_key)
        (outcome,) = await self._settle([envelope], [step])
        while isinstance(outcome, _KeyHeld) and unique_key is not None:
            keys = UniqueKeys(self._commands, self.clock)
            gone = await keys.gone_record(unique_key, outcome.answer)
            if isinstance(gone, DuplicateCall):
                raise gone
            (outcome,) = await self._settle([envelope], [replace(step, gone=gone)])
        if outcome is not None:
            raise outcome

    async def _settle(
        self, envelopes: Sequence[Envelope], steps: Sequence[_Step | None]
    ) -> list[Exception | None]:
        """Perform `steps`, one for each envelope; None: it is not leased here."""
        outcomes: list[Exception | None] = [lost(envelope) for envelope in envelopes]
        indexes = [index for index, step in enumerate(steps) if step is not None]
        present = [step for step in steps if step is not None]
        if not present:
            return outcomes

        async def attempt(is_repeat: bool) -> tuple[bool, list[_Reply]]:
            return is_repeat, await self._perform(present)

        try:
            is_repeat, replies = await repeating(attempt)
        except BaseException:
            for step in present:
                step.leased.may_be_settled = step.verb != "lease"
            raise
        for index, step, reply in zip(indexes, present, replies, strict=True):
            if isinstance(reply, list):
                outcomes[index] = _KeyHeld(reply)
                continue
            if _has_worked(step, reply, is_repeat):
                outcomes[index] = None
            if step.verb != "lease" or outcomes[index] is not None:
                self._leases.discard(step.leased)
        return outcomes

    async def _perform(self, steps: Sequence[_Step]) -> list[_Reply]:
        commands, keys = self._commands, self._commands.keys
        names = (
            keys.errors,
            keys.error_leases,
            keys.queue,
            keys.delayed,
            keys.payload,
            keys.unique,
        )
        own = (commands.now(), commands.client_time(), TRUSTED_SECONDS)
        replies: list[_Reply] = []
        for chunk in in_chunks(steps):
            args = [value for step in chunk for value in step.args()]
            replies += await commands.link.run(_SETTLE, names, (*own, *args))
        return replies

    def _leased(self, envelope: Envelope) -> _Leased | None:
        leased = envelope.handle
        return leased if isinstance(leased, _Leased) and leased in self._leases else None

    def _server_time(self) -> float:
        if self._injected_clock is not None:
            return self._injected_clock.time()
        return self.clock.monotonic() + self._server_offset

    # The rest.

    async def _flush(self) -> None:
        keys = self._commands.keys
        await self._commands.link.call(("UNLINK", keys.errors, keys.error_leases))
        self._leases.clear()

    async def _stats(self) -> Mapping[str, int]:
        keys = self._commands.keys
        total, leased = await self._commands.link.run(
            script("dockets_errors_stats"),
            (keys.errors, keys.error_leases),
            (self._commands.now(),),
        )
        return {"available": total - leased, "in_flight": leased}


def _has_worked(step: _Step, reply: int, is_repeat: bool) -> bool:
    """Whether `step` took effect, now or in an earlier try whose answer was lost."""
    if reply == 1:
        return True
    may_be_settled = is_repeat or step.leased.may_be_settled
    # Nobody else removes a leased error, and a consumer that freed it does not hold it any more.
    return may_be_settled and reply == {"lease": 1, "free": 0}.get(step.verb, -1)


def _item_of(error_id: bytes, value: bytes, now: float) -> Item:
    """The item of an entry of the hash; if it cannot be read, a record of that."""
    try:
        return load_item(value)
    except UnreadableItem as error:
        return load_item(error_item(value, str(error), now, error_id.decode(errors="replace")))


def _error_time(item: Item) -> float:
    """When the error was recorded, if the item says it; old errors come first."""
    error = item.get("error")
    moment = error.get("ts") if isinstance(error, dict) else item.get("ts")
    return float(moment) if isinstance(moment, int | float) else 0.0
