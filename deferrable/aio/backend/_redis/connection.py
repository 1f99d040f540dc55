"""One connection to one Redis server.

Owns the exchange of commands and replies: any number of callers write at once, and replies come
back in the order of the commands. redis-py opens the connection (sockets, TLS, credentials,
database). From then on the transport is ours, because an awaited call of a redis-py client costs
three to four times as much.

The one rule: replies are matched by order alone. A caller that gives up leaves its reply to be
discarded. Anything that breaks the order, also silence beyond a deadline, ends the connection; all
running calls fail as unavailable. Nothing is sent again here.
"""

import asyncio
import select
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from deferrable._portal import NO_THREADS, is_out_of_threads
from deferrable.aio._contract.private import private
from deferrable.aio.backend._redis.errors import (
    ReplyError,
    Unread,
    advice_to_connect,
    ends_connection,
    unavailable,
    without_arguments,
)
from deferrable.aio.backend._redis.extra import hiredis, redis
from deferrable.errors import BackendError, BackendUnavailable, InvalidOptions

__all__ = [
    "ANSWER_SECONDS",
    "CONNECT_SECONDS",
    "Command",
    "RedisConnection",
    "connect_failure",
    "open_connection",
]

Command = Sequence[Any]

CONNECT_SECONDS = 5.0
"""How long connecting, TLS and credentials may take; redis-py's own default."""
ANSWER_SECONDS = 5.0
"""How long a server may stay silent; redis-py's own default for a socket."""

_IDLE_SECONDS = 0.05
"""After this much silence, the socket is checked before a command is sent."""

_NOTHING = object()
_UNREAD_BYTES = 65_536


class _Exchange:
    __slots__ = ("count", "end_time", "future", "on_first", "replies")

    def __init__(
        self,
        count: int,
        end_time: float,
        future: "asyncio.Future[list[Any]]",
        on_first: Callable[[Any], None] | None,
    ) -> None:
        self.count = count
        self.end_time = end_time
        self.future = future
        self.on_first = on_first
        self.replies: list[Any] = []


class RedisConnection(asyncio.Protocol):
    """An open connection. Made by `open_connection`.

    Args:
        connection: of redis-py, connected.
        where: the address, for messages.
    """

    def __init__(self, connection: Any, where: str) -> None:
        self._connection = connection
        self._where = where
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=ReplyError, notEnoughData=_NOTHING)
        self._pending: deque[_Exchange] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._reason: BackendError | None = None
        self._writable: asyncio.Future[None] | None = None
        self._closed = self._loop.create_future()
        self._last_time = self._loop.time()
        self.client_id: int | None = None
        """The server's number of this connection, once known; None: the server does not say it."""
        self.on_message: Callable[[bytes, bytes], None] | None = None
        """Gets channel and text of each published message, on a connection that subscribes."""
        self.on_end: Callable[[], None] | None = None
        """Called when it is broken or closed."""
        self._transport = _transport_of(connection, where)
        if private(connection, "_reader").at_eof():
            # The stream has got the error, and will not report it again.
            raise unavailable(where, "closed the connection as soon as it was open")
        # The stream that redis-py made needs its own call when this is closed.
        self._former = self._transport.get_protocol()
        self._transport.set_protocol(self)
        self._poll = select.poll()
        self._poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)

    def is_usable(self) -> bool:
        """Whether a command may be sent: it is open, and the server did not close it meanwhile."""
        if self._reason is not None or self._transport.is_closing():
            return False
        if self._pending or self._loop.time() - self._last_time < _IDLE_SECONDS:
            return True
        if self._poll.poll(0):
            # There was no command, so it is the end of the stream, which the loop has not seen yet.
            self._break(unavailable(self._where, "closed an idle connection"))
            return False
        return True

    @property
    def is_idle(self) -> bool:
        return not self._pending

    async def exchange(
        self,
        commands: Sequence[Command],
        deadline_seconds: float = ANSWER_SECONDS,
        on_first: Callable[[Any], None] | None = None,
    ) -> list[Any]:
        """Send `commands` in one write and return their replies; error replies are among them.

        Args:
            on_first: gets the first reply when it arrives, because the last may take long. It must
                not raise.

        Raises:
            BackendUnavailable: the connection is broken, broke, or was silent for too long. Whether
                the commands took effect is unknown.
        """
        if self._writable is not None:
            await asyncio.shield(self._writable)
        if self._reason is not None:
            raise _copy(self._reason)
        packed = b"".join([hiredis.pack_command(tuple(command)) for command in commands])
        self._last_time = now = self._loop.time()
        end_time = now + deadline_seconds
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        self._pending.append(_Exchange(len(commands), end_time, future, on_first))
        self._transport.write(packed)
        if self._watch is None:
            self._watch = self._loop.call_at(end_time, self._check_deadline)
        elif self._watch.when() > end_time:
            self._watch.cancel()
            self._watch = self._loop.call_at(end_time, self._check_deadline)
        return await future

    async def learn_client_id(self) -> None:
        """Ask for the number that CLIENT UNBLOCK from another connection takes."""
        (reply,) = await self.exchange([("CLIENT", "ID")])
        self.client_id = reply if isinstance(reply, int) else None

    async def close(self) -> None:
        """Close it; running calls fail as unavailable. May be called twice."""
        self.abort()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._closed), CONNECT_SECONDS)

    def abort(self) -> None:
        """Close it without waiting."""
        self._break(unavailable(self._where, "was not waited for: we closed the connection"))

    def abandon(self) -> None:
        """Free the socket although the event loop is closed already."""
        self._reason = self._reason or unavailable(self._where, "was not waited for")
        tls = getattr(self._transport, "_ssl_protocol", None)
        transport = getattr(tls, "_transport", self._transport)
        with suppress(Exception):
            transport.abort()
        with suppress(Exception):
            # No public call closes the socket of a transport whose loop is gone.
            transport._call_connection_lost(None)
        with suppress(Exception):
            self._connection._reader = self._connection._writer = None

    def _check_deadline(self) -> None:
        self._watch = None
        if not self._pending:
            return
        end_time = min(exchange.end_time for exchange in self._pending)
        if end_time > self._loop.time():
            self._watch = self._loop.call_at(end_time, self._check_deadline)
            return
        silence = redis.TimeoutError("the deadline has passed")
        advice = "is it stopped, overloaded, or cut off?"
        self._break(unavailable(self._where, "did not answer in time", silence, advice=advice))

    def _break(self, reason: BackendError) -> None:
        """End the connection, for `reason`."""
        if self._reason is not None:
            return
        self._reason = reason
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        while self._pending:
            future = self._pending.popleft().future
            if not future.done():
                future.set_exception(_copy(reason))
        self.resume_writing()
        self._transport.abort()
        if self.on_end is not None:
            self.on_end()

    # What the transport calls.

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while self._reason is None and (reply := self._reader.gets()) is not _NOTHING:
                self._take(reply)
        except (hiredis.HiredisError, IndexError) as error:
            self._break(unavailable(self._where, "sent something unexpected", error))

    def _take(self, reply: Any) -> None:
        if self.on_message is not None and reply.__class__ is list and reply[0] == b"message":
            # It answers no command.
            self.on_message(reply[1], reply[2])
            return
        exchange = self._pending[0]
        exchange.replies.append(reply)
        if exchange.on_first is not None and len(exchange.replies) == 1:
            exchange.on_first(reply)
        is_last = ends_connection(reply)
        if is_last:
            # It also answers the commands that the server did not read.
            exchange.replies += [reply] * (exchange.count - len(exchange.replies))
        if len(exchange.replies) == exchange.count:
            self._pending.popleft()
            if not exchange.future.done():
                exchange.future.set_result(exchange.replies)
        if is_last:
            self._break(Unread(f"Redis at {self._where} closed the connection: {reply}"))

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self._pending and (data := self._unread()):
            self.data_received(data)
        cause = redis.ConnectionError(str(exc or "the server closed the connection"))
        cause.__cause__ = exc
        self._break(unavailable(self._where, "went away", cause))
        if not self._closed.done():
            self._closed.set_result(None)
        with suppress(Exception):
            self._former.connection_lost(exc)
        with suppress(Exception):
            self._connection._reader = self._connection._writer = None

    def _unread(self) -> bytes:
        """What arrived before the connection was reset, when a write was the first to see that.

        The server may have said there why it does not read on. Through TLS it cannot be read.
        """
        if self._transport.get_extra_info("ssl_object") is not None:
            return b""
        data = b""
        with suppress(Exception), self._transport.get_extra_info("socket").dup() as unread:
            while part := unread.recv(_UNREAD_BYTES):
                data += part
        return data

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None


async def open_connection(make: Callable[[], Any], where: str) -> RedisConnection:
    """A connection from what `make` returns: a redis-py connection, not yet connected.

    Raises:
        BackendUnavailable: there is no server, or no answer within `CONNECT_SECONDS`.
        BackendError: Redis refused the connection.
        InvalidOptions: no connection can be made from the settings.
    """
    try:
        connection = make()
    except (redis.RedisError, OSError, ValueError, TypeError) as error:
        raise InvalidOptions(
            f"the settings of Redis at {where} allow no connection: {error}"
        ) from error
    connecting = asyncio.ensure_future(connection.connect())
    try:
        # Not a time-out around it: a cancellation of ours must not be mistaken for the deadline.
        await asyncio.wait([connecting], timeout=CONNECT_SECONDS)
        if connecting.done() and connecting.exception() is None:
            return RedisConnection(connection, where)
    except BaseException:
        await _give_up(connecting, connection)
        raise
    if not connecting.done():
        await _give_up(connecting, connection)
        silence = redis.TimeoutError(f"no connection within {CONNECT_SECONDS} seconds")
        raise unavailable(where, "cannot be reached", silence)
    await _give_up(connecting, connection)
    raise connect_failure(where, connecting.exception())


async def _give_up(connecting: "asyncio.Task[Any]", connection: Any) -> None:
    connecting.cancel()
    await asyncio.wait([connecting], timeout=1)
    if connecting.done() and not connecting.cancelled():
        connecting.exception()  # Read it, or the loop would complain.
    with suppress(Exception):
        await connection.disconnect(nowait=True)


def connect_failure(where: str, error: BaseException | None) -> BackendError:
    """What a failed attempt to connect means."""
    if isinstance(error, redis.ResponseError):
        error = type(error)(without_arguments(str(error)))
    if isinstance(error, redis.AuthenticationError):
        failure = BackendError(
            f"Redis at {where} refused the connection: {error}; check the username and the password"
        )
    elif isinstance(error, redis.ResponseError | redis.DataError):
        advice = advice_to_connect(str(error))
        failure = BackendError(f"Redis at {where} refused the connection: {error}; {advice}")
    else:
        advice = "is it running, and is the address right?"
        advice = NO_THREADS if is_out_of_threads(error) else advice
        failure = BackendUnavailable(f"Redis at {where} cannot be reached: {error}; {advice}")
    failure.__cause__ = error
    return failure


def _transport_of(connection: Any, where: str) -> Any:
    transport = getattr(private(connection, "_writer"), "transport", None)
    # Not by its class: uvloop's transports have another one.
    if not hasattr(transport, "set_protocol"):
        raise BackendError(
            f"the connection to Redis at {where} has no asyncio transport; a "
            f"{type(connection).__name__} that talks to no server cannot be used here"
        )
    return transport


def _copy(error: BackendError) -> BackendError:
    """One for each caller: an exception raised twice gathers both tracebacks."""
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__
    return copy
