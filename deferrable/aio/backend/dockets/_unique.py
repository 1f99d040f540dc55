"""Unique keys of a Dockets queue: who holds one, and whether that item is still there.

Owns the records of the holders, in one hash beside the queue, and the check of a holder that a push
meets. Our consumers free a key in the script that settles its item. A consumer of the Python 2
library knows no keys, and may have ended the item: so a holder that was not seen for a moment is
looked for.

The one rule: a key passes to a new item only if its holder is in no place where an item can be, and
the record has not changed since the search began. Each step that puts an item back into the queue
changes the record.

The search of a small queue is one atomic script. In a large one, the holder is known to wait while
the oldest entry was pushed before it. Otherwise the lists of consumers are searched, and then the
whole queue in pages; then a holder that was found is trusted for many times as long as that took.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

from deferrable._codec.json import dump_value
from deferrable.aio.backend._redis.link import script
from deferrable.aio.backend.dockets._commands import Commands
from deferrable.aio.backend.dockets._finding import Finder
from deferrable.aio.backend.dockets._outside import Outside
from deferrable.aio.backend.dockets._wire import TRUSTED_SECONDS, Key
from deferrable.aio.clock import Clock
from deferrable.aio.queue import Push
from deferrable.errors import BackendError, DuplicateCall

__all__ = ["Candidate", "UniqueKeys", "unique_key_in"]

_MOST_ENTRIES = 1000
_MOST_BYTES = 500_000
"""What one look searches: some milliseconds of the server's time."""

_LONGEST_TRUST_SECONDS = 600.0
_TRUST_FACTOR = 20.0
"""A long search is repeated, for one key, so seldom that it takes a twentieth of the time."""

_MOST_TRIES = 10


def unique_key_in(push: Push) -> Key | None:
    """The unique key of a push, with the id of its item."""
    return None if push.unique_key is None else Key(push.unique_key, push.item["id"])


class Candidate(NamedTuple):
    """An item to be pushed; without a key it is pushed as it is."""

    key: Key | None
    delayed_id: str
    delay_seconds: float
    text: str

    def args(self, gone: str) -> tuple[str | float, ...]:
        key = "" if self.key is None else self.key.text
        return key, gone, self.delayed_id, self.delay_seconds, self.text


class UniqueKeys:
    """The unique keys of one queue.

    Args:
        clock: of the moments in envelopes.
    """

    def __init__(self, commands: Commands, clock: Clock) -> None:
        self._commands = commands
        self._clock = clock
        self._outside = Outside(commands)
        self._finder = Finder(commands, self._outside, clock)

    async def push(self, candidates: Sequence[Candidate]) -> list[Exception | None]:
        """Push items in their order; for each None, or why it was not pushed."""
        outcomes: list[Exception | None] = [None] * len(candidates)
        left: dict[int, str] = dict.fromkeys(range(len(candidates)), "")
        for _ in range(_MOST_TRIES):
            indexes = list(left)
            answers = await self._try([(candidates[each], left[each]) for each in indexes])
            left = {}
            for index, answer in zip(indexes, answers, strict=True):
                key = candidates[index].key
                if answer[0] == 1 or key is None:
                    continue
                gone = await self.gone_record(key, answer)
                if isinstance(gone, DuplicateCall):
                    outcomes[index] = gone
                else:
                    left[index] = gone
            if not left:
                return outcomes
        for index in left:
            outcomes[index] = BackendError(
                f"the holder of a unique key has changed {_MOST_TRIES} times; try again"
            )
        return outcomes

    async def _try(self, each: Sequence[tuple[Candidate, str]]) -> list[list[int | bytes]]:
        keys = self._commands.keys
        args = [value for candidate, gone in each for value in candidate.args(gone)]
        answers: list[list[int | bytes]] = await self._commands.link.run(
            script("dockets_unique", "dockets_push_unique"),
            (keys.queue, keys.delayed, keys.payload, keys.unique),
            (self._commands.now(), self._clock.time(), TRUSTED_SECONDS, *args),
        )
        return answers

    async def gone_record(self, key: Key, answer: Sequence[int | bytes]) -> str | DuplicateCall:
        """What to send again after a refusal; or that another item holds the key.

        Args:
            answer: the refusal of a script.
        """
        told = answer[1]
        assert isinstance(told, bytes)
        text = told.decode(errors="surrogateescape")
        if answer[0] == 0:
            return DuplicateCall(text)
        holder_id = text.split(" ", 2)[2]
        is_gone = await self._is_gone(key.text, told, holder_id)
        return DuplicateCall(holder_id) if is_gone is False else text if is_gone else ""

    async def _is_gone(self, key: str, record: bytes, holder_id: str) -> bool | None:
        """Whether the item of a holder is nowhere. None: the key has another holder by now."""
        start_time = time.monotonic()
        members: Sequence[str] = ()
        verdict = await self._look(key, record, holder_id, members)
        if verdict == "workers":
            members = await self._commands.workers()
            verdict = await self._look(key, record, holder_id, members)
        if verdict in ("workers", "unsure"):
            # More may be in flight than one look searches.
            if await self._finder.find_held(holder_id, members):
                await self._trust(key, record, time.monotonic() - start_time)
                return False
            members = await self._commands.workers()
            outside = await self._outside.all(members)
            verdict = await self._look(key, record, holder_id, (*members, *outside), is_all=True)
        if verdict == "unsure":
            found = await self._finder.find(holder_id)
            if found is None or found.place == "cancelled":
                return True
            await self._trust(key, record, time.monotonic() - start_time)
            return False
        # Consumers may have come meanwhile; then nothing is known.
        return {"there": False, "gone": True}.get(verdict)

    async def _look(
        self,
        key: str,
        record: bytes,
        holder_id: str,
        consumers: Sequence[str],
        *,
        is_all: bool = False,
    ) -> str:
        keys = self._commands.keys
        names = (keys.unique, keys.queue, keys.delayed, keys.payload, keys.workers)
        limits = (_MOST_ENTRIES, _MOST_BYTES, "1" if is_all else "")
        needle = dump_value(holder_id)
        verdict: bytes = await self._commands.link.run(
            script("dockets_unique", "dockets_look_unique"),
            (*names, *map(keys.working, consumers)),
            (self._commands.now(), key, record, needle, TRUSTED_SECONDS, *limits, *consumers),
        )
        return verdict.decode()

    async def _trust(self, key: str, record: bytes, search_seconds: float) -> None:
        """Note that the holder was found, after a search in pages."""
        trusted = min(max(_TRUST_FACTOR * search_seconds, TRUSTED_SECONDS), _LONGEST_TRUST_SECONDS)
        await self._commands.link.run(
            script("dockets_unique", "dockets_trust_unique"),
            (self._commands.keys.unique,),
            (self._commands.now(), key, record, trusted),
        )

    async def free(self, consumer_id: str, raw: bytes, key: Key) -> bool:
        """Let go of the key of an entry; False: that consumer does not hold it any more."""
        keys = self._commands.keys
        reply = await self._commands.link.run(
            script("dockets_unique", "dockets_free_unique"),
            (keys.working(consumer_id), keys.unique),
            (raw, key.text, key.item_id),
        )
        return bool(reply == 1)
