"""Kill sweep of unique keys: ``python -m attacks.unique --seed 1 [--place sqlite] [--kills N]``.

Producers push unique calls, and consumers run, retry, fail and cancel them. Each process is killed
(SIGKILL) at a random moment and replaced. Whenever all are dead, the broker itself is looked at: no
two items hold one key, and each record of a key belongs to an item that is there. Each run notes
its key and id: once a second call of a key has started, the first one never starts again. At the
end the rest runs, and no key may be left.

On ``python2`` one more consumer takes items as those of the Python 2 library do, and leaves their
records behind. These may stay until the next call of the key, which must not be a duplicate.

It ends with status 1 if any of this is false.
"""

import argparse
import asyncio
import logging
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis_server import start_redis

from attacks.unique_children import KEYS, act, instance_of
from attacks.unique_look import Look, look_for

__all__ = ["PLACES", "sweep"]

PLACES = ("sqlite", "dockets", "python2")
DEADLINE_SECONDS = 120


@contextmanager
def broker(place: str) -> Iterator[str]:
    """The URL of a new and empty broker."""
    if place == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/queue.db"
    else:
        with start_redis() as server:
            yield server.url


class Sweep:
    """One sweep.

    Args:
        kills: how many processes are killed, about.
    """

    def __init__(self, place: str, url: str, seed: int, kills: int, log: Path) -> None:
        self._place = place
        self._url = url
        self._chance = random.Random(seed)
        self._kills = kills
        self._log = log
        self._running: dict[int, float] = {}
        self.killed = 0
        self.wrong: list[str] = []
        self.looks = 0
        self.seen: Counter[str] = Counter()

    def run(self) -> None:
        roles = ["produce", "produce", "consume", "consume"]
        if self._place == "python2":
            roles.append("take as Python 2")
        while self.killed < self._kills and not self.wrong:
            waiting = {role: self._chance.randrange(1, 4) for role in roles}
            places = {self._start(role): role for role in roles}
            while places:
                pid = self._kill_next()
                role = places.pop(pid)
                waiting[role] -= 1
                if waiting[role] > 0:
                    places[self._start(role)] = role
            self._check(look_for(self._url))
        self._drain()
        self._check_order()
        if not self.seen["keys"] or not self.seen["runs"]:
            self.wrong.append("no process has done anything")

    def _start(self, role: str) -> int:
        """Start a process. Most are killed some time after their first work, some before."""
        number, waits = self._chance.randrange(2**32), self._chance.random() < 0.7
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                act(role, self._url, self._log, number, writer)
            finally:
                os._exit(0)
        os.close(writer)
        if waits:
            os.read(reader, 1)
        os.close(reader)
        seconds = self._chance.random() * (0.5 if waits else 0.1)
        self._running[pid] = time.monotonic() + seconds
        return pid

    def _kill_next(self) -> int:
        pid = min(self._running, key=self._running.__getitem__)
        time.sleep(max(0, self._running.pop(pid) - time.monotonic()))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self.killed += 1
        return pid

    def _check(self, look: Look) -> None:
        self.looks += 1
        self.seen["items"] += sum(look.items.values())
        self.seen["keys"] += len(look.holders)
        for key, number in look.items.items():
            if number > 1:
                self.wrong.append(f"{number} items hold the key {key}")
        if self._place == "python2":
            return
        for key, holder in look.holders.items():
            if holder not in look.ids.get(key, ()):
                self.wrong.append(f"the key {key} is held by {holder}, which is nowhere")

    def _check_order(self) -> None:
        last: dict[str, str] = {}
        over: set[tuple[str, str]] = set()
        for line in self._log.read_text().splitlines():
            key, call_id = line.split()
            if (key, call_id) in over:
                self.wrong.append(f"{call_id} of {key} ran after another call of its key")
            if key in last and last[key] != call_id:
                over.add((key, last[key]))
            last[key] = call_id
            self.seen["runs"] += 1

    def _drain(self) -> None:
        asyncio.run(self._run_the_rest())
        look = look_for(self._url)
        if self._place != "python2" and look.holders:
            self.wrong.append(f"keys are left when all calls have ended: {look.holders}")

    async def _run_the_rest(self) -> None:
        instance, job, _ = instance_of(self._url, self._log)
        async with asyncio.timeout(DEADLINE_SECONDS), instance.backend:
            if self._place == "python2":
                queue = instance.backend.queue
                for consumer in await queue.old_consumers():
                    await queue.take_back(consumer)
            await self._run_until_nothing_is_left(instance)
            await asyncio.sleep(1.2)  # a record that Python 2 has left is trusted for a second
            for number in range(KEYS):
                receipts = [await job.options(unique=True).later_async(number) for _ in "ab"]
                if [each.status for each in receipts] != ["pushed", "duplicate"]:
                    self.wrong.append(f"at the end, key {number} is {receipts}")
            await self._run_until_nothing_is_left(instance)

    async def _run_until_nothing_is_left(self, instance: Any) -> None:
        while True:
            if await instance.run_once() is None:
                stats = await instance.backend.queue.stats()
                if not stats["delayed"] + stats["in_flight"] + stats["available"]:
                    return
                await asyncio.sleep(0.05)


def sweep(place: str, seed: int, kills: int) -> Sweep:
    """Make a sweep on a new broker."""
    logging.getLogger("deferrable").setLevel(logging.CRITICAL + 1)
    with broker(place) as url, tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "runs"
        log.touch()
        made = Sweep(place, url, seed, kills, log)
        made.run()
        return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--place", choices=PLACES, default="sqlite")
    parser.add_argument("--kills", type=int, default=1000)
    options = parser.parse_args()
    start = time.monotonic()
    made = sweep(options.place, options.seed, options.kills)
    print(
        f"unique keys on {options.place}, seed {options.seed}: {made.killed} processes killed, "
        f"{made.seen['runs']} runs, {made.looks} looks at {made.seen['items']} items and "
        f"{made.seen['keys']} keys, {time.monotonic() - start:.0f} s, {len(made.wrong)} wrong"
    )
    print(*made.wrong[:20], sep="\n")
    return 1 if made.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
