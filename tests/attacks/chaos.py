"""Chaos on real processes: ``python -m attacks.chaos --seed 1 --jobs 100000 --workers 4``.

Starts a broker, workers and producers, has a schedule drawn from the seed attack them, repairs all,
waits until everything is settled, and prints what happened to every call. It ends with status 1 if
an acknowledged call was lost, a job ran twice without a cause, or anything is left in the broker.

Owns the order of these steps. The worker at the first place has a clock that is 5 s ahead, the one
at the second is 5 s behind. With ``--stepping-clock`` the one at the last place has a clock that is
set by an hour, forward and back, every few seconds.
"""

import argparse
import asyncio
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from attacks.chaos_books import Buried, Verdict, judge
from attacks.chaos_brokers import BROKERS, Broker
from attacks.chaos_causes import Fault
from attacks.chaos_clients import CLIENTS
from attacks.chaos_ledger import read_lines
from attacks.chaos_process import STALL_SECONDS, Settings
from attacks.chaos_schedule import Schedule
from attacks.chaos_staff import Staff
from deferrable.aio import Deferrable
from deferrable.aio.backend.base import Backend
from deferrable.testing import wait_until

__all__ = ["main", "run_chaos"]

PRODUCERS = 2
CLOCK_OFFSETS = (5.0, -5.0)
DRAIN_SECONDS = 300.0
COME_AND_GO_SECONDS = 60.0
EMPTY_LOOKS = 5
BROKER_SLOW = "the machine held the broker or its wires up"


async def run_chaos(options: argparse.Namespace, folder: Path) -> Verdict:
    """One run, from the start of the broker to the verdict; prints how it goes."""
    kind = BROKERS[options.broker]
    start = time.monotonic()
    async with kind.make() as broker:
        backend, _ = CLIENTS[options.broker].connect(broker.url, options.lease_seconds)
        async with Staff(
            _settings(options, broker, folder), broker.url_of, folder / "log"
        ) as staff:
            await staff.wait_until_up(COME_AND_GO_SECONDS)
            stalls: list[Fault] = []
            watching = asyncio.ensure_future(_note_stalls(broker, stalls))
            schedule = Schedule(
                options.seed, broker, staff, options.lease_seconds, options.every_seconds
            )
            attacking = asyncio.ensure_future(schedule.run())
            await staff.wait_for("producer")
            await _end(attacking)
            peace = time.monotonic()
            await _wait_until_empty(backend)
            drained = time.monotonic()
            # A killed worker that held nothing is struck off when its lease has ended.
            await asyncio.sleep(options.lease_seconds + 2)
            # What was delivered once more may have left a copy.
            await _wait_until_empty(backend)
            await staff.dismiss(COME_AND_GO_SECONDS)
            await _end(watching)
        buried = await _take_errors(backend)
        faults = [*schedule.faults, *broker.faults, *stalls]
        (folder / "faults").write_text("".join(f"{fault}\n" for fault in faults))
        verdict = judge(
            read_lines(folder),
            faults,
            buried,
            options.lease_seconds,
            settles_at_once=kind.settles_at_once,
        )
        verdict.wrong += staff.troubles
        verdict.wrong += await _find_left(broker, backend, options.lease_seconds)
    print(
        f"chaos on {options.broker}, seed {options.seed}: {staff.started} processes at "
        f"{options.workers + PRODUCERS} places, {time.monotonic() - start:.0f} s; all settled "
        f"{drained - peace:.1f} s after the last fault"
    )
    kinds = Counter(fault.kind for fault in schedule.faults) + broker.spoilt
    for what, number in kinds.most_common():
        print(f"  {number:5} times: {what}")
    print(*verdict.lines(), sep="\n")
    return verdict


def _settings(options: argparse.Namespace, broker: Broker, folder: Path) -> list[Settings]:
    common = {
        "broker": options.broker,
        "url": broker.url,
        "folder": str(folder),
        "seed": options.seed,
        "lease_seconds": options.lease_seconds,
    }
    skews = () if BROKERS[options.broker].is_one_machine else CLOCK_OFFSETS
    offsets = [*skews, *[0.0] * options.workers][: options.workers]
    return [
        *(
            Settings(
                who=f"worker-{place}",
                clock_offset_seconds=offset,
                has_stepping_clock=options.stepping_clock and place == options.workers - 1,
                **common,
            )
            for place, offset in enumerate(offsets)
        ),
        *(
            Settings(
                who=f"producer-{place}",
                calls=options.jobs // PRODUCERS,
                spread_seconds=options.spread_seconds,
                **common,
            )
            for place in range(PRODUCERS)
        ),
    ]


async def _note_stalls(broker: Broker, stalls: list[Fault]) -> None:
    """Note when the broker, or this process, through which all wires go, was held up."""
    while True:
        begin = time.monotonic()
        with suppress(Exception):  # it is down, and that is no stall
            await broker.ping()
            if time.monotonic() - begin > STALL_SECONDS:
                stalls.append(Fault(BROKER_SLOW, "broker", begin, time.monotonic(), 0))
        await asyncio.sleep(0.05)


async def _wait_until_empty(backend: Backend) -> None:
    async def is_empty() -> bool:
        for _ in range(EMPTY_LOOKS):  # as a broker's counts may be approximate
            await asyncio.sleep(0.1)
            stats = await backend.queue.stats()
            if sum(stats[where] for where in ("available", "in_flight", "delayed")):
                return False
        return True

    await wait_until(is_empty, "everything is settled", DRAIN_SECONDS)


async def _take_errors(backend: Backend) -> list[Buried]:
    """What is in the error queue; nothing is, afterwards."""
    buried: list[Buried] = []
    instance, number = Deferrable(backend), -1
    while len(buried) > number:  # as each pass brings one copy of an item
        number = len(buried)
        async for entry in instance.errors():
            buried.append(Buried(str(entry.id), str(entry.error.get("error_type"))))
            await entry.discard()
    return buried


async def _find_left(broker: Broker, backend: Backend, lease_seconds: float) -> list[str]:
    """What is left in the broker, in words; closes the backend.

    A worker whose connection broke, or who died, just before the others left is struck off by the
    next one that pops, when its lease has ended.
    """
    end_time = time.monotonic() + lease_seconds + 3
    popped = 0
    while await broker.left() and time.monotonic() < end_time:
        popped += len(await backend.queue.pop_batch(1))
    await backend.close()
    again = [f"{popped} items were left when all had been settled"] if popped else []
    return [*again, *await broker.left()]


async def _end(task: "asyncio.Future[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=100_000, help="calls to be acknowledged")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--broker", choices=sorted(BROKERS), default="redis")
    parser.add_argument("--lease-seconds", type=float, default=5.0)
    parser.add_argument("--spread-seconds", type=float, default=0.0, help="of the calls")
    parser.add_argument("--every-seconds", type=float, default=1.0, help="between two faults")
    parser.add_argument(
        "--stepping-clock", action="store_true", help="the last worker's clock jumps by an hour"
    )
    parser.add_argument("--keep", type=Path, help="a folder for the ledgers and the log")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    with TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        # As Ctrl-C: every process that was started is ended.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        verdict = asyncio.run(run_chaos(options, folder))
    return 0 if verdict.holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
