"""Pops that are made at the same time share the broker's answers.

Owns who waits for items on one event loop, the one native pop at a time, and what happens to items
whose caller has given up.

The one rule: a native pop is never cancelled, because its answer may already hold items. A caller
that gives up asks the queue to end the wait and lets the answer arrive; items without a caller are
released.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from deferrable.aio._contract.tasks import until_done
from deferrable.aio.envelope import Envelope
from deferrable.item import Item

__all__ = ["Popped", "Popper"]

Popped: TypeAlias = tuple[Envelope, Item]


class _Waiter:
    __slots__ = ("count", "future")

    def __init__(self, count: int, future: asyncio.Future[list[Popped]]) -> None:
        self.count = count
        self.future = future


class Popper:
    """Serves the waiters of one loop, first come, first served.

    Args:
        pop: pops up to a number of items, waiting as long as the queue waits.
        release: gives items without a caller back to the front.
        interrupt: asks for a waiting `pop` to end early; it may do nothing.
        max_size: the most items of one native pop.
    """

    def __init__(
        self,
        pop: Callable[[int], Awaitable[Sequence[Popped]]],
        release: Callable[[Sequence[Envelope]], Awaitable[None]],
        interrupt: Callable[[], None],
        max_size: int,
    ) -> None:
        self._pop = pop
        self._release = release
        self._interrupt = interrupt
        self._max_size = max_size
        self._waiters: deque[_Waiter] = deque()
        self._popping: asyncio.Task[None] | None = None

    async def __call__(self, count: int) -> list[Popped]:
        """Up to `count` items; none if the queue's wait ended without any."""
        loop = asyncio.get_running_loop()
        waiter = _Waiter(count, loop.create_future())
        self._waiters.append(waiter)
        if self._popping is None:
            self._popping = loop.create_task(self._serve())
        try:
            return await waiter.future
        except asyncio.CancelledError:
            await self._withdraw(waiter)
            raise

    async def _withdraw(self, waiter: _Waiter) -> None:
        if waiter.future.done() and not waiter.future.cancelled():
            # It got items in the same pass of the loop in which it was cancelled.
            if waiter.future.exception() is None:
                await self._give_back(waiter.future.result())
            return
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        if self._popping is not None and not self._waiters:
            self._interrupt()
            await until_done(self._popping)

    async def _give_back(self, popped: Sequence[Popped]) -> None:
        if popped:
            await self._release([envelope for envelope, _ in popped])

    async def _serve(self) -> None:
        try:
            while self._waiters:
                present = list(self._waiters)
                wanted = min(sum([waiter.count for waiter in present]), self._max_size)
                popped = deque(await self._pop(wanted))
                if popped:
                    self._share_out(popped)
                    if popped:
                        await self._give_back(popped)
                else:
                    self._send_away(present)
        except Exception as error:
            self._fail(error)
        except BaseException:
            for waiter in self._waiters:
                waiter.future.cancel()
            self._waiters.clear()
            raise
        finally:
            self._popping = None

    def _share_out(self, popped: deque[Popped]) -> None:
        while popped and self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.future.done():
                share = [popped.popleft() for _ in range(min(waiter.count, len(popped)))]
                waiter.future.set_result(share)

    def _send_away(self, present: list[_Waiter]) -> None:
        for waiter in present:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                if not waiter.future.done():
                    waiter.future.set_result([])

    def _fail(self, error: Exception) -> None:
        waiters, self._waiters = list(self._waiters), deque()
        for waiter in waiters:
            if not waiter.future.done():
                waiter.future.set_exception(error)
