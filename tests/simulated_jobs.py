"""Jobs that may not run twice, each beside one that may; for the tests of `simulate`.

Owns a world that forgets nothing: what others did for us stays done when one of our processes ends.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import deferrable
import deferrable.aio
from deferrable.backend import InMemoryBackendFactory
from deferrable.errors import BackendUnavailable

shop = deferrable.Deferrable(InMemoryBackendFactory().create_backend_for_group("simulated"))
async_shop = deferrable.aio.Deferrable(
    deferrable.aio.backend.InMemoryBackendFactory().create_backend_for_group("simulated")
)


class World:
    """The bank, the carrier, and our own tables."""

    def __init__(self) -> None:
        self.charges: list[int] = []
        self.keys: set[int] = set()
        self.paid: set[int] = set()
        self.prices: dict[str, tuple[int, int]] = {}
        self.shipped: list[int] = []
        self.reserved: list[int] = []
        self.stock = 10

    def charge(self, order: int, key: int | None = None) -> None:
        """The bank charges once for a key."""
        if key is None or key not in self.keys:
            self.charges.append(order)
        if key is not None:
            self.keys.add(key)

    def hand_over(self, order: int) -> None:
        """The carrier takes each order once."""
        if order not in self.shipped:
            self.shipped.append(order)

    def update_price(self, name: str, price: int, version: int) -> None:
        """``UPDATE ... WHERE version < ?``, in one step."""
        if self.prices.get(name, (0, 0))[1] < version:
            self.prices[name] = price, version


world = World()


def reset() -> None:
    world.__init__()  # type: ignore[misc]


# 1. The effect itself.


@shop.deferrable
def charge_naive(order: int) -> None:
    world.charge(order)


@shop.deferrable
def charge_right(order: int) -> None:
    world.charge(order, key=order)


# 2. A mark after the effect, and 3. one before it.


@shop.deferrable
def mark_after(order: int) -> None:
    if order in world.paid:
        return
    world.charge(order)
    world.paid.add(order)


@shop.deferrable
def mark_before(order: int) -> None:
    if order in world.paid:
        return
    world.paid.add(order)
    world.charge(order)


@shop.deferrable
def mark_right(order: int) -> None:
    if order in world.paid:
        return
    world.charge(order, key=order)
    world.paid.add(order)


# 4. A value that is read, and written later.


@shop.deferrable
def take_naive(order: int) -> None:
    left = world.stock
    if order not in world.paid:
        left -= 1
        world.stock = left
        world.paid.add(order)


@shop.deferrable
def take_right(order: int) -> None:
    world.paid.add(order)  # the stock is what was there, less what is paid


# 5. What comes later is taken for newer.


@shop.deferrable
def price_naive(name: str, price: int, version: int) -> None:
    world.prices[name] = price, version


@shop.deferrable
def price_right(name: str, price: int, version: int) -> None:
    world.update_price(name, price, version)


# 6. A call that is deferred after the mark that says it was.


@shop.deferrable
def ship(order: int) -> None:
    world.hand_over(order)


@shop.deferrable(error_classes=[BackendUnavailable])
def order_naive(order: int) -> None:
    if order in world.paid:
        return
    world.paid.add(order)
    ship.later(order)


@shop.deferrable(error_classes=[BackendUnavailable])
def order_right(order: int) -> None:
    if order in world.paid:
        return
    ship.later(order)
    world.paid.add(order)


# 7. What an async job holds while it waits.


@async_shop.deferrable
async def reserve_naive(order: int) -> None:
    world.reserved.append(order)
    await asyncio.sleep(0)
    world.charge(order, key=order)
    world.reserved.remove(order)


@async_shop.deferrable
async def reserve_right(order: int) -> None:
    if order not in world.reserved:
        world.reserved.append(order)
    await asyncio.sleep(0)
    world.charge(order, key=order)
    while order in world.reserved:
        world.reserved.remove(order)


# 8. Two of them at once.


@async_shop.deferrable
async def check_naive(order: int) -> None:
    if order not in world.charges:
        await asyncio.sleep(0)
        world.charge(order)


@async_shop.deferrable
async def check_right(order: int) -> None:
    if order not in world.charges:
        await asyncio.sleep(0)
        world.charge(order, key=order)


def orders(job: Any) -> Callable[[], None]:
    """Start a world with two orders."""

    def start() -> None:
        reset()
        job.later(7)
        job.later(8)

    return start


def orders_async(job: Any) -> Callable[[], Any]:
    async def start() -> None:
        reset()
        await job.later_async(7)
        await job.later_async(8)

    return start


def prices(job: Any) -> Callable[[], None]:
    def start() -> None:
        reset()
        job.later("tea", 100, 1)
        job.later("tea", 120, 2)

    return start


def charged_once() -> None:
    assert sorted(world.charges) == [7, 8], f"charged {world.charges}"


def charged_and_free() -> None:
    charged_once()
    assert not world.reserved, f"still reserved: {world.reserved}"


def stock_is_right() -> None:
    left = world.stock - len(world.paid) if world.stock == 10 else world.stock
    assert left == 8, f"{left} left, with {len(world.paid)} paid"


def newest_price() -> bool:
    return world.prices["tea"][0] == 120


def shipped_once() -> None:
    assert sorted(world.shipped) == [7, 8], f"shipped {world.shipped}"
