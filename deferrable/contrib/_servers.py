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

__all__ = ["LOOK_SECONDS", "is_server_stopping", "stopping_with_server"]

LOOK_SECONDS = 0.25
"""How often the server is asked."""


class _Health(Protocol):
    @property
    def is_stopping(self) -> bool: ...


class _Worker(Protocol):
    @property
    def health(self) -> _Health: ...

    def stop(self) -> None: ...


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
