"""Kill sweep of ``deferrable move``: ``python -m attacks.move --seed 1 [--pair sqlite-redis]``.

Items are moved from one broker to another while a producer goes on. Each run of the command is
killed (SIGKILL) at a random moment, and started again. At the end one run is left alone. Then both
brokers are emptied, and each item is looked for: available, delayed and failed ones.

It ends with status 1 if an item is lost, is changed, or is there more often than at-least-once
allows: never, where the target can show its items; else once more for each kill that it was in
hand.
"""

import argparse
import asyncio
import json
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from redis_server import start_redis
from sqs_server import KEYS, SQSServer, moto
from sqs_times import REGION, MotoTime

from deferrable.aio._engine.moving import HAND, Lane
from deferrable.aio.backend import Backend, from_url
from deferrable.cli.app import cli
from deferrable.errors import BackendUnavailable
from deferrable.item import Item, new_id

__all__ = ["PAIRS", "Sweep", "sweep"]

PAIRS = ("sqlite-redis", "redis-sqlite", "redis-sqs", "sqs-redis")
GROUP = "moved"
LEASE_SECONDS = 2
DELAY_SECONDS = 600.0
LONGEST_RUN_SECONDS = 0.25
"""A run is killed so soon after its first pop."""
DEADLINE_SECONDS = 300
MOST_TRIES = 5
BACKLOGS = {True: 200, False: 1000}
"""How many items wait when a run starts: with SQS, and without."""


class Stable:
    """Starts the runs. It is forked before any thread runs here."""

    def __init__(self) -> None:
        order_reader, self._orders = os.pipe()
        self._answers, answer_writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._orders)
                self._serve(order_reader, answer_writer)
            finally:
                os._exit(0)
        os.close(order_reader)

    @staticmethod
    def _serve(orders: int, answers: int) -> None:
        with os.fdopen(orders) as lines:
            for line in lines:
                order = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    _run_command(answers, **order)
                _, status = os.waitpid(pid, 0)
                os.write(answers, f"end {os.waitstatus_to_exitcode(status)}\n".encode())

    def run(self, arguments: list[str], environ: dict[str, str], seconds: float | None) -> int:
        """Run a command, and kill it `seconds` after its first pop; its exit code."""
        order = {"arguments": arguments, "environ": environ}
        os.write(self._orders, (json.dumps(order) + "\n").encode())
        started = self._answer()
        if started[0] == "pop" and seconds is not None:
            time.sleep(seconds)
            with_pid = int(started[1])
            with suppress(ProcessLookupError):
                os.kill(with_pid, signal.SIGKILL)
        while started[0] != "end":
            started = self._answer()
        return int(started[1])

    def _answer(self) -> list[str]:
        text = b""
        while not text.endswith(b"\n"):
            text += os.read(self._answers, 1)
        return text.decode().split()

    def close(self) -> None:
        os.close(self._orders)
        os.waitpid(self.pid, 0)


def _run_command(answers: int, arguments: list[str], environ: dict[str, str]) -> None:
    os.environ.update(environ)
    pop, told = Lane._pop, threading.Event()

    async def tell(self: Lane) -> Any:
        if not told.is_set():
            told.set()
            os.write(answers, f"pop {os.getpid()}\n".encode())
        return await pop(self)

    Lane._pop = tell  # type: ignore[method-assign]
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    code = 1
    try:
        cli(arguments, prog_name="deferrable")
    except SystemExit as ending:
        code = int(ending.code or 0)
    finally:
        os._exit(code)


@dataclass
class Broker:
    """One side: its URL, and what the environment must say."""

    url: str
    environ: dict[str, str] = field(default_factory=dict)
    sqs: SQSServer | None = None

    def backend(self) -> Backend:
        os.environ.update(self.environ)
        return from_url(self.url, wait_time=1 if self.sqs else 0).create_backend_for_group(GROUP)


@contextmanager
def broker(kind: str) -> Iterator[Broker]:
    """A new and empty broker."""
    setting = f"visibility_timeout={LEASE_SECONDS}"
    with ExitStack() as stack:
        if kind == "sqlite":
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            yield Broker(f"sqlite:///{folder}/queue.db?{setting}")
        elif kind == "redis":
            yield Broker(f"{stack.enter_context(start_redis()).url}?{setting}")
        else:
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            url = stack.enter_context(moto())
            _ask_one_thing_at_a_time(patch)
            server = SQSServer(url, KEYS, MotoTime())
            names = {**KEYS, "AWS_DEFAULT_REGION": REGION}
            bundle = {"AWS_CA_BUNDLE": os.environ["AWS_CA_BUNDLE"]}
            yield Broker(f"sqs://?endpoint_url={url}&{setting}", {**names, **bundle}, server)


def _ask_one_thing_at_a_time(patch: pytest.MonkeyPatch) -> None:
    """Moto loses what is sent while another message is deleted."""
    from moto.sqs.models import Queue

    lock = threading.RLock()
    for name in ("add_message", "delete_message"):
        original = getattr(Queue, name)

        def locked(self: Any, *args: Any, _original: Any = original, **options: Any) -> Any:
            with lock:
                return _original(self, *args, **options)

        patch.setattr(Queue, name, locked)


class Sweep:
    """One sweep over one pair of brokers.

    Attributes:
        lost, doubled, changed: ids.
        killed: how many runs were killed.
    """

    def __init__(self, stable: Stable, source: Broker, target: Broker, seed: int, kills: int):
        self._stable = stable
        self._source, self._target = source, target
        self._chance = random.Random(seed)
        self._kills = kills
        self._pushed: dict[str, Item] = {}
        self.killed = 0
        self.left = 0
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []

    def run(self) -> None:
        with_sqs = self._source.sqs is not None or self._target.sqs is not None
        asyncio.run(self._push(BACKLOGS[with_sqs]))
        for _ in range(self._kills):
            seconds = self._chance.random() * LONGEST_RUN_SECONDS
            self.killed += self._move(seconds) == -signal.SIGKILL
            asyncio.run(self._top_up(BACKLOGS[with_sqs]))
        time.sleep(LEASE_SECONDS)
        # A busy machine may not answer in time: then the command says to run it again.
        codes = [self._move(None, "--until-empty")]
        while codes[-1] and len(codes) < MOST_TRIES:
            codes.append(self._move(None, "--until-empty"))
        if codes[-1]:
            self.wrong.append(f"the last runs ended with {codes}")
        asyncio.run(self._look())

    @property
    def count(self) -> int:
        """How many items were pushed."""
        return len(self._pushed)

    @property
    def lost(self) -> int:
        """How many items are nowhere."""
        return sum(each not in self.seen for each in self._pushed)

    @property
    def doubled(self) -> int:
        """How many items are there too often."""
        return sum(count - 1 for count in self.seen.values())

    @property
    def most_doubled(self) -> int:
        """How many may be there too often."""
        return self.killed * HAND if self._target.sqs is not None else 0

    def _move(self, seconds: float | None, *options: str) -> int:
        arguments = ["move", self._source.url, self._target.url, "--group", GROUP, *options]
        environ = {**self._source.environ, **self._target.environ}
        return self._stable.run(arguments, environ, seconds)

    async def _top_up(self, backlog: int) -> None:
        async with self._source.backend() as backend:
            stats = await backend.queue.stats()
        await self._push(max(10, backlog - int(stats["available"])))

    async def _push(self, count: int) -> None:
        """Push available, delayed and failed items, in this proportion: 8, 1, 1."""
        now = time.time()
        available, failed = list[Item](), list[Item]()
        can_delay = self._source.sqs is None
        for number in range(count):
            item: Item = {"id": new_id(), "method": "shop:mail", "attempts": number % 4}
            item |= {"args": "gAJdLg==", "ttl_seconds": 9e9, "item_queued_timestamp": now}
            if number % 10 == 0 and can_delay:
                item |= {"delay": DELAY_SECONDS, "due_time": now + DELAY_SECONDS}
            elif number % 10 == 1:
                item["error"] = {"id": new_id(), "error_type": "KeyError", "error_text": "x"}
                item["error"] |= {"traceback": "t", "hostname": "h", "ts": now}
            (failed if "error" in item else available).append(item)
            self._pushed[item["id"]] = item
        async with self._source.backend() as backend:
            for queue, items in ((backend.queue, available), (backend.error_queue, failed)):
                outcomes = await queue.push_each(items)
                assert not [each for each in outcomes if each is not None], outcomes

    # The books.

    async def _look(self) -> None:
        async with self._source.backend() as source:
            for queue in (source.queue, source.error_queue):
                stats = await queue.stats()
                left = sum(stats.get(name, 0) for name in ("available", "in_flight", "delayed"))
                self.left += int(left)
        if self.left:
            self.wrong.append(f"{self.left} items are left at the source")
        async with self._target.backend() as target:
            await self._look_at_delayed(target)
            if self._target.sqs is not None:
                await self._target.sqs.pass_time("deferrable", DELAY_SECONDS + 60)
            await self._empty(target, is_error=False)
            await self._empty(target, is_error=True)

    async def _look_at_delayed(self, target: Backend) -> None:
        cursor = ""
        while target.queue.SUPPORTS_INSPECTION:
            page, cursor = await target.queue.inspect(cursor)
            for found in page:
                if found.place == "delayed":
                    due_time = self._note(found.item)["due_time"]
                    if abs((found.available_time or 0) - due_time) > 2:
                        self.wrong.append(f"{found.item['id']} is due at another time")
            if not cursor:
                return

    async def _empty(self, target: Backend, *, is_error: bool) -> None:
        queue = target.error_queue if is_error else target.queue
        empty_answers = failures = 0
        while empty_answers < 2:
            try:
                popped = await queue.pop_up_to(HAND)
            except BackendUnavailable:
                failures += 1
                if failures == MOST_TRIES:
                    raise
                await asyncio.sleep(LEASE_SECONDS)  # what it had received comes back
                continue
            empty_answers = 0 if popped else empty_answers + 1
            for _, item in popped:
                pushed = self._note(item)
                if ("error" in pushed) != is_error:
                    self.wrong.append(f"{item['id']} is in the wrong queue")
            await queue.complete_each([envelope for envelope, _ in popped])

    def _note(self, item: Item) -> Item:
        self.seen[item["id"]] += 1
        pushed = self._pushed[item["id"]]
        if msgspec.json.encode(item, order="sorted") != msgspec.json.encode(pushed, order="sorted"):
            self.wrong.append(f"{item['id']} was changed: {item} was {pushed}")
        return pushed


def sweep(pair: str, seed: int, kills: int) -> Sweep:
    """Make a sweep between two new brokers."""
    logging.getLogger("deferrable").setLevel(logging.CRITICAL + 1)
    stable = Stable()
    source_kind, target_kind = pair.split("-")
    try:
        with broker(source_kind) as source, broker(target_kind) as target:
            made = Sweep(stable, source, target, seed, kills)
            made.run()
            return made
    finally:
        stable.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pair", choices=PAIRS, default="sqlite-redis")
    parser.add_argument("--kills", type=int, default=100)
    options = parser.parse_args()
    start = time.monotonic()
    made = sweep(options.pair, options.seed, options.kills)
    print(
        f"move {options.pair}, seed {options.seed}: {made.killed} runs killed, {made.count} items, "
        f"{made.lost} lost, {made.doubled} doubled (at most {made.most_doubled}), "
        f"{time.monotonic() - start:.0f} s, {len(made.wrong)} wrong"
    )
    print(*made.wrong[:20], sep="\n")
    return 1 if made.wrong or made.lost or made.doubled > made.most_doubled else 0


if __name__ == "__main__":
    sys.exit(main())
