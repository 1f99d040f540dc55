"""The jobs of a chaos run: kinds of every sort, each run written down as it begins and ends.

Owns the kinds, how often each is called, and what each does. A call is known by its key, the one
argument of every job; two calls share one only if they are debounced.
"""

import asyncio
import random
import time
from collections.abc import Callable
from itertools import count
from typing import Any, NoReturn

from attacks.chaos_ledger import Ledger
from deferrable import current_attempt
from deferrable.aio import Deferrable
from deferrable.aio.backend.base import Backend
from deferrable.aio.debounce import DebounceStore
from deferrable.lifecycle import is_expired

__all__ = ["DELAYED_SECONDS", "KINDS", "Jobs", "key_of"]

DELAYED_SECONDS = 1.5
TTL_SECONDS = 2.0
WINDOW_SECONDS = 1.0
RETRIES = 2
DEBOUNCED_KEYS = 8

KINDS = {
    "works": 420,
    "plain": 250,
    "fails": 50,
    "retries": 80,
    "backs_off": 10,
    "delayed": 80,
    "long": 15,
    "long_plain": 5,
    "expires": 40,
    "debounced": 50,
}
"""How often each kind is called, in 1000 calls."""


class Broken(Exception):
    """What is retried."""


class Fatal(Exception):
    """What is not."""


class _Listener:
    """Writes down which items had expired when an attempt began, and which settlements were
    answered.

    An expired item does not run its job. The event `expire` would come too late: after the item is
    gone, and a process that dies in between emits none.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def on_pop(self, item: Any) -> None:
        if is_expired(item, time.time()):
            self._ledger.write("outlived", item["id"])

    def on_complete(self, item: Any) -> None:
        self._ledger.write("settled", item["id"], item["attempts"] + 1)


class Jobs:
    """An instance with all kinds registered.

    Args:
        long_seconds: how long a long job takes: longer than a lease.
    """

    def __init__(
        self, backend: Backend, store: DebounceStore | None, ledger: Ledger, long_seconds: float
    ) -> None:
        self.instance = Deferrable(backend, debounce_store=store)
        self.instance.register_event_consumer(_Listener(ledger))
        self._ledger = ledger
        self._long_seconds = long_seconds
        self._runs = count()
        kinds: dict[str, tuple[Callable[[str], Any], dict[str, Any]]] = {
            "works": (self._work, {}),
            "plain": (self._work_plainly, {}),
            "fails": (self._fail, {}),
            "retries": (
                self._retry,
                {"error_classes": [Broken], "use_exponential_backoff": False},
            ),
            "backs_off": (self._back_off, {"error_classes": [Broken], "backoff_jitter": True}),
            "delayed": (self._work, {"delay_seconds": DELAYED_SECONDS}),
            "long": (self._last, {}),
            "long_plain": (self._last_plainly, {}),
            "expires": (self._work, {"ttl_seconds": TTL_SECONDS}),
            "debounced": (self._work, {"debounce_seconds": WINDOW_SECONDS}),
        }
        self.by_kind = {
            kind: self.instance.deferrable(name=kind, **options)(function)
            for kind, (function, options) in kinds.items()
            if store is not None or kind != "debounced"
        }

    def _begin(self, key: str) -> tuple[int, int]:
        attempt = current_attempt()
        run = next(self._runs)
        self._ledger.write("begin", run, key, attempt.id, attempt.number)
        return run, attempt.number

    async def _work(self, key: str) -> None:
        await self._sleep(key, random.random() * 0.02)

    async def _last(self, key: str) -> None:
        await self._sleep(key, self._long_seconds)

    async def _sleep(self, key: str, seconds: float) -> None:
        run, _ = self._begin(key)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self._ledger.write("cancelled", run)
            raise
        self._ledger.write("end", run)

    def _work_plainly(self, key: str) -> None:
        run, _ = self._begin(key)
        self._ledger.write("end", run)

    def _last_plainly(self, key: str) -> None:
        run, _ = self._begin(key)
        time.sleep(self._long_seconds)
        self._ledger.write("end", run)

    async def _fail(self, key: str) -> NoReturn:
        run, _ = self._begin(key)
        self._ledger.write("raised", run)
        raise Fatal(key)

    async def _retry(self, key: str) -> None:
        await self._fail_at_first(key, RETRIES)

    async def _back_off(self, key: str) -> None:
        await self._fail_at_first(key, 1)

    async def _fail_at_first(self, key: str, times: int) -> None:
        run, number = self._begin(key)
        if number <= times:
            self._ledger.write("raised", run)
            raise Broken(key)
        self._ledger.write("end", run)


def key_of(kind: str, caller: str, number: int, draw: random.Random) -> str:
    """The key of the call `number` of the process `caller`."""
    if kind == "debounced":
        return f"debounced-{draw.randrange(DEBOUNCED_KEYS)}"
    return f"{kind}-{caller}-{number}"
