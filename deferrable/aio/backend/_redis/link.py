"""The link to one Redis, shared by all queues of a factory.

Owns the connections of one event loop and the way of a command: to the right server, in one write,
to an answer or one of our errors. The rule: it sends nothing a second time unless the server said
that it did nothing the first time (MOVED, ASK, NOSCRIPT, or a protocol error before it). Callers
that know that a command may be repeated, repeat it.

`call` and `run` share one connection, because replies come in the order of the commands. A command
that waits on the server (BLMOVE) has its own connection: see `RedisLink.blocking`.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files
from typing import Any

from deferrable._fork import on_fork, set_aside
from deferrable.aio._contract.loops import SharedPerLoop
from deferrable.aio.backend._redis.connection import ANSWER_SECONDS, Command, RedisConnection
from deferrable.aio.backend._redis.errors import (
    Redirection,
    ReplyError,
    ScriptUnknown,
    Unread,
    code_of,
    refused,
    unavailable,
)
from deferrable.aio.backend._redis.extra import key_slot
from deferrable.aio.backend._redis.nodes import nodes_of
from deferrable.aio.backend._redis.settings import Node, RedisSettings
from deferrable.aio.backend._redis.thread import ThreadLine
from deferrable.errors import BackendUnavailable

__all__ = [
    "ANSWER_SECONDS",
    "BlockingLine",
    "RedisLink",
    "RedisLinks",
    "RedisSettings",
    "Script",
    "script",
    "share_slot",
]

_MOST_REDIRECTIONS = 5
"""The limit of redis-py's own cluster client before it gives up on a slot that keeps moving."""

_MOST_UNREAD = 50
"""A command that was not read because of another caller's is sent again. It had no effect."""

_SAYS_ANOTHER_SERVER = {"MASTERDOWN", "MOVED", "READONLY", "UNBLOCKED"}


class Script:
    """A Lua script, known to the server by the SHA1 of its text."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


@cache
def script(*names: str) -> Script:
    """The script made of the files ``lua/NAME.lua``, one after another; read when first used."""
    folder = files("deferrable.aio.backend._redis").joinpath("lua")
    return Script("\n".join(folder.joinpath(f"{name}.lua").read_text() for name in names))


def share_slot(*keys: str) -> bool:
    """Whether a Redis Cluster keeps all of `keys` on one node."""
    return len({key_slot(key.encode()) for key in keys}) == 1


class BlockingLine:
    """A separate connection, for commands that wait on the server."""

    def __init__(self, link: "RedisLink", node: Node | None, connection: RedisConnection) -> None:
        self._link = link
        self._node = node
        self._connection = connection

    async def call(
        self,
        *commands: Command,
        deadline_seconds: float = ANSWER_SECONDS,
        on_first: Callable[[Any], None] | None = None,
    ) -> list[Any]:
        """Send `commands` in one write; their replies. See `RedisLink.call`.

        `on_first` gets the first reply when it arrives, also an error reply; it must not raise.

        Cancelling it closes the connection at the end of the block, which also ends the wait on the
        server. Items that the server has handed over by then stay handed over.
        """
        replies = await self._link._exchange(self._connection, commands, deadline_seconds, on_first)
        return self._link._checked(self._node, self._connection, replies)

    async def end_wait(self) -> bool:
        """Make the waiting command answer now, with nothing. Return whether there was one."""
        client_id = self._connection.client_id
        if client_id is None:
            return False
        line = await self._link._line(self._node)
        (reply,) = await line.exchange([("CLIENT", "UNBLOCK", client_id)])
        return bool(reply == 1)


class RedisLink:
    """The connections of one event loop to one Redis; each is opened on first use."""

    def __init__(self, settings: RedisSettings) -> None:
        self.settings = settings
        self._nodes = nodes_of(settings)
        self._lines: dict[Node | None, RedisConnection] = {}
        self._opening: dict[Node | None, asyncio.Lock] = {}
        self._spare: dict[Node | None, list[RedisConnection]] = {}
        self._lent: set[RedisConnection] = set()
        self._is_closed = False

    async def call(
        self, *commands: Command, key: Any = None, deadline_seconds: float = ANSWER_SECONDS
    ) -> list[Any]:
        """Send `commands` in one write; their replies, as bytes, numbers, None and lists of them.

        They are not a transaction: commands of others may run in between.

        Args:
            key: a key that the commands are about, which decides the node of a cluster; None: the
                first argument of the first command. All keys of a call share a slot.
            deadline_seconds: after this much silence of the server the connection is closed.

        Raises:
            BackendUnavailable: Redis could not be reached, or went away before it answered; whether
                the commands took effect is unknown.
            BackendError: Redis refused a command (the first one refused; others may have worked).
        """
        line = self._lines.get(None)
        if line is not None and line.is_usable():
            # The short way of the usual case: one server, connected.
            try:
                replies = await self._exchange(line, commands, deadline_seconds)
            except Unread:
                pass  # because of another caller's command
            else:
                return self._checked(None, line, replies)
        return await self._call_somewhere(commands, key, deadline_seconds)

    async def run(
        self,
        script: Script,
        keys: Sequence[Any],
        args: Sequence[Any] = (),
        *,
        deadline_seconds: float = ANSWER_SECONDS,
    ) -> Any:
        """Run `script` with `keys` and `args`; its reply. See `call`."""
        rest = (len(keys), *keys, *args)
        try:
            (reply,) = await self.call(
                ("EVALSHA", script.sha, *rest), key=keys[0], deadline_seconds=deadline_seconds
            )
        except ScriptUnknown:
            # Nothing ran. EVAL makes it known, too.
            (reply,) = await self.call(
                ("EVAL", script.source, *rest), key=keys[0], deadline_seconds=deadline_seconds
            )
        return reply

    @asynccontextmanager
    async def blocking(self, key: Any) -> AsyncIterator[BlockingLine]:
        """A separate connection to the server of `key`, for the length of the block."""
        node, connection = await self._reach(self._slot_of(key), self._spare_line)
        self._lent.add(connection)
        try:
            yield BlockingLine(self, node, connection)
        finally:
            self._lent.discard(connection)
            # A connection that still waits for a reply was abandoned, and may still get an item.
            if connection.is_idle and connection.is_usable():
                self._spare.setdefault(node, []).append(connection)
            else:
                connection.abort()

    async def open_listener(
        self, key: Any, on_message: Callable[[bytes, bytes], None], on_end: Callable[[], None]
    ) -> RedisConnection:
        """A separate connection that may subscribe to channels. The caller closes it.

        Args:
            on_message: gets the channel and the text of each message; it must not raise.
            on_end: called when the connection is broken or closed; it must not raise.
        """
        _, connection = await self._reach(self._slot_of(key), self._open)
        connection.on_message, connection.on_end = on_message, on_end
        self._lent.add(connection)
        return connection

    @property
    def is_connected(self) -> bool:
        """Whether a call could be sent at once."""
        return any(line.is_usable() for line in self._lines.values())

    async def close(self) -> None:
        """Close all connections; running calls fail as unavailable."""
        self._is_closed = True
        await asyncio.gather(*(connection.close() for connection in self._all()))

    def abandon(self) -> None:
        """Free the sockets although the event loop is closed already."""
        self._is_closed = True
        for connection in self._all():
            connection.abandon()

    def _all(self) -> list[RedisConnection]:
        spare = [connection for connections in self._spare.values() for connection in connections]
        return [*self._lines.values(), *spare, *self._lent]

    # The way to a server.

    def _slot_of(self, key: Any) -> int | None:
        if not self.settings.is_cluster:
            return None
        return int(key_slot(key if isinstance(key, bytes) else str(key).encode()))

    async def _reach(
        self, slot: int | None, connect: Callable[[Node | None], Awaitable[RedisConnection]]
    ) -> tuple[Node | None, RedisConnection]:
        """The server of `slot` and a connection to it, looked up again if it cannot be reached."""
        node = await self._nodes.find(slot)
        try:
            return node, await connect(node)
        except BackendUnavailable:
            self._nodes.forget()
            successor = await self._nodes.find(slot)
            if successor == node:
                raise
        return successor, await connect(successor)

    async def _line(self, node: Node | None) -> RedisConnection:
        async with self._opening.setdefault(node, asyncio.Lock()):
            line = self._lines.get(node)
            if line is None or not line.is_usable():
                line = self._lines[node] = await self._open(node)
            return line

    async def _spare_line(self, node: Node | None) -> RedisConnection:
        spare = self._spare.get(node, [])
        while spare:
            connection = spare.pop()
            if connection.is_usable():
                return connection
        connection = await self._open(node)
        try:
            await connection.learn_client_id()
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _open(self, node: Node | None) -> RedisConnection:
        connection = await self._nodes.open(node)
        if self._is_closed:
            connection.abort()
            raise unavailable(self.settings.where(node), "was not waited for: the queue was closed")
        return connection

    # The exchange.

    async def _call_somewhere(
        self, commands: Sequence[Command], key: Any, deadline_seconds: float
    ) -> list[Any]:
        slot = self._slot_of(commands[0][1] if key is None and self.settings.is_cluster else key)
        replies: list[Any] = [None] * len(commands)
        left = list(range(len(commands)))
        redirections = unread_count = 0
        while redirections < _MOST_REDIRECTIONS:
            node, line = await self._reach(slot, self._line)
            sent = [commands[index] for index in left]
            try:
                answers = await self._exchange(line, sent, deadline_seconds)
            except Unread:
                unread_count += 1
                if unread_count == _MOST_UNREAD:
                    raise
                continue
            redirections += 1
            moved = []
            for index, answer in zip(left, answers, strict=True):
                replies[index] = answer
                redirection = Redirection.of(answer) if self.settings.is_cluster else None
                if redirection is None:
                    continue
                target = redirection.node(node)
                if redirection.is_for_good:
                    moved.append(index)
                    self._nodes.forget(target)
                else:
                    replies[index] = await self._ask_there(target, commands[index])
            if not moved:
                return self._checked(node, line, replies)
            left = moved
        where = self.settings.where()
        raise unavailable(where, "keeps moving the slot", advice="try again")

    async def _ask_there(self, node: Node, command: Command) -> Any:
        """The reply of a node that is just taking over the slot of `command`."""
        line = await self._line(node)
        _, reply = await self._exchange(line, [("ASKING",), command], ANSWER_SECONDS)
        return reply

    async def _exchange(
        self,
        line: RedisConnection,
        commands: Sequence[Command],
        deadline_seconds: float,
        on_first: Callable[[Any], None] | None = None,
    ) -> list[Any]:
        try:
            return await line.exchange(commands, deadline_seconds, on_first)
        except BackendUnavailable:
            self._nodes.forget()
            raise

    def _checked(self, node: Node | None, line: RedisConnection, replies: list[Any]) -> list[Any]:
        for reply in replies:
            if reply.__class__ is ReplyError:
                error = refused(self.settings.where(node), str(reply))
                if code_of(str(reply)) in _SAYS_ANOTHER_SERVER:
                    # Perhaps another node took over; the next call looks.
                    self._nodes.forget()
                    line.abort()
                raise error
        return replies


class ThreadLink:
    """A `RedisLink` for callers that cannot await: `call` never suspends."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._line = ThreadLine(settings)

    async def call(
        self, *commands: Command, key: Any = None, deadline_seconds: float = ANSWER_SECONDS
    ) -> list[Any]:
        """See `RedisLink.call`."""
        replies = self._exchange(commands)
        for reply in replies:
            if reply.__class__ is ReplyError:
                if code_of(str(reply)) in _SAYS_ANOTHER_SERVER:
                    self._line.disconnect()
                raise refused(self._settings.where(), str(reply))
        return replies

    run = RedisLink.run

    def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        for _ in range(_MOST_UNREAD):
            try:
                return self._line.exchange(commands)
            except Unread:
                pass  # because of another thread's command
        return self._line.exchange(commands)

    def close(self) -> None:
        """Close the socket. May be called twice; the next call connects again."""
        self._line.close()


class RedisLinks(SharedPerLoop[RedisLink]):
    """A `RedisLink` for each running event loop, made from one description of a Redis.

    Attributes:
        threads: the link of callers that cannot await; None: they use the portal's loop.
    """

    def __init__(self, settings: RedisSettings) -> None:
        super().__init__(self._open, RedisLink.abandon)
        self.settings = settings
        self.threads = ThreadLink(settings) if settings.can_block else None
        on_fork(self._forget_threads)

    async def close(self) -> None:
        await super().close()
        if self.threads is not None:
            self.threads.close()

    def _forget_threads(self) -> None:
        if self.threads is not None:
            set_aside(self.threads)
            self.threads = ThreadLink(self.settings)

    async def _open(self) -> AsyncGenerator[RedisLink, None]:
        link = RedisLink(self.settings)
        try:
            yield link
        finally:
            await link.close()
