"""The link to Redis of callers that cannot await.

Owns one socket for all threads of the process, and how they share it: a caller that finds it free
sends everything that piled up, its own commands and those of others, and reads all replies. A
thread that comes meanwhile leaves its commands and waits. `call` never suspends, so a coroutine of
an adapter that uses this link can be driven in any thread, with or without an event loop.

The one rule: replies are matched by order alone. Where an interrupt (Ctrl-C) may have cost a part
of a command or of a reply, the socket is closed, and everybody who had commands on it gets an
error that says that their effect is unknown. Nothing is sent twice.
"""

import select
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import repeat, takewhile
from typing import Any

from deferrable._thread_waiter import ThreadWaiter
from deferrable.aio._contract.private import private
from deferrable.aio.backend._redis.connection import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    Command,
    connect_failure,
)
from deferrable.aio.backend._redis.errors import ReplyError, Unread, ends_connection, unavailable
from deferrable.aio.backend._redis.extra import hiredis, redis
from deferrable.aio.backend._redis.settings import RedisSettings
from deferrable.errors import BackendError

__all__ = ["ThreadLine"]

_IDLE_SECONDS = 0.05
"""After this much silence, the socket is checked before a command is sent."""

_MOST_BYTES_AT_ONCE = 1_048_576
_RECEIVE_BYTES = 65_536

_NOTHING = object()


class _Turn(ThreadWaiter):
    """The commands of one caller, and their result."""

    __slots__ = ("count", "error", "packed", "replies")

    def __init__(self, packed: bytes, count: int) -> None:
        self.packed = packed
        self.count = count
        self.replies: list[Any] | None = None
        self.error: BackendError | None = None
        self._is_over = None  # not by `super()`: each blocking call makes one of these

    @property
    def has_ended(self) -> bool:
        return self.replies is not None or self.error is not None

    def fail(self, error: BackendError) -> None:
        """Each caller gets its own error: one error raised twice would hold both tracebacks."""
        copy = type(error)(*error.args)
        copy.__cause__ = error.__cause__
        self.error = copy


class ThreadLine:
    """A socket that all threads of this process share; connected on first use."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._socket: _Socket | None = None
        self._waiting: deque[_Turn] = deque()
        self._is_held = threading.Lock()

    def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send `commands` in one write; their replies, error replies among them.

        Raises:
            BackendUnavailable: Redis could not be reached, or went away before it answered; whether
                the commands took effect is unknown.
            BackendError: Redis refused the connection.
        """
        if len(commands) == 1:
            packed = hiredis.pack_command(tuple(commands[0]))
        else:
            packed = b"".join([hiredis.pack_command(tuple(command)) for command in commands])
        turn = _Turn(packed, len(commands))
        if self._is_held.acquire(blocking=False):
            self._serve([turn])
        else:
            self._wait(turn)
        if turn.error is not None:
            raise turn.error
        assert turn.replies is not None
        return turn.replies

    def disconnect(self) -> None:
        """Make the next call connect again."""
        line, self._socket = self._socket, None
        if line is not None:
            line.close()

    def close(self) -> None:
        """Close the socket, after running calls have ended. May be called twice."""
        with self._is_held:
            self.disconnect()

    def _wait(self, turn: _Turn) -> None:
        """Let another thread serve `turn`, or serve all waiting turns once the socket is free."""
        self._waiting.append(turn)
        try:
            while not turn.has_ended:
                if self._is_held.acquire(blocking=False):
                    self._serve([])
                else:
                    turn.wait()
        except BaseException:
            with suppress(ValueError):
                self._waiting.remove(turn)  # It was not sent, and will not be.
                raise
            while not turn.has_ended:
                turn.wait()
            raise

    def _serve(self, batch: list[_Turn]) -> None:
        """Exchange `batch` and all waiting turns, then free the socket, which the caller holds."""
        try:
            if self._waiting:
                self._take(batch)
            if batch:
                self._exchange(batch)
        finally:
            self._is_held.release()
            if len(batch) != 1 or self._waiting or not batch[0].has_ended:
                self._tell(batch)

    def _take(self, batch: list[_Turn]) -> None:
        size = 0
        while self._waiting and size < _MOST_BYTES_AT_ONCE:
            batch.append(self._waiting.popleft())
            size += len(batch[-1].packed)

    def _tell(self, batch: Sequence[_Turn]) -> None:
        """Wake the callers whose turn has ended, and the first one that came too late for it."""
        for turn in batch:
            if not turn.has_ended:
                where = self._settings.where()
                turn.fail(unavailable(where, "was not waited for: a call was interrupted"))
            turn.wake()
        with suppress(IndexError):
            self._waiting[0].wake()

    def _exchange(self, batch: Sequence[_Turn]) -> None:
        line, interrupt = self._socket, None
        try:
            if line is None or not line.is_usable():
                line = self._socket = _Socket.open(self._settings)
            line.send(batch)
            interrupt = _read(line, batch)
        except BackendError as error:
            for turn in batch:
                if not turn.has_ended:
                    turn.fail(error)
        except BaseException:
            if line is not None:
                line.close()
            raise
        if interrupt is not None:
            raise interrupt


def _read(line: "_Socket", batch: Sequence[_Turn]) -> BaseException | None:
    """Give every turn its replies. An interrupt that arrives meanwhile is returned."""
    try:
        line.answer(batch)
    except Exception:
        raise
    except BaseException as interrupt:
        if not line.survives_interrupts:
            raise
        line.answer(batch)
        return interrupt
    return None


class _Socket:
    """One connected socket."""

    def __init__(self, connection: Any, where: str) -> None:
        self._connection = connection  # kept, because it closes the socket when it is collected
        self._where = where
        self._socket = private(connection, "_sock", having="sendall")
        self._socket.settimeout(ANSWER_SECONDS)
        self._reader = hiredis.Reader(replyError=ReplyError, notEnoughData=_NOTHING)
        # Received and fed in one step of C code, so that an interrupt costs no bytes in between.
        received: Iterator[bytes] = map(self._socket.recv, repeat(_RECEIVE_BYTES))
        self._feeding = map(self._reader.feed, takewhile(bool, received))
        self.survives_interrupts = type(self._socket) is socket.socket
        """TLS and gevent receive in Python code, where an interrupt may cost what was received."""
        self._replies: list[Any] = []
        self._poll = select.poll()
        self._poll.register(self._socket.fileno(), select.POLLIN)
        self._last_time = time.monotonic()
        self._free = weakref.finalize(self, self._socket.close)

    @classmethod
    def open(cls, settings: RedisSettings) -> "_Socket":
        connection = settings.blocking_connection(CONNECT_SECONDS)
        try:
            connection.connect()
        except (redis.RedisError, OSError) as error:
            raise connect_failure(settings.where(), error) from error
        return cls(connection, settings.where())

    def is_usable(self) -> bool:
        """Whether a command may be sent: it is open, and the server did not close it meanwhile."""
        if not self._free.alive:
            return False
        if time.monotonic() - self._last_time < _IDLE_SECONDS:
            return True
        if self._poll.poll(0):
            self.close()  # There was no command, so it is the end of the stream.
        return self._free.alive

    def send(self, batch: Sequence[_Turn]) -> None:
        self._replies = []
        try:
            if len(batch) == 1:
                self._socket.sendall(batch[0].packed)
            else:
                self._socket.sendall(b"".join([turn.packed for turn in batch]))
        except ConnectionError:
            pass  # `answer` reads what the server said before it closed, or that it did.
        except OSError as error:
            raise self._broken(error) from error

    def answer(self, batch: Sequence[_Turn]) -> None:
        """Return the replies to the last commands, in their order. A second call continues."""
        replies, reader = self._replies, self._reader
        end = batch[0].count if len(batch) == 1 else sum([turn.count for turn in batch])
        try:
            while True:
                # First: an interrupt may have come after something was received.
                replies.extend(iter(reader.gets, _NOTHING))
                if len(replies) >= end or (replies and ends_connection(replies[-1])):
                    break
                next(self._feeding)
        except StopIteration:
            raise self._broken(ConnectionError("the server closed the connection")) from None
        except OSError as error:
            raise self._broken(error) from error
        except hiredis.HiredisError as error:
            self.close()
            raise unavailable(self._where, "sent something unexpected", error) from error
        self._last_time = time.monotonic()
        if ends_connection(replies[-1]):
            self._end(batch)
        elif len(batch) == 1:
            batch[0].replies = replies
        else:
            _share(replies, batch)

    def _end(self, batch: Sequence[_Turn]) -> None:
        """Close it after a protocol error, the answer to the call that caused it."""
        self.close()
        last = self._replies[-1]
        reason = Unread(f"Redis at {self._where} closed the connection: {last}")
        count = len(self._replies)
        for turn in batch:
            if count <= 0:
                turn.fail(reason)
            count -= turn.count
        answered = [turn for turn in batch if not turn.has_ended]
        _share(self._replies + [last] * -min(count, 0), answered)

    def close(self) -> None:
        self._free()

    def _broken(self, error: OSError) -> BackendError:
        self.close()
        if isinstance(error, TimeoutError):
            cause = redis.TimeoutError("the deadline has passed")
            advice = "is it stopped, overloaded, or cut off?"
            return unavailable(self._where, "did not answer in time", cause, advice=advice)
        return unavailable(self._where, "went away", redis.ConnectionError(str(error)))


def _share(replies: list[Any], batch: Sequence[_Turn]) -> None:
    """Give each turn its part of `replies`."""
    start = 0
    for turn in batch:
        turn.replies = replies[start : start + turn.count]
        start += turn.count
