"""A wire between a client and a Redis that a test can cut.

Owns the forwarding of bytes, and what goes wrong with it: replies that never arrive or arrive late,
connections that break or are refused.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Wire", "wire_to"]


class Wire:
    """Forwards connections on its own port.

    Attributes:
        port: where clients connect to.
        target_port: where new connections lead to.
        requests: everything that clients sent, in order, if it remembers.
        request_seconds: by how much each request is late.
        reply_seconds: by how much each reply is late.
        rewording: what is replaced in replies, and by what; a proxy of a managed server does it.
    """

    def __init__(self, target_port: int, *, remembers: bool = True) -> None:
        self.target_port = target_port
        self._remembers = remembers
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._lost_on: bytes | None = None
        self._cuts_left = 0
        self._swallowing: set[asyncio.StreamWriter] = set()
        self._port = 0
        self.request_seconds = 0.0
        self.reply_seconds = 0.0
        self.rewording = (b"", b"")
        self.requests = b""
        self.connections = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    async def accept(self) -> None:
        """Have clients connect, from now on or again; always on the same port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Break every connection now, and refuse new ones."""
        if self._server is not None:
            self._server.close()
        self.cut()

    def lose_reply_to(self, word: bytes, times: int = 1) -> None:
        """Let the next request that holds `word` through, and cut its connection instead of
        handing the reply back."""
        self._lost_on, self._cuts_left = word, times

    def lose_next_reply(self) -> None:
        """Cut the newest connection instead of handing its next reply back."""
        self._swallowing.add(self._newest)

    def cut(self) -> None:
        """Break every connection now. New ones may be made."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._newest = writer
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:  # it is down, and its clients hear of it as they would without a wire
            writer.transport.abort()
            return
        self._writers |= {writer, upstream[1]}
        try:
            await asyncio.gather(
                self._forward_requests(reader, upstream[1], writer),
                self._forward_replies(upstream[0], writer),
            )
        except OSError:
            pass
        finally:
            for each in (writer, upstream[1]):
                each.transport.abort()
                self._writers.discard(each)

    async def _forward_requests(
        self,
        reader: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
    ) -> None:
        while data := await reader.read(1 << 16):
            if self._remembers:
                self.requests += data
            if self._cuts_left and self._lost_on is not None and self._lost_on in data:
                self._cuts_left -= 1
                self._swallowing.add(client)
            if self.request_seconds:
                await asyncio.sleep(self.request_seconds)
            upstream.write(data)
        client.transport.abort()
        upstream.transport.abort()

    async def _forward_replies(
        self, upstream: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        while data := await upstream.read(1 << 16):
            if client in self._swallowing:
                break
            if self.reply_seconds:
                await asyncio.sleep(self.reply_seconds)
            old, new = self.rewording
            client.write(data.replace(old, new) if old else data)
        client.transport.abort()


@asynccontextmanager
async def wire_to(port: int, *, remembers: bool = True) -> AsyncIterator[Wire]:
    """A wire to the Redis on `port` of this machine."""
    wire = Wire(port, remembers=remembers)
    await wire.accept()
    try:
        yield wire
    finally:
        wire.refuse()
