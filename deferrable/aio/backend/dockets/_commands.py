"""The commands that a Dockets queue sends to Redis.

Owns the commands and scripts, the keys that each names, and the sizes of batches. The rule:
nothing is sent twice here, except through `repeating`, by callers that know that it may be
repeated.
"""

import asyncio
import math
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias, TypeVar, cast

from deferrable.aio.backend._redis.errors import OutOfMemory
from deferrable.aio.backend._redis.link import (
    ANSWER_SECONDS,
    BlockingLine,
    RedisLink,
    RedisLinks,
    script,
)
from deferrable.aio.backend.dockets._answers import Taken, Waited, Waiting
from deferrable.aio.backend.dockets._consumer import Pop
from deferrable.aio.backend.dockets._moves import Move
from deferrable.aio.backend.dockets._wire import TRUSTED_SECONDS, Key, Keys
from deferrable.aio.clock import Clock, SystemClock
from deferrable.errors import BackendUnavailable

__all__ = ["MOST_AT_ONCE", "Commands", "in_chunks", "repeating"]

T = TypeVar("T")

MOST_AT_ONCE = 500
"""Entries of one script or command. A script blocks the server while it runs (some microseconds
for each entry), and Lua's ``unpack`` ends at about 8,000 values."""

_LONGEST_LIFE_SECONDS = 2.0**43
"""Some 280,000 years. Redis refuses lives whose milliseconds and the time exceed 64 bits."""

_MOST_DUE = 1000
"""Due items that one pop makes available; it is repeated while there are more."""

_SHORTEST_WAIT_SECONDS = 0.01
"""Redis 6.2 cuts 0.001 down to 0, which is for ever (measured; 7.0 rounds up)."""

_REMOVED = ord("1")

_MOVE = script("dockets_unique", "dockets_move")
_REMOVE_UNIQUE = script("dockets_unique", "dockets_remove_unique")

_KEYS_AT_ONCE = 1000

Whose: TypeAlias = Literal["own", "dead", "outside"]
"""Of which consumer a move may be: this one, a member without a heartbeat, or one that is neither a
member nor has a heartbeat."""

_REPEAT_AFTER_SECONDS = (0.02, 0.2)
_NO_REPEAT_AFTER_SECONDS = 1.0


_GLOB = re.compile(r"[\\*?\[\]^]")


def in_chunks(entries: Sequence[T], size: int = MOST_AT_ONCE) -> Iterator[Sequence[T]]:
    """`entries` in pieces of at most `size`."""
    for start in range(0, len(entries), size):
        yield entries[start : start + size]


async def repeating(step: Callable[[bool], Awaitable[T]]) -> T:
    """The result of `step`, which is tried again when Redis was unavailable for a moment.

    Args:
        step: called with whether it is a repetition: the step before it may have taken effect.
    """
    start_time = time.monotonic()
    is_repeat = False
    for pause_seconds in _REPEAT_AFTER_SECONDS:
        try:
            return await step(is_repeat)
        except BackendUnavailable:
            if time.monotonic() - start_time > _NO_REPEAT_AFTER_SECONDS:
                raise
        await asyncio.sleep(pause_seconds)
        is_repeat = True
    return await step(is_repeat)


class Commands:
    """The commands of one queue.

    Args:
        clock: the source of time if it was injected; None: the server's does.
    """

    def __init__(self, links: RedisLinks, keys: Keys, clock: Clock | None) -> None:
        self.links = links
        self.keys = keys
        self._clock = clock

    @property
    def link(self) -> RedisLink:
        return self.links.here()

    def of_threads(self) -> "Commands":
        """The same commands, for callers that cannot await."""
        return _ThreadCommands(self.links, self.keys, self._clock)

    def now(self) -> str:
        """The moment for scripts; empty: the server's own."""
        return "" if self._clock is None else repr(self._clock.time())

    def client_time(self) -> float:
        """The moment for envelopes, by the clock of this process."""
        return SystemClock().time() if self._clock is None else self._clock.time()

    def _heartbeat(self, seconds: float) -> tuple[int, str]:
        """Milliseconds and value of an active key.

        The value is Dockets' ``1``. Under an injected clock it is the moment of the end, because
        the server's expiry does not follow that clock.
        """
        value = "1" if self._clock is None else repr(self._clock.time() + seconds)
        return max(1, math.ceil(min(seconds, _LONGEST_LIFE_SECONDS) * 1000)), value

    async def push(self, texts: Sequence[str]) -> None:
        """Put envelopes at the back."""
        await self.link.call(("LPUSH", self.keys.queue, *texts))

    async def push_delayed(self, entries: Sequence[tuple[str, float, str]]) -> None:
        """Store envelopes, each ``(id, seconds of delay, text)``."""
        args = [value for entry in entries for value in entry]
        keys = (self.keys.delayed, self.keys.payload)
        await self.link.run(script("dockets_push_delayed"), keys, (self.now(), *args))

    async def take(self, pop: Pop, count: int, heartbeat_seconds: float) -> Taken | None:
        """Take available entries. None: somebody has reclaimed this consumer, and nothing was
        taken.
        """
        keys, consumer_id = self.keys, pop.consumer_id
        milliseconds, value = self._heartbeat(heartbeat_seconds)
        reply = await self.link.run(
            script("dockets_gap", "dockets_pop"),
            (
                keys.queue,
                keys.delayed,
                keys.payload,
                keys.workers,
                keys.working(consumer_id),
                keys.active(consumer_id),
                keys.paused,
                keys.gaps,
            ),
            (
                self.now(),
                consumer_id,
                "1" if pop.is_first else "0",
                milliseconds,
                value,
                min(count, MOST_AT_ONCE),
                _MOST_DUE,
            ),
        )
        if reply[0] == 0:
            return None
        if reply[0] == 2:
            return Taken([], [], False, math.inf, b"", reply[1])
        _, raws, missing, is_more_due, next_due, next_id = reply
        return Taken(raws, missing, is_more_due == 1, float(next_due or math.inf), next_id)

    async def wait(
        self,
        line: BlockingLine,
        pop: Pop,
        heartbeat_seconds: float,
        seconds: float,
        note_next_id: Callable[[bytes], None],
    ) -> Waited:
        """Wait for one entry and take it.

        The heartbeat is renewed right before, in the same write, and lasts longer than the wait. If
        the key expired during the wait, an entry could be delivered into a list that nobody
        reclaims.

        Args:
            note_next_id: gets, as the wait begins, the id of the next delayed item; empty: there is
                none.
        """
        keys, consumer_id = self.keys, pop.consumer_id
        # Rounded up: a wait that ended a moment too early would be followed by another.
        seconds = math.ceil(max(seconds, _SHORTEST_WAIT_SECONDS) * 1000) / 1000
        milliseconds, value = self._heartbeat(heartbeat_seconds + seconds)
        names = (keys.workers, keys.active(consumer_id), keys.delayed)
        was_lost = False

        def note_first(reply: Any) -> None:
            nonlocal was_lost
            # A refusal is raised once the rest has arrived.
            joined, next_id = reply if isinstance(reply, list) else (0, b"")
            was_lost = joined == 1
            note_next_id(next_id)

        source, target = keys.queue, keys.working(consumer_id)
        try:
            _, raw, pause_text = await line.call(
                # Its text, because nothing may wait after a script that the server did not know.
                (
                    "EVAL",
                    script("dockets_join").source,
                    len(names),
                    *names,
                    consumer_id,
                    milliseconds,
                    value,
                ),
                ("BLMOVE", source, target, "RIGHT", "LEFT", f"{seconds:.3f}"),
                ("GET", keys.paused),
                deadline_seconds=seconds + ANSWER_SECONDS,
                on_first=note_first,
            )
        except OutOfMemory:
            return Waited(was_lost, None, is_refused=True)
        return Waited(was_lost, raw, pause_text)

    async def drop_gap(self, consumer_id: str) -> None:
        """Remove a gap that a wait has brought from the working list."""
        names = (self.keys.working(consumer_id), self.keys.gaps)
        await self.link.run(script("dockets_gap", "dockets_drop_gap"), names)

    async def touch(self, consumer_id: str, heartbeat_seconds: float) -> list[str] | None:
        """Renew the heartbeat. Return the digests of the entries whose jobs are to be stopped;
        None: somebody has reclaimed this consumer.
        """
        keys = self.keys
        names = (keys.workers, keys.active(consumer_id), keys.stops(consumer_id))
        milliseconds, value = self._heartbeat(heartbeat_seconds)
        is_member, *stops = await self.link.run(
            script("dockets_touch"), names, (consumer_id, milliseconds, value)
        )
        return [each.decode() for each in stops] if is_member == 1 else None

    async def remove(self, consumer_id: str, raws: Sequence[bytes]) -> tuple[bool, list[bool]]:
        """Remove entries from a working list.

        Returns:
            whether the consumer is a member, and for each entry whether it was there.
        """
        names = (self.keys.working(consumer_id), self.keys.workers)
        is_member, removed = 0, list[bool]()
        for chunk in in_chunks(raws):
            reply = await self.link.run(script("dockets_remove"), names, (consumer_id, *chunk))
            is_member, flags = reply
            removed.extend(flag == _REMOVED for flag in flags)
        return is_member == 1, removed

    async def remove_unique(
        self, consumer_id: str, entries: Sequence[tuple[bytes, Key | None]]
    ) -> tuple[bool, list[bool]]:
        """Remove entries and free their unique keys; see `remove`."""
        names = (self.keys.working(consumer_id), self.keys.workers, self.keys.unique)
        is_member, removed = 0, list[bool]()
        for chunk in in_chunks(entries):
            args = [value for raw, key in chunk for value in (raw, *(key or ("", "")))]
            reply = await self.link.run(_REMOVE_UNIQUE, names, (consumer_id, *args))
            is_member, flags = reply
            removed.extend(flag == _REMOVED for flag in flags)
        return is_member == 1, removed

    async def move(
        self, consumer_id: str, moves: Sequence[Move], *, whose: Whose = "own"
    ) -> tuple[bool, list[bool]] | None:
        """Move entries out of a working list.

        Returns:
            whether the consumer is a member, and for each entry whether it was there; None if the
            consumer is not what `whose` says.
        """
        keys = self.keys
        names = (
            keys.working(consumer_id),
            keys.workers,
            keys.active(consumer_id),
            keys.queue,
            keys.delayed,
            keys.payload,
            keys.errors,
            keys.unique,
        )
        own = (self.now(), consumer_id, whose, self.client_time(), TRUSTED_SECONDS)
        is_member, moved = False, list[bool]()
        for chunk in in_chunks(moves) if moves else [moves]:
            args = [value for move in chunk for value in move.args()]
            reply = await self.link.run(_MOVE, names, (*own, *args))
            if reply[0] == -1:
                return None
            is_member = reply[0] == 1
            moved.extend(flag == 1 for flag in reply[1:])
        return is_member, moved

    async def bury(self, entries: Sequence[tuple[str, str]]) -> None:
        """Put ``(error id, text)`` into the errors hash."""
        names = (self.keys.errors, self.keys.error_leases)
        for chunk in in_chunks(entries):
            pairs = [value for entry in chunk for value in entry]
            await self.link.run(script("dockets_bury"), names, pairs)

    async def workers(self) -> list[str]:
        """The ids of all consumers."""
        (ids,) = await self.link.call(("SMEMBERS", self.keys.workers))
        return [consumer_id.decode(errors="replace") for consumer_id in ids]

    async def heartbeats(self, consumer_ids: Sequence[str]) -> dict[str, float]:
        """In how many seconds each consumer is dead without a new heartbeat; 0: it is dead."""
        read = self._seconds_by_server if self._clock is None else self._seconds_by_clock
        left: dict[str, float] = {}
        for chunk in in_chunks(consumer_ids):
            left.update(zip(chunk, await read(chunk), strict=True))
        return left

    async def _seconds_by_server(self, consumer_ids: Sequence[str]) -> list[float]:
        replies = await self.link.call(
            *[("PTTL", self.keys.active(consumer_id)) for consumer_id in consumer_ids]
        )
        # -2: no such key; -1: somebody has removed its expiry.
        return [math.inf if reply == -1 else max(reply, 0) / 1000 for reply in replies]

    async def _seconds_by_clock(self, consumer_ids: Sequence[str]) -> list[float]:
        (values,) = await self.link.call(("MGET", *map(self.keys.active, consumer_ids)))
        now = float(self.now())
        ends = [
            0.0 if each is None else math.inf if each == b"1" else float(each) for each in values
        ]
        return [max(end - now, 0.0) for end in ends]

    async def oldest(self, consumer_id: str, count: int) -> list[bytes]:
        """The entries that a consumer took first, the oldest one first."""
        working = self.keys.working(consumer_id)
        (raws,) = await self.link.call(("LRANGE", working, -count, -1))
        return list(reversed(raws))

    async def look_for_consumers(self, cursor: bytes) -> tuple[bytes, list[str]]:
        """Look at some keys of the server. Return where to go on, ``0`` at the end, and the found
        ids.

        They are ids of consumers with a working list, members or not.
        """
        before, after = f"{self.keys.queue}.", ".working"
        pattern = _GLOB.sub(r"\\\g<0>", before) + "*" + after
        arguments = ("MATCH", pattern, "COUNT", _KEYS_AT_ONCE, "TYPE", "list")
        ((next_cursor, names),) = await self.link.call(
            ("SCAN", cursor, *arguments), key=self.keys.queue
        )
        ids = [name.decode(errors="replace")[len(before) : -len(after)] for name in names]
        # An id has no dot; a group whose name continues with a dot has its own working lists.
        return next_cursor, [each for each in ids if "." not in each]

    async def counts_in_flight(self, consumer_ids: Sequence[str]) -> dict[str, int]:
        """How many entries each consumer's working list holds."""
        counts: dict[str, int] = {}
        for chunk in in_chunks(consumer_ids):
            found = await self.link.call(*[("LLEN", self.keys.working(each)) for each in chunk])
            counts.update(zip(chunk, found, strict=True))
        return counts

    async def in_flight(self, consumer_ids: Sequence[str]) -> int:
        """How many entries the consumers' working lists hold."""
        return sum((await self.counts_in_flight(consumer_ids)).values())

    async def leave(self, consumer_id: str) -> None:
        """Remove a consumer that holds nothing from the workers."""
        keys = self.keys
        names = (keys.workers, keys.working(consumer_id), keys.active(consumer_id))
        await self.link.run(script("dockets_leave"), names, (consumer_id,))

    async def waiting(self) -> Waiting:
        """The available and delayed items, and the consumers that may hold more."""
        keys = self.keys
        names = (keys.queue, keys.delayed, keys.payload, keys.workers, keys.paused, keys.gaps)
        stats = script("dockets_gap", "dockets_stats")
        reply: list[Any] = await self.link.run(stats, names, (self.now(),))
        available, delayed, oldest, ids, pause_text = reply
        consumer_ids = [each.decode(errors="replace") for each in ids]
        return Waiting(available, delayed, oldest, consumer_ids, pause_text)

    async def server_memory(self) -> dict[str, int]:
        """What the server says of its memory; empty if it does not say."""
        lines = await self._info("memory")
        found = {
            "used_bytes": int(lines.get(b"used_memory") or 0),
            "max_bytes": int(lines.get(b"maxmemory") or 0),
        }
        return {name: count for name, count in found.items() if count}

    async def server_id(self) -> str:
        """What the server calls this run of itself; empty if it does not say."""
        return (await self._info("server")).get(b"run_id", b"").decode(errors="replace")

    async def _info(self, section: str) -> dict[bytes, bytes]:
        (reply,) = await self.link.call(("INFO", section), key=self.keys.queue)
        return {name: value for name, _, value in (e.partition(b":") for e in reply.splitlines())}

    async def empty(self) -> None:
        """Remove all available and delayed items, and the items in flight of every consumer."""
        keys = self.keys
        working = map(keys.working, await self.workers())
        await self.link.call(
            ("UNLINK", keys.queue, keys.delayed, keys.payload, keys.unique, keys.gaps, *working)
        )


class _ThreadCommands(Commands):
    @property
    def link(self) -> RedisLink:
        # It has what pushes use of a link, and nothing else is done without a loop.
        return cast(RedisLink, self.links.threads)
