"""Which queue of a worker goes first, if several have items and slots are rare.

Owns the two orders that a user may ask for. In the strict order, a queue is polled only while
those before it have nothing. With weights, each queue gets its share of the items while several
have some. Without either, the pollers share the free slots, and this module is not used.

The one rule: a queue counts as busy from a poll that brought items to the next one that brings
none. A poll that is not answered soon counts as one that brings none, so neither a long poll nor a
broker that is away holds up the others.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, get_args

from deferrable._durations import check_number
from deferrable.errors import InvalidOptions

__all__ = ["QUIET_AFTER_SECONDS", "Order", "OrderName", "Turn", "order_of"]

OrderName: TypeAlias = Literal["fair", "strict"]

_LEAST_WEIGHT = 0.001

QUIET_AFTER_SECONDS = 0.1
"""A queue with items answers sooner, also SQS; a long poll of an empty one does not."""


class Order:
    """The state of all queues of one worker; used on its event loop only.

    Args:
        weights: the share of each queue; None: the strict order.
        count: how many queues there are.
        ring: wakes the pollers, because another one may ask now.
    """

    def __init__(
        self, weights: Sequence[float] | None, count: int, ring: Callable[[], None]
    ) -> None:
        self._weights = weights
        self._ring = ring
        self._is_busy = [True] * count
        self._passes = [0.0] * count
        """Items taken, by weight: the queue with the smallest number is the next."""

    def may_ask(self, place: int) -> bool:
        """Whether this queue may be polled now."""
        if self._weights is None:
            return not any(self._is_busy[:place])
        least = self._least_pass(place)
        return least is None or self._passes[place] <= least

    def note_items(self, place: int, count: int) -> None:
        """A poll has brought items."""
        if self._weights is not None:
            least = None if self._is_busy[place] else self._least_pass(place)
            if least is not None:  # it had nothing for a while, which gives it no arrears
                self._passes[place] = max(self._passes[place], least)
            self._passes[place] += count / self._weights[place]
        self._is_busy[place] = True
        self._ring()

    def note_quiet(self, place: int) -> None:
        """It has nothing, or cannot be asked."""
        if self._is_busy[place]:
            self._is_busy[place] = False
            self._ring()

    def _least_pass(self, place: int) -> float | None:
        busy = [
            number
            for other, number in enumerate(self._passes)
            if other != place and self._is_busy[other]
        ]
        return min(busy, default=None)


class Turn:
    """The order as the poller of one queue sees it."""

    def __init__(self, order: Order, place: int) -> None:
        self._order = order
        self._place = place
        self._timer: asyncio.TimerHandle | None = None
        self._passing: asyncio.Handle | None = None

    def may_ask(self) -> bool:
        return self._order.may_ask(self._place)

    def begin(self) -> None:
        """A poll begins."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(QUIET_AFTER_SECONDS, self.pass_on)

    def end(self) -> None:
        """The poll is over; `take` follows in the same step if it brought items."""
        if self._timer is not None:
            self._timer.cancel()
        self._passing = asyncio.get_running_loop().call_soon(self.pass_on)

    def take(self, count: int) -> None:
        """It brought items."""
        if self._passing is not None:
            self._passing.cancel()
        self._order.note_items(self._place, count)

    def pass_on(self) -> None:
        """This queue cannot use a slot now."""
        self._order.note_quiet(self._place)


def order_of(
    order: OrderName, weights: Sequence[float] | None, count: int, ring: Callable[[], None]
) -> Order | None:
    """The order of a worker; None: nothing special was asked for.

    Raises:
        InvalidOptions: an unknown order, or weights that do not fit.
    """
    if order not in get_args(OrderName):
        raise InvalidOptions(f"order is 'fair' or 'strict', got {order!r}")
    if weights is not None:
        if order == "strict":
            raise InvalidOptions("order='strict' takes no weights; leave out one of the two")
        if len(weights) != count:
            raise InvalidOptions(
                f"weights has {len(weights)} numbers for {count} instances; give one for each"
            )
        for each in weights:
            check_number("each of weights", each, least=_LEAST_WEIGHT)
    if count == 1 or (order == "fair" and weights is None):
        return None
    return Order(weights, count, ring)
