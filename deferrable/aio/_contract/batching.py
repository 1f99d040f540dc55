"""Send in native batches: single calls that are made at the same time, and lists of any length.

Owns the gathering of concurrent calls of one kind, on one event loop, and the splitting of a list.

The one rule: a single call does not wait. The first call is sent alone, at once, in its caller's
own task; calls that arrive meanwhile are sent together next. A cancelled caller removes only its
own entry, and only if that entry was not sent yet.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar, cast

from deferrable.errors import BackendError, DeferrableError

__all__ = ["Batcher", "check_batch_size", "check_outcomes", "in_batches"]

T = TypeVar("T")


class Batcher(Generic[T]):
    """Performs entries, one batch at a time.

    Args:
        perform: takes entries; returns, in their order, None or an exception for each. If it
            raises, all entries have failed.
        max_size: the most entries of one batch.
        gathers: also the first entries that come in one pass of the loop are sent together, by a
            task in the next pass.
    """

    def __init__(
        self,
        perform: Callable[[Sequence[T]], Awaitable[Sequence[Exception | None]]],
        max_size: int,
        *,
        gathers: bool = False,
    ) -> None:
        self._perform = perform
        self._max_size = max_size
        self._gathers = gathers
        self._pending: list[tuple[T, asyncio.Future[None]]] = []
        self._is_busy = False
        self._flusher: asyncio.Task[None] | None = None

    def __call__(self, entry: T) -> Awaitable[None]:
        """Perform `entry`, alone or together with others.

        Returns:
            an awaitable, to await at once. It raises this entry's own failure, or that of the whole
            batch.
        """
        if not self._is_busy and not self._gathers:
            return self._perform_first(entry)
        # No coroutine: it is cancelled with its caller, and so shows that nobody waits any more.
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((entry, future))
        if not self._is_busy:
            self._is_busy = True
            self._go_on()
        return future

    async def _perform_first(self, entry: T) -> None:
        if self._is_busy:  # another caller was quicker between the call and the await
            await self(entry)
            return
        self._is_busy = True
        try:
            outcomes = await self._perform([entry])
            if len(outcomes) != 1:
                check_outcomes([entry], outcomes)
        finally:
            if self._pending:
                self._go_on()
            else:
                self._is_busy = False
        if outcomes[0] is not None:
            raise outcomes[0]

    def _go_on(self) -> None:
        self._flusher = asyncio.get_running_loop().create_task(self._flush())
        self._flusher.add_done_callback(self._note_unstarted)

    def _note_unstarted(self, flusher: "asyncio.Task[None]") -> None:
        """If it was cancelled before its first step, as when the loop ends, nobody performs."""
        if self._flusher is flusher:
            _cancel(self._pending)
            self._pending.clear()
            self._is_busy = False
            self._flusher = None

    async def _flush(self) -> None:
        try:
            while waiting := [place for place in self._pending if not place[1].done()]:
                self._pending = waiting[self._max_size :]
                await self._perform_for(waiting[: self._max_size])
        except BaseException:
            # No other caller would ever perform these.
            _cancel(self._pending)
            raise
        finally:
            self._pending.clear()
            self._is_busy = False
            self._flusher = None

    async def _perform_for(self, batch: list[tuple[T, asyncio.Future[None]]]) -> None:
        entries = [entry for entry, _ in batch]
        outcomes: Sequence[Exception | None]
        try:
            outcomes = check_outcomes(entries, await self._perform(entries))
        except Exception as error:
            outcomes = [error] * len(batch)
        except BaseException:
            _cancel(batch)
            raise
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if future.done():
                continue
            if outcome is None:
                future.set_result(None)
            else:
                future.set_exception(outcome)


def _cancel(places: list[tuple[T, asyncio.Future[None]]]) -> None:
    for _, future in places:
        future.cancel()


def check_outcomes(
    entries: Sequence[T], outcomes: Sequence[Exception | None]
) -> Sequence[Exception | None]:
    """`outcomes`, which a hook returned for `entries`.

    Raises:
        BackendError: there is not exactly one for each entry. The adapter is wrong, and it is
            unknown whether the entries took effect.
    """
    if len(outcomes) != len(entries):
        raise BackendError(
            f"a batch hook returned {len(outcomes)} outcomes for {len(entries)} entries; "
            "it must return None or an exception for each entry, in their order"
        )
    return outcomes


async def in_batches(
    entries: Sequence[T | Exception],
    max_size: int,
    at_once: int,
    hook: Callable[[Sequence[T]], Awaitable[Sequence[Exception | None]]],
) -> list[Exception | None]:
    """Perform `entries` in native batches; if a whole batch fails, each of its entries fails.

    An entry that is an exception is not sent, and is its own outcome.
    """
    # Not one by one: nearly always all are sent.
    if any(issubclass(kind, Exception) for kind in set(map(type, entries))):
        outcomes: list[Exception | None] = [
            entry if isinstance(entry, Exception) else None for entry in entries
        ]
        sent = [index for index, outcome in enumerate(outcomes) if outcome is None]
        rest = await in_batches([entries[index] for index in sent], max_size, at_once, hook)
        for index, outcome in zip(sent, rest, strict=True):
            outcomes[index] = outcome
        return outcomes

    async def perform(batch: Sequence[T]) -> Sequence[Exception | None]:
        try:
            return check_outcomes(batch, await hook(batch))
        except DeferrableError as error:
            return [error] * len(batch)

    entries = cast(Sequence[T], entries)
    batches = [entries[start : start + max_size] for start in range(0, len(entries), max_size)]
    results: list[Exception | None] = []
    for start in range(0, len(batches), at_once):
        together = batches[start : start + at_once]
        if len(together) == 1:
            results.extend(await perform(together[0]))
            continue
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(perform(batch)) for batch in together]
        for task in tasks:
            results.extend(task.result())
    return results


def check_batch_size(verb: str, size: int, maximum: int) -> None:
    if size > maximum:
        raise ValueError(f"a batch of {verb} takes at most {maximum} entries, got {size}; split it")
