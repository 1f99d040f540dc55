"""A process of a chaos run: ``python -m attacks.chaos_process SETTINGS``, which are JSON.

Owns what a worker and a producer do until they are told to stop, and what they write down about
themselves: a machine that was too busy to let them run is a cause, too. A clock that is off is so
from before the library is imported, and for every caller of ``time.time``; an injected one would be
the clock of the scripts in the broker as well.
"""

import asyncio
import json
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from attacks.chaos_clients import CLIENTS
from attacks.chaos_jobs import KINDS, Jobs, key_of
from attacks.chaos_ledger import Ledger, read_lines
from deferrable.aio import Job, Queue
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Popped
from deferrable.errors import BackendError
from deferrable.item import Item

__all__ = ["Settings", "STALL_SECONDS"]

STALL_SECONDS = 0.5
"""A thread that wanted to run is told to have been held up if it had to wait for longer."""

_TICK_SECONDS = 0.05

STEP_SECONDS = 3600.0
"""By how much a clock that steps is set, forward or back."""
_CALLS_AT_ONCE = 40


@dataclass(frozen=True)
class Settings:
    """The settings of a process.

    Attributes:
        who: its name, ``worker-1.3`` for the fourth process at the place ``worker-1``.
        calls: how many calls of this place have to be acknowledged; 0: it is a worker.
        spread_seconds: over how long the calls are spread, at least.
        clock_offset_seconds: by how much its clock is ahead.
        has_stepping_clock: its clock is set forward and back by an hour, again and again.
    """

    who: str
    broker: str
    url: str
    folder: str
    seed: int
    lease_seconds: float
    calls: int = 0
    spread_seconds: float = 0.0
    clock_offset_seconds: float = 0.0
    has_stepping_clock: bool = False

    @property
    def place(self) -> str:
        return self.who.partition(".")[0]

    def tell_up(self) -> None:
        """Show the starter of this process that it is at work, and that it reacts to signals."""
        Path(self.folder, f"{self.who}.up").touch()

    def to_json(self) -> str:
        return json.dumps(asdict(self))


async def work(jobs: Jobs, settings: Settings) -> None:
    """Run jobs until SIGTERM."""
    grace_seconds = settings.lease_seconds / 2
    worker = jobs.instance.worker(grace_seconds=grace_seconds)
    # Before it can hold anything.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    async with jobs.instance, worker:
        settings.tell_up()
        async for _ in worker:
            pass


async def produce(jobs: Jobs, settings: Settings, ledger: Ledger, most_waiting: int) -> None:
    """Call until so many calls are acknowledged, with those of earlier processes at this place."""
    words = [line.word for line in read_lines(Path(settings.folder)) if _is_of(line.who, settings)]
    acknowledged, number = words.count("pushed") + words.count("skipped"), 0
    draw = random.Random(f"{settings.seed} {settings.who}")
    caller = settings.who.partition("-")[2]
    kinds = [kind for kind in KINDS if kind in jobs.by_kind]
    weights = [KINDS[kind] for kind in kinds]
    settings.tell_up()
    async with jobs.instance:
        while acknowledged < settings.calls:
            wanted = min(_CALLS_AT_ONCE, most_waiting // 3, settings.calls - acknowledged)
            drawn = draw.choices(kinds, weights, k=wanted)
            keys: dict[str, list[str]] = {}
            for kind in drawn:
                keys.setdefault(kind, []).append(key_of(kind, caller, number, draw))
                number += 1
            done = await asyncio.gather(
                *(_call(jobs.by_kind[kind], each, ledger, draw) for kind, each in keys.items())
            )
            acknowledged += sum(done)
            await asyncio.sleep(settings.spread_seconds * wanted / settings.calls)
            await _wait_for_workers(jobs, most_waiting)


def _is_of(who: str, settings: Settings) -> bool:
    return who.partition(".")[0] == settings.place


async def _call(
    job: "Job[[str], object]", keys: Sequence[str], ledger: Ledger, draw: random.Random
) -> int:
    """Call `job` with each key, in a batch or one by one; how many calls were acknowledged."""
    at_once = len(keys) if draw.random() < 0.5 else 1
    acknowledged = 0
    for first in range(0, len(keys), at_once):
        chunk = keys[first : first + at_once]
        for key in chunk:
            ledger.write("call", key)
        try:
            if at_once == 1:
                receipts = [await job.later_async(chunk[0])]
            else:
                receipts = await job.later_many_async([(key,) for key in chunk])
        except BackendError:
            await asyncio.sleep(0.2)
            continue
        for key, receipt in zip(chunk, receipts, strict=True):
            if receipt.id is None:
                ledger.write("skipped", key)
            else:
                ledger.write("pushed", key, receipt.id)
        acknowledged += len(chunk)
    return acknowledged


async def _wait_for_workers(jobs: Jobs, most_waiting: int) -> None:
    while True:
        try:
            stats = await jobs.instance.backend.queue.stats()
        except BackendError:
            return
        if stats["available"] + stats["in_flight"] + stats["delayed"] < most_waiting:
            return
        await asyncio.sleep(0.1)


@contextmanager
def stalls_noted(ledger: Ledger) -> Iterator[None]:
    """Write down, from a thread, each time at which this process could not run for a while.

    The thread also ends the process when its starter has died.
    """
    has_ended, parent = threading.Event(), os.getppid()

    def watch() -> None:
        last = time.monotonic()
        while not has_ended.wait(_TICK_SECONDS):
            if os.getppid() != parent:
                os._exit(1)
            now = time.monotonic()
            if now - last > STALL_SECONDS:
                ledger.write("stall", f"{last:.6f}")
            last = now

    thread = threading.Thread(target=watch, name="stalls", daemon=True)
    thread.start()
    try:
        yield
    finally:
        has_ended.set()
        thread.join()


def note_holds(queue: Queue, ledger: Ledger) -> None:
    """Write down since when an item may have been held; and, before and after it, what has one be
    there once more: each push of a copy, and each release.

    No event shows it before: a process that dies in between leaves two copies, and a release
    that is sent twice strikes the consumer that popped the item in between.
    """
    replace, release, release_batch = queue.replace, queue.release, queue.release_batch
    pop_up_to = queue.pop_up_to
    held: dict[Envelope, str] = {}

    @contextmanager
    def given_back(envelopes: Sequence[Envelope]) -> Iterator[None]:
        # What a pop had brought that was cancelled is known to nobody.
        with noted([held[each] for each in envelopes if each in held]):
            yield

    @contextmanager
    def noted(item_ids: Sequence[str]) -> Iterator[None]:
        for item_id in item_ids:
            ledger.write("moves", item_id)
        yield
        for item_id in item_ids:
            ledger.write("moved", item_id)

    async def pop_noted(count: int) -> list[Popped]:
        begin = time.monotonic()
        popped = await pop_up_to(count)
        for envelope, item in popped:
            held[envelope] = item["id"]
            ledger.write("popped", item["id"], f"{begin:.6f}")
        return popped

    async def replace_noted(envelope: Envelope, item: Item, *to: Queue, **options: bool) -> None:
        with noted([item["id"]]):
            await replace(envelope, item, *to, **options)

    async def release_noted(envelope: Envelope, *delay: float, **options: bool) -> None:
        with given_back([envelope]):
            await release(envelope, *delay, **options)

    async def release_batch_noted(envelopes: Sequence[Envelope]) -> list[tuple[Envelope, bool]]:
        with given_back(envelopes):
            return await release_batch(envelopes)

    queue.pop_up_to = pop_noted  # type: ignore[method-assign]
    queue.replace = replace_noted  # type: ignore[method-assign,assignment]
    queue.release = release_noted  # type: ignore[method-assign,assignment]
    queue.release_batch = release_batch_noted  # type: ignore[method-assign]


def set_clock_off(seconds: float) -> None:
    """Make every ``time.time()`` of this process run ahead by `seconds`."""
    true_time = time.time
    time.time = lambda: true_time() + seconds


def have_clock_step(seed: int) -> None:
    """Make ``time.time()`` of this process jump by an hour, forward and back, every few seconds."""
    true_time, draw = time.time, random.Random(seed)
    step_seconds, next_step = 0.0, time.monotonic()

    def stepping() -> float:
        nonlocal step_seconds, next_step
        if time.monotonic() >= next_step:
            step_seconds = draw.choice((-STEP_SECONDS, 0.0, STEP_SECONDS))
            next_step = time.monotonic() + draw.uniform(0.5, 3.0)
        return true_time() + step_seconds

    time.time = stepping


def main() -> None:
    settings = Settings(**json.loads(sys.argv[1]))
    if settings.has_stepping_clock:
        have_clock_step(settings.seed)
    if settings.clock_offset_seconds:
        set_clock_off(settings.clock_offset_seconds)
    logging.basicConfig(format=f"%(asctime)s {settings.who} %(levelname)s %(message)s")
    client = CLIENTS[settings.broker]
    ledger = Ledger(Path(settings.folder, f"{settings.place}.ledger"), settings.who)
    backend, store = client.connect(settings.url, settings.lease_seconds)
    note_holds(backend.queue, ledger)
    jobs = Jobs(backend, store, ledger, long_seconds=settings.lease_seconds * 1.5)
    with stalls_noted(ledger):
        if settings.calls:
            asyncio.run(produce(jobs, settings, ledger, client.most_waiting))
        else:
            asyncio.run(work(jobs, settings))


if __name__ == "__main__":
    main()
