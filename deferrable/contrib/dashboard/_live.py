"""A page that stays up to date.

Owns the stream of one open page. It sends the changing part again when the queues were read and
this part has changed, so a busy queue makes no more traffic than the readings do.

The rule: a stream ends soon after the server was told to stop, because servers wait for that. Where
the server cannot be asked, a stream ends after a while, and the browser opens it again.
"""

import asyncio
import hashlib
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from deferrable.contrib._servers import LOOK_SECONDS, can_ask_server, is_server_stopping
from deferrable.contrib.dashboard._site import Site

__all__ = ["MOST_STREAMS", "as_event", "stream"]

MOST_STREAMS = 100
"""The most pages that stay up to date at once."""
_CHEAP_SECONDS = 0.02
_IDLE_TIMES = 50
"""A page that takes long to make, because it looks at thousands of items, rests so much longer."""
_SILENT_SECONDS = 15.0
"""After this much silence a comment is sent, or a proxy would close the connection."""
_LONGEST_SECONDS = 10.0
"""A stream of a server that cannot be asked. Kubernetes gives 30 s to end in; jobs need some."""


async def stream(site: Site, render: Callable[[], Awaitable[str]]) -> AsyncIterator[bytes]:
    """The events of one page, until it is closed."""
    site.watchers += 1
    site.wake()
    digest = b""
    try:
        # The time after which a browser opens the stream again.
        yield b"retry: 3000\n\n" if can_ask_server() else b"retry: 500\n\n"
        begin_time = last_time = time.monotonic()
        while not _is_over(begin_time):
            try:
                async with asyncio.timeout(LOOK_SECONDS):
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
                await _rest(min(_IDLE_TIMES * took, _SILENT_SECONDS), begin_time)
    finally:
        site.watchers -= 1


def _is_over(begin_time: float) -> bool:
    if can_ask_server():
        return is_server_stopping()
    return time.monotonic() - begin_time >= _LONGEST_SECONDS


async def _rest(seconds: float, begin_time: float) -> None:
    for _ in range(math.ceil(seconds / LOOK_SECONDS)):
        if _is_over(begin_time):
            return
        await asyncio.sleep(LOOK_SECONDS)


def as_event(name: str, text: str) -> bytes:
    """One event of a stream; each line of the text is a line of data."""
    # A return alone would end a line of the stream, too.
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = "\n".join(f"data: {line}" for line in plain.split("\n"))
    return f"event: {name}\n{lines}\n\n".encode(errors="replace")
