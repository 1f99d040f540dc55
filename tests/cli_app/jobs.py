"""Jobs of the asyncio API and of the blocking API, each on its own queue."""

import asyncio
import os
import threading
import time
from pathlib import Path

from deferrable import Deferrable
from deferrable.aio import Deferrable as AsyncDeferrable
from deferrable.aio.backend import DocketsBackendFactory as AsyncDocketsBackendFactory
from deferrable.backend import DocketsBackendFactory

URL, GROUP = os.environ["REDIS_URL"], os.environ["GROUP"]

stats = AsyncDeferrable(
    AsyncDocketsBackendFactory(URL, wait_time=1, timeout=30).create_backend_for_group(GROUP)
)
mails = Deferrable(
    DocketsBackendFactory(URL, wait_time=1, timeout=30).create_backend_for_group(f"{GROUP}-mails"),
    default_error_classes=[ConnectionError],
)


@stats.deferrable(error_classes=[OSError], max_attempts=3, timeout_seconds=60)
async def count(word: str) -> int:
    return len(word)


@stats.deferrable
async def divide(number: int, by: int) -> float:
    return number / by


@stats.deferrable
async def wait_forever(started: str) -> None:
    Path(started).touch()  # noqa: ASYNC240
    await asyncio.Event().wait()


@stats.deferrable
async def hold_the_loop(started: str) -> None:
    Path(started).touch()  # noqa: ASYNC240
    time.sleep(600)  # noqa: ASYNC251


@mails.deferrable
def send(to: str) -> str:
    print(f"sent to {to}", flush=True)
    return to


@mails.deferrable
def block_forever(started: str) -> None:
    Path(started).touch()
    threading.Event().wait()


@mails.deferrable
def block_until(started: str, released: str) -> None:
    Path(started).touch()
    while not Path(released).exists():
        time.sleep(0.01)


@mails.deferrable(max_attempts=2)
def fail(text: str) -> None:
    raise ValueError(text)


@mails.deferrable(use_exponential_backoff=False)
def reconnect() -> None:
    raise ConnectionError("the server went away")


@mails.deferrable
def die() -> None:
    os._exit(9)
