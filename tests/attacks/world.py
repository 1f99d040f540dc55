"""What is attacked: an instance with its jobs, and the books that are kept of them.

Owns the jobs, what they do at their first run and at later ones, and the look at where each item
is. The books are by key, which is the one argument of every job.
"""

import asyncio
from collections import Counter
from typing import Any, NoReturn

from attacks.faulting import FaultyStore, Moment, NthFault
from attacks.places import LEASE_SECONDS, Place
from deferrable.aio import Deferrable
from deferrable.aio.backend.base import Backend
from deferrable.aio.debounce import InMemoryDebounceStore
from deferrable.aio.queue import Queue
from deferrable.metadata import MetadataProducerConsumer
from deferrable.testing import FaultyQueue

__all__ = ["WINDOW_SECONDS", "World"]

WINDOW_SECONDS = 60.0


class Broken(Exception):
    """What is retried."""


class Fatal(Exception):
    """What is not."""


class Requests(MetadataProducerConsumer):
    NAMESPACE = "requests"

    def produce_metadata(self) -> str:
        return "request"

    async def consume_metadata(self, metadata: Any) -> None:
        await asyncio.sleep(0)


class Listener:
    """Has async handlers, and counts."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts

    async def on_push(self, item: Any) -> None:
        self._counts["push"] += 1
        await asyncio.sleep(0)

    async def on_expire(self, item: Any) -> None:
        self._counts["expire"] += 1
        await asyncio.sleep(0)

    async def on_pop(self, item: Any) -> None:
        await asyncio.sleep(0)

    on_complete = on_retry = on_error = on_release = on_pop


class World:
    """One instance on one place.

    Attributes:
        begun, returned: how often the job of a key began, and how often it ended.
        ids: key -> id of the item, for the items that have to be kept.
    """

    def __init__(
        self, place: Place, target: int | None, moment: Moment, *, is_atomic: bool, waits: bool
    ) -> None:
        self.place, self.clock = place, place.clock
        self.faults = NthFault(target, moment)
        self.broker = place.consumer()
        place.set_wait(self.broker, place.wait_seconds if waits else 0)
        self.backend = Backend(
            None,
            FaultyQueue(self.broker.queue, self.faults, has_atomic_replace=is_atomic),
            FaultyQueue(self.broker.error_queue, self.faults, has_atomic_replace=is_atomic),
        )
        store = FaultyStore(InMemoryDebounceStore(self.clock), self.faults)
        self.instance = Deferrable(self.backend, debounce_store=store)
        self.events: Counter[str] = Counter()
        self.instance.register_event_consumer(Listener(self.events))
        self.instance.register_metadata_producer_consumer(Requests())
        self.begun: Counter[str] = Counter()
        self.returned: Counter[str] = Counter()
        self.ids: dict[str, str] = {}
        self.may_expire: set[str] = set()
        self.has_begun = asyncio.Event()
        self.is_recovering = False
        self._register_jobs()

    def _register_jobs(self) -> None:
        make = self.instance.deferrable
        self.works = make(name="works")(self._work)
        self.plain = make(name="plain")(self._work_plainly)
        self.fails_once = make([Broken], name="fails_once")(self._fail_once)
        self.fails = make(name="fails")(self._fail)
        self.expires = make(ttl_seconds=5, name="expires")(self._work)
        self.hangs_once = make(name="hangs_once")(self._hang_once)
        self.overruns = make([TimeoutError], timeout_seconds=9, name="overruns")(self._overrun)
        self.debounced = make(debounce_seconds=WINDOW_SECONDS, name="debounced")(self._work)

    # The jobs.

    async def _work(self, key: str) -> str:
        self.begun[key] += 1
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.returned[key] += 1
        return key

    def _work_plainly(self, key: str) -> str:
        self.begun[key] += 1
        self.returned[key] += 1
        return key

    async def _fail_once(self, key: str) -> str:
        if self.begun[key]:
            return await self._work(key)
        self.begun[key] += 1
        await asyncio.sleep(0)
        raise Broken

    async def _fail(self, key: str) -> NoReturn:
        self.begun[key] += 1
        await asyncio.sleep(0)
        raise Fatal

    async def _hang_once(self, key: str) -> str:
        if self.begun[key] or self.is_recovering:
            return await self._work(key)
        self.begun[key] += 1
        self.has_begun.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async def _overrun(self, key: str) -> str:
        if self.begun[key]:
            return await self._work(key)
        self.begun[key] += 1
        self.clock.advance(9)
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    # What a scenario prepares.

    async def defer(self, name: str, key: str) -> None:
        """Defer a job whose item has to be kept."""
        receipt = await getattr(self, name).later_async(key)
        assert receipt.id is not None
        self.ids[key] = receipt.id

    async def bury(self) -> None:
        """Move the one item that there is to the error queue."""
        envelope, item = await self.broker.queue.pop()
        assert envelope is not None
        assert item is not None
        error = {"id": "error-1", "error_type": "Fatal", "error_text": "", "traceback": ""}
        await self.broker.queue.replace(envelope, {**item, "error": error}, self.broker.error_queue)

    def is_finished(self, key: str) -> bool:
        """Whether the job of a key has come to its end, or its item was allowed to go."""
        return self.returned[key] > 0 or key in self.may_expire

    # The look at where things are.

    async def count(self) -> int:
        """How many items there are, in either queue, in every state."""
        return await _count(self.broker.queue) + await _count(self.broker.error_queue)

    async def buried(self) -> list[str]:
        """The ids of the items in the error queue, once every lease has ended; takes them off."""
        self.clock.advance(LEASE_SECONDS + 1)
        ids = []
        while True:
            envelope, item = await self.broker.error_queue.pop()
            if envelope is None or item is None:
                return ids
            await self.broker.error_queue.complete(envelope)
            ids.append(str(item["id"]))

    async def recover(self, rounds: int = 30) -> None:
        """Run what there is, until the main queue is empty; nothing goes wrong any more."""
        self.faults.clear()
        self.is_recovering = True
        self.place.set_wait(self.broker, 0)
        for _ in range(rounds):
            while await self.instance.run_once() is not None:
                pass
            if not await _count(self.broker.queue):
                return
            self.clock.advance(LEASE_SECONDS + 1000)
            await asyncio.sleep(self.place.pause_seconds)
        raise AssertionError(f"the queue is never empty: {await self.broker.queue.stats()}")

    async def close(self) -> None:
        await self.broker.queue.flush()
        await self.broker.error_queue.flush()
        await self.broker.close()


async def _count(queue: Queue) -> int:
    stats = await queue.stats()
    return int(sum(stats.get(where, 0) for where in ("available", "in_flight", "delayed")))
