"""A page that stays up to date.

Owns the stream of one open page. It sends the changing part again when the queues were read and
this part has changed, so a busy queue makes no more traffic than the readings do.

The rule: a stream ends soon after the server was told to stop. Servers wait for open streams before
they tell the application, whose workers would learn it only when nobody looks any more.
"""

import asyncio
import hashlib
import math
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from deferrable.contrib.dashboard._site import Site

__all__ = ["MOST_STREAMS", "as_event", "stream"]

MOST_STREAMS = 100
"""The most pages that stay up to date at once."""
_CHEAP_SECONDS = 0.02
_IDLE_TIMES = 50
"""A page that takes long to make, because it looks at thousands of items, rests so much longer."""
_SILENT_SECONDS = 15.0
"""After this much silence a comment is sent, or a proxy would close the connection."""
_LOOK_SECONDS = 0.25
"""How often a stream looks whether the server is to stop."""


async def stream(site: Site, render: Callable[[], Awaitable[str]]) -> AsyncIterator[bytes]:
    """The events of one page, until it is closed."""
    site.watchers += 1
    site.wake()
    digest = b""
    try:
        yield b"retry: 3000\n\n"
        last_time = time.monotonic()
        while not is_server_stopping():
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await site.next_reading()
            except TimeoutError:
                if time.monotonic() - last_time >= _SILENT_SECONDS:
                    yield b": still here\n\n"
                    last_time = time.monotonic()
                continue
            begin = last_time = time.monotonic()
            text = await render()
            took = time.monotonic() - begin
            before, digest = digest, hashlib.blake2b(text.encode(errors="replace")).digest()
            if digest != before:
                yield as_event("live", text)
            if took > _CHEAP_SECONDS:
                await _rest(min(_IDLE_TIMES * took, _SILENT_SECONDS))
    finally:
        site.watchers -= 1


async def _rest(seconds: float) -> None:
    for _ in range(math.ceil(seconds / _LOOK_SECONDS)):
        if is_server_stopping():
            return
        await asyncio.sleep(_LOOK_SECONDS)


def is_server_stopping() -> bool:
    """Whether the server that runs this application has got its signal.

    Only uvicorn can be asked: its handler of signals is a method of the server, which notes there
    that it is to exit. Others have a limit for open connections.
    """
    servers = (
        getattr(signal.getsignal(each), "__self__", None)
        for each in (signal.SIGTERM, signal.SIGINT)
    )
    return any(getattr(each, "should_exit", False) is True for each in servers)


def as_event(name: str, text: str) -> bytes:
    """One event of a stream; each line of the text is a line of data."""
    # A return alone would end a line of the stream, too.
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = "\n".join(f"data: {line}" for line in plain.split("\n"))
    return f"event: {name}\n{lines}\n\n".encode(errors="replace")
