"""The Redis backend, which uses the protocol of Dockets.

Owns the parts of one queue of jobs, and which of them does what: `Pusher`, `ConsumerPopper`,
`Settler`, `Finder`, `Pauses` and `Reports`. Its lists, sorted set and hash are shared with Dockets
0.4.2 of Python 2. The errors hash has its own queue, see `DocketsErrorQueue`.

The one rule: a decision about an entry is made in the part that owns it. This module only connects
them, and knows what concerns the whole queue: its flags, its counts and its end.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from deferrable.aio._contract.inspecting import Found
from deferrable.aio._contract.popping import Popped
from deferrable.aio.backend._redis.link import RedisLinks
from deferrable.aio.backend.dockets._base import DocketsBase
from deferrable.aio.backend.dockets._commands import Commands
from deferrable.aio.backend.dockets._consumer import Consumer
from deferrable.aio.backend.dockets._finding import Finder
from deferrable.aio.backend.dockets._outside import Outside
from deferrable.aio.backend.dockets._pausing import Pauses
from deferrable.aio.backend.dockets._popping import ConsumerPopper
from deferrable.aio.backend.dockets._pushing import Pusher
from deferrable.aio.backend.dockets._reporting import Reports
from deferrable.aio.backend.dockets._settling import Settler
from deferrable.aio.backend.dockets._unique import UniqueKeys
from deferrable.aio.backend.dockets._upkeep import Upkeep
from deferrable.aio.backend.dockets._wire import push_time_in
from deferrable.aio.clock import Clock, SystemClock
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Push, Queue, Release, Touch
from deferrable.errors import BackendError, InvalidOptions, ItemTooLarge
from deferrable.pause import Pause
from deferrable.worker_reports import WorkerReport

__all__ = ["DocketsQueue"]


class DocketsQueue(DocketsBase):
    """A producer and consumer of one queue in Redis. Made by `DocketsBackendFactory`.

    One such object in one process is one consumer, whatever threads and event loops use it.
    """

    IS_FOR_ERRORS = False
    KEEPS_DELAYS = True
    SUPPORTS_CANCEL = True
    SUPPORTS_INSPECTION = True
    SUPPORTS_UNIQUE = True
    SUPPORTS_PAUSE = True
    SUPPORTS_WORKERS = True
    HAS_OLD_CONSUMERS = True

    def __init__(
        self,
        name: str,
        links: RedisLinks,
        wait_time: float,
        timeout: float,
        max_redeliveries: int,
        max_lease_seconds: float | None,
        max_item_bytes: int,
        clock: Clock | None,
    ) -> None:
        super().__init__(name, links, timeout, max_lease_seconds, clock)
        self.max_redeliveries = max_redeliveries
        self.MAX_ITEM_BYTES = max_item_bytes
        self._consumer = Consumer()
        self._outside = Outside(self._commands)
        self._finder = Finder(self._commands, self._outside, self.clock)
        self._use(self._commands)
        self._upkeep = Upkeep(self._consumer, self._commands, self.clock, max_redeliveries, timeout)
        self._pauses = Pauses(self._commands, self.clock, is_injected=clock is not None)
        self._reports = Reports(self._commands, self.clock, is_injected=clock is not None)
        self._popper = ConsumerPopper(
            self._consumer,
            self._commands,
            self._upkeep,
            self._pauses,
            wait_seconds=wait_time,
            lease_seconds=timeout,
            max_lease_seconds=math.inf if max_lease_seconds is None else max_lease_seconds,
            clock=self.clock,
            injected_clock=clock,
        )
        self._settler = Settler(
            self._consumer,
            self._commands,
            self._unique,
            self.clock,
            max_redeliveries,
            self._popper.heartbeat_seconds,
        )

    def _use(self, commands: Commands) -> None:
        super()._use(commands)
        self._unique = UniqueKeys(commands, self.clock)
        self._pusher = Pusher(commands, self._unique, self.clock)

    # Push.

    def _travelling_bytes(self, text: str, *, is_new: bool) -> int:
        return len(text) if is_new else 0  # The limit is for new items.

    def _too_large(self, size: int) -> ItemTooLarge:
        return ItemTooLarge(
            f"the item is {size} bytes, {self!r} takes at most {self._most_item_bytes()}; pass a "
            "reference to the data instead of the data, or raise max_item_bytes"
        )

    async def _push_batch(self, pushes: Sequence[Push]) -> Sequence[Exception | None]:
        return await self._pusher.push(pushes)

    def _entry(self, push: Push, now: float) -> tuple[str, str]:
        return self._pusher.entry(push, now)

    # Pop.

    async def _pop_batch(self, count: int) -> Sequence[Popped]:
        popped = await self._popper.pop(count)
        self.seen_pause = self._pauses.seen
        return popped

    def _interrupt_pop(self) -> None:
        self._popper.interrupt()

    # Look.

    async def _find(self, item_id: str) -> Found | None:
        return await self._finder.find(item_id)

    async def _inspect(self, cursor: str, count: int) -> tuple[Sequence[Found], str]:
        return await self._finder.inspect(cursor, count)

    async def _cancel(self, found: Found, *, is_remembered: bool) -> bool:
        return await self._finder.cancel(found, is_remembered=is_remembered)

    async def _hasten(self, found: Found, push: Push) -> bool:
        _, text = self._pusher.entry(push, self.clock.time())
        return await self._finder.hasten(found, text)

    async def _ask_to_stop(self, found: Found) -> bool:
        return await self._finder.ask_to_stop(found, self.lease_seconds)

    async def _note_cancelled(self, item_id: str) -> None:
        await self._finder.note_cancelled(item_id)

    # Pause.

    async def _pause(self, pause: Pause) -> None:
        await self._pauses.pause(pause)

    async def _resume(self) -> bool:
        return await self._pauses.resume()

    async def _find_pause(self) -> Pause | None:
        return await self._pauses.find()

    # Workers.

    async def _report_worker(self, report: WorkerReport) -> None:
        await self._reports.keep(replace(report, holder=self._consumer.id))

    async def _forget_worker(self, worker_id: str) -> None:
        await self._reports.drop(worker_id)

    async def _find_workers(self) -> Sequence[WorkerReport]:
        return await self._reports.find()

    # Touch and settlement.

    async def _touch_batch(self, touches: Sequence[Touch]) -> Sequence[Exception | None]:
        outcomes = await self._settler.touch(touches)
        await self._upkeep.run_in_passing()
        return outcomes

    async def _free_key(self, envelope: Envelope) -> None:
        await self._settler.free_key(envelope)

    async def _complete_batch(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        return await self._settler.complete(envelopes)

    async def _release_batch(self, releases: Sequence[Release]) -> Sequence[Exception | None]:
        return await self._settler.release(releases)

    async def _replace(self, envelope: Envelope, push: Push, to: Queue) -> None:
        if not (isinstance(to, DocketsBase) and self._shares_redis_with(to)):
            await super()._replace(envelope, push, to)
            return
        key, text = to._entry(push, self.clock.time())
        where = to._place_of(push)
        await self._settler.replace(envelope, where, key, text, push.delay_seconds)

    # The rest.

    async def _flush(self) -> None:
        await self._commands.empty()
        self._consumer.drop_all()

    async def _stats(self) -> Mapping[str, float]:
        waiting = await self._commands.waiting()
        held_outside = await self._outside.count(waiting.consumer_ids)
        counts: dict[str, float] = {
            "available": waiting.available,
            "in_flight": await self._commands.in_flight(waiting.consumer_ids) + held_outside,
            "delayed": waiting.delayed,
        }
        if held_outside:
            counts["held_by_old_consumers"] = held_outside
        push_time = None if waiting.oldest is None else push_time_in(waiting.oldest)
        if push_time is not None:
            counts["oldest_age_seconds"] = max(self.clock.time() - push_time, 0.0)
        pause = self._pauses.read(waiting.pause_text)
        if pause is not None:
            counts["paused_seconds"] = max(self.clock.time() - pause.since_time, 0.0)
        return counts

    async def server_memory(self) -> dict[str, int]:
        return await self._commands.server_memory()

    async def old_consumers(self) -> dict[str, int]:
        return await self._outside.find(is_whole=True)

    async def take_back(self, consumer_id: str) -> int:
        if consumer_id in await self._commands.workers():
            raise InvalidOptions(
                f"consumer {consumer_id!r} belongs to this library; its items come back when "
                "its lease ends"
            )
        seconds = (await self._commands.heartbeats([consumer_id]))[consumer_id]
        if seconds > 0:
            raise InvalidOptions(
                f"consumer {consumer_id!r} has a heartbeat that lasts for {seconds:.0f} s, so it "
                "may be alive; try again when it has ended"
            )
        return await self._upkeep.reclaim_outside(consumer_id)

    async def _close(self) -> None:
        self._popper.interrupt_all()
        if self._commands.link.is_connected:
            consumer_id = self._consumer.resign(SystemClock.monotonic())
            if consumer_id is not None:
                with suppress(BackendError):
                    await self._commands.leave(consumer_id)
        await super()._close()
