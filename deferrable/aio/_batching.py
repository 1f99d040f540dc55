"""Single calls made at the same time travel together.

Owns the gathering of concurrent calls of one kind, on one event loop, into native batches. It may
not know which kind: what performs a batch is given to it.

The one rule: a quiet queue pays nothing. The first call goes out alone, at once, in its caller's
own task; whatever piles up while it is under way goes together next. A cancelled caller takes only
its own entry along, and only if that had not left yet.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

from deferrable.errors import BackendError

__all__ = ["Batcher", "Perform", "Place", "check_outcomes", "perform_for"]

T = TypeVar("T")

Perform: TypeAlias = Callable[[Sequence[T]], Awaitable[Sequence[Exception | None]]]
"""Takes entries; returns, in their order, None or an exception for each."""
Place: TypeAlias = tuple[T, asyncio.Future[None]]
"""An entry, and who waits for what becomes of it."""


class Batcher(Generic[T]):
    """Performs entries, one batch at a time.

    Args:
        perform: takes entries; returns, in their order, None or an exception for each. What it
            raises is every entry's failure.
        max_size: the most entries of one batch.
    """

    def __init__(self, perform: Perform[T], max_size: int) -> None:
        self._perform = perform
        self._max_size = max_size
        self._pending: list[Place[T]] = []
        self._is_busy = False
        self._flusher: asyncio.Task[None] | None = None

    async def __call__(self, entry: T) -> None:
        """Perform `entry`, alone or together with others.

        Raises:
            Exception: this entry's own failure, or the failure of the whole batch.
        """
        if self._is_busy:
            await self._join(entry)
            return
        self._is_busy = True
        try:
            outcomes = check_outcomes([entry], await self._perform([entry]))
        finally:
            self._go_on()
        if outcomes[0] is not None:
            raise outcomes[0]

    async def _join(self, entry: T) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (entry, future)
        self._pending.append(place)
        try:
            await future
        except asyncio.CancelledError:
            if place in self._pending:
                self._pending.remove(place)
            raise

    def _go_on(self) -> None:
        if self._pending:
            self._flusher = asyncio.get_running_loop().create_task(self._flush())
        else:
            self._is_busy = False

    async def _flush(self) -> None:
        try:
            while self._pending:
                batch = self._pending[: self._max_size]
                del self._pending[: self._max_size]
                await perform_for(self._perform, batch)
        except BaseException:
            # Nobody else would ever perform these.
            _cancel(self._pending)
            self._pending.clear()
            raise
        finally:
            self._is_busy = False
            self._flusher = None


async def perform_for(perform: Perform[T], places: Sequence[Place[T]]) -> None:
    """Perform entries as one batch, and tell each of those who wait what became of its own."""
    entries = [entry for entry, _ in places]
    outcomes: Sequence[Exception | None]
    try:
        outcomes = check_outcomes(entries, await perform(entries))
    except Exception as error:
        outcomes = [error] * len(places)
    except BaseException:
        _cancel(places)
        raise
    for (_, future), outcome in zip(places, outcomes, strict=True):
        if future.done():
            continue
        if outcome is None:
            future.set_result(None)
        else:
            future.set_exception(outcome)


def _cancel(places: Sequence[Place[T]]) -> None:
    for _, future in places:
        future.cancel()


def check_outcomes(
    entries: Sequence[T], outcomes: Sequence[Exception | None]
) -> Sequence[Exception | None]:
    """`outcomes`, which a hook returned for `entries`.

    Raises:
        BackendError: they are not one for each entry; the adapter is at fault, and whether the
            entries took effect is unknown.
    """
    if len(outcomes) != len(entries):
        raise BackendError(
            f"a batch hook returned {len(outcomes)} outcomes for {len(entries)} entries; "
            "it must return None or an exception for each entry, in their order"
        )
    return outcomes
