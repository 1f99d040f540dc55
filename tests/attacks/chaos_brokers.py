"""The brokers that a chaos run attacks.

Owns how each is started, reached through wires that can be cut, crashed and brought back, and what
must not be left in it at the end. A new broker is a line in `BROKERS`, and one in the `CLIENTS` of
``attacks.chaos_clients``, under the same name.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol, Self

from redis_proxy import Wire, wire_to
from redis_server import RedisServer, find_kind, start_redis

from attacks.chaos_causes import Fault
from attacks.chaos_sqlite import SQLiteBroker
from attacks.chaos_sqs import SQSBroker

__all__ = ["BROKERS", "Broker", "Kind"]


class Broker(Protocol):
    """One broker, from the outside.

    Attributes:
        url: where it is, without a wire that can be cut.
        can_crash: it keeps what it acknowledged when it is killed.
        can_be_full: it can be made to refuse what takes memory.
        has_wires: its clients reach it through connections that can be cut.
        spoils: what may go wrong with requests.
        spoilt: how often each did.
        faults: what of it may have a job run twice.
    """

    url: str
    can_crash: bool
    can_be_full: bool
    has_wires: bool
    spoils: Sequence[str]
    spoilt: Counter[str]
    faults: list[Fault]

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exception: object) -> None: ...

    async def url_of(self, place: str) -> str:
        """Where the processes of one place reach it: through their own wire."""
        ...

    def cut(self, place: str) -> None:
        """Break the connections of `place` now."""

    def lose_reply(self, place: str) -> None:
        """Have the next command of `place` take effect, and its answer get lost."""

    def spoil(self, place: str, kind: str) -> None:
        """Have the next requests of `place` go wrong, as one of `spoils` says."""

    def mend(self) -> None:
        """Have nothing more go wrong with requests."""

    def part(self, place: str) -> None:
        """Break the connections of `place`, and let it have no new ones."""

    async def rejoin(self, place: str) -> None:
        """Let `place` have connections again."""

    async def crash(self, down_seconds: float) -> None:
        """Kill it, and return once it is back."""

    async def be_full(self, seconds: float) -> None:
        """Have it refuse what takes memory, and return when it does not any more."""

    async def ping(self) -> None:
        """Return once it has answered something that it had to keep."""

    async def left(self) -> Sequence[str]:
        """What must not be there once every item is settled and every worker has left."""
        ...


class RedisBroker:
    """A Redis that writes to disk before it acknowledges.

    Args:
        kind: the kind of the server; None: the first one found.
    """

    can_crash = True
    can_be_full = True
    has_wires = True
    spoils: Sequence[str] = ()

    def __init__(self, kind: str | None = None) -> None:
        self._kind = kind
        self.spoilt: Counter[str] = Counter()
        self.faults: list[Fault] = []
        self._stack = AsyncExitStack()
        self._wires: dict[str, Wire] = {}

    async def __aenter__(self) -> Self:
        config = {"appendonly": "yes", "appendfsync": "always"}
        program = None if self._kind is None else find_kind(self._kind)
        self._server: RedisServer = self._stack.enter_context(
            start_redis(config=config, program=program)
        )
        self.url = self._server.url
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    async def url_of(self, place: str) -> str:
        if place not in self._wires:
            wire = wire_to(self._server.port, remembers=False)
            self._wires[place] = await self._stack.enter_async_context(wire)
        return self._wires[place].url

    def cut(self, place: str) -> None:
        self._wires[place].cut()

    def lose_reply(self, place: str) -> None:
        self._wires[place].lose_reply_to(b"")

    def spoil(self, place: str, kind: str) -> None:
        raise NotImplementedError(kind)

    def mend(self) -> None:
        """Nothing is kept for later but a lost answer, for which there are repetitions."""

    def part(self, place: str) -> None:
        self._wires[place].refuse()

    async def rejoin(self, place: str) -> None:
        await self._wires[place].accept()

    async def crash(self, down_seconds: float) -> None:
        await asyncio.to_thread(self._server.kill)
        await asyncio.sleep(down_seconds)
        await asyncio.to_thread(self._server.start)

    async def be_full(self, seconds: float) -> None:
        await asyncio.to_thread(self._set_maxmemory, 1)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self._set_maxmemory, 0)

    def _set_maxmemory(self, number: int) -> None:
        with self._server.client() as client:
            client.config_set("maxmemory", number)

    async def ping(self) -> None:
        await asyncio.to_thread(self._ping)

    def _ping(self) -> None:
        with self._server.client() as client:
            client.set("chaos.ping", time.time(), ex=60)

    async def left(self) -> Sequence[str]:
        return await asyncio.to_thread(self._server.lasting_keys)


@dataclass(frozen=True)
class Kind:
    """A kind of broker.

    Attributes:
        make: starts one when it is entered.
        settles_at_once: it takes a push that is sent twice for one, and settles in one step.
        is_one_machine: all its clients have one clock.
    """

    make: Callable[[], Broker]
    settles_at_once: bool
    is_one_machine: bool = False


BROKERS: Mapping[str, Kind] = {
    "redis": Kind(RedisBroker, settles_at_once=True),
    "redis6": Kind(lambda: RedisBroker("Redis 6"), settles_at_once=True),
    "sqlite": Kind(SQLiteBroker, settles_at_once=True, is_one_machine=True),
    "sqs": Kind(SQSBroker, settles_at_once=False),
}
