"""What goes wrong in a chaos run, and when: drawn from a seed, then done.

Owns the kinds of faults, and how each is done and undone. At most one worker is away at a time, so
that there is always somebody to take over.
"""

import asyncio
import random
import signal
import time
from collections.abc import Callable, Coroutine

from attacks.chaos_brokers import Broker
from attacks.chaos_causes import BROKER_KILLED, TOLD_TO_LEAVE, Fault
from attacks.chaos_staff import Staff

__all__ = ["Schedule"]

STOPPED = "worker stopped for longer than its lease"
PARTED = "worker parted from the broker for longer than its lease"
BROKER_FULL = "broker full"
WORKER_SPOILT = "worker's requests spoilt"
PRODUCER_SPOILT = "producer's requests spoilt"

WEIGHTS = {
    "worker killed": 4,
    STOPPED: 2,
    TOLD_TO_LEAVE: 2,
    "worker's connections cut": 6,
    "worker's answer lost": 6,
    PARTED: 2,
    "producer killed": 2,
    "producer's connections cut": 3,
    "producer's answer lost": 3,
    BROKER_KILLED: 2,
    BROKER_FULL: 2,
    WORKER_SPOILT: 8,
    PRODUCER_SPOILT: 4,
}
OF_WIRES = [
    "worker's connections cut",
    "worker's answer lost",
    PARTED,
    "producer's connections cut",
    "producer's answer lost",
]
SPOILS_AT_ONCE = 2


class Schedule:
    """Does what it draws until it is cancelled, and repairs what it broke.

    Args:
        every_seconds: how long it waits between two faults, on average.

    Attributes:
        faults: what was done.
    """

    def __init__(
        self,
        seed: int,
        broker: Broker,
        staff: Staff,
        lease_seconds: float,
        every_seconds: float,
    ) -> None:
        self._draw = random.Random(seed)
        self._broker = broker
        self._staff = staff
        self._lease_seconds = lease_seconds
        self._every_seconds = every_seconds
        self.faults: list[Fault] = []
        self._deeds: dict[str, Callable[[], Coroutine[None, None, None]]] = {
            "worker killed": lambda: self._kill("worker"),
            STOPPED: self._stop_and_continue,
            TOLD_TO_LEAVE: self._tell_to_leave,
            "worker's connections cut": lambda: self._cut("worker"),
            "worker's answer lost": lambda: self._lose_reply("worker"),
            PARTED: self._part,
            "producer killed": lambda: self._kill("producer"),
            "producer's connections cut": lambda: self._cut("producer"),
            "producer's answer lost": lambda: self._lose_reply("producer"),
            BROKER_KILLED: self._crash,
            BROKER_FULL: self._be_full,
            WORKER_SPOILT: lambda: self._spoil("worker"),
            PRODUCER_SPOILT: lambda: self._spoil("producer"),
        }
        if not broker.has_wires:
            for kind in OF_WIRES:
                del self._deeds[kind]
        if not broker.can_crash:
            del self._deeds[BROKER_KILLED]
        if not broker.can_be_full:
            del self._deeds[BROKER_FULL]
        if not broker.spoils:
            del self._deeds[WORKER_SPOILT], self._deeds[PRODUCER_SPOILT]
        self._is_away = asyncio.Lock()

    async def run(self) -> None:
        """Go on until it is cancelled; what is broken for a time is whole when it returns."""
        kinds = list(self._deeds)
        # Each once in the beginning, in any order: a short run shall see all of them.
        ahead = self._draw.sample(kinds, len(kinds))
        deeds: list[asyncio.Task[None]] = []
        try:
            while True:
                await asyncio.sleep(self._draw.uniform(0.5, 1.5) * self._every_seconds)
                weights = [WEIGHTS[kind] for kind in kinds]
                kind = ahead.pop() if ahead else self._draw.choices(kinds, weights)[0]
                deeds.append(asyncio.ensure_future(self._deeds[kind]()))
        finally:
            await asyncio.gather(*deeds)
            self._broker.mend()

    def _note(self, kind: str, target: str, begin: float, gravity: int = 2) -> None:
        self.faults.append(Fault(kind, target, begin, time.monotonic(), gravity))

    # What may go wrong.

    async def _kill(self, role: str) -> None:
        member = self._draw.choice(self._staff.members(role))
        begin = time.monotonic()
        member.send(signal.SIGKILL)
        self._note(f"{role} killed", member.who, begin)

    async def _stop_and_continue(self) -> None:
        async with self._is_away:
            member = self._draw.choice(self._staff.members("worker"))
            begin = time.monotonic()
            member.send(signal.SIGSTOP)
            await asyncio.sleep(self._lease_seconds * self._draw.uniform(1.2, 1.6))
            member.send(signal.SIGCONT)
            self._note(STOPPED, member.who, begin)

    async def _tell_to_leave(self) -> None:
        member = self._draw.choice(self._staff.members("worker"))
        if not member.is_up:
            return
        begin = time.monotonic()
        # Its grace period is half a lease; then what can be cancelled is given back.
        end = begin + self._lease_seconds
        self.faults.append(Fault(TOLD_TO_LEAVE, member.who, begin, end))
        member.is_told_to_leave = True
        member.send(signal.SIGTERM)

    async def _cut(self, role: str) -> None:
        place = self._draw.choice(self._staff.members(role)).place
        begin = time.monotonic()
        self._broker.cut(place)
        self._note(f"{role}'s connections cut", place, begin, gravity=1)

    async def _lose_reply(self, role: str) -> None:
        place = self._draw.choice(self._staff.members(role)).place
        begin = time.monotonic()
        self._broker.lose_reply(place)
        # It strikes with the next command, which an idle place sends within a second or so.
        self.faults.append(Fault(f"{role}'s answer lost", place, begin, begin + 2, 1))

    async def _spoil(self, role: str) -> None:
        place = self._draw.choice(self._staff.members(role)).place
        for kind in self._draw.sample(self._broker.spoils, SPOILS_AT_ONCE):
            self._broker.spoil(place, kind)  # which tells when each has struck

    async def _part(self) -> None:
        async with self._is_away:
            place = self._draw.choice(self._staff.members("worker")).place
            begin = time.monotonic()
            self._broker.part(place)
            await asyncio.sleep(self._lease_seconds * self._draw.uniform(1.2, 1.6))
            await self._broker.rejoin(place)
            self._note(PARTED, place, begin)

    async def _crash(self) -> None:
        async with self._is_away:
            begin = time.monotonic()
            await self._broker.crash(down_seconds=self._draw.uniform(0.2, 1.5))
            self._note(BROKER_KILLED, "broker", begin)

    async def _be_full(self) -> None:
        # Not while it is killed, as it forgets then that it is full.
        async with self._is_away:
            begin = time.monotonic()
            await self._broker.be_full(self._lease_seconds * self._draw.uniform(1.2, 1.6))
            # It excuses nothing: consumers go on while it is full.
            self._note(BROKER_FULL, "nobody", begin)
