"""One worker process.

Owns what is started around a worker and in which order, and the exit code. The log reports every
job; health has its own port.
"""

import asyncio
import gc
import logging
import os
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from deferrable._codec.refusals import describe
from deferrable.aio._engine.keeper import keeper
from deferrable.aio._engine.rehearsing import Rehearsal, rehearsing
from deferrable.aio.worker import Health, Worker
from deferrable.cli.banner import log_banner
from deferrable.cli.beats import HeartbeatFile, Systemd, parent_pipe_of, systemd_of
from deferrable.cli.command_error import FORCED, USAGE, CommandError
from deferrable.cli.health import health_routes
from deferrable.cli.loading import Named
from deferrable.cli.logs import enable_loggers, log_outcome
from deferrable.cli.metrics import instrument_all, metrics_route
from deferrable.cli.reloading import FileWatch
from deferrable.cli.shutdown import Shutdown
from deferrable.cli.signals import Signals
from deferrable.cli.vitals import Listener, Vitals
from deferrable.cli.web import WebServer
from deferrable.errors import BackendError, InvalidOptions

__all__ = ["RELOAD", "Serving", "WorkerSettings", "serve"]

_logger = logging.getLogger("deferrable.cli")

_RELOAD_POLL_SECONDS = 1.0
"""After a change of the code, nobody wants to wait for a long poll to end; this one is short."""

RELOAD = -1
"""Instead of an exit code: restart the process."""


class WorkerSettings(TypedDict):
    """What the worker is made with; see `deferrable.aio.Worker`."""

    concurrency: int
    threads: int | None
    prefetch: int
    grace_seconds: float
    order: Literal["fair", "strict"]
    weights: Sequence[float] | None
    report: bool


@dataclass(frozen=True, slots=True)
class Serving:
    """How to serve.

    Attributes:
        health_socket: a bound socket for requests for health; None: there is no such port.
        heartbeat_path: a file to write while the process works; None: none.
        has_metrics: the port also serves metrics, of all that the instances do.
        stuck_seconds: how long a job may hold the event loop before the process counts as stuck.
        is_burst: it ends when its queues are empty.
        is_reloading: a change of a file ends it, too.
        rehearsed_share: of the jobs, how many run twice; None: none does.
    """

    settings: WorkerSettings
    health_socket: socket.socket | None
    heartbeat_path: Path | None
    has_metrics: bool
    stuck_seconds: float
    is_burst: bool
    is_reloading: bool
    rehearsed_share: float | None


def serve(named: Sequence[Named], serving: Serving, signals: Signals) -> int:
    """Work until a signal comes.

    Returns:
        the exit code, or `RELOAD`.

    Raises:
        CommandError: it could not start, or not stop in order.
    """
    # Imported modules stay as long as the process. Jobs create and drop so many objects that the
    # collector would look at all modules every thousand of them.
    gc.collect()
    gc.freeze()
    try:
        return asyncio.run(_serve(named, serving, signals))
    except BackendError as error:
        raise CommandError(f"the worker did not stop in order: {error}") from error


async def _serve(named: Sequence[Named], serving: Serving, signals: Signals) -> int:
    if serving.has_metrics:
        instrument_all(named, serving.settings["concurrency"])
    try:
        worker = Worker([each.instance for each in named], **serving.settings)
    except InvalidOptions as error:
        raise CommandError(str(error), exit_code=USAGE) from error
    systemd = systemd_of(os.environ)
    life = _Life(worker, systemd)
    shutdown = Shutdown(signals, life, serving.settings["grace_seconds"])
    shutdown.start()
    async with AsyncExitStack() as stack:
        stack.callback(shutdown.end)
        for each in named:
            stack.push_async_callback(_close, each)
        if serving.rehearsed_share is not None:
            _rehearse(stack, named, Rehearsal(serving.rehearsed_share))
        life.vitals = _watch(stack, worker.health, serving, systemd)
        if serving.is_reloading:
            for each in named:
                each.instance.backend.queue.longest_poll_seconds = _RELOAD_POLL_SECONDS
            stack.enter_context(FileWatch(shutdown.request))
        await _work(worker, life, named, serving)
    if shutdown.is_forced:
        return FORCED
    return RELOAD if shutdown.reason is not None else 0


def _rehearse(stack: AsyncExitStack, named: Sequence[Named], rehearsal: Rehearsal) -> None:
    """Run some jobs twice until `stack` is left, then report how many."""
    stack.callback(lambda: _logger.info("rehearsal: %s", rehearsal))
    for each in named:
        stack.enter_context(rehearsing(each.instance, rehearsal))


def _watch(
    stack: ExitStack | AsyncExitStack, health: Health, serving: Serving, systemd: Systemd | None
) -> Vitals | None:
    """Answer for this process, and beat, until `stack` is left; None: nobody asks."""
    listeners: list[Listener] = []
    if serving.heartbeat_path is not None:
        file = HeartbeatFile(serving.heartbeat_path, health)
        stack.callback(file.remove)
        listeners.append(file.beat)
    if systemd is not None and systemd.watches:
        listeners.append(systemd.beat)
    parent = parent_pipe_of(os.environ)
    if parent is not None:
        listeners.append(parent.beat)
    if not listeners and serving.health_socket is None:
        return None
    loop = asyncio.get_running_loop()
    vitals = stack.enter_context(Vitals(loop, keeper(loop), serving.stuck_seconds, listeners))
    if serving.health_socket is not None:
        routes = dict(health_routes(health, vitals))
        if serving.has_metrics:
            routes["/metrics"] = metrics_route()
        server = stack.enter_context(WebServer(serving.health_socket, routes))
        _logger.info("serves %s", server.summary)
    return vitals


class _Life:
    """A worker that can be stopped while it starts, because a lifespan may take long.

    Attributes:
        vitals: whether the process is stuck; None: nobody asks.
    """

    vitals: Vitals | None = None

    def __init__(self, worker: Worker, systemd: Systemd | None) -> None:
        self._worker = worker
        self._systemd = systemd
        self._starting: asyncio.Task[Worker] | None = None
        self._is_stopped = False

    async def start(self) -> bool:
        """Whether it works now; False: it was stopped before."""
        if self._is_stopped:
            return False
        self._starting = asyncio.ensure_future(self._worker.__aenter__())
        await asyncio.wait([self._starting])
        if self._starting.cancelled() and self._is_stopped:
            return False
        self._starting.result()
        if self._systemd is not None:
            self._systemd.tell_ready()
        return True

    def note_stop(self) -> None:
        self._worker.health.note_stop()
        if self._systemd is not None:
            self._systemd.tell_stopping()

    def stop(self) -> None:
        self._is_stopped = True
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
        else:
            self._worker.stop()

    async def release_running(self) -> None:
        # A job that no probe lets live would go back for ever, as new as it came.
        is_stuck = self.vitals is not None and not self.vitals.is_live
        await self._worker.release_running(keeps_holder=is_stuck)


async def _work(worker: Worker, life: _Life, named: Sequence[Named], serving: Serving) -> None:
    try:
        is_up = await life.start()
        enable_loggers()
    except Exception as error:
        raise CommandError(
            f"the worker could not start, {describe(error)}; if that came from a lifespan=, see "
            "its traceback with --debug"
        ) from error
    if is_up:
        emptying: asyncio.Future[None] | None = None
        try:
            await log_banner(named, serving.settings["concurrency"], serving.settings["prefetch"])
            if serving.is_burst:
                emptying = asyncio.ensure_future(_stop_when_empty(worker))
            async for outcome in worker:
                log_outcome(outcome)
        finally:
            if emptying is not None:
                emptying.cancel()
                await asyncio.wait([emptying])
            await worker.__aexit__(None, None, None)
        if emptying is not None and not emptying.cancelled():
            emptying.result()
    _logger.info("stopped (process %d)", os.getpid())


async def _stop_when_empty(worker: Worker) -> None:
    try:
        delayed = await worker.until_empty()
        _logger.info("nothing is available or in flight, %d delayed", delayed)
    except BackendError as error:
        raise CommandError(f"the queues cannot be counted: {error}") from error
    finally:
        worker.stop()


async def _close(named: Named) -> None:
    with suppress(BackendError):
        await named.instance.close()
