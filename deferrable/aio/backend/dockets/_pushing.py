"""How items are pushed to a Dockets queue.

Owns the form of a new entry, and which pushes share one command or script: those that are available
at once, the delayed ones, and those that have unique keys.

The one rule: an item is pushed once. A failed command may have worked, so it is not repeated here;
only what Redis has not read at all, because it was too large, is sent in smaller parts.
"""

from collections.abc import Sequence

from deferrable.aio.backend.dockets._base import fail
from deferrable.aio.backend.dockets._commands import Commands, in_chunks
from deferrable.aio.backend.dockets._unique import Candidate, UniqueKeys, unique_key_in
from deferrable.aio.backend.dockets._wire import envelope_around
from deferrable.aio.clock import Clock
from deferrable.aio.queue import Push
from deferrable.errors import BackendError, ItemTooLarge
from deferrable.item import new_id

__all__ = ["Pusher"]


class Pusher:
    """Pushes to one queue.

    Args:
        unique: pushes the items that have unique keys.
        clock: of the moments in envelopes.
    """

    def __init__(self, commands: Commands, unique: UniqueKeys, clock: Clock) -> None:
        self._commands = commands
        self._unique = unique
        self._clock = clock

    async def push(self, pushes: Sequence[Push]) -> Sequence[Exception | None]:
        """Push items; for each None, or why it was not pushed."""
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
        now = self._clock.time()
        entries = [(push, *self.entry(push, now)) for push in pushes]
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
        """Push them with one command, all at once or all delayed."""
        before, after = envelope_around(self._clock.time())
        texts = [f"{before}{push.text}{after}" for push in pushes]
        if pushes[0].delay_seconds:
            each = zip(pushes, texts, strict=True)
            await self._commands.push_delayed(
                [(new_id(), push.delay_seconds, text) for push, text in each]
            )
        else:
            await self._commands.push(texts)

    def entry(self, push: Push, now: float) -> tuple[str, str]:
        """The id that a push has among the delayed items, and its text as it is stored."""
        before, after = envelope_around(now)
        key = unique_key_in(push)
        delayed_id = new_id() if key is None else key.item_id
        return delayed_id, f"{before}{push.text}{after}"


def _too_large_for_redis(push: Push, error: ItemTooLarge) -> ItemTooLarge:
    explained = ItemTooLarge(f"the item is {len(push.text)} bytes: {error}")
    explained.__cause__ = error.__cause__
    return explained
