"""What an application can know of the server that runs it.

Owns the question whether that server was told to stop, and the stop of workers beside an
application. Servers wait for open connections before they tell the application. A page that stays
open would hold up its workers until both are killed.
"""

import asyncio
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

__all__ = ["LOOK_SECONDS", "can_ask_server", "is_server_stopping", "stopping_with_server"]

LOOK_SECONDS = 0.25
"""How often the server is asked."""


class _Health(Protocol):
    @property
    def is_stopping(self) -> bool: ...


class _Worker(Protocol):
    @property
    def health(self) -> _Health: ...

    def stop(self) -> None: ...


def can_ask_server() -> bool:
    """Whether `is_server_stopping` knows the server.

    It knows uvicorn only, whose handler of signals is a method of the server, which notes there
    that it is to exit.
    """
    return bool(_notes_of_exit())


def is_server_stopping() -> bool:
    """Whether the server that runs this application has got its signal."""
    return any(_notes_of_exit())


def _notes_of_exit() -> list[bool]:
    handlers = map(signal.getsignal, (signal.SIGTERM, signal.SIGINT))
    servers = (getattr(each, "__self__", None) for each in handlers)
    notes = (getattr(each, "should_exit", None) for each in servers)
    return [each for each in notes if isinstance(each, bool)]


@contextmanager
def stopping_with_server(workers: Sequence[_Worker]) -> Iterator[None]:
    """Stop all workers when the server is to stop, or else at the end of the block. Each is told
    once, because a second call would end its grace period.
    """
    watch = _Watch(workers)
    watch.look()
    try:
        yield
    finally:
        watch.end()


class _Watch:
    def __init__(self, workers: Sequence[_Worker]) -> None:
        self._workers = workers
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        if is_server_stopping():
            self.end()
        else:
            self._timer = self._loop.call_later(LOOK_SECONDS, self.look)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for worker in self._workers:
            if not worker.health.is_stopping:
                worker.stop()
