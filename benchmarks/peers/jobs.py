"""The jobs, the same for every library. They count themselves, and do next to nothing else.

The ledger is opened once, when this is imported, so that no job pays for it.
"""

import asyncio
import os
from pathlib import Path

from benchmarks.peers.ledger import Ledger
from benchmarks.peers.order import NAP_SECONDS

__all__ = ["LEDGER", "answer", "answer_blocking", "nap", "note", "note_blocking"]

LEDGER = Ledger(Path(os.environ["BENCHMARK_LEDGER"]))


async def note(number: int, text: str) -> None:
    LEDGER.begin(number)


async def nap(number: int, text: str) -> None:
    LEDGER.begin(number)
    await asyncio.sleep(NAP_SECONDS)
    LEDGER.end(number)


async def answer(number: int, text: str) -> int:
    LEDGER.begin(number)
    return number


def note_blocking(number: int, text: str) -> None:
    LEDGER.begin(number)


def answer_blocking(number: int, text: str) -> int:
    LEDGER.begin(number)
    return number
